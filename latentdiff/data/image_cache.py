"""Decoded images of folders on disk: read from there while no file has changed, checked, and made again."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from numpy.typing import NDArray
from PIL import features

from latentdiff._version import __version__
from latentdiff.errors import InputError
from latentdiff.files import tensors as tensor_files
from latentdiff.files.paths import TEMPORARY, cache_folder, expanded, temporary_beside
from latentdiff.files.untrusted import METADATA, RegularFile, parse_object, tensors_header

FORMAT = 2  # raise it when what is stored, or how images are decoded, changes within a version
FOLDER, LIMIT = "LATENTDIFF_IMAGE_CACHE", "LATENTDIFF_IMAGE_CACHE_GIB"  # of the environment
OFF = "off"
DEFAULT_GIB = 10.0
LEAST_IMAGES, LEAST_BYTES = 1000, 2**25  # folders with fewer images and fewer bytes are read anew
MOMENT = 2.0  # seconds: a file that was changed so recently may change again unnoticed
_OLD = 86400.0  # seconds after which a file that is being written belongs to a process that is gone


class DamagedCache(InputError):
    """A file of the cache that cannot be used; it was removed."""


@dataclass(frozen=True)
class Entry:
    """A file of the cache: the ``source`` that it is of, the shape of its pixels, its bytes, and when it was
    used last (seconds since 1970).
    """

    file: Path
    source: str
    shape: tuple[int, ...]
    bytes: int
    used: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file": str(self.file),
            "source": self.source,
            "shape": list(self.shape),
            "bytes": self.bytes,
            "used": self.used,
        }


@dataclass(frozen=True)
class ImageCache:
    """Safetensors files in a folder, of at most ``limit`` bytes together; the least recently used go first.

    A file appears whole or not at all, so that several processes can share the folder. What cannot be written
    is not cached, and nothing is said.
    """

    folder: Path
    limit: int

    def load(self, key: str) -> tuple[NDArray[np.uint8], dict[str, Any]] | None:
        """The array stored by a key, mapped from the disk, and its facts; None where there is none.

        DamagedCache for a file that is not as it was written.
        """
        place = self._place(key)
        if not place.is_file():
            return None
        try:
            found = _read(place)
        except (InputError, ValueError, KeyError, TypeError, AttributeError, OSError) as error:
            with suppress(OSError):
                place.unlink()
            reason = " ".join(str(error).split()).removeprefix(f"{place}: ")[:120]
            raise DamagedCache(f"the cached images in {place} are damaged ({reason})") from None
        with suppress(OSError):  # a disk that can only be read
            os.utime(place)
        return found

    def save(self, key: str, array: NDArray[np.uint8], facts: Mapping[str, Any]) -> None:
        """Store an array and facts for JSON by a key, unless there is no room; older files make room."""
        if 2 * array.nbytes > self.limit:
            return
        place = self._place(key)
        temporary = temporary_beside(place)
        values = np.ascontiguousarray(array)
        text = json.dumps(facts)
        about = {"facts": text, "crc32": str(_checksum(text, values))}
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(self.folder).free < 2 * array.nbytes:
                return
            tensor_files.save({"images": torch.from_numpy(values)}, temporary, about=about)
            temporary.replace(place)
            self._make_room(place)
        except (OSError, MemoryError):
            return
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def entries(self) -> list[Entry]:
        """What is stored, the last used first; files that cannot be read have no source."""
        found = [_entry(file) for file in self._files()]
        return sorted((entry for entry in found if entry is not None), key=lambda entry: -entry.used)

    def clear(self) -> list[Entry]:
        """Remove everything; returns what was there. InputError where a file cannot be removed."""
        entries = self.entries()
        for file in (*self._files(), *self._unfinished(0)):
            try:
                file.unlink(missing_ok=True)
            except OSError as error:
                raise InputError(f"{file}: cannot be removed ({error.strerror})") from None
        return entries

    def _make_room(self, newest: Path) -> None:
        total = 0
        for entry in sorted(self.entries(), key=lambda entry: entry.file != newest):  # stable: last used next
            total += entry.bytes
            if total > self.limit:
                entry.file.unlink(missing_ok=True)
        for file in self._unfinished(_OLD):
            file.unlink(missing_ok=True)

    def _place(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _files(self) -> list[Path]:
        """The files of the cache; none of another name."""
        names = (path for path in self.folder.glob("*.safetensors") if len(path.stem) == 64)
        return sorted(path for path in names if not path.is_symlink() and path.is_file())

    def _unfinished(self, age: float) -> list[Path]:
        """Files that a process began to write so many seconds ago or more."""
        now = time.time()
        files = [path for path in self.folder.glob(f"{TEMPORARY}*") if path.is_file()]
        return [path for path in files if now - path.stat().st_mtime >= age]


def open_cache(place: str | None = None) -> ImageCache | None:
    """The cache in a folder, by default that of $LATENTDIFF_IMAGE_CACHE, else ~/.cache/latentdiff/images.

    None for "off", and without a home folder. InputError for a limit in $LATENTDIFF_IMAGE_CACHE_GIB that is
    no number.
    """
    place = place or os.environ.get(FOLDER) or None
    if place == OFF:
        return None
    text = os.environ.get(LIMIT) or str(DEFAULT_GIB)
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < 2**20:
        raise InputError(f"${LIMIT}: expected the size of the cache in GiB, as 10, found {text!r}")
    try:
        folder = cache_folder(FOLDER, "images") if place is None else expanded(place)
    except InputError:
        return None
    return ImageCache(folder, int(limit * 2**30))


def key_of(root: Path, paths: Sequence[str], options: Sequence[object]) -> str | None:
    """A name for what is decoded out of the files ``paths`` of a folder with ``options``, 64 characters.

    It changes with any of these, with the size or the time of a file, and with the libraries that decode.
    None for a folder so small that it is read anew, and where a file is missing or was changed just now.
    """
    decoders = (PIL.__version__, *(features.version(name) for name in ("jpg", "webp", "zlib", "littlecms2")))
    digest = hashlib.sha256(repr((FORMAT, __version__, decoders, str(root.resolve()), *options)).encode())
    size, now = 0, time.time()
    for path in paths:
        try:
            facts = (root / path).stat()
        except OSError:
            return None
        if abs(now - facts.st_mtime) < MOMENT:
            return None
        size += facts.st_size
        entry = (path, facts.st_size, facts.st_mtime_ns)
        digest.update(repr(entry).encode(errors="surrogatepass"))
    return digest.hexdigest() if len(paths) >= LEAST_IMAGES or size >= LEAST_BYTES else None


def _checksum(facts: str, array: NDArray[np.uint8]) -> int:
    return zlib.crc32(array.data, zlib.crc32(facts.encode()))


def _read(place: Path) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    """The array and the facts in a file. InputError, ValueError, KeyError, TypeError: it is damaged."""
    file = RegularFile(place)
    try:
        header = tensors_header(file)
        facts = parse_object(header[METADATA]["facts"].encode(), str(place))
        shape, start = tuple(header["images"]["shape"]), 8 + int.from_bytes(file.beginning(8), "little")
        if header["images"]["dtype"] != "U8" or start + math.prod(shape) != file.size:
            raise ValueError(f"expected {math.prod(shape)} bytes of pixels, found {file.size - start}")
        array = np.frombuffer(file.mapped(), dtype=np.uint8, offset=start).reshape(shape)
    finally:
        file.close()
    if str(_checksum(header[METADATA]["facts"], array)) != header[METADATA]["crc32"]:
        raise ValueError("its checksum is another one")
    return array, facts


def _entry(file: Path) -> Entry | None:
    """A file of the cache by its header; None where it is gone."""
    try:
        facts = file.stat()
    except OSError:
        return None
    source, shape = "", tuple[int, ...]()
    with suppress(InputError, ValueError, KeyError, TypeError, AttributeError):
        opened = RegularFile(file)
        header = tensors_header(opened)
        opened.close()
        about = parse_object(header[METADATA]["facts"].encode(), str(file))
        source, shape = str(about["source"]), tuple(header["images"]["shape"])
    return Entry(file, source, shape, facts.st_size, facts.st_mtime)
