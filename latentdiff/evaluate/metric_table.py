"""The metrics of images in one table, which JSON, `latentdiff evaluate` and the pages of the studies read.

A new metric is a function in ``latentdiff/metrics/`` and a row here (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar, cast

from torch import Tensor

from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import (
    Resampling,
    Score,
    Scores,
    frechet_score,
    kernel_score,
    mean_score,
    proportion_score,
    ratio_score,
    share_score,
)
from latentdiff.metrics.features import Features, PerceptualNetwork, perceptual_distance
from latentdiff.metrics.features.pixels import as_pixels
from latentdiff.metrics.names import frechet_name, kernel_name, perceptual_name
from latentdiff.metrics.neighbors import Manifold, precision_recall
from latentdiff.metrics.pairs import psnr, rmse, ssim

CONFIDENT = 0.8  # probability of the class above which an image counts as confident
NEIGHBORS = 3  # of the manifolds of precision and recall

Input = TypeVar("Input")


@dataclass(frozen=True)
class Metric(Generic[Input]):
    """One metric of a set of images or of pairs.

    ``name``: its key in JSON and its attribute in Python. ``label``: its name in tables, where ``by_network``
    does not make one of the network's name; ``note``: unit or direction. ``measure`` returns None where the
    metric does not apply. Tables show ``factor`` times the value, with the value free of bias below it if
    ``biased``; pages of the studies have a column for it if ``in_studies``; one
    ``of_pixels`` does not depend on the network of features.
    """

    name: str
    label: str
    measure: Callable[[Input], Score | None]
    by_network: Callable[[str], str] | None = None
    note: str = ""
    factor: float = 1
    biased: bool = False
    in_studies: bool = False
    of_pixels: bool = False

    def title(self, network: str | None) -> str:
        """The label, or the name that a distance has by its ``network``."""
        return self.label if self.by_network is None or network is None else self.by_network(network)


@dataclass(frozen=True, eq=False)
class FeatureSets:
    """Features of images and of a reference by one network; ``labels`` int64 [N] of the images or None."""

    features: Features
    reference: Features
    labels: Tensor | None
    resampling: Resampling

    @property
    def x(self) -> Tensor:
        """Features of the images, float64 [N, D]."""
        return self.features.values

    @property
    def y(self) -> Tensor:
        """Features of the reference, float64 [M, D]."""
        return self.reference.values

    @cached_property
    def manifold(self) -> Manifold:
        """Both sets as manifolds of 3 nearest neighbors."""
        return precision_recall(self.y, self.x, k=NEIGHBORS)

    def mean(self, values: Tensor) -> Score:
        """The mean of a value of each image, [N]."""
        return mean_score(values, self.resampling)

    def share_of(self, share: float, side: Tensor) -> Score:
        """A share of the images of one side, counted before."""
        return proportion_score(share, len(side), self.resampling)

    def accuracy(self) -> Score | None:
        """The share of images whose predicted class is their label."""
        found = self.features.predictions
        if found is None or self.labels is None:
            return None
        return share_score(found == self.labels, self.resampling)

    def sharpness(self) -> Score | None:
        """The mean gradient of the images over that of the reference, where both are known."""
        mine, base = self.features.gradients, self.reference.gradients
        if mine is None or base is None or not float(base.mean()) > 0:
            return None
        return ratio_score(mine, base, self.resampling)

    def confident(self) -> Score | None:
        """The share of images whose predicted class has a probability above 0.8."""
        found = self.features.confidence
        return None if found is None else share_score(found > CONFIDENT, self.resampling)


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Images a[k] beside their copies b[k], [N, C, H, W], uint8 or float in [0, 1]."""

    a: Tensor
    b: Tensor
    resampling: Resampling
    perceptual: PerceptualNetwork | None = None
    batch: int = 500
    progress: Progress | None = None

    @cached_property
    def same(self) -> Tensor:
        """bool [N]: the pairs that are identical."""
        return (self.a == self.b).flatten(1).all(1)

    def mean(self, values: Tensor) -> Score:
        """The mean of a measure of each pair, [N]."""
        return replace(mean_score(values, self.resampling), each=values)

    def psnr(self) -> Score:
        """The mean PSNR of the pairs that differ, in dB; infinite where none does."""
        decibels = psnr(self.a, self.b)
        found = self.mean(decibels if bool(self.same.all()) else decibels[~self.same])
        return replace(found, each=decibels)

    def perceptual_distance(self) -> Score | None:
        """The mean perceptual distance, where there is a network for it."""
        if self.perceptual is None:
            return None
        sides = as_pixels(self.a), as_pixels(self.b)
        found = perceptual_distance(self.perceptual, *sides, batch=self.batch, progress=self.progress)
        return replace(self.mean(found), network=self.perceptual.name)


SET_METRICS: tuple[Metric[FeatureSets], ...] = (
    Metric(
        "fd",
        "Frechet distance",
        lambda sets: frechet_score(sets.x, sets.y, sets.resampling),
        by_network=frechet_name,
        note="lower is better",
        biased=True,
        in_studies=True,
    ),
    Metric(
        "kd",
        "kernel distance",
        lambda sets: kernel_score(sets.x, sets.y, sets.resampling),
        by_network=kernel_name,
        note="lower is better",
        factor=1000,
        in_studies=True,
    ),
    Metric(
        "precision", "precision", lambda sets: sets.share_of(sets.manifold.precision, sets.x), in_studies=True
    ),
    Metric("recall", "recall", lambda sets: sets.share_of(sets.manifold.recall, sets.y), in_studies=True),
    Metric("density", "density", lambda sets: sets.mean(sets.manifold.densities)),
    Metric("coverage", "coverage", lambda sets: sets.share_of(sets.manifold.coverage, sets.y)),
    Metric("accuracy", "class accuracy", FeatureSets.accuracy),
    Metric("confident", "share of confident images", FeatureSets.confident),
    Metric("sharpness", "sharpness", FeatureSets.sharpness, note="of the reference's", of_pixels=True),
)
"""Metrics of a set of images against a reference, in the features of a network."""

PAIR_METRICS: tuple[Metric[ImagePairs], ...] = (
    Metric("psnr", "PSNR in dB", ImagePairs.psnr, note="higher is better"),
    Metric("ssim", "SSIM", lambda pairs: pairs.mean(ssim(pairs.a, pairs.b)), note="at most 1"),
    Metric("rmse", "RMSE of pixels in 0..1", lambda pairs: pairs.mean(rmse(pairs.a, pairs.b))),
    Metric("perceptual", "perceptual distance", ImagePairs.perceptual_distance, by_network=perceptual_name),
)
"""Metrics of images beside their own copies, pair by pair."""


def measured(metrics: Iterable[Metric[Input]], data: Input) -> dict[str, Score | None]:
    """The score of each of the ``metrics`` by its name."""
    return {metric.name: metric.measure(data) for metric in metrics}


@dataclass(frozen=True, kw_only=True)
class MetricScores(Scores):
    """``scores`` by the names of the metrics, which are attributes too: ``.fd`` is ``.scores["fd"]``.

    A metric that does not apply is None.
    """

    n: int
    scores: Mapping[str, Score | None]

    def __getattr__(self, name: str) -> Score:  # or None, which few metrics are: `scores` has the exact type
        if name != "scores" and name in self.scores:
            return cast("Score", self.scores[name])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def as_dict(self) -> dict[str, Any]:
        values = super().as_dict()
        return {"n": values.pop("n"), **values.pop("scores"), **values}
