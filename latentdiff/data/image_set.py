"""Images from a file, a folder or a data set: all of them in a fixed order, or those of one split."""

from __future__ import annotations

import posixpath
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from latentdiff.data.catalog import NAMED
from latentdiff.data.decode import RefusedImage, decode_file
from latentdiff.data.load import load_dataset, to_split
from latentdiff.data.raw import SPLITS, RawSplit, RawSplits, number_labels
from latentdiff.data.read_report import ReadReport
from latentdiff.data.readers import expected, find_reader
from latentdiff.data.resize import Fit, ReadOptions, fit_part
from latentdiff.data.stream import stream_dataset
from latentdiff.data.types import ImageData
from latentdiff.data.written import variants_in
from latentdiff.errors import InputError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images uint8 [N, C, H, W] called ``name``; labels int64 [N] and the class names where known; the report
    of what was read.

    ``captions``: N texts, where the set has some. ``paths``: those of a folder's images, relative to it and
    without their suffix.
    """

    name: str
    images: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    report: ReadReport = field(default_factory=ReadReport)
    paths: tuple[str, ...] | None = None
    captions: tuple[str, ...] | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was converted, refused or left out, one line each."""
        return self.report.lines()


def split_of(data: ImageData, split: str) -> ImageSet:
    """One split of a data set, in memory; InputError where it is empty."""
    part = {"train": data.train, "val": data.val, "test": data.test}[split].read(data.name)
    name = f"{data.name} {split}"
    if not len(part):
        raise InputError(f"{data.name}: the {split} split is empty")
    return ImageSet(name, part.images, part.labels, data.classes or (), data.report, captions=part.captions)


def read_images(
    source: str, *, split: str = "test", fit: Fit | None = None, root: Path | None = None
) -> ImageSet:
    """All images of ``source``, brought to the size and channels of ``fit``.

    A PNG, JPEG or WEBP file: that image. A folder: every image below it by the sorted order of their paths,
    or those of ``split`` where its top folders are train and so on; tar shards, idx files and the names of
    data sets: ``split``; an .npz: x or images whole, else ``split`` of x_train, x_val, x_test. InputError,
    one line, for what cannot be used.
    """
    fit = fit or Fit()
    options: dict[str, Any] = asdict(fit)
    if source in NAMED:
        if NAMED[source].splits_alone:
            parts = NAMED[source].read(ReadOptions(source, fit, 0, root, split))
            return _image_set(f"{source} {split}", parts, split, fit)
        return split_of(load_dataset(source, **options, root=root), split)
    path, reader = find_reader(source)
    if reader is None and path.is_file():
        return _image_set(source, _read_file(path), split, fit)
    if reader is None:
        raise InputError(
            f"{source}: expected an image file (.png, .jpg, ...), {expected()}, found no such file or folder"
        )
    if not reader.reads:
        return split_of(stream_dataset(source, **options), split)  # images of other splits are not decoded
    if reader.cuts:
        return split_of(load_dataset(source, **options), split)
    if path.is_dir() and (several := variants_in(path)):
        raise InputError(
            f"{path}: holds {len(several)} results of each image, as {several[0]} and {several[-1]}; "
            f"expected one of them, as {path / several[0]}"
        )
    return _image_set(str(path), reader.read(path, fit), split, fit)


def _read_file(path: Path) -> RawSplits:
    """One image. InputError."""
    found = decode_file(path)
    if isinstance(found, RefusedImage):
        raise InputError(f"{path}: expected a PNG, JPEG or WEBP image, {expected()}, found: {found.reason}")
    parts = RawSplits(RawSplit(found.pixels[None]), unsplit=True)
    parts.report.convert(path.name, found.conversions)
    return parts


def _image_set(name: str, parts: RawSplits, split: str, fit: Fit) -> ImageSet:
    """The tensors of a split, or of all images where there are no splits, with their report."""
    part = parts.train if parts.unsplit else getattr(parts, split)
    if part is None or not len(part):
        there = ", ".join(each for each in SPLITS if len(getattr(parts, each) or ()))
        raise InputError(f"{name}: expected a split {split}, found only {there}; --split chooses")
    name = name if parts.unsplit else f"{name} {split}"
    fitted, report = fit_part(part, fit, parts.report), parts.report
    report.used = report.used or len(part)
    (labels,), classes = number_labels([fitted.labels], source=name)
    found = to_split(fitted, labels)
    paths = None if part.keys is None else tuple(posixpath.splitext(key)[0] for key in part.keys)
    classes = parts.classes or classes or ()
    return ImageSet(name, found.images, found.labels, classes, report, paths, found.captions)
