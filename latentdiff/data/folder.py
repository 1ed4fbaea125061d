"""A folder of images: class subfolders, train/val/test subfolders, captions; odd files converted or refused."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.captions import Annotations, read_annotations
from latentdiff.data.decode import SUFFIXES, Decoded, decode_file
from latentdiff.data.fit import Fit, resized, set_channels
from latentdiff.data.npz import MAX_BYTES
from latentdiff.data.part import Part, Parts, number_labels
from latentdiff.data.split import by_path
from latentdiff.data.walk import Tree, shown, walk
from latentdiff.errors import InputError

_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_OTHER_SUFFIXES = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jp2", ".ppm", ".pgm", ".svg", ".ico")
"""Image formats that are refused by name, so that the user learns why the picture is missing."""


@dataclass(frozen=True, eq=False)
class _Read:
    """The images that could be decoded: relative paths and pixels, in the same order."""

    paths: tuple[str, ...]
    images: tuple[NDArray[np.uint8], ...]
    notes: tuple[str, ...]


def _counted(reasons: Sequence[tuple[str, str]]) -> str:
    """ "2 truncated or damaged (first: a.png), 1 empty (b.png)" from (path, reason) pairs."""
    counts = Counter(reason for _, reason in reasons)
    first = {reason: path for path, reason in reversed(reasons)}
    return ", ".join(
        f"{count} {reason} ({'first: ' if count > 1 else ''}{shown(first[reason])})"
        for reason, count in counts.most_common()
    )


def _split_of(path: str) -> str | None:
    """train, val or test by the top folder of a relative path; None for other places."""
    top, slash, _ = path.partition("/")
    return _SPLITS.get(top.lower()) if slash else None


def _decode_all(root: Path, candidates: Sequence[str], refused_before: Sequence[tuple[str, str]], fit: Fit) -> _Read:
    """Decode (and resize) the candidates in order; InputError if more than half of all files are refused."""
    paths: list[str] = []
    images: list[NDArray[np.uint8]] = []
    refused, converted, size = list(refused_before), Counter[str](), 0
    for path in candidates:
        if path.lower().endswith(_OTHER_SUFFIXES):
            refused.append((path, f"unsupported format {path[path.rindex('.') :].lower()}"))
            continue
        result = decode_file(root / path)
        if not isinstance(result, Decoded):
            refused.append((path, result.reason))
            continue
        converted.update(result.conversions)
        images.append(resized(result.pixels, fit.size, fit.resize) if fit.size else result.pixels)
        paths.append(path)
        size += images[-1].nbytes
        if size > MAX_BYTES:
            raise InputError(f"{root}: expected at most {MAX_BYTES} bytes of pixels, found more; give a smaller --size")
    if 2 * len(refused) > len(refused) + len(paths):
        name, reason = refused[0]
        raise InputError(
            f"{root}: expected mostly usable images, found {len(refused)} of {len(refused) + len(paths)} refused, "
            f"the first {shown(name)}: {reason}"
        )
    notes = []
    if converted:
        notes.append("converted " + ", ".join(f"{count} {what}" for what, count in converted.most_common()))
    if refused:
        notes.append(f"refused {len(refused)} of {len(refused) + len(paths)}: {_counted(refused)}")
    return _Read(tuple(paths), tuple(images), tuple(notes))


def _stacked(root: Path, read: _Read, channels: int | None) -> NDArray[np.uint8]:
    """uint8 [N, H, W, C]; C is `channels`, else 1 if all images are grey, else 3. InputError if sizes differ."""
    sizes = Counter(image.shape[:2] for image in read.images)
    if len(sizes) > 1:
        (common, count), (other, _) = sizes.most_common(2)
        example = next(p for p, image in zip(read.paths, read.images, strict=True) if image.shape[:2] == other)
        raise InputError(
            f"{root}: expected images of one size, found {len(sizes)} sizes: {common[1]}x{common[0]} in {count} of "
            f"{len(read.images)}, but {other[1]}x{other[0]} in {shown(example)}; give --size"
        )
    channels = channels or max(image.shape[2] for image in read.images)
    return np.stack([set_channels(image, channels) for image in read.images])


def _labels(
    root: Path, paths: Sequence[str], places: Sequence[str], found: Annotations
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Labels [N] and class names: from metadata.jsonl, else the class folders (the top one of each of `places`)."""
    if found.labels:
        values = [found.labels.get(path) for path in paths]
        missing = [path for path, value in zip(paths, values, strict=True) if value is None]
        if missing:
            raise InputError(
                f"{root}: expected a label for every image or for none, found none for {len(missing)} of "
                f"{len(paths)}, the first {shown(missing[0])}"
            )
        if len({type(value) for value in values}) > 1:
            raise InputError(f"{root}: expected labels that are all integers or all strings, found both")
        if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values):
            raise InputError(f"{root}: expected integer labels that are class numbers, found one beyond 64 bits")
        (labels,), classes = number_labels([np.array(values)], source=str(root))
        return labels, classes
    tops = [place.partition("/")[0] if "/" in place else "" for place in places]
    names = sorted(set(tops))
    if "" in names or len(names) < 2:
        return None, None
    number = {name: i for i, name in enumerate(names)}
    return np.array([number[top] for top in tops], dtype=np.int64), tuple(shown(name) for name in names)


