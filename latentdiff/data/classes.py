"""The class of each image: a class by name or index, classes in turn, or as often as in some data."""

from __future__ import annotations

import operator
import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from latentdiff.data.types import Split
from latentdiff.errors import InputError

SHOWN = 20  # class names in an error
_NUMBER = re.compile("-?[0-9]{1,9}")

ClassBalance = Literal["equal", "data"]
"""How often samples are of each class: equally often (in turn), or as often as the training data."""


def class_index(classes: Sequence[str], label: int | str) -> int:
    """The index of a class: ``label`` itself if it is an int, else the class of that name, else the index it
    spells.

    A text that is a number also finds a name that is the same number ("1" finds "01"), and never the class at
    that index where it is called by another number. InputError for an unknown class.
    """
    if not classes:
        raise InputError(
            f"`label` {label}: this model is unconditional, it knows no classes; leave the label out"
        )
    if not isinstance(label, str):
        return _in_range(classes, operator.index(label))
    if (found := _named(classes, label)) is not None:
        return found
    if not _NUMBER.fullmatch(label):
        raise InputError(_unknown(classes, label))
    number = int(label)
    same = [k for k, name in enumerate(classes) if _NUMBER.fullmatch(name) and int(name) == number]
    if len(same) == 1:
        return same[0]
    if same or all(map(_NUMBER.fullmatch, classes)):
        raise InputError(_unknown(classes, label))
    index = _in_range(classes, number)
    if _NUMBER.fullmatch(classes[index]):
        raise InputError(_unknown(classes, label))
    return index


def class_indices(classes: Sequence[str], texts: Sequence[str]) -> list[int]:
    """The classes in ``texts``: each a whole name, or else several that commas separate.

    InputError for an unknown class.
    """
    found = list[int]()
    for text in texts:
        parts = [text] if _named(classes, text) is not None else [part.strip() for part in text.split(",")]
        found += [class_index(classes, part) for part in parts]
    return found


def _named(classes: Sequence[str], text: str) -> int | None:
    """The class of that name, or the only one of the same text in NFC: file systems decompose accents."""
    if text in classes:
        return classes.index(text)
    wanted = unicodedata.normalize("NFC", text)
    same = [k for k, name in enumerate(classes) if unicodedata.normalize("NFC", name) == wanted]
    return same[0] if len(same) == 1 else None


def _in_range(classes: Sequence[str], index: int) -> int:
    if not 0 <= index < len(classes):
        raise InputError(f"`label` must lie in 0..{len(classes) - 1}, got {index}")
    return index


def _unknown(classes: Sequence[str], label: str) -> str:
    more = f" and {len(classes) - SHOWN} more" if len(classes) > SHOWN else ""
    names = ", ".join(_shown(classes, k) for k in range(min(SHOWN, len(classes))))
    return f"`label`: unknown class {label!r:.60}; this model knows {names}{more}"


def _shown(classes: Sequence[str], index: int) -> str:
    """A class in a list: its name, quoted and with its index where a comma or spaces would hide its end."""
    name, word = classes[index], label_text(classes, index)
    if "," not in name and name == name.strip() != "":
        return name
    return repr(name) if word == name else f"{name!r} (index {word})"


def label_text(classes: Sequence[str], index: int) -> str:
    """What :func:`class_indices` finds a class by: its name, or its index where that would be cut."""
    name = classes[index]
    if "," not in name and name == name.strip() != "" and classes.index(name) == index:
        return name
    try:
        return str(index) if class_index(classes, str(index)) == index else name
    except InputError:  # the index is the name of another class
        return name


def joined(classes: Sequence[str], texts: Sequence[str]) -> str:
    """One text that :func:`class_indices` takes for ``texts``: of several, a name to be cut is its index."""
    if len(texts) == 1:
        return texts[0]
    named = [(text, _named(classes, text)) for text in texts]
    return ",".join(text if index is None else label_text(classes, index) for text, index in named)


def balanced_labels(n: int, classes: int, counts: Sequence[int], balance: ClassBalance) -> Tensor:
    """Labels int64 [n]: all ``classes`` in turn, or as often as ``counts`` says; InputError without."""
    if balance == "data" and not counts:
        raise InputError(
            "`class_balance` data: this model does not record how often its data had each class; expected"
            " equal"
        )
    return (
        labels_in_proportion(n, counts) if balance == "data" else torch.arange(n, dtype=torch.int64) % classes
    )


def labels_in_proportion(n: int, counts: Sequence[int]) -> Tensor:
    """Labels int64 [n] with class k in proportion to ``counts[k]``: every beginning of the row is
    right to one image.

    Label i does not depend on n, and equal counts give the classes in turn. Of the classes that are far
    enough behind their share the one that would be late first is next (Tijdeman 1980, The chairman assignment
    problem). ValueError unless a count is positive and none is negative.
    """
    if not counts or min(counts) < 0 or not any(counts):
        raise ValueError(f"expected counts of 0 or more that are not all 0, got {list(counts)}")
    classes = np.flatnonzero(counts)
    share = np.array([counts[k] for k in classes.tolist()], dtype=np.float64) / sum(counts)
    if len(classes) == 1:
        return torch.full((n,), int(classes[0]), dtype=torch.int64)
    least = 1 / (2 * len(classes) - 2)
    late = (1 - least) / share  # the step at which a class has to come once more
    behind, labels = np.zeros_like(share), np.empty(n, dtype=np.int64)
    for i in range(n):
        behind += share
        ready = np.flatnonzero(behind >= least - 1e-9)  # rounding must not empty it
        chosen = ready[np.argmin(np.round(late[ready], 6))]
        labels[i] = chosen
        behind[chosen] -= 1
        late[chosen] += 1 / share[chosen]
    return torch.from_numpy(classes[labels])


def order_by_class(labels: Tensor | None, n: int) -> Tensor:
    """The places of images with labels [n], the first of each class before the second of any; int64 [n]."""
    if labels is None:
        return torch.arange(n)
    rank = torch.zeros_like(labels)
    for label in labels.unique():
        here = labels == label
        rank[here] = torch.arange(int(here.sum()))
    return (rank * (int(labels.max()) + 1) + labels).argsort()


def representative(labels: Tensor | None, n: int, count: int) -> Tensor:
    """The places of at most ``count`` of ``n`` images for a picture, int64: all classes in turn, without
    labels evenly spread.

    Data on the disk are often sorted by class, so that the first images are all of one.
    """
    if labels is None:
        return torch.linspace(0, n - 1, min(n, count)).round().long()
    return order_by_class(labels, n)[:count]


def one_of_each_class(split: Split, n: int) -> Tensor:
    """``n`` images uint8 [n, C, H, W]: the first of each class in turn, then the second of each, and so on.

    The first images where there are no labels; fewer than ``n`` where the split has no more.
    """
    return split.images[indices_by_class(split, n)]


def indices_by_class(split: Split, n: int) -> Tensor:
    """The places in the split of :func:`one_of_each_class`, int64 [n]."""
    return order_by_class(split.labels, len(split))[:n]
