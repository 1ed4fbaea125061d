"""Classifier-free guidance of a conditional and an unconditional estimate, its rescaling and its interval."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff.diffusion.estimate import Estimate


def guided(cond: Estimate, uncond: Estimate, w: float) -> Estimate:
    """Classifier-free guidance w cond + (1 - w) uncond, still linear (Ho & Salimans 2022, eq. 6 for w - 1).

    w = 0 is unconditional, w = 1 conditional; both estimates are of the same x.
    """
    return replace(
        cond,
        outputs=(*cond.outputs, *uncond.outputs),
        q=(*(w * q for q in cond.q), *((1 - w) * q for q in uncond.q)),
        p=w * cond.p + (1 - w) * uncond.p,
    )


def rescaled(cond: Estimate, guided: Estimate, phi: float) -> Estimate:
    """Guidance without overexposure: the output, ``phi`` of the way to the conditional one's deviation.

    Both are estimates of one x; deviations are those of an image over all values. Lin et al. 2024, eq. 15,
    16.
    """

    def output(estimate: Estimate) -> Tensor:
        """The network output that the estimate stands for: the weighted sum of its outputs."""
        return torch.stack(
            [q / cond.q[0] * out for q, out in zip(estimate.q, estimate.outputs, strict=True)]
        ).sum(0)

    def deviation(out: Tensor) -> Tensor:
        return out.flatten(1).std(1).view(-1, *[1] * (out.ndim - 1))

    out = output(guided)
    ratio = deviation(output(cond)) / deviation(out).clamp_min(torch.finfo(out.dtype).tiny)
    return replace(guided, outputs=(out * (phi * ratio + (1 - phi)),), q=cond.q[:1])


@dataclass(frozen=True)
class Condition:
    """The conditioning of a network: ``labels`` int64 [B], the guidance scale ``w`` and the ``null`` label.

    For a text-conditional network ``labels`` are the encoded prompts [B, L, D] and ``null`` the encoded empty
    or negative prompt, [1, L, D] or [B, L, D]. Guidance acts at the levels with ``low`` <= t / T <= ``high``
    (Kynkäänniemi et al. 2024, "limited interval"); at the others the estimate is conditional, for half the
    work. ``rescale``: see :func:`rescaled`.
    """

    labels: Tensor
    null: int | Tensor
    w: float = 1.0
    low: float = 0.0
    high: float = 1.0
    rescale: float = 0.0

    def scale(self, t: int, T: int) -> float:
        """The guidance scale at level t of T."""
        return self.w if self.low <= t / T <= self.high else 1.0

    def unconditional(self) -> Tensor:
        """The null condition for every sample, shaped like ``labels``."""
        if isinstance(self.null, int):
            return torch.full_like(self.labels, self.null)
        return self.null.expand_as(self.labels)

    def cond_uncond(self) -> Tensor:
        """``labels``, then the null condition, [2 B, ...]; new: a captured loop writes labels in place."""
        return torch.cat([self.labels, self.unconditional()])
