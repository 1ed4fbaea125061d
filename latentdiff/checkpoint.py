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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from latentdiff import tensor_files
from latentdiff.errors import InputError
from latentdiff.paths import TEMPORARY, temporary_beside

INDEX = "model_index.json"
MANIFEST = "manifest.json"
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
        self._hashes[name] = {"bytes": path.stat().st_size, "sha256": _sha256(path)}

    def finish(self, *, sealed: bool = True) -> None:
        """Write the manifest, last of all, if the folder is to be ``sealed``."""
        text = json.dumps({"files": self._hashes}, indent=2, sort_keys=True) + "\n"
        if sealed:
            self._write(MANIFEST, lambda path: path.write_text(text))
        for folder in [self._folder, *(path for path in self._folder.rglob("*") if path.is_dir())]:
            _sync(folder)


@contextmanager
def writing(folder: Path, *, half: bool = False, sealed: bool = True, replace: bool = False) -> Iterator[Writer]:
    """Write a checkpoint: everything goes to a temporary folder that takes its name only once it is complete and synced.

    ``half``: tensors of real numbers as float16, in half the space. A process killed at any moment leaves either no folder of that name or a whole one. An existing checkpoint is
    replaced; InputError where something else has the name. A folder that is not ``sealed`` is for another library: it has no
    manifest, and replaces what is there only with ``replace``.
    """
    ours = (folder / MANIFEST).is_file() if sealed else replace and folder.is_dir()
    if folder.exists() and not (ours or (folder.is_dir() and not any(folder.iterdir()))):
        expected = "new, empty or checkpoint" if sealed else "new or empty"
        raise InputError(f"{folder}: exists{' and is no checkpoint' if sealed else ''}, expected a {expected} folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(folder)
    temporary.mkdir()
    try:
        writer = Writer(temporary, target=folder, half=half)
        yield writer
        writer.finish(sealed=sealed)
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
    """Exchange two folders at once, so that neither name is ever missing; by three renames where the system cannot."""
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)  # Linux
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if renameat2 is not None and renameat2(here, os.fsencode(first), here, os.fsencode(second), exchange) == 0:
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
    """Clear what processes that died while writing left in a folder of checkpoints."""
    for path in parent.glob(TEMPORARY + "*"):
        shutil.rmtree(path, ignore_errors=True)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder to read; every file is checked against the manifest when it is read."""

    folder: Path
    files: Mapping[str, Mapping[str, Any]]
    sealed: ClassVar[bool] = True  # by a manifest

    def path(self, name: str) -> Path:
        """Where a file of that name lies."""
        return self.folder / name

    def __contains__(self, name: str) -> bool:
        return name in self.files

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the model is: the manifest's hashes of all its files, without those of its training."""
        model = [(name, entry.get("sha256")) for name, entry in self.files.items() if not name.startswith("training/")]
        return hashlib.sha256(json.dumps(sorted(model, key=str)).encode()).hexdigest()

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in ``name``; InputError where it is missing, changed or no object."""
        return _object(self._verified(name).decode("utf-8", "replace"), str(self.path(name)))

    def tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors in ``name`` on the CPU; InputError where the file is missing, changed or malformed."""
        try:
            return tensor_files.loads(self._verified(name))
        except (SafetensorError, ValueError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path(name)}: not a readable safetensors file ({_line(error)})") from None

    def mapped(self, name: str) -> dict[str, Tensor]:
        """As :meth:`tensors`, but they stay on disk and are read where they are used: for more than memory holds."""
        path, expected = self._listed(name)
        try:
            found: tuple[int, str] = path.stat().st_size, _sha256(path)
            if found != (expected.get("bytes"), expected.get("sha256")):
                raise InputError(f"{path}: damaged, its size or its SHA-256 differs from the manifest's")
            return safetensors.torch.load_file(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        except (SafetensorError, ValueError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a readable safetensors file ({_line(error)})") from None

    def whole(self) -> bool:
        """Whether every file is there with as many bytes as the manifest says: at once, where :meth:`verify` reads all."""
        try:
            return all(self.path(name).stat().st_size == entry.get("bytes") for name, entry in self.files.items())
        except OSError:
            return False

    def verify(self) -> None:
        """Check every file against the manifest; InputError names the first that is missing or changed."""
        for name in sorted(self.files):
            self._verified(name)

    def _listed(self, name: str) -> tuple[Path, Mapping[str, Any]]:
        """Where a file is, and what the manifest says of it."""
        if name not in self.files:
            raise InputError(
                f"{self.folder}: the checkpoint has no {name} (its manifest lists {', '.join(sorted(self.files))})"
            )
        return self.path(name), self.files[name]

    def _verified(self, name: str) -> bytes:
        path, expected = self._listed(name)
        data = read(path)
        if len(data) != expected.get("bytes"):
            raise InputError(f"{path}: damaged, the manifest says {expected.get('bytes')} bytes, found {len(data)}")
        if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
            raise InputError(f"{path}: damaged, its SHA-256 differs from the manifest's")
        return data


def open_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in ``folder``; InputError where there is none or its manifest is damaged."""
    path = folder / MANIFEST
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; expected a checkpoint or a run")
    if not path.is_file():
        raise InputError(f"{folder}: not a checkpoint, expected {MANIFEST} in it")
    manifest = read_json(path)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise InputError(f"{path}: damaged, expected an object 'files' of file names with bytes and sha256")
    for name in files:
        if not name.isprintable() or Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path}: names a file that cannot be in the checkpoint: {name!a}")
    return Checkpoint(folder, files)


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], where: str) -> None:
    """InputError unless the tensors have exactly the expected names and shapes and finite values."""
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks tensor {missing[0]!r}" if missing else f"has an unexpected tensor {unknown[0]!r}"
        raise InputError(f"{where}: {what} ({len(expected)} expected, {len(tensors)} found)")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise InputError(f"{where}: {name} should have shape {list(shape)}, found {list(tensors[name].shape)}")
        if tensors[name].dtype not in REAL:
            raise InputError(f"{where}: {name} should hold real numbers of 16 to 64 bits, found {tensors[name].dtype}")
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{where}: {name} holds values that are not finite")


def read(path: Path) -> bytes:
    """The bytes of a file; InputError where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; InputError where it is none."""
    return _object(read(path).decode("utf-8", "replace"), str(path))


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({_line(error)})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """fsync a file or a folder, so that a power cut after the rename does not lose it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
