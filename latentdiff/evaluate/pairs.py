"""Images against their own copies, pair by pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import Resampling, Score, mean_score
from latentdiff.metrics.features import PerceptualNetwork, perceptual_distance
from latentdiff.metrics.pairs import psnr, rmse, ssim


@dataclass(frozen=True)
class PairScores:
    """Means over ``n`` pairs: ``psnr`` in dB, ``ssim``, ``rmse`` of pixels in [0, 1], ``perceptual`` by the
    named network.

    ``identical`` pairs have an infinite PSNR: its mean is that of the others, where there are any.
    """

    n: int
    psnr: Score
    ssim: Score
    rmse: Score
    identical: int = 0
    perceptual: Score | None = None
    perceptual_network: str | None = None

    def as_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"n": self.n, "identical": self.identical}
        values |= {name: getattr(self, name).as_dict() for name in ("psnr", "ssim", "rmse")}
        if self.perceptual is not None:
            values["perceptual"] = {**self.perceptual.as_dict(), "network": self.perceptual_network}
        return values


def as_unit(images: Tensor) -> Tensor:
    """Float images in [-1, 1] as float images in [0, 1]."""
    return (images.clamp(-1, 1) + 1) / 2


def as_pixels(images: Tensor) -> Tensor:
    """uint8 images, or float ones in [0, 1] rounded to them."""
    return images if images.dtype == torch.uint8 else images.mul(255).round().clamp(0, 255).to(torch.uint8)


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
    chosen = resampling or Resampling()
    decibels, same = psnr(a, b), (a == b).flatten(1).all(1)
    apart = decibels if bool(same.all()) else decibels[~same]
    of_psnr, of_ssim, of_rmse = (mean_score(each, chosen) for each in (apart, ssim(a, b), rmse(a, b)))
    scores = PairScores(len(a), of_psnr, of_ssim, of_rmse, identical=int(same.sum()))
    if perceptual is None:
        return scores
    distance = perceptual_distance(perceptual, as_pixels(a), as_pixels(b), batch=batch, progress=progress)
    return replace(scores, perceptual=mean_score(distance, chosen), perceptual_network=perceptual.name)
