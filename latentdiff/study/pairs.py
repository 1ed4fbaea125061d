"""Images against their originals in the tables of the studies: PSNR, SSIM and a perceptual distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentdiff.data import Dataset, to_uint8
from latentdiff.errors import InputError
from latentdiff.evaluate.pairs import score_pairs
from latentdiff.evaluate.score import Resampling
from latentdiff.features import PerceptualNetwork, default_features, perceptual_network
from latentdiff.features.names import perceptual_name
from latentdiff.study.lab import Lab
from latentdiff.study.report import Cell, Measured


class Pairs(NamedTuple):
    """Means over pairs of images: dB, 1, pixels in [0, 1], and the perceptual distance (RMSE where there is no network for it)."""

    psnr: float
    ssim: float
    rmse: float
    distance: float


@dataclass(frozen=True, eq=False)
class Eye:
    """Compares images with their originals; ``network`` is None where its package is not installed."""

    network: PerceptualNetwork | None

    @classmethod
    def of(cls, lab: Lab, *, data: Dataset | None = None) -> Eye:
        """The network that fits the images of ``data`` (default: the data of the study, and the network that was asked for)."""
        like, asked = data or lab.data, lab.features if data is None else None
        try:
            name = asked or default_features((like.channels, like.height, like.width), like.classes)
            return cls(perceptual_network(name, device=lab.device))
        except InputError:
            return cls(None)

    @property
    def distance(self) -> str:
        """What ``Pairs.distance`` is called."""
        return "RMSE" if self.network is None else perceptual_name(self.network.name)

    @property
    def columns(self) -> tuple[str, ...]:
        last = () if self.network is None else (self.distance,)
        return ("PSNR (dB)", "SSIM", "RMSE", *last)

    def pairs(self, found: Tensor, wanted: Tensor) -> Pairs:
        """found[k] against wanted[k], [n, C, H, W] in [-1, 1]."""
        scores = score_pairs(to_uint8(wanted), to_uint8(found), perceptual=self.network, resampling=Resampling(count=0))
        distance = scores.rmse if scores.perceptual is None else scores.perceptual
        return Pairs(scores.psnr.value, scores.ssim.value, scores.rmse.value, distance.value)

    def cells(self, pairs: Sequence[Pairs]) -> tuple[Cell, ...]:
        """The mean over several scores (of seeds) and their spread as cells of a table."""
        columns = list(zip(*pairs, strict=True))[: len(self.columns)]
        return tuple(_spread(column) for column in columns)


def _spread(values: Sequence[float]) -> Measured:
    """Mean, and mean plus and minus the standard deviation over the seeds."""
    mean = sum(values) / len(values)
    if len(values) < 2 or not math.isfinite(mean):
        return Measured(mean)
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return Measured(mean, mean - std, mean + std)
