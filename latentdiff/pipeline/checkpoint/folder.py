"""Checkpoint folders: safetensors and JSON under a SHA-256 manifest, written whole or not at all.

The layout is the one Hugging Face users know: ``model_index.json`` and one folder for each component with its
configuration and weights. Nothing here knows what the components are.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.files import tensors as tensor_files
from latentdiff.files.paths import TEMPORARY, temporary_beside
from latentdiff.files.untrusted import (
    MAX_ENTRIES,
    MAX_JSON,
    SPARE,
    RegularFile,
    parse_object,
    tensor_shapes,
    tensors_header,
)

INDEX = "model_index.json"
MANIFEST = "manifest.json"
MAX_FILES = 2**15  # of a checkpoint: data sets are encoded into shards
MAX_HELD = 64  # files of a checkpoint that are held open
REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # what weights may be made of


class Writer:
    """Files of a checkpoint in the making, below a temporary folder that will be called ``target``."""

    def __init__(self, folder: Path, *, target: Path | None = None, half: bool = False) -> None:
        self._folder, self._target, self._half = folder, target or folder, half
        self._hashes: dict[str, dict[str, object]] = {}

    def json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write ``value`` with sorted keys, so that equal values are equal bytes."""
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
        self._write(name, lambda path: path.write_text(text, encoding="utf-8"))

    def tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write tensors as safetensors; equal tensors are equal bytes."""
        plain = {key: self._rounded(value.detach()).cpu().contiguous() for key, value in tensors.items()}
        self._write(name, lambda path: tensor_files.save(plain, path))

    def _rounded(self, tensor: Tensor) -> Tensor:
        return tensor.half() if self._half and tensor.is_floating_point() else tensor

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        if len(self._hashes) > MAX_FILES:
            raise InputError(
                f"{name}: a checkpoint holds at most {MAX_FILES} files; encode fewer images at a time"
            )
        path = self._folder / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path)
            _sync(path)
        except OSError as error:
            reason = f"{name}: {error.strerror or error}"
            raise InputError(
                f"{self._target}: cannot be written ({reason}); what was there before is unchanged"
            ) from None
        self._hashes[name] = {"bytes": path.stat().st_size, "sha256": RegularFile(path).sha256()}

    def commit(self, *, manifest: bool = True) -> None:
        """Sync the files and their folders, after writing the ``manifest`` as the last file."""
        text = json.dumps({"files": self._hashes}, indent=2, sort_keys=True) + "\n"
        if manifest:
            self._write(MANIFEST, lambda path: path.write_text(text))
        for folder in [self._folder, *(path for path in self._folder.rglob("*") if path.is_dir())]:
            _sync(folder)


@contextmanager
def writing(
    folder: Path, *, half: bool = False, manifest: bool = True, replace: bool = False
) -> Iterator[Writer]:
    """Write a checkpoint: everything goes to a temporary folder that takes its name only once it is complete
    and synced.

    ``half``: tensors of real numbers as float16, in half the space. A process killed at any moment leaves
    either no folder of that name or a whole one. An existing checkpoint is replaced; InputError where
    something else has the name. A folder without ``manifest`` is for another library, and
    replaces an existing one only with ``replace``.
    """
    ours = (folder / MANIFEST).is_file() if manifest else replace and folder.is_dir()
    if folder.exists() and not (ours or (folder.is_dir() and not any(folder.iterdir()))):
        expected = "new, empty or checkpoint" if manifest else "new or empty"
        raise InputError(
            f"{folder}: exists{' and is no checkpoint' if manifest else ''}, expected a {expected} folder"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder)
    temporary.mkdir()
    try:
        writer = Writer(temporary, target=folder, half=half)
        yield writer
        writer.commit(manifest=manifest)
        if folder.exists():  # rename does not replace a folder that is not empty
            _swap(temporary, folder)
            shutil.rmtree(temporary)
        else:
            temporary.rename(folder)
        _sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _swap(first: Path, second: Path) -> None:
    """Exchange two folders at once, so that neither name is ever missing; else by three renames."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if (
        renameat2 is not None
        and renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0
    ):
        return
    aside = first.with_name(f"{first.name}-old")
    second.rename(aside)
    try:
        first.rename(second)
    except BaseException:
        aside.rename(second)
        raise
    aside.rename(first)


