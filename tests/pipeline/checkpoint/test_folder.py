"""Checkpoint folders: written whole or not at all, equal content is equal bytes, damage is found."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any

import pytest
import torch

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.errors import InputError
from latentdiff.files.writing import write_whole
from latentdiff.nn import VAEConfig, build, network_config
from latentdiff.pipeline.checkpoint import folder as module
from latentdiff.pipeline.checkpoint.folder import (
    INDEX,
    MANIFEST,
    TEMPORARY,
    Checkpoint,
    Writer,
    open_checkpoint,
    remove_temporaries,
    writing,
)
from latentdiff.pipeline.checkpoint.index import model_index
from latentdiff.pipeline.checkpoint.runs import Run, locate, newest, with_fingerprint
from latentdiff.pipeline.codec import Codec, IdentityCodec, LatentStatistics, VAECodec
from latentdiff.pipeline.components import load_vae, save_vae
from latentdiff.pipeline.pipeline import Pipeline, load
from latentdiff.viz.images import check_place


def write_small(folder: Path, value: int) -> None:
    """A checkpoint without weights that says ``value``."""
    with writing(folder) as writer:
        writer.json(INDEX, {"value": value})
        writer.json("part/config.json", {"value": value})


def read_small(folder: Path) -> int:
    """What a whole checkpoint says."""
    checkpoint = open_checkpoint(folder)
    checkpoint.verify()
    assert checkpoint.json(INDEX) == checkpoint.json("part/config.json")
    value = checkpoint.json(INDEX)["value"]
    assert isinstance(value, int)
    return value


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def make_pipeline(kind: str) -> Pipeline:
    codec: Codec = IdentityCodec((1, 8, 8), 0.5 if kind == "scaled" else 1.0)
    if kind in ("vector", "spatial"):
        latent = (4,) if kind == "vector" else (2, 4, 4)
        vae = build(VAEConfig(image=(1, 8, 8), latent=latent, width=8, depth=0, hidden=16)).eval()
        statistics = LatentStatistics(torch.full(latent[:1], 1 / 3), torch.full(latent[:1], 0.7))
        codec = VAECodec(vae, statistics)
    form: str | None = kind if kind in ("cnn", "course-unet", "convnext") else None
    depth = None if form else 1
    config = network_config(
        form, "small", codec.latent_shape, levels=1000, num_classes=2, width=16, depth=depth
    )
    network = build(config, seed=1).eval()
    diffusion = DiffusionConfig(
        prediction="eps", clip=codec.scale if isinstance(codec, IdentityCodec) else None
    )
    return Pipeline(network, diffusion, codec, classes=("a", "b"), data="tiny")


# equal content, equal bytes


@pytest.mark.parametrize("kind", ["vector", "spatial", "pixel", "scaled", "cnn", "course-unet", "convnext"])
def test_a_model_saved_loaded_and_saved_gives_the_same_bytes(tmp_path: Path, kind: str) -> None:
    make_pipeline(kind).save(tmp_path / "first")
    load(tmp_path / "first").save(tmp_path / "second")
    first, second = contents(tmp_path / "first"), contents(tmp_path / "second")
    assert first == second
    assert {INDEX, MANIFEST, "scheduler/scheduler_config.json", "denoiser/config.json"} <= first.keys()
    assert ("vae/diffusion_pytorch_model.safetensors" in first) == (kind in ("vector", "spatial"))
    assert json.loads(first[INDEX]).get("pixel_scale") == (0.5 if kind == "scaled" else None)


def test_the_memory_layout_of_weights_does_not_show_in_the_bytes(tmp_path: Path) -> None:
    pipeline = make_pipeline("pixel")
    pipeline.save(tmp_path / "rows")
    pipeline.network.to(memory_format=torch.channels_last)
    pipeline.save(tmp_path / "channels_last")
    assert contents(tmp_path / "rows") == contents(tmp_path / "channels_last")


@pytest.mark.parametrize(
    "statistics", [None, LatentStatistics(torch.tensor([0.1, -1e-9]), torch.tensor([1 / 3, 7.0]))]
)
def test_a_vae_saved_loaded_and_saved_gives_the_same_bytes(
    tmp_path: Path, statistics: LatentStatistics | None
) -> None:
    vae = build(VAEConfig(image=(1, 8, 8), latent=(2,), width=8, depth=0, hidden=16))
    for name in ("first", "second"):
        with writing(tmp_path / name) as writer:
            save_vae(writer, vae, statistics)
            writer.json(INDEX, model_index(vae=True, denoiser=None))
        vae, statistics = load_vae(open_checkpoint(tmp_path / name))
    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_the_manifest_holds_size_and_hash_of_every_file(tmp_path: Path) -> None:
    make_pipeline("vector").save(tmp_path / "model")
    files = contents(tmp_path / "model")
    manifest = json.loads(files.pop(MANIFEST))["files"]
    expected = {
        name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()
    }
    assert manifest == expected


# whole or not at all


@pytest.mark.parametrize("existing", [False, True])
def test_an_exception_leaves_the_old_checkpoint_and_no_temporary(tmp_path: Path, existing: bool) -> None:
    folder = tmp_path / "checkpoint"
    if existing:
        write_small(folder, 1)
    with pytest.raises(RuntimeError, match="halfway"), writing(folder) as writer:
        writer.json(INDEX, {"value": 2})
        raise RuntimeError("halfway")
    assert [path.name for path in tmp_path.iterdir()] == (["checkpoint"] if existing else [])
    assert not existing or read_small(folder) == 1


@pytest.mark.parametrize("call", range(8))
def test_a_full_disk_leaves_a_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    folder, real, calls = tmp_path / "checkpoint", os.fsync, []
    write_small(folder, 1)

    def fsync(handle: int) -> None:
        calls.append(handle)
        if len(calls) == call + 1:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    # three files, their two folders, and the folder above: six calls
    if call < 6:
        with pytest.raises((InputError, OSError), match="No space left"):
            write_small(folder, 2)
    else:
        write_small(folder, 2)
    assert read_small(folder) == (1 if call < 5 else 2)  # the sixth comes after the exchange
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def _kill_at_line(number: int) -> Any:
    """A trace function that kills this process before the ``number``-th line of the checkpoint module."""
    left = number

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("existing", [False, True])
def test_a_kill_at_any_line_leaves_a_whole_checkpoint_or_none(tmp_path: Path, existing: bool) -> None:
    survived, killed, values, leftovers = False, 0, set(), 0
    while not survived:
        parent = tmp_path / str(killed)
        parent.mkdir()
        if existing:
            write_small(parent / "checkpoint", 1)
        child = os.fork()
        if child == 0:
            sys.settrace(_kill_at_line(killed))
            write_small(parent / "checkpoint", 2)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        survived = status == 0
        assert survived or os.WTERMSIG(status) == signal.SIGKILL
        leftovers += bool(list(parent.glob(TEMPORARY + "*")))
        remove_temporaries(parent)
        names = [path.name for path in parent.iterdir()]
        assert names == ["checkpoint"] or (names == [] and not existing)
        values.add(read_small(parent / "checkpoint") if names else None)
        shutil.rmtree(parent)
        killed += 1
    assert killed > 60 and leftovers > 30
    assert values == ({1, 2} if existing else {None, 2})


def test_where_folders_cannot_be_exchanged_they_are_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda name: SimpleNamespace())  # a system without renameat2
    folder, rename = tmp_path / "checkpoint", Path.rename
    write_small(folder, 1)
    write_small(folder, 2)
    assert read_small(folder) == 2

    def refuse(self: Path, target: Path) -> Path:
        if self.name.startswith(TEMPORARY) and Path(target) == folder and not self.name.endswith("-old"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write_small(folder, 3)
    assert read_small(folder) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file may grow beyond 4 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("manifest", [True, False])
@pytest.mark.parametrize("what", ["tensors", "json"])
@pytest.mark.usefixtures("full_disk")
def test_a_full_disk_is_one_line_and_the_old_checkpoint_stays(
    tmp_path: Path, what: str, manifest: bool
) -> None:
    folder = tmp_path / "checkpoint"
    if manifest:
        write_small(folder, 1)
    with (
        pytest.raises(
            InputError,
            match=r"/checkpoint: cannot be written \(big: File too large\); what was .* unchanged$",
        ),
        writing(folder, manifest=manifest) as writer,
    ):
        (
            writer.tensors("big", {"a": torch.zeros(5000)})
            if what == "tensors"
            else writer.json("big", {"a": "a" * 5000})
        )
    assert [path.name for path in tmp_path.iterdir()] == (["checkpoint"] if manifest else [])
    assert not manifest or read_small(folder) == 1


def test_memory_that_runs_out_in_safetensors_is_a_memory_error(tmp_path: Path) -> None:
    program = """
