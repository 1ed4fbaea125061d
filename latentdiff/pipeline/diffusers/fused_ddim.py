"""diffusers' DDIMScheduler, one kernel a step."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from diffusers import DDIMScheduler, SchedulerMixin
from diffusers.schedulers.scheduling_ddim import DDIMSchedulerOutput
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

from latentdiff.pipeline.diffusers.fused import ROWS, Fused, Level, saved_as_stock, to_eps, to_x0

# a pipeline whose files name the first (older ones do) looks here for what kind of thing it is
__all__ = ["FusedDDIMScheduler", "SchedulerMixin"]


@saved_as_stock
class FusedDDIMScheduler(Fused, DDIMScheduler):
    """A drop-in for :class:`diffusers.DDIMScheduler`: same options, same results within float32's rounding, a
    kernel a step.

    ``pipe.scheduler = FusedDDIMScheduler.from_config(pipe.scheduler.config)``. Half-precision samples compute
    in float32 and are rounded once. What the kernels do not take (a level without signal read through
    epsilon, tensors of different types) goes to the stock class, whose name saved files bear.
    """

    stock = DDIMScheduler
    final_alpha_cumprod: Tensor

    def step(
        self,
        model_output: Tensor,
        timestep: int,
        sample: Tensor,
        eta: float = 0.0,
        use_clipped_model_output: bool = False,
        generator: torch.Generator | None = None,
        variance_noise: Tensor | None = None,
        return_dict: bool = True,
    ) -> DDIMSchedulerOutput | tuple[Tensor, Tensor]:
        """One move (Song et al. 2021, eq. 12 and 16); arguments, result and errors of the stock class."""
        numeric = isinstance(eta, (int, float)) and 0 <= eta <= 1
        given = [variance_noise] if numeric and eta > 0 and variance_noise is not None else []
        fuses = numeric and self.num_inference_steps is not None and self._fuses(sample, model_output, *given)
        fuses = fuses and not (
            given and generator is not None
        )  # of which the stock class says that it is wrong
        t = self._index(timestep) if fuses else None
        levels = None if t is None else self._levels_of(t)
        if levels is None or not self._readable(*levels):
            return super().step(
                model_output,
                timestep,
                sample,
                eta,
                use_clipped_model_output,
                generator,
                variance_noise,
                return_dict,
            )
        noise = None
        if eta > 0:
            noise, like = variance_noise, model_output
            if noise is None:
                noise = randn_tensor(like.shape, generator=generator, device=like.device, dtype=like.dtype)
        kind, thresholding = self.config.prediction_type, self.config.thresholding
        outs = (
            [self._thresholded(levels[0], sample, model_output), model_output]
            if thresholding
            else [model_output]
        )
        row = move(kind, *levels, float(eta), bool(use_clipped_model_output), bool(thresholding))
        x, x0 = self._moved(sample, outs, row, noise)
        return DDIMSchedulerOutput(prev_sample=x, pred_original_sample=x0) if return_dict else (x, x0)

    def _levels_of(self, t: int) -> tuple[Level, Level]:
        """The level of a timestep and of the one before it."""
        before = t - self.config.num_train_timesteps // self.num_inference_steps
        alphas = self._on_host("alphas_cumprod")
        return Level.of(alphas[t]), Level.of(
            alphas[before] if before >= 0 else self._on_host("final_alpha_cumprod")
        )


@lru_cache(ROWS)
def move(
    kind: str, here: Level, there: Level, eta: float, clipped: bool, thresholded: bool
) -> tuple[float, ...]:
    """(k, m, c, p, q.., r..) of the move; with thresholding the first of two outputs is x_0 itself."""
    p, q = (0.0, 1.0) if thresholded else to_x0(kind, here)
    variance = (there.sigma / here.sigma) ** 2 * (1 - (here.alpha / there.alpha) ** 2)
    c = eta * math.sqrt(max(0.0, variance))
    towards = math.sqrt(max(0.0, there.sigma**2 - c**2))
    if clipped:  # eps = (x - alpha x_0) / sigma of the clipped x_0
        k, m, r = towards / here.sigma, there.alpha - towards * here.alpha / here.sigma, 0.0
    else:
        from_x, from_out = to_eps(kind, here)
        k, m, r = towards * from_x, there.alpha, towards * from_out
    return (k, m, c, p, q, 0.0, 0.0, r) if thresholded else (k, m, c, p, q, r)
