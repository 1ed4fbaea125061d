"""Subjects of an illusion: classes or prompts, and how an image is checked for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Cell, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.data import to_uint8
from latentdiff.data.synthetic_scenes import parse
from latentdiff.evaluate.scenes import attributes, read

Content = int | str  # a class or a prompt
Pair = tuple[int, int]
PAIRS: tuple[Pair, ...] = ((0, 1), (0, 8), (1, 4), (1, 7), (2, 3), (2, 5), (3, 5), (4, 7), (5, 8), (7, 8))
"""Pairs of digits, fixed before any image was drawn: neither 6 with 9 nor a class with itself."""
K = TypeVar("K")
Shares = TypeVar("Shares", bound=tuple[float, ...])


class Subject(Protocol):
    """Checks images for their content."""

    def hits(self, images: Tensor, content: Content) -> Tensor:
        """Whether each attribute of ``content`` is right in images [n, C, H, W] in [-1, 1]: bool [n, k]."""
        ...


@dataclass(frozen=True)
class ClassSubject:
    """The content is a class; its one attribute is the predicted class."""

    reader: ClassReader

    def hits(self, images: Tensor, content: Content) -> Tensor:
        return torch.eq(self.reader.classes(images), int(content))[:, None]


@dataclass(frozen=True)
class SceneSubject:
    """The content is a caption of a scene; its attributes are read back from the image.

    ``only`` limits them, e.g. to the digit.
    """

    only: tuple[str, ...] = ()

    def hits(self, images: Tensor, content: Content) -> Tensor:
        scene = parse(str(content))
        found = [attributes(scene, reading) for reading in read(to_uint8(images), [scene] * len(images))]
        return torch.tensor([[hit[name] for name in self.only or hit] for hit in found])


def shares(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """The means of two sets of hits, bool [n, k], and the share of images with all of both."""
    both = first.all(1) & second.all(1)
    a, b, c = (float(hits.double().mean()) for hits in (first, second, both))
    return a, b, c


def mean(values: Iterable[float]) -> float:
    """The mean in float64."""
    return float(torch.tensor(list(values), dtype=torch.float64).mean())


def average(every: Iterable[Shares]) -> Shares:
    """The means of several shares of one kind, field by field."""
    rows = list(every)
    made: Any = type(rows[0])
    shares: Shares = made(*map(mean, zip(*rows, strict=True)))
    return shares


def share_panel(
    found: Mapping[float, tuple[float, ...]], fields: Mapping[str, str], title: str, x: str, *, percent: bool
) -> Panel:
    """Shares over a setting, a curve for each of ``fields`` (names of the shares, and their labels)."""
    times = 100 if percent else 1
    curves = [
        Curve(label, list(found), [times * getattr(each, name) for each in found.values()], "marked")
        for name, label in fields.items()
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
