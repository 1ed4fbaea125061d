"""A measured value with its interval, results as JSON, and how intervals are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from latentdiff.metrics.frechet import frechet, moments
from latentdiff.metrics.half_samples import ReferenceKind, frechet_interval, kernel_interval
from latentdiff.metrics.interval import Interval, bootstrap_mean, bootstrap_ratio, proportion_interval
from latentdiff.metrics.mmd import kernel_distance

# images a side for each dimension of the features that an interval of a Frechet distance needs
# (docs/evaluation.md)
ROOM = 4.5


@dataclass(frozen=True)
class Resampling:
    """Bootstrap resamples of the intervals (20 or more; 0: no intervals), their level and the seed."""

    count: int = 200
    level: float = 0.95
    seed: int = 0

    def options(self) -> dict[str, Any]:
        """The arguments of the bootstraps of :mod:`latentdiff.metrics`."""
        return {"resamples": self.count, "level": self.level, "seed": self.seed}


IF_KNOWN = {"if_known": True}
"""Metadata of a field that is left out of JSON where it is None."""


@dataclass(frozen=True)
class Scores:
    """Base of all results: frozen dataclasses whose fields are the keys of the JSON.

    A field that is not compared carries what figures show, and is left out of it.
    """

    def as_dict(self) -> dict[str, Any]:
        """For JSON: nested results as dictionaries, tuples as lists, infinite values (the PSNR of an
        identical pair) as None, since JSON has no infinity.
        """
        found = {each: getattr(self, each.name) for each in fields(self) if each.compare}
        return {
            each.name: _plain(value)
            for each, value in found.items()
            if value is not None or not each.metadata.get("if_known")
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Scores):
        return value.as_dict()
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Score(Scores):
    """A value as it was measured; ``low``, ``high`` and ``corrected`` (for bias) are None without resampling
    and for Frechet distances of too few images.

    ``resamples``: the number behind the interval (0: it has a closed form). ``features``, ``network``: the
    network of a distance, where nothing else in the result names it. ``each`` [N]: of each pair of images.
    """

    value: float
    low: float | None = None
    high: float | None = None
    corrected: float | None = None
    resamples: int | None = None
    features: str | None = field(default=None, metadata=IF_KNOWN)
    network: str | None = field(default=None, metadata=IF_KNOWN)
    each: Tensor | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, interval: Interval) -> Score:
        """The score of a bootstrap interval."""
        return cls(interval.estimate, interval.low, interval.high, interval.corrected, interval.resamples)

    def times(self, factor: float) -> Score:
        """The value in other units."""
        low, high, corrected = (
            None if v is None else factor * v for v in (self.low, self.high, self.corrected)
        )
        return replace(self, value=factor * self.value, low=low, high=high, corrected=corrected)


def mean_score(values: Tensor, resampling: Resampling) -> Score:
    """The mean of per-image values float64 [N]."""
    if not resampling.count:
        return Score(float(values.double().mean()))
    return Score.of(bootstrap_mean(values, **resampling.options()))


def share_score(hits: Tensor, resampling: Resampling) -> Score:
    """The share of images for which ``hits`` bool [N] is true."""
    if not resampling.count:
        return Score(float(hits.double().mean()))
    return Score.of(proportion_interval(hits, level=resampling.level))


def proportion_score(share: float, n: int, resampling: Resampling) -> Score:
    """A share of ``n`` images that was counted elsewhere."""
    return share_score(torch.arange(n) < round(share * n), resampling)


def ratio_score(values: Tensor, base: Tensor, resampling: Resampling) -> Score:
    """The mean of per-image values float64 [N] over that of ``base`` [M]."""
    if not resampling.count:
        return Score(float(values.double().mean() / base.double().mean()))
    return Score.of(bootstrap_ratio(values, base, **resampling.options()))


def cramped(n: int, m: int, dim: int) -> bool:
    """Test for sets too small to measure and remove the bias of a Frechet distance of ``dim`` features."""
    return min(n, m) < ROOM * dim


def frechet_score(
    x: Tensor, y: Tensor, resampling: Resampling, *, reference: ReferenceKind = "drawn"
) -> Score:
    """The Frechet distance of features float64 [N, D] and [M, D], with an interval if N and M allow one.

    ``reference="paired"``: y [N, D] are the features of copies of the images. Pairs are resampled as pairs:
    the sampling error of the images is that of the copies too, so that the distance has neither the bias nor
    the spread of two independent sets.
    """
    if not resampling.count or cramped(len(x), len(y), x.shape[1]):
        return Score(frechet(moments(x), moments(y)))
    return Score.of(frechet_interval(x, y, **resampling.options(), reference=reference))


def kernel_score(x: Tensor, y: Tensor, resampling: Resampling) -> Score:
    """The kernel distance of features float64 [N, D] and [M, D]."""
    if not resampling.count:
        return Score(kernel_distance(x, y))
    return Score.of(kernel_interval(x, y, **resampling.options()))
