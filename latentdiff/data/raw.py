"""Raw splits: the numpy arrays that readers return; what is missing is cut out of train, always alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.decode import FileLocation
from latentdiff.data.order import shuffled
from latentdiff.data.read_report import ReadReport, named
from latentdiff.data.scan import shown
from latentdiff.errors import InputError

SPLITS = ("train", "val", "test")
MAX_CLASSES = 100_000
"""Integer labels are class numbers, not identifiers: a network has an embedding row for each."""
VAL_FRACTION, VAL_LIMIT = 0.1, 5_000
UNSPLIT_FRACTION = 0.05


@dataclass(frozen=True, eq=False)
class RawSplit:
    """Images of one split: uint8 [N, H, W, C]; labels as found (integers or strings) [N]; captions.

    ``keys``: N texts, as the paths of files, by whose hash images without splits are split.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.generic] | None = None
    captions: tuple[str, ...] | None = None
    keys: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: NDArray[np.int64]) -> RawSplit:
        """The rows at `indices` (int64 [K]), in that order."""
        rows = indices.tolist()
        labels = None if self.labels is None else self.labels[indices]
        captions, keys = (
            None if texts is None else tuple(texts[i] for i in rows) for texts in (self.captions, self.keys)
        )
        return RawSplit(self.images[indices], labels, captions, keys)


@dataclass(frozen=True, eq=False)
class RawSplits:
    """The splits that a reader found; val and test may be missing. `unsplit`: `train` is all images."""

    train: RawSplit
    val: RawSplit | None = None
    test: RawSplit | None = None
    unsplit: bool = False
    classes: tuple[str, ...] | None = None
    report: ReadReport = field(default_factory=ReadReport)

    @classmethod
    def by_name(cls, images: RawSplit, splits: Sequence[str | None] | None) -> RawSplits:
        """Images by the names of their splits, one for each; unsplit where there are none."""
        if splits is None:
            return cls(images, unsplit=True)
        names = np.array(splits)
        train, val, test = (images.take(np.flatnonzero(names == split)) for split in SPLITS)
        return cls(train, val if len(val) else None, test if len(test) else None)


@dataclass(frozen=True, eq=False)
class Listed:
    """Images before any is decoded; ``splits``: train, val, test or None for each; labels int64 [N].

    ``pixels``: uint8 [N, H, W, C], those of all images where they were decoded before.
    """

    places: Sequence[FileLocation]
    paths: Sequence[str]
    splits: Sequence[str | None] | None
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...] | None
    captions: tuple[str, ...] | None
    report: ReadReport
    pixels: NDArray[np.uint8] | None = None

    def split(self, *, seed: int) -> tuple[RawSplit, RawSplit, RawSplit]:
        """Train, val and test as the same images in memory would be split, with their rows for images."""
        rows: Any = np.arange(len(self.paths))
        listed = RawSplit(rows, self.labels, self.captions, tuple(self.paths))
        return complete(RawSplits.by_name(listed, self.splits), seed=seed)


def complete(parts: RawSplits, *, seed: int) -> tuple[RawSplit, RawSplit, RawSplit]:
    """Train, val and test of `parts`; what is missing is cut from train.

    Images without splits give 5% to each of val and test, by a hash of (seed, key) where they have keys;
    otherwise a missing split takes 10%, at most 5,000. InputError if there are too few images.
    """
    train, val, test = parts.train, parts.val, parts.test
    if not len(train):
        raise InputError("expected usable images in train, found none")
    if parts.unsplit and train.keys is not None:
        first, second, third = map(train.take, _by_key(train.keys, seed=seed))
        return first, second, third
    wanted = ["train", *(name for name, part in (("validation", val), ("test", test)) if part is None)]
    if len(train) < len(wanted):
        raise InputError(
            f"expected at least {len(wanted)} images to split into {', '.join(wanted)}, found {len(train)}"
        )
    fraction = UNSPLIT_FRACTION if parts.unsplit else VAL_FRACTION
    count = min(VAL_LIMIT, max(1, round(fraction * len(train))))
    if test is None:
        train, test = _cut(train, count=count, seed=seed, round_=1)
    if val is None:
        train, val = _cut(train, count=count, seed=seed, round_=0)
    return train, val, test