import resource, torch
from latentdiff.files import tensors as files
content, tensors = files.dumps({"a": torch.zeros(2**24)}), {"a": torch.zeros(2**24)}
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**24, -1))
for function, argument in ((files.loads, content), (files.dumps, tensors)):
    try:
        function(argument)
    except MemoryError:
        print("MemoryError")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**16, -1))
try:
    files.save({"a": torch.zeros(4)}, "a.safetensors")  # the buffer of a file
except MemoryError:
    print("MemoryError")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=100, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "MemoryError\n" * 3, "")


def test_names_as_long_as_the_file_system_takes_them(tmp_path: Path) -> None:
    folder, file = tmp_path / ("c" * 255), tmp_path / f"{'f' * 251}.png"
    for value in (1, 2):
        write_small(folder, value)
    check_place(file)
    write_whole(file, lambda path: path.touch())
    assert read_small(folder) == 2 and {path.name for path in tmp_path.iterdir()} == {folder.name, file.name}
    with pytest.raises(InputError, match=r"g\.png: cannot be written \(File name too long\)$"):
        write_whole(tmp_path / f"{'g' * 252}.png", lambda path: path.touch())
    with pytest.raises(InputError, match=r"g\.png: cannot be written \(File name too long\)$"):
        check_place(tmp_path / f"{'g' * 252}.png")


