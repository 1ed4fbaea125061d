"""Files that are not trusted: nothing hangs, and nothing takes memory before its size is known to be
right.
"""

import json
import os
import shutil
import signal
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest
import torch
from helpers import make_endless
from safetensors.torch import save_file

import latentdiff.pipeline.diffusers  # noqa: F401  whose imports take memory
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.errors import InputError
from latentdiff.files.untrusted import (
    MAX_DEPTH,
    MAX_ENTRIES,
    RegularFile,
    parse_object,
    read_bytes,
    read_json,
)
from latentdiff.metrics.features.weights import read_weights
from latentdiff.nn import build, network_config
from latentdiff.pipeline.checkpoint.diffusers_folder import CONFIG, WEIGHTS, open_folder
from latentdiff.pipeline.checkpoint.folder import INDEX, MANIFEST, open_checkpoint, writing
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline, load
from latentdiff.pipeline.text.encoder import load_encoder
from latentdiff.train.log import read_log

SPARSE = 2**31  # bytes
MEMORY = 2**27  # bytes that reading a hostile file may take


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SPARSE)


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{here}/{path.name}")  # paths of sockets are short
    os.close(here)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "endless device": make_endless,
    "folder": Path.mkdir,
    "socket": _socket,
    "link to itself": lambda path: path.symlink_to(path.name),
    "two sparse gigabytes": _sparse,
}


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Whatever waits for the other end of a FIFO or for the end of a device fails."""

    def late(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("still reading")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(read: Callable[[], object]) -> str:
    """The one line of an InputError for which no memory is taken."""
    tracemalloc.start()
    try:
        with pytest.raises(InputError) as error:
            read()
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return str(error.value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a small model of pixels."""
    folder = tmp_path_factory.mktemp("files") / "model"
    network = build(network_config(None, "small", (1, 8, 8), levels=20, num_classes=0, width=16, depth=1))
    Pipeline(network, DiffusionConfig(prediction="eps", clip=1.0), IdentityCodec((1, 8, 8))).save(folder)
    return folder


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_checkpoint_with_a_hostile_file_is_refused_at_once(kind: str, model: Path, tmp_path: Path) -> None:
    names = [str(path.relative_to(model)) for path in model.rglob("*") if path.is_file()]
    assert len(names) >= 5
    for k, name in enumerate(names):
        folder = tmp_path / str(k)
        shutil.copytree(model, folder)
        (folder / name).unlink()
        HOSTILE[kind](folder / name)
        assert name.split("/")[0] in refused(lambda folder=folder: load(folder)) or name == MANIFEST
        refused(lambda folder=folder: open_checkpoint(folder).verify())


def test_a_manifest_that_vouches_for_two_sparse_gigabytes_takes_no_memory(
    model: Path, tmp_path: Path
) -> None:
    shutil.copytree(model, tmp_path / "m")
    name = "denoiser/diffusion_pytorch_model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [SPARSE // 4], "data_offsets": [0, SPARSE]}}).encode()
    for file, start in ((INDEX, b"{}"), (name, len(header).to_bytes(8, "little") + header)):
        with (tmp_path / "m" / file).open("wb") as sparse:
            sparse.write(start)
            sparse.truncate(len(start) + SPARSE)
        manifest = json.loads((model / MANIFEST).read_text())
        manifest["files"][file]["bytes"] = len(start) + SPARSE
        (tmp_path / "m" / MANIFEST).write_text(json.dumps(manifest))
        assert f"{file}: expected at most" in refused(lambda: load(tmp_path / "m"))
        shutil.copy(model / file, tmp_path / "m" / file)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize(
    "name", [f"unet/{CONFIG}", f"unet/{WEIGHTS}", "scheduler/scheduler_config.json", INDEX]
)
def test_a_folder_of_diffusers_with_a_hostile_file_is_refused_at_once(
    kind: str, name: str, tmp_path: Path
) -> None:
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"]}
    config = {"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1}
    for file, values in (
        (INDEX, index | {"scheduler": ["diffusers", "DDPMScheduler"]}),
        (f"unet/{CONFIG}", config | {"block_out_channels": [8], "down_block_types": ["DownBlock2D"]}),
        ("scheduler/scheduler_config.json", {"_class_name": "DDPMScheduler"}),
    ):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(json.dumps(values))
    save_file({"w": torch.zeros(3)}, tmp_path / "unet" / WEIGHTS)
    (tmp_path / name).unlink()
    HOSTILE[kind](tmp_path / name)
    refused(lambda: load(tmp_path))
    if name.endswith("safetensors"):  # what is found to be a folder of diffusers is read by the same rules
        refused(lambda: (open_folder(tmp_path) or pytest.fail()).tensors(f"denoiser/{WEIGHTS}"))


@pytest.mark.parametrize("kind", HOSTILE)
def test_other_files_that_a_folder_or_an_option_names(kind: str, tmp_path: Path) -> None:
    HOSTILE[kind](tmp_path / "w.safetensors")
    refused(lambda: read_weights(tmp_path / "w.safetensors", {"w": torch.Size([3])}, "inception"))
    HOSTILE[kind](tmp_path / "log.jsonl")
    assert read_log(tmp_path / "log.jsonl") == []
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        folder = tmp_path / f"encoder with {name}"
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        save_file({"w": torch.zeros(3)}, folder / "model.safetensors")
        (folder / name).unlink(missing_ok=True)
        HOSTILE[kind](folder / name)
        if kind != "folder":  # one that is called tokenizer.json is nobody's business
            refused(lambda folder=folder: load_encoder(str(folder), length=12))


def test_a_log_is_read_up_to_a_line_that_is_none(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 0.5}) for step in range(5000)]  # several pieces of the file
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, '{"step": 5000}']))
    assert [entry["step"] for entry in read_log(tmp_path / "log.jsonl")] == list(range(5001))
    (tmp_path / "log.jsonl").write_text("\n".join([*lines, " " * 10**6, '{"step": 5000}']))
    assert len(read_log(tmp_path / "log.jsonl")) == 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{" + ",".join(f'"{k}":{k}' for k in range(MAX_ENTRIES + 9)) + "}", f"at most {MAX_ENTRIES} values"),
        ('{"a":[' + "[]," * MAX_ENTRIES + "[]]}", f"at most {MAX_ENTRIES} values"),
        ('{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1), f"at most {MAX_DEPTH} levels"),
        ("[" * 10**5, f"at most {MAX_DEPTH} levels"),
        ('"' + '\\"' * 10**6, "not valid JSON"),
        ('{"a": ' + "9" * 10**5 + "}", "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
    ],
)
def test_json_is_counted_before_it_is_parsed(text: str, message: str) -> None:
    assert message in refused(lambda: parse_object(text.encode(), "here"))


