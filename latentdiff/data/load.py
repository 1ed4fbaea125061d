"""A name or a path to a data set in memory, or to images: all in a fixed order, or those of one split."""

from __future__ import annotations

import posixpath
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data.catalog import NAMED
from latentdiff.data.class_folders import note_unused_names, note_unused_option
from latentdiff.data.decode import SUFFIXES, RefusedImage, decode_file
from latentdiff.data.progress import reported
from latentdiff.data.raw import SPLITS, RawSplit, RawSplits, complete, note_small_classes, number_labels
from latentdiff.data.read_report import ReadReport
from latentdiff.data.readers import expected, find_reader
from latentdiff.data.resize import Fit, ReadOptions, parse_size, set_channels
from latentdiff.data.stream import stream_dataset
from latentdiff.data.types import Dataset, ImageData, Split
from latentdiff.data.written import variants_in
from latentdiff.errors import InputError


def load_dataset(
    data: str = "mnist5k",
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    fit: str = "crop",
    class_folders: str = "auto",
    resize: str = "bicubic",
    background: str | None = None,
    labels_from: str = "folder",
    captions_from: str = "text",
    image_cache: str | None = None,
    root: Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a data set by its name in `latentdiff datasets` or by a path: .npz, folder of idx files, folder of
    images, tar shards.

    size: one side or (height, width) in pixels, None for the images' own; channels: 1 (grey) or 3 (RGB), None
    for the images' own; fit: "crop" (shorter side to size, then the center), "smart" (the part with the most
    edges instead), "pad" (the whole image on ``background``), "edge" (on its border pixels, repeated) or
    "stretch"; resize: the filter, "bicubic", "nearest", ...; background: a colour under transparent pixels
    and around padded images, as "black" or "#ff8000" (None: white, and the colour of each image's border
    around it); class_folders: "auto" (labels if every image of a folder is in a class folder), "only" (images
    in class folders alone are read) or "ignore"; labels_from: "folder" (metadata, else class folders), "name"
    (file names, as cat_001.png) or "none"; captions_from: "text" (files beside images), "name" (else the
    words of file names) or "none"; image_cache: folder of decoded images of large folders, "off", or None for
    the default (:func:`latentdiff.data.image_cache.open_cache`); root: where "mnist" is looked for and
    downloaded to (default: LATENTDIFF_DATA, else ~/.cache/latentdiff/data); seed: of the splits that the data
    does not define itself. A built-in name wins over a folder of that name (write ./mnist for the folder).
    InputError, one line, if anything cannot be used.
    """
    shape, labels = (parse_size(size), channels), (labels_from, captions_from)
    name, how = str(data), Fit(*shape, fit, class_folders, resize, background, *labels, image_cache)
    if isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise InputError(f"`seed`: expected 0..2^64-1, found {seed}")
    if name in NAMED:
        parts = NAMED[name].read(ReadOptions(name, how, seed, root))
        note_unused_option(class_folders, parts.report)
        note_unused_names(labels_from, captions_from, parts.report)
        return assemble(name, parts, how, seed=seed)
    path, reader = find_reader(name)
    if reader is None:
        found = f"a {path.suffix or 'plain'} file" if path.is_file() else "no such file or folder"
        raise InputError(f"`data` {data!r}: expected {expected()}, found {found}")
    if not reader.reads:
        return stream_dataset(name, **asdict(how), seed=seed).read()
    return assemble(name, reader.read(path, how), how, seed=seed)


def assemble(name: str, parts: RawSplits, fit: Fit, *, seed: int) -> Dataset:
    """Split, resize, number the classes and turn into tensors."""
    with parts.report.explaining(name):
        whole = complete(parts, seed=seed)
    splits = [_fitted(_annotated(part, fit), fit, parts.report) for part in whole]
    parts.report.used = sum(map(len, splits))
    shapes = [list(part.images.shape[1:]) for part in splits]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError(
            f"{name}: expected images of one size [H, W, C], found {shapes[0]} in train, {shapes[1]} in val, "
            f"{shapes[2]} in test; give `size` and `channels`"
        )
    if any(part.captions is not None for part in splits):  # for every part or for none
        splits = [replace(part, captions=part.captions or ("",) * len(part)) for part in splits]
    labels, classes = number_labels([part.labels for part in splits], source=name)
    train, val, test = map(_to_split, splits, labels)
    classes = (parts.classes if fit.labels_from != "none" else None) or classes
    note_small_classes(labels[0], classes, parts.report)
    return Dataset(name, train, val, test, classes, parts.report)


def _annotated(part: RawSplit, fit: Fit) -> RawSplit:
    """`part` without its labels or captions where `fit` says so."""
    labels = None if fit.labels_from == "none" else part.labels
    return replace(part, labels=labels, captions=None if fit.captions_from == "none" else part.captions)


def _fitted(part: RawSplit, fit: Fit, report: ReadReport) -> RawSplit:
    """`part` with its images in the size and channels of `fit`; the report counts what that does to them."""
    images = part.images
    if fit.size is not None and images.shape[1:3] != fit.size:
        report.resize("", fit.effects(images.shape[1:3]), len(images))
        images = np.stack([fit.resized(image) for image in reported(list(images), "images")])
    if fit.channels is not None:
        images = set_channels(images, fit.channels)
    return replace(part, images=images)


def _to_split(part: RawSplit, labels: NDArray[np.int64] | None) -> Split:
    """The tensors of a part, with these class numbers: images to [N, C, H, W]."""
    images = torch.from_numpy(np.array(part.images.transpose(0, 3, 1, 2), order="C", copy=True))
    return Split(images, None if labels is None else torch.from_numpy(labels), part.captions)


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
        return _image_set(source, _read_file(path, fit), split, fit)
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


def _read_file(path: Path, fit: Fit) -> RawSplits:
    """One image; InputError for a file that cannot be decoded."""
    found = decode_file(path, fit.under, fit.least)
    if isinstance(found, RefusedImage):
        known = path.suffix.lower() in SUFFIXES
        wanted = "an image that can be read" if known else f"a PNG, JPEG or WEBP image, {expected()}"
        raise InputError(f"{path}: expected {wanted}, found: {found.reason}")
    parts = RawSplits(RawSplit(found.pixels[None]), unsplit=True)
    parts.report.convert(path.name, found.conversions)
    return parts


def _image_set(name: str, parts: RawSplits, split: str, fit: Fit) -> ImageSet:
    """The tensors of a split, or of all images where there are no splits, with their report."""
    part = parts.train if parts.unsplit else getattr(parts, split)
    if part is None or not len(part):
        there = ", ".join(each for each in SPLITS if len(getattr(parts, each) or ()))
        raise InputError(f"{name}: expected a split {split}, found only {there}; `split` chooses")
    name = name if parts.unsplit else f"{name} {split}"
    fitted, report = _fitted(_annotated(part, fit), fit, parts.report), parts.report
    report.used = report.used or len(part)
    (labels,), classes = number_labels([fitted.labels], source=name)
    found = _to_split(fitted, labels)
    paths = None if part.keys is None else tuple(posixpath.splitext(key)[0] for key in part.keys)
    classes = (parts.classes if fit.labels_from != "none" else None) or classes or ()
    return ImageSet(name, found.images, found.labels, classes, report, paths, found.captions)
