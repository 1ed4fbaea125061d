"""load_dataset: one name or path to one Dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from latentdiff.data.catalog import data_root
from latentdiff.data.class_folders import note_unused_option
from latentdiff.data.embedded import load_mnist5k
from latentdiff.data.folder import load_folder
from latentdiff.data.idx import has_idx, load_idx
from latentdiff.data.mnist import load_mnist
from latentdiff.data.npz import load_npz
from latentdiff.data.openmoji import load_openmoji
from latentdiff.data.raw import RawSplit, RawSplits, note_empty_classes, number_labels
from latentdiff.data.resize import Fit, fit_part, parse_size
from latentdiff.data.split import complete
from latentdiff.data.stream import is_shards, stream_dataset
from latentdiff.data.synthetic_scene_images import load_scenes
from latentdiff.data.synthetic_scenes import SETS
from latentdiff.data.types import Dataset, Split
from latentdiff.errors import InputError
from latentdiff.files.paths import expanded

BUILT_IN = ("mnist5k", "mnist", "openmoji", *SETS)
_EXPECTED = (
    "mnist5k, mnist, openmoji, scenes, scenes-mnist, a .npz file, a folder of idx files, a folder of images"
    " or tar shards"
)


def _as_split(part: RawSplit, labels: NDArray[np.int64] | None) -> Split:
    """The tensors of one part: images to [N, C, H, W]."""
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


def _assemble(name: str, parts: RawSplits, fit: Fit, *, seed: int) -> Dataset:
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
    train, val, test = (
        _as_split(part, own) for part, own in zip(_same_captions(splits), labels, strict=True)
    )
    classes = parts.classes or classes
    note_empty_classes(labels[0], classes, parts.report)
    return Dataset(name, train, val, test, classes, parts.report)


def _read_path(data: str, fit: Fit, *, seed: int) -> RawSplits:
    """The parts found at a path."""
    try:
        path = expanded(data)
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"data {data!r}: expected {_EXPECTED}, found an unusable path: {error}") from error
    if is_folder and has_idx(path):
        return _with_own_labels(load_idx(path), fit)
    if is_folder:
        return load_folder(path, fit, seed=seed)
    if is_file and path.suffix.lower() == ".npz":
        return _with_own_labels(load_npz(path), fit)
    found = f"a {path.suffix or 'plain'} file" if is_file else "no such file or folder"
    raise InputError(f"data {data!r}: expected {_EXPECTED}, found {found}")


def _with_own_labels(parts: RawSplits, fit: Fit) -> RawSplits:
    """`parts` of data without class folders."""
    note_unused_option(fit.class_folders, "this data has labels of its own, or none", parts.report)
    return parts


def scenes_of(counts: tuple[int, int, int], *, seed: int = 0) -> Dataset:
    """As many scenes to train, to validate and to test; the first ones of the data set "scenes" are the
    same.
    """
    return _assemble("scenes", load_scenes(seed=seed, counts=counts), Fit(None, None, "crop"), seed=seed)


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
    fit = Fit(parse_size(size), channels, resize, class_folders)
    if isinstance(seed, bool) or not 0 <= seed < 2**64:
        raise InputError(f"expected a seed in 0..2^64-1, found {seed}")
    if data == "mnist5k":
        parts = load_mnist5k()
    elif data == "mnist":
        parts = load_mnist(data_root(root))
    elif data == "openmoji":
        parts = load_openmoji(fit, seed=seed)
    elif data in SETS:
        parts = load_scenes(seed=seed, mnist=data_root(root) if data == "scenes-mnist" else None)
    elif is_shards(str(data)):
        return stream_dataset(
            str(data), size=size, channels=channels, resize=resize, class_folders=class_folders, seed=seed
        ).read()
    else:
        parts = _read_path(str(data), fit, seed=seed)
    if data in BUILT_IN:
        parts = _with_own_labels(parts, fit)
    return _assemble(str(data), parts, fit, seed=seed)
