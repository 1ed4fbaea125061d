"""The inverse problem y = A x + noise that a solver gets, and the arguments of the loop that it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.operators import Operator
from latentdiff.diffusion.samplers import SamplerStep
from latentdiff.diffusion.schedule import Schedule
from latentdiff.ops.random import Key


class LoopArguments(NamedTuple):
    """The arguments of :func:`latentdiff.diffusion.loop.sample`: the denoiser, x_T [B, *latent_shape], the
    levels, the step and the key of its noise.
    """

    denoise: Denoiser
    x: Tensor
    levels: Sequence[int]
    step: SamplerStep
    key: Key


@dataclass(frozen=True, eq=False, kw_only=True)
class InverseProblem:
    """Measurements ``y`` [B, *measured_shape] of images under an operator, with noise of deviation ``sigma``.

    ``decode`` and ``encode``: the model's differentiable maps between latents [B, *latent_shape] and images;
    ``mask``: known places of the latents, 1 or 0, for solvers that take masks only; ``max_level``: the
    highest level at which the model's x_0 can be read.
    """

    operator: Operator
    y: Tensor
    sigma: float
    schedule: Schedule
    decode: Callable[[Tensor], Tensor]
    encode: Callable[[Tensor], Tensor]
    mask: Tensor | None
    max_level: int

    def measure(self, latents: Tensor) -> Tensor:
        """The measurement of latents [B, *latent_shape] without noise: A D(z)."""
        return self.operator(self.decode(latents))
