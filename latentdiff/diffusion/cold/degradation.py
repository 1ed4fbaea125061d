"""Deterministic degradations D(x_0, t) for cold diffusion (Bansal et al. 2022): blur, pixelation, a
growing grey mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.config.cold import DegradationConfig
from latentdiff.diffusion.operators import blur_matrix, gaussian_taps


@dataclass(frozen=True, eq=False)
class Degradation:
    """D(x_0, t) = mask_t (R_t X C_t^T) for every channel X: matrices on the rows and the columns of each
    level, and a mask.

    ``rows`` [T + 1, H, H], ``columns`` [T + 1, W, W] and ``mask`` [T + 1, H, W] are float32; None: the
    identity. Level 0 is x_0 itself.
    """

    T: int
    shape: tuple[int, int, int]
    rows: Tensor | None = None
    columns: Tensor | None = None
    mask: Tensor | None = None

    def __call__(self, x0: Tensor, t: int | Tensor) -> Tensor:
        """Images [B, C, H, W] at level ``t``, one or int64 [B]; ValueError for levels outside 0..T or another
        shape.
        """
        if tuple(x0.shape[1:]) != self.shape:
            raise ValueError(f"expected images {['B', *self.shape]}, got {list(x0.shape)}")
        if isinstance(t, int):
            if not 0 <= t <= self.T:
                raise ValueError(f"level must lie in 0..{self.T}, got {t}")
            if t == 0:
                return x0
            t = torch.tensor([t])
        elif t.shape != x0.shape[:1]:
            raise ValueError(f"expected levels of shape {list(x0.shape[:1])}, got {list(t.shape)}")
        if self.rows is not None and self.columns is not None:
            x0 = self._at(self.rows, t, x0) @ x0 @ self._at(self.columns, t, x0).transpose(-1, -2)
        return x0 if self.mask is None else x0 * self._at(self.mask, t, x0)

    @staticmethod
    def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        return table[t.to(table.device)][:, None].to(like)

    def to(self, device: torch.device) -> Degradation:
        """The same degradation with its tables on a device."""
        tables = (
            None if table is None else table.to(device) for table in (self.rows, self.columns, self.mask)
        )
        return Degradation(self.T, self.shape, *tables)


def make_degradation(config: DegradationConfig, shape: tuple[int, int, int]) -> Degradation:
    """The degradation of a configuration for images of ``shape`` (C, H, W)."""
    _, height, width = shape
    if config.degradation == "blur":
        return Degradation(config.T, shape, _blurs(config, height), _blurs(config, width))
    if config.degradation == "pixelate":
        return Degradation(config.T, shape, _blocks(config.T, height), _blocks(config.T, width))
    return Degradation(config.T, shape, mask=_fading(config.T, height, width))


def _blurs(config: DegradationConfig, n: int) -> Tensor:
    """Products of the first t blurs, [T + 1, n, n]: level t blurs what level t - 1 left, as published."""
    total, tables = torch.eye(n, dtype=torch.float64), [torch.eye(n, dtype=torch.float64)]
    for level in range(config.T):
        sigma = math.sqrt(config.variance * (1 + config.growth) ** level)
        total = blur_matrix(gaussian_taps(sigma, config.kernel), n) @ total
        tables.append(total)
    return torch.stack(tables).float()


def _blocks(T: int, n: int) -> Tensor:
    """Means over blocks of pixels, put back in every one of them; the number of blocks falls from n to 1 by
    equal factors.
    """
    tables = []
    for level in range(T + 1):
        blocks = max(1, round(n ** (1 - level / T)))
        place = torch.arange(n) * blocks // n
        same = (place[:, None] == place).double()
        tables.append(same / same.sum(1, keepdim=True))
    return torch.stack(tables).float()


def _fading(T: int, height: int, width: int) -> Tensor:
    """Products of 1 minus a Gaussian bump in the middle that widens from a pixel to half the image; at level
    T all is grey (0).
    """
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    square = y.square() + x.square()
    tables, left = (
        [torch.ones(height, width, dtype=torch.float64)],
        torch.ones(height, width, dtype=torch.float64),
    )
    for level in range(1, T + 1):
        spread = 1 + level / T * max(height, width) / 2
        left = left * (1 - torch.exp(-square / (2 * spread**2)))
        tables.append(left)
    tables[-1] = torch.zeros_like(left)
    return torch.stack(tables).float()
