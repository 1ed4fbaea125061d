"""Weights that a user brings: what is refused, what they are called, and how the published ones are
converted.
"""

import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from helpers import ROOT, load_script
from safetensors.torch import load_file, save_file
from torch import Size, Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.features import (
    feature_network,
    lpips,
    perceptual_distance,
    perceptual_network,
    weights,
)
from latentdiff.metrics.features.weights import PUBLISHED, content_sha256, read_weights, stamp
from latentdiff.metrics.names import frechet_name

SHAPES = {"a.weight": Size([4, 3]), "a.bias": Size([4])}
SCRIPT = ROOT / "scripts" / "convert_feature_weights.py"


def drawn(shapes: dict[str, Size], seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def refusal(path: Path, network: str = "inception") -> str:
    with pytest.raises(InputError) as caught:
        read_weights(path, SHAPES, network)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 500
    return message


def test_a_good_file(tmp_path: Path) -> None:
    tensors = drawn(SHAPES)
    counters = {"bn.num_batches_tracked": torch.tensor(7)}
    save_file({name: value.half() for name, value in tensors.items()} | counters, tmp_path / "w.safetensors")
    found = read_weights(tmp_path / "w.safetensors", SHAPES, "inception")
    assert found.tensors.keys() == SHAPES.keys()
    assert all(torch.equal(value, tensors[name].half().float()) for name, value in found.tensors.items())
    assert found.named("inception") == f"inception (weights {found.sha256[:12]})"


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 20, 100, -1])
def test_truncated_files(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file(drawn(SHAPES), path)
    path.write_bytes(path.read_bytes()[:cut])
    assert "expected a safetensors file" in refusal(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x05.",
        b"PK\x03\x04" + bytes(100),
        b"\xff" * 64,
        (2**62).to_bytes(8, "little") + b"{}",
        b"{" * 1000,
    ],
)
def test_hostile_files(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    assert "expected a safetensors file" in refusal(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a.bias": None}, "lacks 'a.bias'"),
        ({"b\nc": torch.zeros(1)}, r"unexpected 'b\nc'"),
        ({"a.bias": torch.zeros(5)}, "expected a.bias [4], found torch.float32 [5]"),
        ({"a.bias": torch.zeros(4, dtype=torch.int64)}, "found torch.int64 [4]"),
        ({"a.bias": torch.tensor([0.0, torch.nan, 0, 0])}, "not finite"),
        ({"a.bias": torch.full((4,), 1e300, dtype=torch.float64)}, "not finite"),
        ({"extra": torch.zeros(2**19)}, "at most"),
    ],
)
def test_files_of_something_else(change: dict[str, Tensor | None], message: str, tmp_path: Path) -> None:
    tensors = {name: value for name, value in {**drawn(SHAPES), **change}.items() if value is not None}
    save_file(tensors, tmp_path / "w.safetensors")
    assert message in refusal(tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["none.safetensors", "folder", "nul\0byte.safetensors", "x" * 300])
def test_paths_without_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "cannot be read" in refusal(tmp_path / name)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".PTH", ".bin", ".ckpt"])
def test_pickles_are_refused_unread(suffix: str, tmp_path: Path) -> None:
    message = refusal(tmp_path / f"w{suffix}")
    assert "convert it once: python scripts/convert_feature_weights.py inception" in message


@pytest.mark.parametrize("name", ["inception", "lpips-alex", "lpips-vgg"])
def test_networks_without_weights_say_what_they_need(name: str) -> None:
    find = feature_network if name == "inception" else perceptual_network
    with pytest.raises(InputError, match=f"{name}: needs its weights as a safetensors file"):
        find(name)