def _cut(part: RawSplit, *, count: int, seed: int, round_: int) -> tuple[RawSplit, RawSplit]:
    """Cut 1..N-1 images out of `part`: (rest, cut), in its order; of each class its share, if labeled."""
    n = len(part)
    order = shuffled(n, seed=seed, epoch=round_)
    if part.labels is not None:
        # Systematic sampling along the shuffled images sorted by class takes each class in proportion.
        order = order[np.argsort(part.labels[order], kind="stable")]
    chosen = np.zeros(n, dtype=bool)
    chosen[order[(2 * np.arange(count) + 1) * n // (2 * count)]] = True
    return part.take(np.flatnonzero(~chosen)), part.take(np.flatnonzero(chosen))


def _by_key(keys: Sequence[str], *, seed: int) -> list[NDArray[np.int64]]:
    """Indices of train, val and test (90/5/5), by a hash of (seed, path): an image stays as others come.

    None of the three is empty: the key with the highest hash is moved where chance left none. InputError if
    there are fewer than 3 keys.
    """
    if len(keys) < 3:
        raise InputError(
            f"expected at least 3 images to split into train, validation and test, found {len(keys)}"
        )
    hashes = [hashlib.sha256(f"{seed}\0{key}".encode(errors="surrogateescape")).digest() for key in keys]
    order = sorted(range(len(keys)), key=lambda i: (hashes[i], keys[i]))
    values = [int.from_bytes(hashes[i][:8], "big") / 2.0**64 for i in order]
    test = min(max(1, sum(v >= 1 - UNSPLIT_FRACTION for v in values)), len(keys) - 2)
    held = sum(v >= 1 - 2 * UNSPLIT_FRACTION for v in values)
    held = min(max(test + 1, held), len(keys) - 1)
    return [
        np.array(sorted(part), dtype=np.int64) for part in (order[:-held], order[-held:-test], order[-test:])
    ]


FEW = 5  # training images of a class below which a model can only repeat them


def note_small_classes(
    labels: NDArray[Any] | None, classes: Sequence[str] | None, report: ReadReport
) -> None:
    """Say in remarks which `classes` have none of the training images, whose labels are int64 [N], or few."""
    if labels is None or classes is None:
        return
    found = np.bincount(labels, minlength=len(classes))
    empty = np.flatnonzero(found == 0).tolist()
    if empty:
        one = len(empty) == 1
        hint = "; integer labels are class numbers from 0" if classes[0] == "0" else ""
        report.remark(
            f"{'class' if one else 'classes'} {named([classes[k] for k in empty])} of {len(classes)} "
            f"{'has' if one else 'have'} no training images{hint}"
        )
    few = np.flatnonzero((found > 0) & (found < FEW)).tolist()
    if few and len(labels) >= FEW * len(classes):  # in tiny sets all have few
        report.remark(
            f"fewer than {FEW} training images of {'class' if len(few) == 1 else 'classes'}"
            f" {named([classes[k] for k in few])}: samples of {'it' if len(few) == 1 else 'these'} will be"
            " copies"
        )


def labels_of_all(
    values: Sequence[int | str | None], paths: Sequence[str], *, source: str, where: str = ""
) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
    """Class numbers [N] and class names of images by what was written beside them.

    InputError for labels that some images lack, that mix integers and strings, or are beyond 64 bits.
    """
    missing = [path for path, value in zip(paths, values, strict=True) if value is None]
    if missing:
        raise InputError(
            f"{source}: expected a label for every image or for none, found none{where} for"
            f" {len(missing)} of {len(paths)}, the first {shown(missing[0])}"
        )
    if len({type(value) for value in values}) > 1:
        raise InputError(f"{source}: expected labels that are all integers or all strings, found both")
    if any(isinstance(value, int) and not -(2**63) <= value < 2**63 for value in values):
        raise InputError(
            f"{source}: expected integer labels that are class numbers, found one beyond 64 bits"
        )
    (labels,), classes = number_labels([np.array(values)], source=source)
    return labels, classes


def number_labels(
    found: Sequence[NDArray[np.generic] | None], *, source: str
) -> tuple[list[NDArray[np.int64] | None], tuple[str, ...] | None]:
    """Turn labels of all splits into class numbers: int64 arrays and the class names (index = number).

    Integers are class numbers as they are (names "0", "1", ...); strings are sorted. InputError (naming
    `source`) if only some splits have labels, if integers are negative or 100,000 and more, or if kinds are
    mixed.
    """
    labels = [array for array in found if array is not None]
    if not labels:
        return [None] * len(found), None
    if len(labels) != len(found):
        raise InputError(
            f"{source}: expected labels for every split or for none, found {len(labels)} of {len(found)}"
        )
    kinds = {"text" if array.dtype.kind == "U" else "integer" for array in labels}
    if any(array.dtype.kind not in "iuU" for array in labels) or len(kinds) != 1:
        types = ", ".join(sorted({str(array.dtype) for array in labels}))
        raise InputError(f"{source}: expected labels that are all integers or all strings, found {types}")
    if kinds == {"text"}:
        names, flat = np.unique(np.concatenate(labels), return_inverse=True)
        cuts = np.cumsum([len(array) for array in labels])[:-1]
        return [part.astype(np.int64) for part in np.split(flat.reshape(-1), cuts)], tuple(map(str, names))
    low = min(int(array.min()) for array in labels if len(array))
    high = max(int(array.max()) for array in labels if len(array))
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(f"{source}: expected integer labels in 0..{MAX_CLASSES - 1}, found {low}..{high}")
    return [array.astype(np.int64) for array in labels], tuple(str(i) for i in range(high + 1))
