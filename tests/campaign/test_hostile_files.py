"""Files that were made to do harm: each is refused in a line, within a bound on memory and time, and nothing
in it runs.
"""

import json
import os
import pickle
import random
import shutil
import struct
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from campaign_tools import latentdiff, times
from helpers import make_endless, reseal

from latentdiff.apps.cli.root import COMMANDS, root, run
from latentdiff.errors import InputError
from latentdiff.pipeline.pipeline import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"
LIMIT = 2**31  # bytes of memory that a refusal may take beyond what the libraries do


@pytest.fixture
def checkpoint(tiny_denoiser_run: Path, tmp_path: Path) -> Path:
    """A copy of a checkpoint, `runs/hostile/checkpoint-N`."""
    found = next(tiny_denoiser_run.glob("checkpoint-*"))
    return Path(shutil.copytree(found, tmp_path / "runs" / "hostile" / found.name))


def safetensors(header: object, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file with this header: an object, or bytes as they are."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def headers(whole: bytes) -> Iterator[bytes]:
    """Variations of a good file, each with one thing in its header that lies, and noise."""
    length = struct.unpack("<Q", whole[:8])[0]
    header, body = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    dice, names = random.Random(0), sorted(set(header) - {"__metadata__"})
    entries = (
        {"dtype": "F64"}, {"dtype": "I8"}, {"dtype": "object"}, {"dtype": 5}, {"dtype": None}, {"shape": [-1]}, {"shape": [2**63]},
        {"shape": [2**32, 2**32]}, {"shape": [0]}, {"shape": []}, {"shape": "8"}, {"shape": [1.5]}, {"shape": [[1]]},
        {"data_offsets": [0, 2**62]}, {"data_offsets": [-8, 0]}, {"data_offsets": [8, 0]}, {"data_offsets": [0]},
        {"data_offsets": [0, 0]}, {"data_offsets": None},
    )  # fmt: skip
    for entry in entries:
        name = dice.choice(names)
        yield safetensors(header | {name: header[name] | entry}, body)
    yield from (
        safetensors(header, body, length=n) for n in (0, 1, length - 1, length + 1, 2**31, 2**40, 2**64 - 1)
    )
    yield from (
        safetensors(text, body)
        for text in (b"", b"{", b"[]", b"null", b"{}", b"\xff\xfe", b"[" * 10**5, b'{"a":' * 10**4)
    )
    yield safetensors(dict.fromkeys(map(str, range(10**5)), header[names[0]]), body)
    yield safetensors(header | {"../../x": header[names[0]], "\0": header[names[0]]}, body)
    yield safetensors(header | {"__metadata__": {"a": "b" * 10**7}}, body)
    for _ in range(times(200)):
        noise = bytearray(json.dumps(header).encode())
        for _ in range(dice.randint(1, 5)):
            noise[dice.randrange(len(noise))] = dice.randrange(256)
        yield safetensors(bytes(noise), body)


def test_safetensors(checkpoint: Path, record_property: Callable) -> None:
    path = checkpoint / WEIGHTS
    whole, refused = path.read_bytes(), 0
    contents = list(headers(whole))
    for content in contents:
        path.write_bytes(content)
        reseal(checkpoint)
        try:
            load(checkpoint)
        except InputError as error:
            assert len(str(error).splitlines()) == 1, error
            refused += 1
    assert refused > len(contents) / 2
    record_property("count:hostile safetensors files", len(contents))


VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**9, 2**63, 10**400, float("nan"), float("inf"), "", "x", "\0", "\ud800", "a" * 10**5, [], [[]], [1] * 10**5, {},
    {"__class__": "x"}, "__import__('os').system('true')", "../../etc/passwd", "!!python/object/apply:os.system ['true']",
)  # fmt: skip


def changes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places in a JSON value, as the keys that lead there."""
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from changes(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from changes(value[0], (*path, 0))


def test_json(checkpoint: Path, record_property: Callable) -> None:
    """Each value of each JSON file of a model as something else; it loads and draws, or is refused."""
    files = [path for path in sorted(checkpoint.rglob("*.json")) if path.name != "manifest.json"]
    every = [
        (path, place, value)
        for path in files
        for place in changes(json.loads(path.read_text()))
        for value in VALUES
    ]
    trials = random.Random(0).sample(every, min(times(3000), len(every)))
    for path, place, value in trials:
        before = path.read_text()
        changed = json.loads(before)
        if place:
            at = changed
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = value
        path.write_text(json.dumps(changed if place else value))
        reseal(checkpoint)
        try:
            load(checkpoint).sample(1, steps=2, seed=0)
        except InputError as error:
            assert len(str(error).splitlines()) == 1, error
        finally:
            path.write_text(before)
    record_property("count:hostile JSON values", len(trials))


def special(name: str, path: Path) -> None:
    """Put something that is no honest file in the place of one."""
    content = path.read_bytes()
    path.unlink()
    if name == "FIFO":
        os.mkfifo(path)
    elif name == "link to an endless device":
        make_endless(path.with_name("endless"))
        path.symlink_to("endless")
    elif name == "sparse file of 64 GiB":
        with path.open("wb") as file:
            file.write(content)
            file.truncate(2**36)
    elif name == "folder":
        path.mkdir()
    elif name == "link to itself":
        path.symlink_to(path)
    elif name == "deep JSON":
        path.write_bytes(b'{"files": ' + b"[" * 10**6)
    elif name == "a million entries":
        entries = ", ".join(f'"{k}": {{"bytes": 1, "sha256": ""}}' for k in range(10**6))
        path.write_text(f'{{"files": {{{entries}}}}}')


SPECIAL = (
    "FIFO",
    "link to an endless device",
    "sparse file of 64 GiB",
    "folder",
    "link to itself",
    "deep JSON",
    "a million entries",
)


def test_special_files(
    checkpoint: Path, tiny_folder: Path, tmp_path: Path, record_property: Callable
) -> None:
    """In the place of each file of a checkpoint; every reader refuses them within its memory and seconds."""
    names = ("manifest.json", "model_index.json", WEIGHTS, "denoiser/config.json", "training/state.json")
    every = [(kind, name) for kind in SPECIAL for name in names]
    trials = (
        every
        if times(len(every)) == len(every)
        else random.Random(0).sample(every, max(7, times(len(every))))
    )
    for kind, name in trials:
        kept = shutil.copytree(checkpoint, tmp_path / "kept")
        special(kind, checkpoint / name)
        for command in (f"sample --run {checkpoint} -n 1 --steps 1 --out a.png", f"inspect {checkpoint}"):
            if not name.startswith("training"):
                latentdiff(command, tmp_path, seconds=60, RLIMIT_AS=LIMIT).check(1)
        latentdiff(
            "train-denoiser --resume runs/hostile --steps 41", tmp_path, seconds=60, RLIMIT_AS=LIMIT
        ).check(1)
        shutil.rmtree(checkpoint)
        shutil.move(kept, checkpoint)
    record_property("count:special files in a checkpoint", len(trials))


class Payload:
    """Leaves a trace in the working folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("unpickled",)