def test_only_checkpoints_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    write_small(tmp_path / "empty", 1)
    assert read_small(tmp_path / "empty") == 1
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    (tmp_path / "file").write_text("also mine")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match="exists and is no checkpoint"):
            write_small(tmp_path / name, 2)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "also mine"


def test_files_of_the_old_checkpoint_do_not_stay_in_the_new_one(tmp_path: Path) -> None:
    with writing(tmp_path / "checkpoint") as writer:
        writer.json("old.json", {})
    write_small(tmp_path / "checkpoint", 5)
    assert contents(tmp_path / "checkpoint").keys() == {INDEX, "part/config.json", MANIFEST}


# damage


def _flips(data: bytes, count: int) -> list[tuple[int, int]]:
    """(position, bit) of some flips, the first and the last byte among them."""
    generator = torch.Generator().manual_seed(len(data))
    places = {0, len(data) - 1, *torch.randint(0, len(data), (count,), generator=generator).tolist()}
    return [(place, 1 << int(torch.randint(0, 8, (1,), generator=generator))) for place in sorted(places)]


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    make_pipeline("vector").save(tmp_path / "model")
    whole = open_checkpoint(tmp_path / "model")
    for name, data in contents(tmp_path / "model").items():
        path, harmless = tmp_path / "model" / name, 0
        flips = _flips(data, 40)
        for place, bit in flips:
            path.write_bytes(data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :])
            try:
                found = open_checkpoint(tmp_path / "model")
                found.verify()
            except InputError as error:
                assert "\n" not in str(error)
            else:  # a blank that became another blank in the manifest
                assert name == MANIFEST and found.files == whole.files
                harmless += 1
        assert harmless < len(flips) / 4
        path.write_bytes(data)
    open_checkpoint(tmp_path / "model").verify()


