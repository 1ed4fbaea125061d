"""Counts of a data set without keeping its pixels: images by split, sizes, classes, captions, report."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.data.catalog import NAMED
from latentdiff.data.decode import Decoded
from latentdiff.data.folder import decoded, list_folder
from latentdiff.data.load import load_dataset
from latentdiff.data.raw import SPLITS, Listed, note_empty_classes
from latentdiff.data.read_report import ReadReport
from latentdiff.data.readers import find_reader
from latentdiff.data.resize import Fit, resize_effects
from latentdiff.data.types import TrainData

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
    sizes, channels = list[tuple[int, int]](), 1
    if not reader.reads:
        listed = reader.index(path, fit.class_folders)
        found = _decoded_places(listed)
    else:
        listing = list_folder(path, fit.class_folders)
        listed, found = None, decoded(listing)
    paths, report = list[str](), listing.report if listed is None else listed.report
    for name, pixels in found:
        paths.append(name)
        sizes.append((pixels.shape[0], pixels.shape[1]))
        channels = max(channels, pixels.shape[2])
        if fit.size:
            report.resize(name, resize_effects(pixels.shape, fit.size, fit.resize))
    if listed is None:
        labels, classes, captions = listing.annotations(paths)
        listed = Listed((), paths, listing.splits(paths), labels, classes, captions, report)
    report.used = len(paths)
    with report.explaining(source):
        rows = dict(zip(SPLITS, listed.rows_of_splits(seed=0), strict=True))
    counts = {split: np.zeros(0, dtype=np.int64) for split in SPLITS}
    if listed.labels is not None:
        note_empty_classes(listed.labels[rows["train"]], listed.classes, report)
        counts = {
            split: np.bincount(listed.labels[row], minlength=len(listed.classes or ()))
            for split, row in rows.items()
        }
    captions = listed.captions
    by_size = sorted(sizes, key=lambda size: size[0] * size[1]) or [(0, 0)]
    return DataDescription(
        str(source),
        {split: len(row) for split, row in rows.items()},
        {
            split: 0 if captions is None else sum(bool(captions[k]) for k in row)
            for split, row in rows.items()
        },
        _by_class(listed.classes, counts),
        by_size[0],
        by_size[-1],
        fit.channels or channels,
        report,
    )


def describe_loaded(data: TrainData) -> DataDescription:
    """Count what a data set holds that was read already."""
    parts = {split: part for split in SPLITS if (part := getattr(data, split, None)) is not None}
    counts = {split: _counts(part.labels, data.num_classes) for split, part in parts.items()}
    return DataDescription(
        data.name,
        {split: len(part) for split, part in parts.items()},
        {split: sum(map(bool, part.captions or ())) for split, part in parts.items()},
        _by_class(data.classes, counts),
        (data.height, data.width),
        (data.height, data.width),
        data.channels,
        data.report,
    )


def _counts(labels: Tensor | None, classes: int) -> NDArray[np.int64]:
    found = np.zeros(0, dtype=np.int64) if labels is None else labels.numpy()
    return np.bincount(found, minlength=classes)


def _by_class(
    classes: tuple[str, ...] | None, counts: dict[str, NDArray[np.int64]]
) -> dict[str, dict[str, int]]:
    names = classes or ()
    return {name: {split: int(found[k]) for split, found in counts.items()} for k, name in enumerate(names)}


def _decoded_places(listed: Listed) -> Iterator[tuple[str, Pixels]]:
    """Names and pixels of the images of shards; those that cannot be decoded go into the report."""
    for place in listed.places:
        result = place.decode()
        if isinstance(result, Decoded):
            listed.report.convert(place.name, result.conversions)
            yield place.name, result.pixels
        else:
            listed.report.refuse(place.name, result.reason)
