"""The prior of the start of cold generation: intensities drawn from a Gaussian fitted to training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.errors import InputError
from latentdiff.ops.random import Key


@dataclass(frozen=True)
class Intensities:
    """Mean [k] and covariance [k, k] (nested tuples) of the mean intensities of ``side`` x ``side`` cells, k
    = channels side^2, in [-1, 1].

    A strong blur leaves nothing of an image but its mean, one cell (Bansal et al. 2022, section 5.3). A
    weaker one leaves more, which several cells model.
    """

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    side: int = 1

    @classmethod
    def of(cls, images: Tensor, side: int = 1) -> Intensities:
        """Fit to images [N, C, H, W] in [-1, 1]."""
        means = F.adaptive_avg_pool2d(images, side).flatten(1).double()
        centred = means - means.mean(0)
        covariance = centred.T @ centred / len(means)
        return cls(tuple(means.mean(0).tolist()), tuple(map(tuple, covariance.tolist())), side)

    @classmethod
    def stored(cls, tensors: dict[str, Tensor], channels: int, where: str) -> Intensities:
        """Read ``mean`` and ``covariance`` from a file's tensors.

        InputError unless they are finite and of square grids of cells.
        """
        mean, covariance = (tensors.get(name) for name in ("mean", "covariance"))
        k = 0 if mean is None else mean.numel()
        side = math.isqrt(k // channels)
        if (
            mean is None
            or covariance is None
            or k != channels * side**2
            or k == 0
            or list(covariance.shape) != [k, k]
            or not bool(mean.isfinite().all() and covariance.isfinite().all())
        ):
            found = {name: list(tensor.shape) for name, tensor in tensors.items()}
            raise InputError(
                f"{where}: expected a finite mean and covariance of square grids of cells, found {found}"
            )
        return cls(tuple(mean.flatten().tolist()), tuple(map(tuple, covariance.tolist())), side)

    def tensors(self) -> dict[str, Tensor]:
        """``mean`` [k] and ``covariance`` [k, k], float32."""
        return {"mean": torch.tensor(self.mean), "covariance": torch.tensor(self.covariance)}

    def draw(self, key: Key) -> Tensor:
        """Intensities [n, k], normal with this mean and covariance."""
        covariance = torch.tensor(self.covariance, dtype=torch.float64)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp_min(0).sqrt()
        noise = key.at("init").normal((len(self.mean),), dtype=torch.float64)
        mean = torch.tensor(self.mean, dtype=torch.float64, device=noise.device)
        return torch.addmm(mean, noise, root.T.to(noise)).float()

    def images(self, key: Key, shape: tuple[int, int, int]) -> Tensor:
        """Images [n, C, H, W] of drawn intensities, flat or interpolated between the middles of cells."""
        channels, height, width = shape
        cells = self.draw(key).view(-1, channels, self.side, self.side)
        if self.side == 1:
            return cells.expand(-1, -1, height, width).contiguous()
        return F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=False)