def test_reading_a_damaged_file_names_it(tmp_path: Path) -> None:
    make_pipeline("vector").save(tmp_path / "model")
    weights = tmp_path / "model" / "denoiser" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(
        InputError, match=r"denoiser/diffusion_pytorch_model.safetensors: damaged, its SHA-256 differs"
    ):
        load(tmp_path / "model")
    weights.write_bytes(data[:-1])
    with pytest.raises(
        InputError, match=rf"damaged, the manifest says {len(data)} bytes, found {len(data) - 1}"
    ):
        load(tmp_path / "model")
    weights.unlink()
    with pytest.raises(InputError, match="cannot be read"):
        load(tmp_path / "model")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ("{}", "expected an object 'files'"),
        ('{"files": {"a": 3}}', "expected an object 'files'"),
        ('{"files": {"../a": {}}}', "cannot be in the checkpoint: '../a'"),
        ('{"files": {"/etc/passwd": {}}}', "cannot be in the checkpoint: '/etc/passwd'"),
        ('{"files": {"a\\u0000": {}}}', r"cannot be in the checkpoint: 'a\\x00'"),
        ('{"files": {"\\ud800": {}}}', r"cannot be in the checkpoint: '\\ud800'"),
    ],
)
def test_a_malformed_manifest_is_one_clear_line(tmp_path: Path, manifest: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(InputError, match=message) as error:
        open_checkpoint(tmp_path)
    assert "\n" not in str(error.value)
    assert str(error.value).isascii()


def _signed(folder: Path, name: str, data: bytes) -> Checkpoint:
    """A checkpoint whose manifest vouches for ``data``."""
    folder.mkdir()
    (folder / name).write_bytes(data)
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / MANIFEST).write_text(json.dumps({"files": {name: entry}}))
    return open_checkpoint(folder)


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x04K\x01.", b"\xff" * 64, (10**6).to_bytes(8, "little") + b"{}"]
)
def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(InputError, match="not a readable safetensors file"):
        _signed(tmp_path / "c", "w.safetensors", data).tensors("w.safetensors")


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        open_checkpoint(tmp_path / "none")
    with pytest.raises(InputError, match=r"not a checkpoint, expected manifest.json"):
        open_checkpoint(tmp_path)
    write_small(tmp_path / "small", 1)
    small = open_checkpoint(tmp_path / "small")
    assert INDEX in small and "vae/config.json" not in small
    with pytest.raises(
        InputError, match=r"has no vae/config.json \(its manifest lists model_index.json, part/config"
    ):
        small.json("vae/config.json")


