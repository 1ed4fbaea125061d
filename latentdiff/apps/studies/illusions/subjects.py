"""Subjects of an illusion: classes or prompts, and how an image is checked for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Cell, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.data import to_uint8
from latentdiff.data.synthetic_scenes import parse
from latentdiff.evaluate.alignment import attributes, read

Content = int | str  # a class or a prompt
Pair = tuple[int, int]
PAIRS: tuple[Pair, ...] = ((0, 1), (0, 8), (1, 4), (1, 7), (2, 3), (2, 5), (3, 5), (4, 7), (5, 8), (7, 8))
"""Pairs of digits, fixed before any image was drawn: neither 6 with 9 nor a class with itself."""
Hits = Callable[[Tensor, Content], Tensor]
"""Whether each attribute of a content is right in images [n, C, H, W] in [-1, 1]: bool [n, k]."""
K = TypeVar("K")


def class_hits(reader: ClassReader) -> Hits:
    """The content is a class; its one attribute is the predicted class."""
    return lambda images, content: torch.eq(reader.classes(images), int(content))[:, None]


def scene_hits(*only: str) -> Hits:
    """The content is a caption of a scene; its attributes (``only`` these) are read back from the image."""

    def hits(images: Tensor, content: Content) -> Tensor:
        scene = parse(str(content))
        found = [attributes(scene, reading) for reading in read(to_uint8(images), [scene] * len(images))]
        return torch.tensor([[hit[name] for name in only or hit] for hit in found])

    return hits


class Shares(NamedTuple):
    """Shares of the attributes right in the first and second view (or band), and of images right in both."""

    first: float
    second: float
    both: float

    @classmethod
    def of(cls, first: Tensor, second: Tensor) -> Shares:
        """The shares of two sets of hits, bool [n, k]."""
        return cls(*(float(hits.double().mean()) for hits in (first, second, first.all(1) & second.all(1))))


def mean(values: Iterable[float]) -> float:
    """The mean in float64."""
    return float(torch.tensor(list(values), dtype=torch.float64).mean())


def average(every: Iterable[Shares]) -> Shares:
    """The means of several shares, field by field."""
    return Shares(*map(mean, zip(*every, strict=True)))


def share_panel(
    found: Mapping[float, Shares], labels: Mapping[str, str], title: str, x: str, *, percent: bool
) -> Panel:
    """Shares over a setting, a curve for each of ``labels`` (by field of the shares)."""
    times = 100 if percent else 1
    curves = [
        Curve(label, list(found), [times * getattr(each, name) for each in found.values()], "marked")
        for name, label in labels.items()
    ]
    return Panel(title, x, "percent" if percent else "share of seeds", curves)


def matrix(
    name: str, classes: Sequence[str], found: Mapping[Pair, float], caption: str, *, corner: str
) -> Table:
    """Shares by (row, column) with a row for each first class; pairs without one stay empty."""
    rows: list[tuple[Cell, ...]] = []
    for first, title in enumerate(classes):
        row = [found.get((first, second)) for second in range(len(classes))]
        rows.append((title, *(None if share is None else f"{share:.0%}" for share in row)))
    return Table(name, (corner, *classes), tuple(rows), caption)


def easiest(found: Mapping[K, float], n: int, describe: Callable[[K], str]) -> Iterator[str]:
    """A finding, if the shares (of ``n`` images each) of the easiest and hardest pair differ."""
    extremes = comparison.extremes({key: comparison.share(share, n) for key, share in found.items()})
    if extremes is not None:
        worst, best = extremes
        yield (
            f"Beyond the {comparison.WITHIN} of their difference {describe(best)} ({found[best]:.0%}) is"
            f" easier than {describe(worst)} ({found[worst]:.0%})."
        )