def test_the_content_hash_sees_everything() -> None:
    tensors = drawn(SHAPES)
    renamed = {"b" + name: value for name, value in tensors.items()}
    reshaped = tensors | {"a.weight": tensors["a.weight"].reshape(3, 4)}
    changed = tensors | {"a.bias": tensors["a.bias"].neg()}
    retyped = tensors | {"a.bias": torch.zeros(4)}, tensors | {"a.bias": torch.zeros(4, dtype=torch.int32)}
    hashes = [content_sha256(each) for each in (tensors, renamed, reshaped, changed, *retyped)]
    assert len(set(hashes)) == len(hashes)
    assert content_sha256(dict(reversed(tensors.items()))) == hashes[0]


def test_only_an_intact_stamp_gives_the_plain_name(tmp_path: Path) -> None:
    path, tensors = tmp_path / "w.safetensors", drawn(SHAPES)
    marks = stamp("inception", tensors)

    def name(metadata: dict[str, str] | None, values: dict[str, Tensor] = tensors) -> str:
        save_file(values, path, metadata=metadata)
        return read_weights(path, SHAPES, "inception").named("inception")

    assert name(marks) == "inception" and frechet_name(name(marks)) == "FID"
    for bad in (
        None,
        {},
        {"format": "pt"},
        marks | {weights.SOURCES: "0" * 64},
        stamp("lpips-alex", tensors),
    ):
        assert name(bad).startswith("inception (weights ")
    altered = tensors | {"a.bias": tensors["a.bias"] + 1e-6}
    assert name(marks, altered).startswith("inception (weights ")
    assert frechet_name(name(marks, altered)).startswith("FD (inception (weights ")


# the conversion


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


def test_conversion_of_files_that_stand_in_for_the_published(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensors = drawn(lpips.weight_shapes("lpips-alex"))
    trunk = {name: value for name, value in tensors.items() if name.startswith("features")}
    linear = {name: value.abs() for name, value in tensors.items() if name.startswith("lin")}
    paths = [tmp_path / "trunk.pth", tmp_path / "linear.pth"]
    torch.save(trunk | {"classifier.1.weight": torch.zeros(2, 2)}, paths[0])
    torch.save(linear, paths[1])
    out = tmp_path / "lpips-alex.safetensors"
    with pytest.raises(SystemExit, match="expected the published file, SHA-256 7be5be79"):
        script.convert("lpips-alex", paths, out)
    with pytest.raises(SystemExit, match=r"expected 2 file\(s\), found 1"):
        script.convert("lpips-alex", paths[:1], out)
    assert not out.exists()
    monkeypatch.setitem(
        PUBLISHED, "lpips-alex", tuple(script.hashlib.sha256(p.read_bytes()).hexdigest() for p in paths)
    )
    script.convert("lpips-alex", paths, out)
    assert load_file(out).keys() == tensors.keys()
    network = perceptual_network("lpips-alex", weights=out)
    assert network.name == "lpips-alex"
    image = torch.zeros(1, 3, 40, 40, dtype=torch.uint8)
    assert float(perceptual_distance(network, image, image + 200)) > 0


@pytest.mark.parametrize("name", ["lpips-alex", "lpips-vgg"])
def test_the_published_linear_weights_are_those_of_a_library(name: str, script: ModuleType) -> None:
    library = pytest.importorskip("torchmetrics.functional.image.lpips")
    path = Path(library.__file__).parent / "lpips_models" / f"{name.removeprefix('lpips-')}.pth"
    shapes = {key: shape for key, shape in lpips.weight_shapes(name).items() if key.startswith("lin")}
    found = script.verified(path, PUBLISHED[name][1])
    assert {key: value.shape for key, value in found.items()} == shapes
    assert all(bool((value >= 0).all()) for value in found.values())


def test_the_documents_give_the_published_hashes() -> None:
    text = (SCRIPT.parents[1] / "docs" / "features.md").read_text(encoding="utf-8")
    about = json.loads(
        (SCRIPT.parents[1] / "latentdiff" / "metrics" / "features" / "mnist.json").read_bytes()
    )
    for sha256 in (*(sha256 for pair in PUBLISHED.values() for sha256 in pair), about["sha256"]):
        assert sha256 in text