def test_numbers_that_json_does_not_know_are_not_written(tmp_path: Path) -> None:
    writer = Writer(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.json("a.json", {"value": float("nan")})


# runs


def test_prune_keeps_the_newest_by_step(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (900, 99_999_999, 5, 123_456_789, 70):  # not in the order of steps, and names of two lengths
        write_small(run.checkpoint_folder(step), step)
    (tmp_path / "checkpoint-final").mkdir()
    run.prune(3)
    assert [read_small(path) for path in run.checkpoints()] == [900, 99_999_999, 123_456_789]
    run.prune(3)
    run.prune(1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-123456789", "checkpoint-final"]


def test_a_prune_that_dies_leaves_no_half_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path)
    for step in (1, 2):
        write_small(run.checkpoint_folder(step), step)

    def die(path: Path) -> None:
        (path / INDEX).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", die)
        run.prune(1)
    assert [read_small(path) for path in run.checkpoints()] == [2]
    remove_temporaries(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000002"]


def test_locate_takes_a_run_or_a_checkpoint(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    for step in (2, 10):
        write_small(run.checkpoint_folder(step), step)
    assert locate(run.folder).folder == run.checkpoint_folder(10)
    assert locate(run.checkpoint_folder(2)).folder == run.checkpoint_folder(2)
    with pytest.raises(InputError, match="no such run or checkpoint"):
        locate(tmp_path / "none")
    with pytest.raises(InputError, match="not a run"):
        locate(tmp_path)
    (run.checkpoint_folder(10) / MANIFEST).unlink()  # not whole: does not count
    assert locate(run.folder).folder == run.checkpoint_folder(2)


def test_a_name_is_found_below_the_folder_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_small(Path("runs/a/checkpoint-00000003"), 3)
    write_small(Path("else/b/checkpoint-00000004"), 4)
    assert locate(Path("a")).json(INDEX) == locate(Path("a/checkpoint-00000003")).json(INDEX) == {"value": 3}
    assert locate(Path("b"), Path("else")).json(INDEX) == {"value": 4}
    write_small(Path("a/checkpoint-00000005"), 5)
    assert locate(Path("a")).json(INDEX) == {"value": 5}  # what lies here comes first
    shutil.rmtree("a")
    Path("a").mkdir()
    assert locate(Path("a")).json(INDEX) == {"value": 3}  # unless it is no model
    write_small(Path("runs/digits/checkpoint-00000006"), 6)
    assert locate(Path("digits")).json(INDEX) == {"value": 6}  # before a model of the package
    with pytest.raises(
        InputError, match=r"^b: no such run or checkpoint folder here or in runs/, and no model"
    ):
        locate(Path("b"))
    Path("runs/b-denoiser").mkdir()
    with pytest.raises(InputError, match=r"there is runs/b-denoiser, of `latentdiff train --name b`$"):
        locate(Path("b"))


READS = 300


@pytest.mark.parametrize("rewrites", [False, True])
def test_readers_survive_a_training_that_deletes_and_replaces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rewrites: bool
) -> None:
    """A thread saves and deletes, or saves the same step again, all the time; what is read is one checkpoint,
    whole.
    """
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    run, over, saves = Run(tmp_path / "runs" / "run"), threading.Event(), 0
    write_small(run.checkpoint_folder(1), 1)

    def save() -> None:
        nonlocal saves
        while not over.is_set():
            saves += 1
            write_small(run.checkpoint_folder(1 if rewrites else saves), saves)
            run.prune(1)

    thread = threading.Thread(target=save)
    thread.start()
    try:
        seen = set()
        for k in range(READS):
            if k % 3 == 0:
                found = locate(run.folder)
            elif k % 3 == 1:
                newest_run = newest(tmp_path / "runs", wanted=lambda index: "value" in index)
                assert newest_run is not None
                found = newest_run
            else:
                found = locate(Path("run"), tmp_path / "runs")
                with_fingerprint(tmp_path / "runs", "0")
            if k % 10 == 0:
                time.sleep(0.002)  # the checkpoint is gone by now
            found.verify()
            value = found.json(INDEX)["value"]
            assert found.json("part/config.json") == {"value": value}
            seen.add(value)
    finally:
        over.set()
        thread.join()
    assert saves > READS / 10 and len(seen) > READS / 10  # fewer on a busy machine


@pytest.mark.parametrize("linked", [False, True])
def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path, linked: bool) -> None:
    """A device, a FIFO or a socket under the name of an output, or behind a link of that name, stays what it
    is.
    """
    special, path = tmp_path / "fifo", tmp_path / ("link.png" if linked else "fifo")
    os.mkfifo(special)
    if linked:
        path.symlink_to(special)
    for refused in (
        lambda: check_place(path),
        lambda: write_whole(path, lambda temporary: temporary.touch()),
    ):
        with pytest.raises(InputError, match="expected a file or nothing there"):
            refused()
    assert special.is_fifo() and sorted(each.name for each in tmp_path.iterdir()) == sorted(
        {"fifo", path.name}
    )
