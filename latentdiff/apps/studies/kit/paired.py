"""Images against their originals in the tables of the studies: PSNR, SSIM and a perceptual distance."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.comparison import Difference
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Cell, IntervalCell, Table
from latentdiff.data import to_uint8
from latentdiff.errors import InputError
from latentdiff.metrics.features import (
    PerceptualNetwork,
    default_features,
    perceptual_distance,
    perceptual_network,
)
from latentdiff.metrics.names import perceptual_name
from latentdiff.metrics.pairs import psnr, rmse, ssim

PairMetric = Literal["psnr", "ssim", "rmse", "distance"]
PAIR_METRICS: tuple[PairMetric, ...] = ("psnr", "ssim", "rmse", "distance")


@dataclass(frozen=True, eq=False)
class PairedScores:
    """Of each pair of images, float64 [n]: PSNR in dB, SSIM, RMSE of pixels in [0, 1], perceptual distance.

    Equal images have an infinite PSNR; the distance is the RMSE where there is no network for another one.
    """

    of: Mapping[PairMetric, Tensor]

    def mean(self, what: PairMetric) -> float:
        """The mean over the pairs; of the PSNR over those that differ, where there are some."""
        values = self.of[what]
        finite = values[values.isfinite()]
        return float((finite if len(finite) else values).mean())

    @property
    def notes(self) -> list[str]:
        """PSNR and SSIM of each pair, and the distance in a second line, for below a picture."""
        values = (self.of[name].tolist() for name in ("psnr", "ssim", "distance"))
        return [f"{a:.1f} dB, {b:.2f}\n{d:.3f}" for a, b, d in zip(*values, strict=True)]

    @property
    def psnr(self) -> float:
        return self.mean("psnr")

    @property
    def rmse(self) -> float:
        return self.mean("rmse")

    @property
    def distance(self) -> float:
        return self.mean("distance")


MethodScores = Mapping[str, Sequence[PairedScores]]
"""Scores by method, several draws of the same images each."""


def difference(
    a: Sequence[PairedScores], b: Sequence[PairedScores], what: PairMetric, *, comparisons: int = 1
) -> Difference:
    """The paired difference of a metric, a minus b; each holds several draws of the same images."""
    mine, other = (torch.stack([pairs.of[what] for pairs in draws]).mean(0) for draws in (a, b))
    return comparison.paired(mine, other, comparisons=comparisons)


def against_input(
    name: str, scores: MethodScores, base: str, what: PairMetric, title: str, *, unit: str = ""
) -> str:
    """A finding: ``what``, in words ``title``, of all ``scores`` against those of ``base``, the input."""
    others = [each for each in scores if each != base]
    found = {each: difference(scores[each], scores[base], what, comparisons=len(others)) for each in others}
    smaller = what in ("rmse", "distance")
    mean = sum(pairs.mean(what) for pairs in scores[base]) / len(scores[base])
    return comparison.against(
        f"{name}: {title}", f"{base} ({mean:.3g}{unit})", found, smaller=smaller, unit=unit
    )


def closer(found: Mapping[str, MethodScores], pairs: Sequence[tuple[str, str]]) -> str:
    """In how many tasks the first method of each pair is closer to the originals than the second, and in how
    many farther, beyond the interval of the difference; for a finding.

    ``found``: scores by task.
    """
    counts = []
    for near, far in pairs:
        signs = [
            difference(scores[far], scores[near], "distance", comparisons=len(found) * len(pairs)).sign
            for scores in found.values()
        ]
        counts.append(f"{near} is closer than {far} in {signs.count(1)}, farther in {signs.count(-1)}")
    return f"beyond the {comparison.WITHIN} of the difference: {'; '.join(counts)} of {len(found)}"


@dataclass(frozen=True, eq=False)
class PairedMetrics:
    """Compares images with their originals; ``network`` is None where its package is not installed."""

    network: PerceptualNetwork | None

    @classmethod
    def of(cls, context: StudyContext, *, images: Tensor | None = None) -> PairedMetrics:
        """The network that fits the images [n, C, H, W] (default: those of the study, by --features)."""
        try:
            if images is None:
                name = context.features or default_features(context.data.shape, context.data.classes)
            else:
                name = default_features(tuple(images.shape[1:]), None)
            return cls(perceptual_network(name, device=context.device))
        except InputError:
            return cls(None)

    @property
    def distance(self) -> str:
        """The name of the distance in :class:`PairedScores`."""
        return "RMSE" if self.network is None else perceptual_name(self.network.name)

    @property
    def legend(self) -> str:
        """What :attr:`PairedScores.notes` are, below a figure."""
        return f"under a picture: PSNR, SSIM; below: {self.distance}"

    @property
    def columns(self) -> tuple[str, ...]:
        last = () if self.network is None else (self.distance,)
        return ("PSNR (dB)", "SSIM", "RMSE", *last)

    def pairs(self, found: Tensor, wanted: Tensor) -> PairedScores:
        """found[k] against wanted[k], [n, C, H, W] in [-1, 1]."""
        a, b = to_uint8(wanted), to_uint8(found)
        off = rmse(a, b)
        distance = off if self.network is None else perceptual_distance(self.network, a, b)
        return PairedScores({"psnr": psnr(a, b), "ssim": ssim(a, b), "rmse": off, "distance": distance})

    def table(
        self,
        name: str,
        heads: tuple[str, ...],
        rows: Iterable[tuple[tuple[Cell, ...], Sequence[PairedScores]]],
        caption: str,
        **last: Sequence[Cell],
    ) -> Table:
        """Scores of several seeds by row, behind its cells under ``heads``; ``last``: columns behind them."""
        cells = [(*before, *self.cells(pairs)) for before, pairs in rows]
        for column in last.values():
            cells = [(*row, cell) for row, cell in zip(cells, column, strict=True)]
        return Table(name, (*heads, *self.columns, *last), tuple(cells), caption)

    def cells(self, pairs: Sequence[PairedScores]) -> tuple[Cell, ...]:
        """The mean over several scores (of seeds) and their spread as cells of a table."""
        whats = PAIR_METRICS[: len(self.columns)]
        return tuple(_spread([each.mean(what) for each in pairs]) for what in whats)


def _spread(values: Sequence[float]) -> IntervalCell:
    """Mean, and mean plus and minus the standard deviation over the seeds."""
    mean = sum(values) / len(values)
    if len(values) < 2 or not math.isfinite(mean):
        return IntervalCell(mean)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return IntervalCell(mean, mean - std, mean + std)