def test_what_stands_in_strings_is_neither_counted_nor_nested() -> None:
    value = {"captions": ['[{,\\"' * 1000, "\\", '"', ""] * 100, "deep": [[[1, {"a": 2}]]]}
    assert parse_object(json.dumps(value).encode(), "here", entries=600) == value


def _tensors_file(path: Path, header: object, values: int) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(values))
    return path


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(101)}, "at most 100 tensors, found 101"),
        ({"w" * 2**24: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "expected a header of at most"),
        ({"w": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}, "expected a shape for 'w'"),
        ({"w": 3}, "expected a shape for 'w'"),
        ([], "expected a JSON object"),
    ],
)  # fmt: skip
def test_a_header_is_looked_at_before_the_values(
    header: object, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentdiff.files.untrusted.MAX_TENSORS", 100)
    _tensors_file(tmp_path / "w.safetensors", header, 4)
    found = refused(
        lambda: read_weights(tmp_path / "w.safetensors", {"w": torch.Size([1 << 24])}, "inception")
    )
    assert message in found and "not a readable safetensors file" in found


def test_more_files_than_a_checkpoint_holds_are_refused_when_written_and_when_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentdiff.pipeline.checkpoint.folder.MAX_FILES", 3)
    with pytest.raises(InputError, match="at most 3 files"), writing(tmp_path / "c") as writer:
        for k in range(10):
            writer.json(f"{k}.json", {})
    entries = {f"{k}.json": {"bytes": 0, "sha256": ""} for k in range(4)}
    (tmp_path / MANIFEST).write_text(json.dumps({"files": entries}))
    assert "at most 3 files, found 4" in refused(lambda: open_checkpoint(tmp_path))


def test_sizes_are_checked_first_and_bytes_are_right(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(range(256)) * 1000)
    assert read_bytes(tmp_path / "f", limit=256_000) == bytes(range(256)) * 1000
    assert RegularFile(tmp_path / "f").beginning(300) == (bytes(range(256)) * 2)[:300]
    assert "expected at most 255999 bytes, found 256000" in refused(
        lambda: read_bytes(tmp_path / "f", limit=255_999)
    )
    (tmp_path / "j.json").write_text('{"a": "\\u00e9"}')
    assert read_json(tmp_path / "j.json") == {"a": "é"}


def test_an_open_file_keeps_its_bytes_when_it_is_deleted_and_says_when_it_is_cut(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 1000)
    file = RegularFile(tmp_path / "f")
    (tmp_path / "f").unlink()
    (tmp_path / "f").write_bytes(b"other")
    assert file.read(3000) == b"abc" * 1000
    cut = RegularFile(tmp_path / "f")
    parts = cut._parts(10, 2)
    assert next(parts) == b"ot"
    os.truncate(tmp_path / "f", 1)
    with pytest.raises(InputError, match="was cut off meanwhile, after 2 of 10 bytes"):
        next(parts)


def test_files_are_closed(tmp_path: Path) -> None:
    run = Run(tmp_path)
    with writing(run.checkpoint_folder(1)) as writer:
        writer.json(INDEX, {})
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        newest = run.newest()
        assert newest is not None and newest.json(INDEX) == {}
    del newest
    assert len(os.listdir("/proc/self/fd")) == before
