"""diffusers' DDPMScheduler, one kernel a step."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from diffusers import DDPMScheduler, SchedulerMixin
from diffusers.schedulers.scheduling_ddpm import DDPMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from latentdiff.pipeline.diffusers.fused import ROWS, Fused, Level, saved_as_stock, to_x0

LEARNED = ("learned", "learned_range")
FIXED = ("fixed_small", "fixed_small_log", "fixed_large")
SMALLEST = 1e-20  # of a variance, as in the stock class


# a pipeline whose files name the first (older ones do) looks here for what kind of thing it is
__all__ = ["FusedDDPMScheduler", "SchedulerMixin"]


@saved_as_stock
class FusedDDPMScheduler(Fused, DDPMScheduler):
    """A drop-in for :class:`diffusers.DDPMScheduler`: same options, same results within float32's rounding, a
    kernel a step.

    Half-precision samples compute in float32 and are rounded once. What the kernels do not take goes to the
    stock class, whose name saved files bear.
    """

    stock = DDPMScheduler
    variance_type: str
    custom_timesteps: bool

    def step(
        self,
        model_output: Tensor,
        timestep: int,
        sample: Tensor,
        generator: torch.Generator | None = None,
        return_dict: bool = True,
    ) -> DDPMSchedulerOutput | tuple[Tensor, Tensor]:
        """One ancestral move (Ho et al. 2020, eq. 7); arguments, result and errors of the stock class."""
        kind, variance_range, out = self.variance_type, None, model_output
        if (
            kind in LEARNED
            and model_output.ndim == sample.ndim
            and model_output.shape[1] == 2 * sample.shape[1]
        ):
            out, variance_range = model_output.split(sample.shape[1], dim=1)
        fuses = (kind in FIXED or variance_range is not None) and self._fuses(sample, out)
        t = self._index(timestep) if fuses else None
        if t is None or not self._known(t):
            return super().step(model_output, timestep, sample, generator, return_dict)
        noise = None
        if t > 0:
            noise = randn_tensor(out.shape, generator=generator, device=out.device, dtype=out.dtype)
            if variance_range is not None:
                # exp of a rounded logarithm would be far off
                wide = torch.promote_types(out.dtype, torch.float32)
                noise = (self._deviation(t, variance_range.to(wide)) * noise.to(wide)).to(out.dtype)
        here, there = self._levels_of(t)
        thresholding = self.config.thresholding
        outs = [self._thresholded(here, sample, out)] if thresholding else [out]
        about = (self.config.prediction_type, self.variance_type, self.alphas_cumprod.dtype)
        row = move(*about, here, there, t == 0, bool(thresholding))
        x, x0 = self._moved(sample, outs, row, noise)
        return DDPMSchedulerOutput(prev_sample=x, pred_original_sample=x0) if return_dict else (x, x0)

    def _before(self, t: int) -> int:
        """The timestep before, -1 for the last one."""
        if not (self.custom_timesteps or self.num_inference_steps):
            return t - 1
        places = self._on_host("timesteps")
        place = places.index(t)
        return int(places[place + 1]) if place + 1 < len(places) else -1

    def _levels_of(self, t: int) -> tuple[Level, Level]:
        before, alphas = self._before(t), self._on_host("alphas_cumprod")
        return Level.of(alphas[t]), Level.of(alphas[before] if before >= 0 else 1.0)

    def _known(self, t: int) -> bool:
        """Whether x_0 can be read out of the model's output at a timestep of the chain."""
        if (self.custom_timesteps or self.num_inference_steps) and t not in self._on_host("timesteps"):
            return False
        return self._readable(*self._levels_of(t))

    def _deviation(self, t: int, variance_range: Tensor) -> Tensor:
        """The standard deviation that the network has learned (Nichol and Dhariwal 2021, eq. 15)."""
        variance = self._get_variance(t, predicted_variance=variance_range)
        return torch.exp(0.5 * variance) if self.variance_type == "learned_range" else variance**0.5


@lru_cache(ROWS)
def move(
    kind: str, variance: str, tables: torch.dtype, here: Level, there: Level, last: bool, thresholded: bool
) -> tuple[float, ...]:
    """(k, m, c, p, q) of the move; a learned deviation is in the noise already.

    The stock class takes 1 - (alpha_t / alpha_s)^2 of a quotient rounded to the type of its ``tables``, which
    moves it by up to 3e-4 of itself where betas are small. Its own tests hold a loop's result to that.
    """
    p, q = (0.0, 1.0) if thresholded else to_x0(kind, here)
    kept = float(torch.tensor((here.alpha / there.alpha) ** 2, dtype=tables))
    large = 1 - kept
    small = max((there.sigma / here.sigma) ** 2 * large, SMALLEST)
    c = 1.0 if variance in LEARNED else math.sqrt(large if variance == "fixed_large" else small)
    share = (there.sigma / here.sigma) ** 2
    return (math.sqrt(kept) * share, there.alpha * large / here.sigma**2, 0.0 if last else c, p, q)
