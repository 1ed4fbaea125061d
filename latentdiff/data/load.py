"""load_dataset: a name or a path to a data set in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latentdiff.data.catalog import NAMED
from latentdiff.data.class_folders import note_unused_option
from latentdiff.data.raw import RawSplit, RawSplits, note_empty_classes, number_labels
from latentdiff.data.readers import expected, find_reader
from latentdiff.data.resize import Fit, ReadOptions, fit_part, parse_size
from latentdiff.data.split import complete
from latentdiff.data.stream import stream_dataset
from latentdiff.data.types import Dataset, Split
from latentdiff.errors import InputError


def to_split(part: RawSplit, labels: NDArray[np.int64] | None) -> Split:
    """The tensors of a part, with these class numbers: images to [N, C, H, W]."""
    images = np.array(part.images.transpose(0, 3, 1, 2), order="C", copy=True)
    return Split(
        torch.from_numpy(images), None if labels is None else torch.from_numpy(labels), part.captions
    )


def _same_captions(parts: Sequence[RawSplit]) -> list[RawSplit]:
    """Captions for every part or for none: "" where only others have some."""
    if all(part.captions is None for part in parts):
        return list(parts)
    return [
        RawSplit(p.images, p.labels, p.captions if p.captions is not None else ("",) * len(p)) for p in parts
    ]


def assemble(name: str, parts: RawSplits, fit: Fit, *, seed: int) -> Dataset:
    """Split, resize, number the classes and turn into tensors."""
    with parts.report.explaining(name):
        whole = complete(parts, seed=seed)
    splits = [fit_part(part, fit, parts.report) for part in whole]
    parts.report.used = sum(map(len, splits))
    shapes = [list(part.images.shape[1:]) for part in splits]
    if any(shape != shapes[0] for shape in shapes):
        raise InputError(
            f"{name}: expected images of one size [H, W, C], found {shapes[0]} in train, {shapes[1]} in val, "
            f"{shapes[2]} in test; give --size and --channels"
        )
    labels, classes = number_labels([part.labels for part in splits], source=name)
    train, val, test = (to_split(part, own) for part, own in zip(_same_captions(splits), labels, strict=True))
    classes = parts.classes or classes
    note_empty_classes(labels[0], classes, parts.report)
    return Dataset(name, train, val, test, classes, parts.report)


def load_dataset(
    data: str = "mnist5k",
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "crop",
    class_folders: str = "auto",
    root: Path | None = None,
    seed: int = 0,
) -> Dataset:
    """Load a data set by its name in `latentdiff datasets` or by a path: .npz, folder of idx files, folder of
    images, tar shards.

    size: one side or (height, width) in pixels, None for the images' own; channels: 1 (grey) or 3 (RGB), None
    for the images' own; resize: "crop" (shorter side to size, then the center), "stretch" or "pad";
    class_folders: "auto" (labels if every image of a folder is in a class folder), "only" (images in class
    folders alone are read) or "ignore"; root: where "mnist" is looked for and downloaded to (default:
    LATENTDIFF_DATA, else ~/.cache/latentdiff/data); seed: of the splits that the data does not define itself.
    A built-in name wins over a folder of that name (write ./mnist for the folder). InputError, one line, if
    anything cannot be used.
    """
    fit, name = Fit(parse_size(size), channels, resize, class_folders), str(data)
    if isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise InputError(f"expected a seed in 0..2^64-1, found {seed}")
    if name in NAMED:
        parts = NAMED[name].read(ReadOptions(name, fit, seed, root))
        note_unused_option(class_folders, parts.report)
        return assemble(name, parts, fit, seed=seed)
    path, reader = find_reader(name)
    if reader is None:
        found = f"a {path.suffix or 'plain'} file" if path.is_file() else "no such file or folder"
        raise InputError(f"data {data!r}: expected {expected()}, found {found}")
    if not reader.reads:
        streamed = stream_dataset(
            name, size=size, channels=channels, resize=resize, class_folders=class_folders, seed=seed
        )
        return streamed.read()
    return assemble(name, reader.read(path, fit), fit, seed=seed)
