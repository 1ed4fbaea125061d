"""Code of both schedulers: coefficients of a timestep on the samples' device, noising in one pass."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from latentdiff import ops
from latentdiff.config.diffusion import Prediction
from latentdiff.diffusion import prediction as prediction_types
from latentdiff.ops import constants

PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""diffusers' names of the predictions that its schedulers read."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.int32, torch.int64)
ROWS = 4096  # rows of coefficients that are remembered


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
    """(p, q) with x_0 = p x_t + q out, by diffusers' name of the prediction."""
    return prediction_types.to_x0(PREDICTIONS[prediction], t.alpha, t.sigma)


def to_eps(prediction: str, t: Level) -> tuple[float, float]:
    """(p, q) with eps = p x_t + q out, by diffusers' name of the prediction."""
    return prediction_types.to_eps(PREDICTIONS[prediction], t.alpha, t.sigma)


def fusable(*tensors: Tensor) -> bool:
    """Whether the kernels take these tensors together: of one floating-point type, shape and device.

    Not where torch.compile traces, which fuses the operations of the stock class by itself, nor in transforms
    of torch.func and forward-mode differentiation, for which the kernels have no formulas.
    """
    transformed = torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0
    if torch.compiler.is_compiling() or transformed:
        return False
    first = tensors[0]
    return first.ndim > 0 and all(
        x.dtype in FLOATS and x.dtype == first.dtype and x.shape == first.shape and x.device == first.device
        for x in tensors
    )


class Fused:
    """Mixin for one of diffusers' schedulers; ``add_noise`` and ``get_velocity`` are one operation each."""

    config: Any
    stock: type  # the class of diffusers
    alphas_cumprod: Tensor
    timesteps: Tensor
    num_inference_steps: int | None

    def __new__(cls, *_: Any, **__: Any) -> Fused:
        made = super().__new__(cls)
        if "stock" in vars(cls):  # see saved_as_stock
            made.__module__ = cls.stock.__module__
        return made

    def __repr__(self) -> str:
        return f"{type(self).__qualname__} {self.to_json_string()}"

    def __getstate__(self) -> dict[str, Any]:
        """State of a copy or a pickle, without cached numbers, which a copy reads from its own tables."""
        return {name: value for name, value in vars(self).items() if name != "_hosted"}

    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t = alpha x_0 + sigma eps, as diffusers' schedulers do it, computed in float32 or float64."""
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

    def _fuses(self, *tensors: Tensor) -> bool:
        """Whether the kernels take a step of these tensors under the scheduler's options."""
        clip = self.config.clip_sample_range
        clips = self.config.clip_sample and not self.config.thresholding
        return fusable(*tensors) and (not clips or (isinstance(clip, (int, float)) and clip > 0))

    def _readable(self, here: Level, there: Level) -> bool:
        """Whether x_0 and eps can be read out of the model's output; if not, the stock class says so."""
        kind = self.config.prediction_type
        signal = here.alpha > 0 or (here.alpha == 0 and kind != "epsilon")
        return kind in PREDICTIONS and here.sigma > 0 and there.alpha > 0 and signal

    def _moved(
        self, x: Tensor, outs: list[Tensor], row: tuple[float, ...], noise: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(x_s, x_0) of a row of coefficients, x_0 clipped as the options say."""
        clips = self.config.clip_sample and not self.config.thresholding
        coef = constants.constant_row(row, dtype=torch.float64, device=x.device)
        clip = self.config.clip_sample_range if clips else None
        return ops.step_x0(x, outs, coef, clip=clip, noise=noise)

    def _thresholded(self, here: Level, x: Tensor, out: Tensor) -> Tensor:
        """The estimate of x_0, thresholded as the stock class does it, without rounding on the way."""
        p, q = to_x0(self.config.prediction_type, here)
        wide = torch.promote_types(x.dtype, torch.float32)
        read = q * out.to(wide)
        estimate: Tensor = self._threshold_sample(read if p == 0 else p * x.to(wide) + read)  # 0 inf is NaN
        return estimate.to(x.dtype)

    def _noised_at_once(self, x: Tensor, noise: Tensor, timesteps: Tensor) -> bool:
        return (
            fusable(x, noise)
            and isinstance(timesteps, Tensor)
            and timesteps.dtype in INTEGERS
            and timesteps.ndim <= 1
            and timesteps.numel() in (1, len(x))
        )

    def _levels(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma [1 or B], float64, on the samples' device, to which the table moves."""
        if self.alphas_cumprod.device != like.device:
            numbers = self._on_host("alphas_cumprod")  # to read them later would wait for the GPU
            self.alphas_cumprod = self.alphas_cumprod.to(like.device)
            self._remember("alphas_cumprod", numbers)
        alpha_bar = self.alphas_cumprod[timesteps.to(like.device)].flatten().double()
        return alpha_bar.sqrt(), (1 - alpha_bar).sqrt()

    def _index(self, timestep: Any) -> int | None:
        """A timestep as a number, without waiting for the GPU where it is an element of ``self.timesteps``.

        None for all that the stock class refuses, takes for a mask, or lets overflow: fractions, bytes, truth
        values, numbers beyond the table.
        """
        if isinstance(timestep, Tensor):
            number = self._number(timestep) if timestep.dtype in INTEGERS and timestep.numel() == 1 else None
        else:
            integer = isinstance(timestep, (int, np.int32, np.int64)) and not isinstance(timestep, bool)
            number = operator.index(timestep) if integer else None
        size = len(self.alphas_cumprod)
        return number if number is not None and -size <= number < size else None

    def _number(self, timestep: Tensor) -> int:
        if timestep.device.type == "cpu":
            return operator.index(timestep)
        own = self.timesteps
        here = (
            timestep.untyped_storage().data_ptr() == own.untyped_storage().data_ptr()
            and own.storage_offset() == 0
        )
        if here and timestep.ndim == 0 and own.ndim == 1 and own.stride(0) == 1:
            return int(self._on_host("timesteps")[timestep.storage_offset()])
        return operator.index(timestep)

    def _on_host(self, name: str) -> Any:
        """The numbers of the scheduler's tensor of that name, as ``tolist`` gives them.

        Fetched once for each tensor, and each change in place, that it has been; tensors of inference mode,
        which count no changes, every time.
        """
        tensor = getattr(self, name)
        if tensor.is_inference():
            return tensor.tolist()
        kept = self._hosted.get(name)
        if kept is None or kept[0] is not tensor or kept[1] != tensor._version:
            return self._remember(name, tensor.tolist())
        return kept[2]

    def _remember(self, name: str, numbers: Any) -> Any:
        tensor = getattr(self, name)
        if not tensor.is_inference():
            self._hosted[name] = (tensor, tensor._version, numbers)
        return numbers

    @cached_property
    def _hosted(self) -> dict[str, tuple[Tensor, int, Any]]:
        return {}


Scheduler = TypeVar("Scheduler", bound=type[Fused])


def saved_as_stock(cls: Scheduler) -> Scheduler:
    """Let files name ``cls.stock`` in place of a class, so that anyone loads them.

    diffusers writes the ``__name__`` of a scheduler's class into its configuration, and with it the
    ``__module__`` of the scheduler itself into ``model_index.json``; pickle finds the class by its
    ``__qualname__`` and ``__module__``, which stay.
    """
    cls.__name__ = cls.stock.__name__
    return cls


def _weighted(x: Tensor, noise: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a x + b noise for a, b [1 or B], in one pass: the reverse step with k = a, r = b and nothing else."""
    zero = torch.zeros_like(a)
    return ops.step(x, [noise], torch.stack([a, zero, zero, zero, zero, b], 1))