def remove_temporaries(parent: Path) -> None:
    """Delete the temporary folders of processes that died while writing a checkpoint."""
    for path in parent.glob(TEMPORARY + "*"):
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder to read; every file is checked against the manifest when it is read.

    ``opened``: files that are open already, by name; ``instead``: a hint that ends the message of damage.
    """

    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    opened: Mapping[str, RegularFile] = field(default_factory=dict, kw_only=True, repr=False, compare=False)
    instead: str = field(default="", kw_only=True, repr=False, compare=False)
    has_manifest: ClassVar[bool] = True

    def path(self, name: str) -> Path:
        """Where a file of that name lies."""
        return self.folder / name

    def __contains__(self, name: str) -> bool:
        return name in self.files

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the manifest's hashes of all files of the model, without those of its training."""
        model = [
            (name, entry.get("sha256"))
            for name, entry in self.files.items()
            if not name.startswith("training/")
        ]
        return hashlib.sha256(json.dumps(sorted(model, key=str)).encode()).hexdigest()

    def held(self) -> Checkpoint:
        """The same with its files open, which can be read after a training has deleted or replaced them.

        A file that cannot be opened is missed when it is read. Data sets in many shards are left as they are.
        """
        opened = dict(self.opened)
        for name in self.files if len(self.files) <= MAX_HELD else ():
            with suppress(InputError):
                opened[name] = RegularFile(self.path(name))
        return replace(self, opened=opened)

    def stands(self) -> bool:
        """Whether the folder still holds the manifest that was read: if not, it was replaced."""
        try:
            facts = self.path(MANIFEST).stat()
        except OSError:
            return False
        return (facts.st_dev, facts.st_ino) == self.opened[MANIFEST].identity

    def json(self, name: str, *, limit: int = MAX_JSON, entries: int = MAX_ENTRIES) -> dict[str, Any]:
        """The JSON object in ``name``; InputError where it is missing, changed, too large or no object."""
        return parse_object(
            self._verified(self._sound(name), name, limit), str(self.path(name)), entries=entries
        )

    def tensors(self, name: str, *, limit: int | None = None) -> dict[str, Tensor]:
        """The tensors in ``name`` on the CPU; InputError as :meth:`json`, or where it is malformed."""
        file = self._sound(name)
        self._header(file, name)
        data = self._verified(file, name, file.size if limit is None else limit)
        return _parsed(lambda: tensor_files.loads(data), self.path(name))

    def mapped(self, name: str) -> dict[str, Tensor]:
        """As :meth:`tensors`, but on disk and read where they are used: for more than memory holds."""
        file = self._sound(name)
        self._header(file, name)
        self._check_sha256(name, file.sha256)
        return _parsed(lambda: safetensors.torch.load_file(self.path(name)), self.path(name))

    def shapes(self, name: str) -> dict[str, tuple[int, ...]]:
        """The shapes of the tensors in ``name``, whose values are not read."""
        return tensor_shapes(self._header(self._sound(name), name))

    def whole(self) -> bool:
        """Whether every file is there with as many bytes as the manifest says; :meth:`verify` reads all."""
        try:
            return all(
                self.path(name).stat().st_size == entry.get("bytes") for name, entry in self.files.items()
            )
        except OSError:
            return False

    def verify(self) -> None:
        """Check every file's hash, in constant memory; InputError names the first missing or changed one."""
        for name in sorted(self.files):
            self._check_sha256(name, self._sound(name).sha256)

    def _sound(self, name: str) -> RegularFile:
        """A file of the manifest's size."""
        if name not in self.files:
            listed = ", ".join(sorted(self.files)[:20]) + (", ..." if len(self.files) > 20 else "")
            raise InputError(f"{self.folder}: the checkpoint has no {name} (its manifest lists {listed})")
        try:
            file = self.opened[name] if name in self.opened else RegularFile(self.path(name))
        except InputError as error:
            raise InputError(f"{error}{self.instead}") from None
        if (found := file.size) != (expected := self.files[name].get("bytes")):
            raise self._damaged(name, f"the manifest says {expected} bytes, found {found}")
        return file

    def _header(self, file: RegularFile, name: str) -> dict[str, Any]:
        try:
            return tensors_header(file)
        except InputError:
            self._check_sha256(name, file.sha256)  # damaged rather than malformed
            raise

    def _verified(self, file: RegularFile, name: str, limit: int) -> bytes:
        data = file.read(limit)
        self._check_sha256(name, hashlib.sha256(data).hexdigest)
        return data

    def _check_sha256(self, name: str, found: Callable[[], str]) -> None:
        if found() != self.files[name].get("sha256"):
            raise self._damaged(name, "its SHA-256 differs from the manifest's")

    def _damaged(self, name: str, how: str) -> InputError:
        return InputError(f"{self.path(name)}: damaged, {how}{self.instead}")


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``; InputError where there is none or its manifest is damaged."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a checkpoint or a run")
    if not path.is_file():
        raise InputError(f"{folder}: not a checkpoint, expected {MANIFEST} in it")
    file = RegularFile(path)
    files = parse_object(file.read(MAX_JSON), str(path)).get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise InputError(f"{path}: damaged, expected an object 'files' of file names with bytes and sha256")
    if len(files) > MAX_FILES:
        raise InputError(f"{path}: damaged, expected at most {MAX_FILES} files, found {len(files)}")
    for name, entry in files.items():
        if not name.isprintable() or Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path}: names a file that cannot be in the checkpoint: {name!a:.200}")
        if type(entry.get("bytes")) is not int or type(entry.get("sha256")) is not str:
            raise InputError(
                f"{path}: damaged, expected bytes and sha256 of {name!a:.200}, found {entry!a:.80}"
            )
    return Checkpoint(folder, files, opened={MANIFEST: file})


def _parsed(load: Callable[[], dict[str, Tensor]], path: Path) -> dict[str, Tensor]:
    """The tensors that ``load`` reads from a file; InputError where it is not safetensors."""
    try:
        return load()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (SafetensorError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a readable safetensors file ({reason})") from None


def bytes_of(shapes: Iterable[torch.Size]) -> int:
    """The largest file of real numbers of these shapes, with its header."""
    return SPARE + sum(8 * shape.numel() + 1024 for shape in shapes)


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], where: str) -> None:
    """InputError unless the tensors have exactly the expected names and shapes and finite values."""
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks tensor {missing[0]!r}" if missing else f"has an unexpected tensor {unknown[0]!r}"
        raise InputError(f"{where}: {what} ({len(expected)} expected, {len(tensors)} found)")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise InputError(
                f"{where}: {name} should have shape {list(shape)}, found {list(tensors[name].shape)}"
            )
        if tensors[name].dtype not in REAL:
            raise InputError(
                f"{where}: {name} should hold real numbers of 16 to 64 bits, found {tensors[name].dtype}"
            )
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{where}: {name} holds values that are not finite")


def _sync(path: Path) -> None:
    """fsync a file or a folder, so that a power cut after the rename does not lose it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
