"""Images that stay on the disk, decoded by threads when they are used, or before where they were
prefetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data.decode import Decoded, RefusedImage, decode_bytes
from latentdiff.data.read_report import ReadReport
from latentdiff.data.resize import Fit, resize_effects, resized, set_channels
from latentdiff.data.scan import shown
from latentdiff.errors import InputError

THREADS = 8  # that decode, at most
AHEAD = 4096  # prefetched images that are kept, at most


class Unreadable(InputError):
    """An image that was there when the data was indexed cannot be read or decoded."""


@dataclass(frozen=True)
class FileLocation:
    """Where the bytes of an image are: a whole file, or ``size`` bytes at ``offset`` of a shard; ``name``: in
    messages.
    """

    file: Path
    name: str
    offset: int = 0
    size: int | None = None

    def decode(self) -> Decoded | RefusedImage:
        """The image, or why there is none."""
        try:
            return decode_bytes(self.read(), Path(self.name).suffix.lower())
        except OSError as error:
            return RefusedImage(f"unreadable ({error.strerror or 'error'})")

    def read(self) -> bytes:
        """The bytes; fewer where the file has shrunk. OSError."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read() if self.size is None else file.read(self.size)


@dataclass(frozen=True, eq=False)
class Listed:
    """Images of a folder or of shards before any is decoded, in one order, and the report of other files.

    ``splits``: train, val, test or None for each; labels int64 [N].
    """

    places: Sequence[FileLocation]
    paths: Sequence[str]
    splits: Sequence[str | None] | None
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None
    captions: tuple[str, ...] | None
    report: ReadReport


class LazyImages:
    """uint8 [N, C, H, W] that is never whole in memory; see :class:`latentdiff.data.types.Images`.

    Every image is brought to the size and the channels of ``fit``, which must name both (InputError). The
    ``report`` counts conversions as images are decoded, each once. Indexing raises Unreadable for an image
    that cannot be read or decoded.
    """

    dtype, ndim = torch.uint8, 4

    def __init__(self, places: Sequence[FileLocation], fit: Fit, report: ReadReport | None = None) -> None:
        if fit.size is None or fit.channels is None:
            raise InputError(
                "images that are read as they are needed: expected --size and --channels, found none"
            )
        self._places, self._size, self._channels, self._fit = places, fit.size, fit.channels, fit
        self._pool = ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1), thread_name_prefix="decode")
        self._ahead: dict[int, Future[NDArray[np.uint8]]] = {}
        self._lock = Lock()
        self._report = ReadReport() if report is None else report
        self._counted = bytearray(len(places))

    @property
    def shape(self) -> torch.Size:
        """[N, C, H, W]."""
        return torch.Size([len(self._places), self._channels, *self._size])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, which: Tensor | slice) -> Tensor:
        """The images at int64 indices [K], or of a slice, as uint8 [K, C, H, W]."""
        rows = range(len(self))[which] if isinstance(which, slice) else which.tolist()
        with self._lock:
            pending = [
                self._ahead.pop(k) if k in self._ahead else self._pool.submit(self._image, k) for k in rows
            ]
        if not pending:
            return torch.empty(0, *self.shape[1:], dtype=torch.uint8)
        images = np.stack([future.result() for future in pending])
        return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())

    def split(self, size: int) -> Iterator[Tensor]:
        """All images in parts of ``size``, one after the other."""
        for first in range(0, len(self), size):
            self.prefetch(range(first + size, min(first + 2 * size, len(self))))
            yield self[first : first + size]

    def prefetch(self, rows: Sequence[int]) -> None:
        """Begin to decode the images at ``rows``."""
        with self._lock:
            for k in rows:
                if len(self._ahead) < AHEAD and k not in self._ahead:
                    self._ahead[k] = self._pool.submit(self._image, k)

    def _image(self, k: int) -> NDArray[np.uint8]:
        """Image k as uint8 [H, W, C]."""
        place = self._places[k]
        found = place.decode()
        if isinstance(found, RefusedImage):
            raise Unreadable(
                f"{shown(place.name)}: expected a PNG, JPEG or WEBP image, found: {found.reason}; put a sound"
                " image of the same name in its place"
            )
        with self._lock:
            if not self._counted[k]:
                self._counted[k] = 1
                self._report.convert(place.name, found.conversions)
                self._report.resize(
                    place.name, resize_effects(found.pixels.shape, self._size, self._fit.resize)
                )
        return set_channels(resized(found.pixels, self._size, self._fit.resize), self._channels)
