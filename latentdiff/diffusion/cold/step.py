"""The sampling step of cold diffusion, with a deterministic degradation in place of noise."""

from __future__ import annotations

from torch import Tensor

from latentdiff.diffusion.cold.degradation import Degradation
from latentdiff.diffusion.denoiser import Denoiser, Network, timestep
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.samplers import SamplerStep
from latentdiff.ops.random import Key


def restorer(network: Network, *, clip: float | None = 1.0, labels: Tensor | None = None) -> Denoiser:
    """The denoiser of a residual network: R(x_t, t) = x_t + network(x_t, t), R of Bansal et al. 2022.

    A network initialised to zero is the identity, which is nearly right at low levels.
    """

    def restore(x: Tensor, t: int) -> Estimate:
        times = timestep(x.new_full((len(x),), float(t)))
        return Estimate(x, t, 1.0, (network(x, times, labels).to(x.dtype),), (1.0,), clip)

    return restore


def cold_step(degrade: Degradation, *, improved: bool = True) -> SamplerStep:
    """x_s = x_t - D(x_0, t) + D(x_0, s), in which errors of x_0 that are alike at t and s cancel.

    ``improved`` False: x_s = D(x_0, s). Bansal et al. 2022, algorithms 2 and 1. At s = 0 the naive step
    returns the estimate.
    """

    def step(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        estimate = denoise(x, t)
        x0 = estimate.x0()
        below = degrade(x0, s)
        return (x - degrade(x0, t) + below if improved else below), estimate

    return step
