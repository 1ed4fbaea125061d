"""Files that are not trusted: regular files of checked sizes, limits on JSON and on safetensors headers."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import stat
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, Strict, TypeAdapter, ValidationError

from latentdiff.errors import InputError, in_bytes

MAX_JSON = 2**24  # bytes of a JSON file; the largest that this package writes are vocabularies of a megabyte
MAX_ENTRIES = 2**18  # values of a JSON file
MAX_DEPTH = 64  # lists and objects within each other
MAX_TENSORS = 2**16  # of a safetensors file
METADATA = "__metadata__"  # of a safetensors header: no tensor
SPARE = 2**20  # bytes of a weights file beyond the values of its tensors
Number = Annotated[float, Strict(), Field(ge=-3.4e38, le=3.4e38)]
"""A number in JSON that float32 can hold."""
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_CHUNK = 2**24
# a string, or a mark outside of strings
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[,\[{\]}]', re.DOTALL)


class RegularFile:
    """A regular file, open to read, whose bytes stay the same when its name is given to another file.

    InputError for a folder, a device, a FIFO or a socket, which could be endless or never answer, and for
    what cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._handle = os.open(path, _FLAGS)  # does not wait for the other end of a FIFO
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            name = str(path) if str(path).isprintable() else ascii(str(path))
            raise InputError(
                f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})"
            ) from None
        self.close = weakref.finalize(self, os.close, self._handle)
        facts = os.fstat(self._handle)
        self.identity = facts.st_dev, facts.st_ino
        if not stat.S_ISREG(facts.st_mode):
            self.close()
            raise InputError(
                f"{path}: cannot be read (expected a regular file, found {_kind(facts.st_mode)})"
            )

    @property
    def size(self) -> int:
        """Bytes of the file as it is now."""
        return os.fstat(self._handle).st_size

    def read(self, limit: int) -> bytes:
        """All bytes. InputError, before any is read, where there are more than ``limit``."""
        size = self.size
        if size > limit:
            raise InputError(f"{self.path}: expected at most {in_bytes(limit)}, found {in_bytes(size)}")
        parts = list(self._parts(size, size))
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def beginning(self, count: int) -> bytes:
        """The first ``count`` bytes, or fewer where there are fewer."""
        return b"".join(self._parts(min(count, self.size), count))

    def mapped(self) -> mmap.mmap:
        """All bytes as memory that is read from the disk where it is looked at; ValueError for none."""
        return mmap.mmap(self._handle, 0, access=mmap.ACCESS_READ)

    def sha256(self) -> str:
        """SHA-256 (hex) of its bytes, in constant memory."""
        digest = hashlib.sha256()
        for part in self.parts():
            digest.update(part)
        return digest.hexdigest()

    def parts(self) -> Iterator[bytes]:
        """All bytes, piece by piece."""
        return self._parts(self.size, _CHUNK)

    def lines(self, longest: int) -> Iterator[str]:
        """Its lines as text, without their ends, up to one of more than ``longest`` bytes."""
        rest = b""
        for part in self._parts(self.size, longest):
            *whole, rest = (rest + part).split(b"\n")
            for line in (*whole, rest) if len(rest) > longest else whole:
                if len(line) > longest:
                    return
                yield line.decode("utf-8", "replace")
        if rest:
            yield rest.decode("utf-8", "replace")

    def _parts(self, size: int, each: int) -> Iterator[bytes]:
        at = 0
        while at < size:
            try:
                part = os.pread(self._handle, min(each, size - at), at)
            except OSError as error:
                raise InputError(f"{self.path}: cannot be read ({error.strerror})") from None
            if not part:
                raise InputError(
                    f"{self.path}: cannot be read (was cut off meanwhile, after {at} of {size} bytes)"
                )
            at += len(part)
            yield part


def _kind(mode: int) -> str:
    kinds = {"a folder": stat.S_ISDIR, "a FIFO": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
    return next((name for name, fits in kinds.items() if fits(mode)), "a device")


def read_bytes(path: Path, *, limit: int) -> bytes:
    """The bytes of a regular file of at most ``limit`` bytes; InputError where it is anything else."""
    file = RegularFile(path)
    try:
        return file.read(limit)
    finally:
        file.close()


def read_json(path: Path, *, limit: int = MAX_JSON) -> dict[str, Any]:
    """The JSON object in a file; InputError where it is none, or larger than a file of settings can be."""
    return parse_object(read_bytes(path, limit=limit), str(path))


def parse_object(data: bytes, where: str, *, entries: int = MAX_ENTRIES) -> dict[str, Any]:
    """The JSON object in ``data``. InputError naming ``where`` for anything else.

    Values are counted and nesting is measured before memory is taken for them.
    """
    found = depth = 0
    for token in _TOKEN.finditer(data):
        mark = data[token.start()]
        found += mark in b",[{"
        depth += (mark in b"[{") - (mark in b"]}")
        if found > entries:
            raise InputError(f"{where}: not valid JSON here (expected at most {entries} values, found more)")
        if depth > MAX_DEPTH:
            raise InputError(
                f"{where}: not valid JSON here (expected at most {MAX_DEPTH} levels, found more)"
            )
    try:
        value = json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def checked(kind: Any, value: object, where: str, expected: str) -> Any:
    """``value`` out of a JSON file as a type that pydantic knows; InputError saying what was ``expected``."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        raise InputError(f"{where}: expected {expected}, found {value!r:.80}") from None


def tensors_header(file: RegularFile) -> dict[str, Any]:
    """The header of a safetensors file: dtype, shape and data_offsets by name, and __metadata__.

    InputError where it is none, or says more than there is.
    """
    problem, size = f"{file.path}: not a readable safetensors file", file.size
    length = int.from_bytes(file.beginning(8), "little")
    if size < 8 or length > size - 8:
        raise InputError(f"{problem} (its header should have {length} bytes, the file has {size})")
    if length > MAX_JSON:
        raise InputError(f"{problem} (expected a header of at most {MAX_JSON} bytes, found {length})")
    header = parse_object(file.beginning(8 + length)[8:], problem, entries=16 * MAX_TENSORS)
    if len(header) > MAX_TENSORS:
        raise InputError(f"{problem} (expected at most {MAX_TENSORS} tensors, found {len(header)})")
    for name, entry in header.items():
        shape = entry.get("shape") if isinstance(entry, dict) else None
        sides = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)
        if name != METADATA and not sides:
            raise InputError(f"{problem} (expected a shape for {name!a:.80})")
    return header


def tensor_shapes(header: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a :func:`tensors_header`, by name."""
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != METADATA}
