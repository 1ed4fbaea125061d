"""Data sets that are larger than memory: folders of images and tar shards whose pixels stay on the disk."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data.catalog import NAMED
from latentdiff.data.lazy import LazyImages, Listed
from latentdiff.data.npz import MAX_BYTES
from latentdiff.data.raw import RawSplit, RawSplits, note_empty_classes
from latentdiff.data.read_report import ReadReport
from latentdiff.data.readers import READERS, find_reader
from latentdiff.data.resize import Fit, parse_size
from latentdiff.data.split import complete
from latentdiff.data.types import Dataset, ImageData, Split
from latentdiff.errors import InputError
from latentdiff.files.paths import expanded


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
        """The split in memory; InputError, which names ``source``, for more bytes of pixels than data in
        memory may have.
        """
        if (size := math.prod(self.images.shape)) > MAX_BYTES:
            raise InputError(
                f"{source}: expected at most {MAX_BYTES} bytes of pixels, found {size}; give a smaller --size"
            )
        return Split(self.images[:], self.labels, self.captions)


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
        """The same with all its pixels in memory. InputError."""
        train, val, test = (part.read(self.name) for part in (self.train, self.val, self.test))
        self.report.decoded = True
        return Dataset(self.name, train, val, test, self.classes, self.report)


def stream_dataset(
    data: str,
    *,
    size: int | tuple[int, int] | None,
    channels: int | None,
    resize: str = "crop",
    class_folders: str = "auto",
    seed: int = 0,
) -> StreamedData:
    """Index a folder of images or of tar shards (webdataset), or one shard, without decoding anything.

    Splits, labels and captions are those that :func:`latentdiff.data.load_dataset` finds in a folder; shards
    whose names begin with train, val or test are those splits. InputError, one line, if there is nothing to
    read or --size is missing.
    """
    path, reader = expanded(data), None if data in NAMED else find_reader(data)[1]
    fit = Fit(parse_size(size), channels or 3, resize, class_folders)
    if fit.size is None:
        raise InputError(f"{data}: tar shards, and images with --stream, need one --size for all, found none")
    if reader is None or not reader.streams:
        streams = " or ".join(row.description for row in reversed(READERS.values()) if row.streams)
        raise InputError(f"{data}: expected {streams}, found none")
    listed = reader.index(path, class_folders)
    listed.report.used = len(listed.paths)
    with listed.report.explaining(str(data)):
        rows = rows_of_parts(listed, seed=seed)
    listed.report.decoded = False
    note_empty_classes(
        None if listed.labels is None else listed.labels[rows[0]], listed.classes, listed.report
    )
    train, val, test = (_split(listed, row, fit) for row in rows)
    listed.report.used = sum(map(len, rows))
    return StreamedData(
        str(data), train, val, test, listed.classes, _identity(listed, rows[0], fit), listed.report
    )


def rows_of_parts(listed: Listed, *, seed: int) -> list[NDArray[np.int64]]:
    """The rows of train, val and test, as the same images in memory would be split."""
    rows = RawSplit(np.arange(len(listed.paths)), listed.labels, keys=tuple(listed.paths))  # type: ignore[arg-type]
    whole = complete(RawSplits.by_name(rows, listed.splits), seed=seed)
    return [part.images.astype(np.int64) for part in whole]


def _split(listed: Listed, rows: NDArray[np.int64], fit: Fit) -> StreamedSplit:
    at = rows.tolist()
    return StreamedSplit(
        LazyImages([listed.places[k] for k in at], fit, listed.report),
        None if listed.labels is None else torch.from_numpy(listed.labels[rows]),
        None if listed.captions is None else tuple(listed.captions[k] for k in at),
    )


def _identity(listed: Listed, rows: NDArray[np.int64], fit: Fit) -> str:
    """SHA-256 without the contents of the files: a damaged one may be replaced by a sound one."""
    digest = hashlib.sha256(repr((fit.size, fit.channels, fit.resize)).encode())
    for k in rows.tolist():
        label = None if listed.labels is None else int(listed.labels[k])
        entry = (listed.paths[k], label, None if listed.captions is None else listed.captions[k])
        digest.update(repr(entry).encode(errors="surrogatepass"))
    return digest.hexdigest()
