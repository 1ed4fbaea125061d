"""Estimates of x_0 in unevaluated linear form, so that a step fuses them with its update."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.ops import constants

MAX_OUTPUTS = 4  # what one fused step takes; more are mixed first


@dataclass(frozen=True)
class Estimate:
    """x_0 in unevaluated linear form, clip(p x + sum_i q_i out_i), so that a step fuses it with its update.

    ``x`` and each of ``outputs`` have the shape [B, *shape] and one dtype; ``t`` is the level of x.
    ``variance_range`` is the learned-range output of Nichol & Dhariwal 2021 in about [-1, 1], shaped like x.
    """

    x: Tensor
    t: int
    p: float
    outputs: tuple[Tensor, ...]
    q: tuple[float, ...]
    clip: float | None = None
    variance_range: Tensor | None = None

    @classmethod
    def from_x0(cls, x: Tensor, t: int, *, x0: Tensor) -> Estimate:
        """The estimate ``x0``, already evaluated."""
        return cls(x, t, 0.0, (x0,), (1.0,))

    def x0(self) -> Tensor:
        """The evaluated estimate, [B, *shape]; differentiable."""
        few = self if len(self.outputs) <= MAX_OUTPUTS else self.merged()
        return ops.step(
            few.x, few.outputs, coefficients([0.0, 1.0, 0.0, few.p, *few.q], few.x), clip=few.clip
        )

    def merged(self) -> Estimate:
        """The same estimate with one output, x_0 before clipping; for more outputs than a step takes."""
        x0 = self.p * self.x
        for q, out in zip(self.q, self.outputs, strict=True):
            x0 = x0 + q * out
        return replace(self, p=0.0, outputs=(x0,), q=(1.0,))


def coefficients(row: list[float], like: Tensor) -> Tensor:
    """One row of coefficients [1, K] on the device of ``like``, float64 cast once to the step's dtype.

    The tensor is cached for the next loop with this row (:mod:`latentdiff.ops.constants`): never write to it.
    """
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return constants.constant_row(row, dtype=dtype, device=like.device)
