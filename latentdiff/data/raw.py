"""Raw splits: the numpy arrays that readers return, before anything becomes a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.read_report import ReadReport, named
from latentdiff.errors import InputError

SPLITS = ("train", "val", "test")
MAX_CLASSES = 100_000
"""Integer labels are class numbers, not identifiers: a network has an embedding row for each."""


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


def note_empty_classes(
    labels: NDArray[np.integer[Any]] | None, classes: Sequence[str] | None, report: ReadReport
) -> None:
    """Say in a remark which `classes` have none of the training images, whose labels are int64 [N]."""
    if labels is None or classes is None:
        return
    empty = np.flatnonzero(np.bincount(labels, minlength=len(classes)) == 0).tolist()
    if empty:
        one = len(empty) == 1
        hint = "; integer labels are class numbers from 0" if classes[0] == "0" else ""
        report.remark(
            f"{'class' if one else 'classes'} {named([classes[k] for k in empty])} of {len(classes)} "
            f"{'has' if one else 'have'} no training images{hint}"
        )


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
        return [part.astype(np.int64) for part in np.split(flat.reshape(-1), cuts)], tuple(
            str(n) for n in names
        )
    low = min(int(array.min()) for array in labels if len(array))
    high = max(int(array.max()) for array in labels if len(array))
    if low < 0 or high >= MAX_CLASSES:
        raise InputError(f"{source}: expected integer labels in 0..{MAX_CLASSES - 1}, found {low}..{high}")
    return [array.astype(np.int64) for array in labels], tuple(str(i) for i in range(high + 1))