@dataclass(frozen=True, eq=False)
class Folder:
    """All images below a folder in the sorted order of their relative ``paths``; ``splits``: train, val or test for each."""

    paths: tuple[str, ...]
    images: Part
    classes: tuple[str, ...] | None
    splits: tuple[str | None, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Listing:
    """The files below a folder that look like images (``paths``), before any is decoded."""

    tree: Tree
    paths: tuple[str, ...]
    has_splits: bool
    notes: tuple[str, ...]

    def splits(self, paths: Sequence[str]) -> tuple[str | None, ...] | None:
        """train, val or test of each; None where the folder defines none."""
        return tuple(_split_of(path) for path in paths) if self.has_splits else None

    def told(
        self, root: Path, paths: Sequence[str]
    ) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None, tuple[str, ...] | None, tuple[str, ...]]:
        """Labels [N], class names and captions of ``paths``, and notes."""
        found = read_annotations(root, files=self.tree.files, images=self.paths)
        notes = (
            (f"ignored {found.unmatched} captions or labels of files that are not there",) if found.unmatched else ()
        )
        places = [path.partition("/")[2] for path in paths] if self.has_splits else list(paths)
        labels, classes = _labels(root, paths, places, found)
        captions = tuple(found.captions.get(path, "") for path in paths)
        return labels, classes, captions if any(captions) else None, notes


def list_folder(root: Path) -> Listing:
    """What :func:`read_folder` will decode. InputError if there is nothing."""
    suffixes = (*SUFFIXES, *_OTHER_SUFFIXES)
    tree = walk(root, suffixes=suffixes)
    candidates = [path for path in tree.files if path.lower().endswith(suffixes)]
    notes: tuple[str, ...] = ()
    has_splits = any(_split_of(path) == "train" for path in candidates)
    if has_splits:
        outside = [path for path in candidates if _split_of(path) is None]
        candidates = [path for path in candidates if _split_of(path) is not None]
        notes = (f"ignored {len(outside)} images outside train, val and test",) if outside else ()
    if not candidates and not tree.refused:
        raise InputError(
            f"{root}: expected PNG, JPEG or WEBP images, found none in {len(tree.files)} files{_packed(tree)}"
        )
    return Listing(tree, tuple(candidates), has_splits, notes)


def _packed(tree: Tree) -> str:
    """What to do about a folder of archives or of latents, if it is one."""
    if any(path.lower().endswith(".safetensors") for path in tree.files):
        return "; latents that were encoded need their manifest.json and model_index.json"
    packed = [path for path in tree.files if path.lower().endswith((".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".zip"))]
    return f"; {shown(packed[0])}: unpack it, tar shards are read without compression" if packed else ""


def read_folder(root: Path, fit: Fit) -> Folder:
    """Read all PNG, JPEG and WEBP files below `root`; what :func:`load_folder` splits.

    Top folders train, val (valid, validation) and test are the splits if there is a train. Labels come from
    metadata.jsonl, else from class folders if there are two and every image is in one. InputError if nothing (or less
    than half) is usable, sizes differ and none was asked for, or annotations are wrong.
    """
    listing = list_folder(root)
    read = _decode_all(root, listing.paths, listing.tree.refused, fit)
    if not read.paths:
        raise InputError(f"{root}: expected PNG, JPEG or WEBP images, found none that can be used")
    labels, classes, captions, notes = listing.told(root, read.paths)
    images = _stacked(root, read, fit.channels)
    everything = Part(images, labels, captions)
    return Folder(read.paths, everything, classes, listing.splits(read.paths), (*read.notes, *listing.notes, *notes))


def rows_of_splits(
    paths: Sequence[str], splits: Sequence[str | None] | None, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Rows of train, val and test: as named, else 90/5/5 by a hash of (seed, path)."""
    if splits is None:
        return by_path(paths, seed=seed)
    named = np.array(splits)
    train, val, test = (np.flatnonzero(named == name) for name in ("train", "val", "test"))
    return train, val, test


def load_folder(root: Path, fit: Fit, *, seed: int) -> Parts:
    """The images of :func:`read_folder` split by their top folders, else 90/5/5 by a hash of (seed, path)."""
    found = read_folder(root, fit)
    rows = rows_of_splits(found.paths, found.splits, seed=seed)
    train, val, test = (found.images.take(row) if len(row) else None for row in rows)
    if train is None:
        raise InputError(f"{root}: expected usable images in train, found none")
    return Parts(train, val, test, classes=found.classes, notes=found.notes)
