"""Images to be scored, from wherever they are: a data set by name, an npz, a folder; all of them, in a fixed
order.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data import ImageData, is_shards, load_dataset, stream_dataset
from latentdiff.data.catalog import data_root
from latentdiff.data.decode import Refused, decode_file
from latentdiff.data.folder import read_folder
from latentdiff.data.idx import has_idx
from latentdiff.data.npz import load_npz
from latentdiff.data.raw import RawSplit, number_labels
from latentdiff.data.readers import BUILT_IN
from latentdiff.data.report import ReadReport
from latentdiff.data.resize import Fit, fit_part
from latentdiff.data.scan import shown
from latentdiff.data.synthetic_scene_images import load_scenes_of
from latentdiff.data.synthetic_scenes import SETS
from latentdiff.errors import InputError
from latentdiff.files.paths import expanded
from latentdiff.viz.image_folder import variants_in

SPLITS = ("train", "val", "test")


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


def aligned(mine: ImageSet, other: ImageSet) -> ImageSet:
    """``other`` in the order of ``mine``: image k is the partner of image k, in folders the one of the same
    name without suffix.

    InputError unless every image has one partner, and all have one shape.
    """
    if mine.paths is not None and other.paths is not None:
        other = _of_the_same_names(mine, mine.paths, other, other.paths)
    if mine.images.shape != other.images.shape:
        found = f"{list(mine.images.shape)} and {list(other.images.shape)}"
        raise InputError(f"--paired needs as many images of one shape on both sides, got {found}")
    return other


def _of_the_same_names(
    mine: ImageSet, names: tuple[str, ...], other: ImageSet, other_names: tuple[str, ...]
) -> ImageSet:
    for folder, found in ((mine.name, names), (other.name, other_names)):
        if twice := [name for name, count in Counter(found).items() if count > 1]:
            raise InputError(
                f"--paired needs names that differ without their suffixes, found {shown(min(twice))} twice in"
                f" {folder}"
            )
    if alone := sorted(set(names) ^ set(other_names)):
        where = mine.name if alone[0] in names else other.name
        raise InputError(
            f"--paired needs the same file names in both folders, found {len(alone)} without a partner, the"
            f" first {shown(alone[0])} in {where}"
        )
    row_of = {name: row for row, name in enumerate(other_names)}
    rows = [row_of[name] for name in names]  # suffixes may sort them otherwise
    return replace(
        other,
        images=other.images[rows],
        labels=None if other.labels is None else other.labels[rows],
        captions=None if other.captions is None else tuple(other.captions[row] for row in rows),
        paths=names,
    )


def shared(mine: Tensor, other: Tensor) -> int:
    """How many of the images uint8 [N, C, H, W] stand in another set of that kind too, pixel for pixel."""
    known = {hashlib.sha256(image.numpy().tobytes()).digest() for image in other.contiguous()}
    return sum(hashlib.sha256(image.numpy().tobytes()).digest() in known for image in mine.contiguous())


def split_of(data: ImageData, split: str) -> ImageSet:
    """One split of a data set, in memory; InputError where it is empty."""
    part = {"train": data.train, "val": data.val, "test": data.test}[split]
    if not len(part):
        raise InputError(f"{data.name}: the {split} split is empty")
    part = part.read(data.name)
    name = f"{data.name} {split}"
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
    wanted = fit or Fit()
    path = expanded(source)
    options: dict[str, Any] = asdict(wanted)
    if (
        source in SETS
    ):  # drawn as they are read, tens of thousands to train: no other split than the wanted one
        part = load_scenes_of(split, seed=0, mnist=data_root(root) if source == "scenes-mnist" else None)
        return replace(_image_set(f"{source} {split}", part, wanted, ReadReport()), captions=part.captions)
    if source in BUILT_IN:
        return split_of(load_dataset(source, **options, root=root), split)
    if is_shards(source):
        streamed = stream_dataset(source, **options)
        return split_of(streamed, split)  # of the other splits no image is decoded
    if path.is_dir() and not has_idx(path):
        return _of_folder(path, split, wanted)
    if path.is_file() and path.suffix.lower() == ".npz":
        return _of_npz(path, split, wanted)
    if path.is_file():
        return _of_file(path, wanted)
    if not path.is_dir() and path.suffix.lower() not in ("", ".npz"):
        raise InputError(
            f"{source}: expected an image (.png, .jpg, .webp), an .npz, a folder or the name of a data set,"
            " found no such file"
        )
    data = load_dataset(source, **options, root=root)
    return split_of(data, split)


def _of_file(path: Path, fit: Fit) -> ImageSet:
    found = decode_file(path)
    if isinstance(found, Refused):
        raise InputError(
            f"{path}: expected a PNG, JPEG or WEBP image, an .npz, a .tar shard or a folder, found:"
            f" {found.reason}"
        )
    report = ReadReport()
    report.convert(path.name, found.conversions)
    return _image_set(str(path), RawSplit(found.pixels[None]), fit, report)


def _of_folder(path: Path, split: str, fit: Fit) -> ImageSet:
    if several := variants_in(path):
        raise InputError(
            f"{path}: holds {len(several)} results of each image, as {several[0]} and {several[-1]}; "
            f"expected one of them, as {path / several[0]}"
        )
    found = read_folder(path, fit)
    part, name, paths = found.images, str(path), found.paths
    if found.splits is not None:
        rows = np.flatnonzero(np.array([place == split for place in found.splits]))
        part, name, paths = part.take(rows), f"{path} {split}", tuple(found.paths[row] for row in rows)
    stems = tuple(posixpath.splitext(path)[0] for path in paths)
    return replace(_image_set(name, part, fit, found.report, classes=found.classes), paths=stems)


def _of_npz(path: Path, split: str, fit: Fit) -> ImageSet:
    parts = load_npz(path)
    if parts.pooled:
        return _image_set(str(path), parts.train, fit, parts.report)
    part = {"train": parts.train, "val": parts.val, "test": parts.test}[split]
    if part is None:
        there = ", ".join(name for name in SPLITS if getattr(parts, name) is not None)
        raise InputError(f"{path}: expected x_{split}, found only {there}; --split chooses")
    return _image_set(f"{path} {split}", part, fit, parts.report)


def _image_set(
    name: str, part: RawSplit, fit: Fit, report: ReadReport, *, classes: tuple[str, ...] | None = None
) -> ImageSet:
    """The tensors of a part with their report; labels are numbered where the reader has not done so."""
    if not len(part):
        raise InputError(f"{name}: expected at least one image, found none")
    fitted = fit_part(part, fit, report)
    report.used = report.used or len(part)
    found, numbered = number_labels([fitted.labels], source=name)
    images = torch.from_numpy(np.array(fitted.images.transpose(0, 3, 1, 2), order="C", copy=True))
    return ImageSet(name, images, _tensor(found[0]), classes or numbered or (), report)


def _tensor(labels: NDArray[np.int64] | None) -> Tensor | None:
    return None if labels is None else torch.from_numpy(labels)
