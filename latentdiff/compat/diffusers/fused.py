"""What the two schedulers share: coefficients of a timestep on the device of the samples, and noising in one pass."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from latentdiff import ops

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
ROWS = 4096  # coefficients kept on their device, at most


@dataclass(frozen=True)
class Level:
    """alpha and sigma of a timestep: x_t = alpha x_0 + sigma eps."""

    alpha: float
    sigma: float

    @classmethod
    def of(cls, alpha_bar: float) -> Level:
        """From the cumulative product of alphas; NaN where that is no share of a variance (betas above 1)."""
        if not 0 <= alpha_bar <= 1:
            return cls(math.nan, math.nan)
        return cls(math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar))


def to_x0(prediction: str, t: Level) -> tuple[float, float]:
    """(p, q) with x_0 = p x_t + q out, for the names that diffusers gives the predictions."""
    if prediction == "epsilon":
        return 1 / t.alpha, -t.sigma / t.alpha
    return (0.0, 1.0) if prediction == "sample" else (t.alpha, -t.sigma)


def to_eps(prediction: str, t: Level) -> tuple[float, float]:
    """(p, q) with eps = p x_t + q out."""
    if prediction == "epsilon":
        return 0.0, 1.0
    return (1 / t.sigma, -t.alpha / t.sigma) if prediction == "sample" else (t.sigma, t.alpha)


def fusable(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors together: of one floating-point type, shape and device."""
    first = tensors[0]
    return first.ndim > 0 and all(
        x.dtype in FLOATS and x.dtype == first.dtype and x.shape == first.shape and x.device == first.device
        for x in tensors
    )


class Rows:
    """Rows of coefficients, float64 [1, K], made once for what they stand for and kept on their device.

    A tensor made anew at every step would have to cross to the GPU every time.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Any, ...], Tensor] = {}

    def get(self, key: tuple[Any, ...], make: Callable[[], Sequence[float]], like: Tensor) -> Tensor:
        """The row of ``key`` on the device of ``like``."""
        found = self._kept.get((*key, like.device))
        if found is None:
            if len(self._kept) >= ROWS:
                self._kept.clear()
            found = torch.tensor([list(make())], dtype=torch.float64).to(like.device)
            self._kept[(*key, like.device)] = found
        return found


class Fused:
    """What is mixed into one of diffusers' schedulers; ``add_noise`` and ``get_velocity`` as one operation each."""

    config: Any
    alphas_cumprod: Tensor
    timesteps: Tensor
    num_inference_steps: int | None

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma eps, as the scheduler of diffusers does it, computed in float32 or float64."""
        if not self._noised_at_once(original_samples, noise, timesteps):
            return super().add_noise(original_samples, noise, timesteps)
        alpha, sigma = self._levels(timesteps, original_samples)
        return _weighted(original_samples, noise, alpha, sigma)

    def get_velocity(self, sample: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """v = alpha eps - sigma x_0."""
        if not self._noised_at_once(sample, noise, timesteps):
            return super().get_velocity(sample, noise, timesteps)
        alpha, sigma = self._levels(timesteps, sample)
        return _weighted(sample, noise, -sigma, alpha)

    def _thresholded(self, here: Level, x: Tensor, out: Tensor) -> Tensor:
        """The estimate of x_0, thresholded as the stock class does it, without rounding on the way."""
        p, q = to_x0(self.config.prediction_type, here)
        wide = torch.promote_types(x.dtype, torch.float32)
        estimate: Tensor = self._threshold_sample(p * x.to(wide) + q * out.to(wide))
        return estimate.to(x.dtype)

    def _noised_at_once(self, x: Tensor, noise: Tensor, timesteps: Tensor) -> bool:
        return fusable(x, noise) and timesteps.ndim <= 1 and timesteps.numel() in (1, len(x))

    def _levels(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma [1 or B] in float64 on the device of the samples."""
        self.alphas_cumprod = self.alphas_cumprod.to(like.device)
        alpha_bar = self.alphas_cumprod[timesteps.to(like.device)].flatten().double()
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def _index(self, timestep: int | Tensor) -> int:
        """A timestep as a number, without waiting for the GPU where it is an element of ``self.timesteps``."""
        if not isinstance(timestep, Tensor) or timestep.device.type == "cpu":
            return operator.index(timestep)  # fractions index no table of the stock class either
        own = self.timesteps
        here = timestep.untyped_storage().data_ptr() == own.untyped_storage().data_ptr() and own.storage_offset() == 0
        if here and timestep.ndim == 0 and own.ndim == 1 and own.stride(0) == 1:
            return int(self._on_host("timesteps")[timestep.storage_offset()])
        return operator.index(timestep)

    def _as_in_tables(self, number: float) -> float:
        """A number rounded to the type of the scheduler's tables.

        The stock class takes 1 - (alpha_t / alpha_s)^2 of a rounded quotient, which moves it by up to 3e-4 of itself where betas are
        small. Its own tests hold a loop's result to that.
        """
        return float(torch.tensor(number, dtype=self.alphas_cumprod.dtype))

    def _on_host(self, name: str) -> list[float]:
        """The numbers of the scheduler's tensor of that name, fetched once for each tensor, and each change in place, that it has been."""
        tensor = getattr(self, name)
        version = None if tensor.is_inference() else tensor._version
        kept = self._hosted.get(name)
        if kept is None or kept[0] is not tensor or kept[1] != version:
            kept = self._hosted[name] = (tensor, version, tensor.tolist())
        found: list[float] = kept[2]
        return found

    @cached_property
    def _hosted(self) -> dict[str, tuple[Any, ...]]:
        return {}

    @cached_property
    def _rows(self) -> Rows:
        return Rows()


def _weighted(x: Tensor, noise: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a x + b noise for a, b [1 or B], in one pass: the reverse step with k = a, r = b and nothing else."""
    zero = torch.zeros_like(a)
    return ops.step(x, [noise], torch.stack([a, zero, zero, zero, zero, b], 1))
