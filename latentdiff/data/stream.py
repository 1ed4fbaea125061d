"""Data sets larger than memory: images of folders and tar shards, decoded by threads as they are used."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data.catalog import NAMED
from latentdiff.data.decode import FileLocation, RefusedImage
from latentdiff.data.npz import MAX_BYTES
from latentdiff.data.progress import reported
from latentdiff.data.raw import Listed, RawSplit, note_small_classes
from latentdiff.data.read_report import ReadReport
from latentdiff.data.readers import READERS, find_reader
from latentdiff.data.resize import Fit, parse_size, set_channels
from latentdiff.data.scan import shown
from latentdiff.data.types import Dataset, ImageData, Split
from latentdiff.errors import InputError, in_bytes
from latentdiff.files.paths import expanded

THREADS = 8  # that decode, at most
READ_AT_ONCE = 64  # images that are decoded together where all are read
AHEAD = 4096  # prefetched images that are kept, at most


class Unreadable(InputError):
    """An image that was there when the data was indexed cannot be read or decoded."""


class LazyImages:
    """uint8 [N, C, H, W] that is never whole in memory; see :class:`latentdiff.data.types.Images`.

    Every image is brought to the size and the channels of ``fit``, which must name both (InputError). The
    ``report`` counts conversions as images are decoded, each once. Indexing raises Unreadable for an image
    that cannot be read or decoded. ``decoded``: the pixels of images of that size, and the rows of these,
    where they were decoded before.
    """

    dtype, ndim = torch.uint8, 4

    def __init__(
        self,
        places: Sequence[FileLocation],
        fit: Fit,
        report: ReadReport | None = None,
        decoded: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None,
    ) -> None:
        if fit.size is None or fit.channels is None:
            raise InputError(
                "images that are read as they are needed: expected `size` and `channels`, found none"
            )
        self._places, self._size, self._channels, self._fit = places, fit.size, fit.channels, fit
        self._decoded = decoded
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
        if self._decoded is not None:
            pixels, rows = self._decoded
            return set_channels(pixels[rows[k]], self._channels)
        place, fit = self._places[k], self._fit
        found = place.decode(fit.under, fit.least)
        if isinstance(found, RefusedImage):
            raise Unreadable(
                f"{shown(place.name)}: expected a PNG, JPEG or WEBP image, found: {found.reason}; put a sound"
                " image of the same name in its place"
            )
        with self._lock:
            if not self._counted[k]:
                self._counted[k] = 1
                self._report.convert(place.name, found.conversions)
                self._report.resize(place.name, fit.effects(found.pixels.shape))
        return set_channels(fit.resized(found.pixels), self._channels)


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """As :class:`latentdiff.data.Split`, with images that are decoded as they are needed."""

    images: LazyImages
    labels: Tensor | None = None
    captions: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def prefetch(self, indices: Tensor) -> None:
        """Begin to decode the images ``indices`` int64 [K]."""
        self.images.prefetch(indices.tolist())

    def read(self, source: str) -> Split:
        """The split in memory; InputError naming ``source`` for more bytes of pixels than MAX_BYTES."""
        if (size := math.prod(self.images.shape)) > MAX_BYTES:
            raise InputError(
                f"{source}: expected at most {in_bytes(MAX_BYTES)} of pixels, found {in_bytes(size)};"
                " give a smaller `size`"
            )
        whole = torch.empty(self.images.shape, dtype=torch.uint8)
        for k in reported(range(0, len(self), READ_AT_ONCE), "images", each=READ_AT_ONCE, total=len(self)):
            rows = torch.arange(k, min(k + READ_AT_ONCE, len(self)))
            whole[rows] = self.images[rows]
        return Split(whole, self.labels, self.captions)


@dataclass(frozen=True, eq=False)
class StreamedData(ImageData):
    """As :class:`latentdiff.data.Dataset`; ``identity``: its fingerprint."""

    name: str
    train: StreamedSplit
    val: StreamedSplit
    test: StreamedSplit
    classes: tuple[str, ...] | None
    identity: str
    report: ReadReport

    def fingerprint(self) -> str:
        """SHA-256 (hex) of the images' shape and of the paths, labels and captions of the training images."""
        return self.identity

    def read(self) -> Dataset:
        """The same with all its pixels in memory; InputError for images that cannot be decoded."""
        train, val, test = (part.read(self.name) for part in (self.train, self.val, self.test))
        self.report.decoded = True
        return Dataset(self.name, train, val, test, self.classes, self.report)


def stream_dataset(
    data: str,
    *,
    size: int | tuple[int, int] | None,
    channels: int | None,
    fit: str = "crop",
    class_folders: str = "auto",
    resize: str = "bicubic",
    background: str | None = None,
    labels_from: str = "folder",
    captions_from: str = "text",
    image_cache: str | None = None,
    seed: int = 0,
) -> StreamedData:
    """Index a folder of images or of tar shards (webdataset), or one shard, without decoding anything.

    Splits, labels and captions are those that :func:`latentdiff.data.load_dataset` finds in a folder; shards
    whose names begin with train, val or test are those splits. InputError, one line, if there is nothing to
    read or --size is missing.
    """
    path, reader = expanded(data), None if data in NAMED else find_reader(data)[1]
    shape = parse_size(size), channels or 3
    how = Fit(*shape, fit, class_folders, resize, background, labels_from, captions_from, image_cache)
    if how.size is None:
        raise InputError(f"{data}: tar shards and streamed images need one `size` for all, found none")
    if reader is None or not reader.streams:
        streams = " or ".join(row.description for row in reversed(READERS.values()) if row.streams)
        raise InputError(f"{data}: expected {streams}, found none")
    listed = reader.index(path, how)
    classes, report = listed.classes, listed.report
    report.used = len(listed.paths)
    with report.explaining(str(data)):
        parts = listed.split(seed=seed)
    report.decoded = listed.pixels is not None
    note_small_classes(parts[0].labels, classes, report)
    train, val, test = (_split(listed, part, how) for part in parts)
    report.used = sum(map(len, parts))
    return StreamedData(str(data), train, val, test, classes, _identity(listed, parts[0], how), report)


def _split(listed: Listed, part: RawSplit, fit: Fit) -> StreamedSplit:
    decoded = None if listed.pixels is None else (listed.pixels, part.images.astype(np.int64))
    return StreamedSplit(
        LazyImages([listed.places[k] for k in part.images], fit, listed.report, decoded),
        None if part.labels is None else torch.from_numpy(part.labels),
        part.captions,
    )


def _is_as_before(fit: Fit) -> bool:
    """Whether version 0.1 brought images to a size in this way, too."""
    return fit.resize == "bicubic" and fit.background is None


def _identity(listed: Listed, part: RawSplit, fit: Fit) -> str:
    """SHA-256 without the contents of the files: a damaged one may be replaced by a sound one."""
    new = () if fit.fit != "pad" and _is_as_before(fit) else (fit.fit, fit.resize, fit.background)
    before = {"edge": "pad"}.get(fit.fit, fit.fit)  # as runs of version 0.1 record it
    digest = hashlib.sha256(repr((fit.size, fit.channels, before, *new)).encode())
    for i, k in enumerate(part.images.tolist()):
        label = None if part.labels is None else int(part.labels[i])
        entry = (listed.paths[k], label, None if part.captions is None else part.captions[i])
        digest.update(repr(entry).encode(errors="surrogatepass"))
    return digest.hexdigest()