def payloads(folder: Path) -> list[Path]:
    """Files that would run code if they were unpickled or evaluated, under every suffix that a reader
    may trust.
    """
    folder.mkdir()
    plain = pickle.dumps(Payload())
    objects = BytesIO()
    np.save(objects, np.array([Payload()], dtype=object), allow_pickle=True)
    for suffix in (".pt", ".pkl", ".bin", ".safetensors", ".json", ".png", ".npz", ".txt"):
        (folder / f"pickle{suffix}").write_bytes(plain)
    (folder / "objects.npy").write_bytes(objects.getvalue())
    for suffix in (".npz", ".pt"):
        with (folder / f"objects{suffix}").open("wb") as file:
            np.savez(
                file,
                x_train=np.array([Payload()] * 4, dtype=object),
                images=np.array([Payload()], dtype=object),
            )
    (folder / "tag.yaml").write_text("data: !!python/object/apply:os.mkdir [unpickled]\n")
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for name in ("0.png", "0.pkl", "0.json"):
            info = tarfile.TarInfo(name)
            info.size = len(plain)
            tar.addfile(info, BytesIO(plain))
    inside = folder / "checkpoint"
    inside.mkdir()
    for name in (
        "pytorch_model.bin",
        "diffusion_pytorch_model.bin",
        "model_index.json",
        "manifest.json",
        "metadata.jsonl",
        "0.png",
    ):
        (inside / name).write_bytes(plain)
    return sorted(folder.iterdir())


WRITES = {"--out", "--files", "--trajectory", "--maps", "--runs", "--name"}  # nothing is read from these
QUICK = {
    "train": "--steps 1", "train-vae": "--steps 1", "train-denoiser": "--steps 1", "train-cold": "--steps 1", "sample": "-n 1 --steps 1",
    "distill": "--steps 1 --trajectories 16 --calls 1 --teacher-steps 2",
    "edit": "-n 1 --steps 1", "p2p": "-n 1 --steps 1", "inpaint": "-n 1 --steps 1", "restore": "-n 1 --steps 1", "denoise": "-n 1", "invert": "-n 1",
    "anagram": "-n 1 --steps 1", "hybrid": "-n 1 --steps 1", "sample-cold": "-n 1", "reproduce": "schedules", "evaluate": "-n 4 --resamples 0",
}  # fmt: skip
LEFT_OUT = {"ui", "bench", "info", "models"}  # no option that names a file, or a server


def options() -> Iterator[tuple[str, str | None]]:
    """Every command with each option of it that takes a text or a path; None: its argument."""
    for name in COMMANDS.keys() - LEFT_OUT:
        command = root.get_command(click.Context(root), name)
        assert command is not None
        for parameter in command.params:
            takes_text = isinstance(parameter.type, click.types.StringParamType | click.Path)
            if takes_text and parameter.opts[-1] not in WRITES:
                yield name, parameter.opts[-1] if isinstance(parameter, click.Option) else None


def test_pickles(
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable,
) -> None:
    """Every option of every command that could name a file, with every payload."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(tiny_folder / "tiny.npz", tmp_path)
    every = sorted(
        ((name, option, path) for name, option in options() for path in payloads_of(tmp_path)),
        key=lambda trial: str(trial),
    )
    trials = random.Random(0).sample(every, times(1000))
    for name, option, path in trials:
        data = ["--data", "tiny.npz"] if name.startswith("train") and option != "--data" else []
        words = [name, *QUICK.get(name, "").split(), *data, *([] if option is None else [option]), str(path)]
        try:
            code = run(words)
        except Exception as error:
            raise AssertionError(f"{words}: {error!r}") from error
        err = capsys.readouterr().err
        assert code in (0, 1, 2), words
        assert not (tmp_path / "unpickled").exists(), f"{words}: unpickled"
        assert [line.startswith("error: ") for line in err.splitlines()].count(True) == (code != 0), (
            words,
            err,
        )
    record_property("count:pickles and tags in options", len(trials))


def payloads_of(folder: Path) -> list[Path]:
    """The payloads below ``folder``, made once."""
    made = folder / "payloads"
    return sorted(made.iterdir()) if made.exists() else payloads(made)
