"""Data sets that are larger than memory: folders of images and tar shards whose pixels stay on the disk."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data.class_folders import below, class_of, common_folder, is_like_split, note_unused_option
from latentdiff.data.folder import list_folder, rows_of_splits
from latentdiff.data.lazy import FileLocation, LazyImages
from latentdiff.data.npz import MAX_BYTES
from latentdiff.data.raw import RawSplit, RawSplits, note_empty_classes, number_labels
from latentdiff.data.report import ReadReport, named
from latentdiff.data.resize import Fit, parse_size
from latentdiff.data.split import complete
from latentdiff.data.tar import count_others, read_samples, shards_of
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


@dataclass(frozen=True, eq=False)
class Listed:
    """Images of a folder or of shards before any is decoded; all in one order, the report of what else was
    found.
    """

    places: Sequence[FileLocation]
    paths: Sequence[str]
    splits: Sequence[str | None] | None
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None
    captions: tuple[str, ...] | None
    report: ReadReport


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
    path, fit = expanded(data), Fit(parse_size(size), channels or 3, resize, class_folders)
    if fit.size is None:
        raise InputError(f"{data}: tar shards, and images with --stream, need one --size for all, found none")
    shards = shards_of(path)
    if not shards and not path.is_dir():
        raise InputError(f"{data}: expected a folder of images, a .tar shard or a folder of them, found none")
    listed = list_shards(path, shards, class_folders) if shards else _of_folder(path, class_folders)
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
    parts = [
        RawSplit(row, None if listed.labels is None else listed.labels[row]) if len(row) else None  # type: ignore[arg-type]
        for row in rows_of_splits(listed.paths, listed.splits, seed=seed)
    ]
    assert parts[0] is not None
    whole = complete(RawSplits(parts[0], parts[1], parts[2]), seed=seed)
    return [part.images.astype(np.int64) for part in whole]


def is_shards(data: str) -> bool:
    """Whether --data names tar shards, which are always streamed."""
    try:
        return bool(shards_of(expanded(data)))
    except (OSError, RuntimeError, ValueError):
        return False


def _of_folder(root: Path, class_folders: str) -> Listed:
    listing = list_folder(root, class_folders)
    labels, classes, captions = listing.annotations(listing.paths)
    places = [FileLocation(root / path, path) for path in listing.paths]
    return Listed(
        places, listing.paths, listing.splits(listing.paths), labels, classes, captions, listing.report
    )


def list_shards(path: Path, shards: list[Path], class_folders: str = "auto") -> Listed:
    """The images of ``shards``, the tar files that ``path`` names; ``class_folders`` other than auto is
    noted. InputError.
    """
    report, source = ReadReport(), str(path)
    note_unused_option(class_folders, "labels of shards come from their KEY.cls and KEY.json", report)
    count_others(path, shards, report)
    samples = read_samples(shards, report)
    has_splits = any(sample.split == "train" for sample in samples)
    if not has_splits and len(shards) > 1 and (alike := [s.name for s in shards if is_like_split(s.name)]):
        report.remark(
            f"shards named like splits ({named(alike)}) are read as any other shard, not as splits: the names"
            " of those begin with train, val or test, and train is one of them"
        )
    if has_splits:
        for sample in (sample for sample in samples if sample.split is None):
            report.leave_out(sample.path, "in shards not called train, val or test")
    found = [sample.label for sample in samples]
    labels, classes = None, None
    if any(label is not None for label in found):
        missing = [sample.path for sample in samples if sample.label is None]
        if missing:
            raise InputError(
                f"{source}: expected a label for every image or for none, found none for {missing[0]}"
            )
        if len({type(label) for label in found}) > 1:
            raise InputError(f"{source}: expected labels that are all integers or all strings, found both")
        (labels,), classes = number_labels([np.array(found)], source=source)
    else:
        places = [sample.path.partition("/")[2].removeprefix("/") for sample in samples]
        folders = sorted({class_of(place) for place in below(places, common_folder(places))})
        if len(folders) > 1 and all(folders):
            report.remark(
                f"no labels: folders inside shards ({named(folders)}) are no class folders, labels of shards"
                " come from KEY.cls and KEY.json beside KEY.png; unpack the shards to have the folders as"
                " classes"
            )
    captions = tuple(sample.caption for sample in samples)
    return Listed(
        [sample.place for sample in samples],
        [sample.path for sample in samples],
        [sample.split for sample in samples] if has_splits else None,
        labels,
        classes,
        captions if any(captions) else None,
        report,
    )


def _split(listed: Listed, rows: NDArray[np.int64], fit: Fit) -> StreamedSplit:
    at = rows.tolist()
    return StreamedSplit(
        LazyImages([listed.places[k] for k in at], fit, listed.report),
        None if listed.labels is None else torch.from_numpy(listed.labels[rows]),
        None if listed.captions is None else tuple(listed.captions[k] for k in at),
    )


def _identity(listed: Listed, rows: NDArray[np.int64], fit: Fit) -> str:
    """A file may be replaced by a sound one: what is in it is not part of this."""
    digest = hashlib.sha256(repr((fit.size, fit.channels, fit.resize)).encode())
    for k in rows.tolist():
        label = None if listed.labels is None else int(listed.labels[k])
        told = (listed.paths[k], label, None if listed.captions is None else listed.captions[k])
        digest.update(repr(told).encode(errors="surrogatepass"))
    return digest.hexdigest()
