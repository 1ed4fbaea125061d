"""The sampling loop, the only one of the package: :func:`sample` moves x through levels with a step.

Sampling, inversion, restoration and illusions differ in the denoiser, the levels and the step that they pass.
:func:`start` and :func:`noised` make the x to begin with, :func:`slerp` interpolates between two of them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.samplers import SamplerStep
from latentdiff.diffusion.schedule import Schedule
from latentdiff.ops.random import Key


class State(NamedTuple):
    """What the loop yields after each move: the level reached, x there, and the estimate that led there."""

    t: int
    x: Tensor
    estimate: Estimate


def start(key: Key, shape: Sequence[int], *, visit: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """x_T, [B, *shape]: standard normal noise, one seed for each sample, independent for each ``visit``."""
    return key.at("init", visit=visit).normal(shape, dtype=dtype)


def noised(x0: Tensor, t: int, schedule: Schedule, key: Key) -> Tensor:
    """x_t = alpha_t x_0 + sigma_t eps, where SDEdit starts (Meng et al. 2022, algorithm 2); x_0 at t = 0.

    The noise is that of :func:`start`: at full strength, where alpha_T = 0, the loop is plain sampling.
    """
    alpha, sigma = schedule.at(t)
    if sigma == 0:
        return x0
    return alpha * x0 + sigma * start(key, x0.shape[1:], dtype=x0.dtype)


@torch.no_grad()
def sample(
    denoise: Denoiser, x: Tensor, levels: Sequence[int], step: SamplerStep, key: Key
) -> Iterator[State]:
    """Move ``x`` [B, *shape] through ``levels``; a generator, so the caller decides what to keep.

    Levels descend, except for steps that also go up (RePaint, inversion). Every move draws from its own
    noise stream, keyed by (purpose "step", level t, number of earlier visits to t), so that a sample depends
    on its seed and not on its batch.
    """
    estimate: Estimate | None = None
    visits: Counter[int] = Counter()
    for t, s in pairwise(levels):
        x, estimate = step(denoise, x, t, s, key.at("step", t, visits[t]), estimate)
        visits[t] += 1
        yield State(s, x, estimate)


def run(denoise: Denoiser, x: Tensor, levels: Sequence[int], step: SamplerStep, key: Key) -> Tensor:
    """The end of the loop: x at the last level."""
    for state in sample(denoise, x, levels, step, key):
        x = state.x
    return x


def slerp(a: Tensor, b: Tensor, u: float) -> Tensor:
    """Spherical interpolation between noises of one shape, which keeps their norm (Shoemake 1985)."""
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if angle < 1e-6:
        return a
    return (math.sin((1 - u) * angle) * a + math.sin(u * angle) * b) / math.sin(angle)
