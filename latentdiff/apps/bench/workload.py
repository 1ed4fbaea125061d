"""Workloads: an operation on inputs of one shape and dtype, from one step of the standard linear schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from latentdiff.diffusion.estimate import coefficients
from latentdiff.diffusion.prediction import target, to_x0
from latentdiff.diffusion.samplers import ddim_coefficients
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.ops.random import Key

Operation = Literal["ddim", "ddpm", "guided", "add_noise", "normal"]
OPERATIONS: tuple[Operation, ...] = get_args(Operation)
TITLES: dict[Operation, str] = {
    "ddim": "DDIM step",
    "ddpm": "DDPM step + drawn noise",
    "guided": "guided DDIM step",
    "add_noise": "noising + target, drawn noise",
    "normal": "normal noise",
}
STREAMS: dict[Operation, int] = {"ddim": 3, "ddpm": 3, "guided": 4, "add_noise": 3, "normal": 1}
"""Tensors read and written at the least: each input once, each output once (coefficients and seeds are not
counted).
"""

T = 1000
LEVEL = 500  # of the steps, the middle
DDIM_STEPS = 50  # so that the DDIM step is 500 -> 480
GUIDANCE = 3.0
CACHE = 256 << 20  # bytes; input sets that are used in turn amount to more than any GPU's L2
MAX_SETS = 64


@dataclass(frozen=True)
class Levels:
    """The coefficients of the steps from level 500 to 480 (DDIM) and to 499 (DDPM), for eps prediction."""

    alpha_t: float
    sigma_t: float
    alpha_s: float
    sigma_s: float
    ddim: tuple[float, ...]  # (k, m, c, p, q)
    ddpm: tuple[float, ...]

    @classmethod
    def middle(cls) -> Levels:
        """The middle of the linear schedule of Ho et al. 2020."""
        schedule, s = make_schedule("linear", T=T), LEVEL - T // DDIM_STEPS
        at_t, at_s = schedule.at(LEVEL), schedule.at(s)
        estimate = to_x0("eps", *at_t)
        far = ddim_coefficients(schedule, LEVEL, s)
        near = ddim_coefficients(schedule, LEVEL, LEVEL - 1, eta=1.0)
        return cls(*at_t, *at_s, (far.k, far.m, far.c, *estimate), (near.k, near.m, near.c, *estimate))


@dataclass(frozen=True)
class Workload:
    """One set of inputs.

    ``x`` and ``outs`` are [B, ...]; ``coef`` is what the operation takes; levels are [B].
    """

    operation: Operation
    numbers: Levels
    x: Tensor
    outs: tuple[Tensor, ...]
    coef: Tensor
    key: Key
    stream: Tensor
    levels: Tensor

    @property
    def alpha_sigma(self) -> tuple[Tensor, Tensor]:
        """alpha and sigma of each sample's level in the dtype of x, [B, 1, ...]."""
        shape = (-1, *[1] * (self.x.dim() - 1))
        return self.coef[:, 0].to(self.x.dtype).view(shape), self.coef[:, 1].to(self.x.dtype).view(shape)


def make_workload(
    operation: Operation, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> Workload:
    """Inputs that depend on the seed alone; ``shape`` is that of the whole batch, [B, ...]."""
    key = Key.of(1000 * seed, shape[0], device=device)
    x = key.at("init").normal(shape[1:], dtype=dtype)
    count = {"ddim": 1, "ddpm": 1, "guided": 2}.get(operation, 0)
    outs = tuple(key.at("known", i).normal(shape[1:], dtype=dtype) for i in range(count))
    levels = torch.arange(shape[0], device=device) * 37 % (T - 100) + 50
    draw = key.at("train" if operation == "add_noise" else "step", LEVEL)
    numbers = Levels.middle()
    coef = _coefficients(operation, numbers, levels, x)
    return Workload(operation, numbers, x, outs, coef, draw, draw.stream_tensor(), levels)


def _coefficients(operation: Operation, numbers: Levels, levels: Tensor, x: Tensor) -> Tensor:
    if operation in ("add_noise", "normal"):
        schedule, t = make_schedule("linear", T=T), levels.cpu()
        alpha, sigma = schedule.alpha[t], schedule.sigma[t]
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        return torch.stack([alpha, sigma, *target("v", alpha, sigma)], 1).to(dtype).to(x.device)
    if operation == "guided":
        *row, q = numbers.ddim
        return coefficients([*row, GUIDANCE * q, (1 - GUIDANCE) * q], x)
    return coefficients(list(numbers.ddpm if operation == "ddpm" else numbers.ddim), x)


def tensor_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes of one tensor."""
    return math.prod(shape) * dtype.itemsize


def least_bytes(operation: Operation, shape: tuple[int, ...], dtype: torch.dtype) -> int:
    """Bytes that the operation has to move between memory and processor."""
    return STREAMS[operation] * tensor_bytes(shape, dtype)


def sets_for(operation: Operation, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> int:
    """Input sets to use in turn: one on the CPU, whose caches serve a loop as well, on a GPU more than its L2
    holds.

    Very small tensors stay in the L2 even so; there the launch is what takes the time.
    """
    if device.type != "cuda":
        return 1
    return max(1, min(MAX_SETS, CACHE // least_bytes(operation, shape, dtype)))
