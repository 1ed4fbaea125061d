"""Scores of images beside their own copies, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate import metric_table
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import Resampling
from latentdiff.evaluate.metric_table import ImagePairs, MetricScores
from latentdiff.metrics.features import PerceptualNetwork


@dataclass(frozen=True, kw_only=True)
class PairScores(MetricScores):
    """Means over ``n`` pairs: ``scores`` has ``metric_table.PAIR_METRICS``: ``psnr`` in dB, ``ssim``,
    ``rmse`` of pixels in [0, 1], ``perceptual`` by the network that it names, None without one.

    ``identical`` pairs have an infinite PSNR: its mean is that of the others, where there are any.
    """

    identical: int = 0

    def as_dict(self) -> dict[str, Any]:
        values = super().as_dict()
        return {name: value for name, value in values.items() if value is not None or name not in self.scores}


def score_pairs(
    a: Tensor,
    b: Tensor,
    *,
    perceptual: PerceptualNetwork | None = None,
    resampling: Resampling | None = None,
    batch: int = 500,
    progress: Progress | None = None,
) -> PairScores:
    """Compare a[k] with b[k]: images [N, C, H, W], uint8 or float in [0, 1].

    InputError where the shapes differ.
    """
    if a.shape != b.shape:
        raise InputError(
            f"pairs need as many images of one shape on both sides, got {list(a.shape)} and {list(b.shape)}"
        )
    if not len(a):
        raise InputError("pairs need at least one image on each side, got none")
    pairs = ImagePairs(a, b, resampling or Resampling(), perceptual, batch, progress)
    scores = metric_table.measured(metric_table.PAIR_METRICS, pairs)
    return PairScores(n=len(a), scores=scores, identical=int(pairs.same.sum()))
