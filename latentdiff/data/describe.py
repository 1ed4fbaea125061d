"""Counts of a data set without keeping its pixels: images by split, sizes, classes, captions, report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.catalog import NAMED
from latentdiff.data.decode import Decoded
from latentdiff.data.folder import list_folder
from latentdiff.data.load import load_dataset
from latentdiff.data.progress import reported
from latentdiff.data.raw import SPLITS, Listed, RawSplit, note_small_classes
from latentdiff.data.read_report import ReadReport
from latentdiff.data.readers import find_reader
from latentdiff.data.resize import Fit
from latentdiff.data.types import TrainData, TrainSplit

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class DataDescription:
    """Counts of a data set.

    ``images`` and ``captions`` by split, ``classes``: images by class name and split, empty without labels;
    ``smallest`` and ``largest``: (height, width) as the files have it, by area; ``channels`` 1 or 3.
    """

    name: str
    images: dict[str, int]
    captions: dict[str, int]
    classes: dict[str, dict[str, int]]
    smallest: tuple[int, int]
    largest: tuple[int, int]
    channels: int
    report: ReadReport

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        names = ("name", "images", "captions", "classes", "smallest", "largest", "channels")
        return {name: getattr(self, name) for name in names} | {"report": self.report.as_dict()}


def describe_data(source: str, fit: Fit, root: Path | None = None) -> DataDescription:
    """Count what ``source`` holds: a name or a path as :func:`latentdiff.data.load_dataset` takes it.

    Folders and shards are decoded image by image, so that images may have any sizes and need not fit into
    memory; an image of a shard that cannot be decoded, which would stop a training, is counted as refused.
    InputError as there.
    """
    path, reader = (Path(), None) if source in NAMED else find_reader(source)
    if reader is None or not reader.streams:
        return describe_loaded(load_dataset(source, **asdict(fit), root=root))
    if not reader.reads:
        listed = reader.index(path, fit)
        report = listed.report
        rows = [(name, pixels.shape) for name, pixels in _decoded_places(listed, fit)]
        paths, shapes = [name for name, _ in rows], [shape for _, shape in rows]
    else:
        listing = list_folder(path, fit)
        listed, report = None, listing.report
        paths, found = listing.pixels.sizes(fit)
        shapes = [tuple(shape) for shape in found.tolist()]
    for name, shape in zip(paths, shapes, strict=True):
        report.resize(name, fit.effects(shape))
    if listed is None:
        labels, classes, captions = listing.annotations(paths)
        listed = Listed((), paths, listing.splits(paths), labels, classes, captions, report)
    report.used = len(paths)
    with report.explaining(source):
        parts = dict(zip(SPLITS, listed.split(seed=0), strict=True))
    note_small_classes(parts["train"].labels, listed.classes, report)
    by_size = sorted((shape[:2] for shape in shapes), key=math.prod) or [(0, 0)]
    channels = fit.channels or max((shape[2] for shape in shapes), default=1)
    return _description(str(source), parts, listed.classes, (by_size[0], by_size[-1]), channels, report)


def describe_loaded(data: TrainData) -> DataDescription:
    """Count what a data set holds that was read already."""
    parts = {split: part for split in SPLITS if (part := getattr(data, split, None)) is not None}
    size = (data.height, data.width)
    return _description(data.name, parts, data.classes, (size, size), data.channels, data.report)


def _description(
    name: str,
    parts: Mapping[str, RawSplit | TrainSplit],
    classes: tuple[str, ...] | None,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    channels: int,
    report: ReadReport,
) -> DataDescription:
    images = {split: len(part) for split, part in parts.items()}
    captions = {split: sum(map(bool, part.captions or ())) for split, part in parts.items()}
    names, nothing = classes or (), np.zeros(0, dtype=np.int64)
    counts = {
        split: np.bincount(nothing if part.labels is None else part.labels, minlength=len(names))
        for split, part in parts.items()
    }
    by_class = {
        name: {split: int(found[k]) for split, found in counts.items()} for k, name in enumerate(names)
    }
    return DataDescription(name, images, captions, by_class, *sizes, channels, report)


def _decoded_places(listed: Listed, fit: Fit) -> Iterator[tuple[str, Pixels]]:
    """Names and pixels of the images of shards; those that cannot be decoded go into the report."""
    for place in reported(listed.places, "images"):
        result = place.decode(fit.under)
        if isinstance(result, Decoded):
            listed.report.convert(place.name, result.conversions)
            yield place.name, result.pixels
        else:
            listed.report.refuse(place.name, result.reason)
