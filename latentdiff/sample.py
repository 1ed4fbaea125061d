"""The sampling loop: there is one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.denoise import Denoiser, Estimate
from latentdiff.random import Key
from latentdiff.step import Step


class State(NamedTuple):
    """What the loop yields after each move: the level reached, x there, and the estimate that led there."""

    t: int
    x: Tensor
    estimate: Estimate


def start(key: Key, shape: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Tensor:
    """x_T, [B, *shape]: standard normal noise, one seed for each sample."""
    return key.at("init").normal(shape, dtype=dtype)


@torch.no_grad()
def sample(denoise: Denoiser, x: Tensor, levels: Sequence[int], step: Step, key: Key) -> Iterator[State]:
    """Move ``x`` [B, *shape] through the descending ``levels``; a generator, so the caller decides what to keep.

    Every move draws from its own noise stream (purpose "step", level t), so that a sample depends on its seed and not
    on the batch that it is in.
    """
    estimate: Estimate | None = None
    for t, s in pairwise(levels):
        x, estimate = step(denoise, x, t, s, key.at("step", t), estimate)
        yield State(s, x, estimate)


def run(denoise: Denoiser, x: Tensor, levels: Sequence[int], step: Step, key: Key) -> Tensor:
    """The end of the loop: x at the last level."""
    for state in sample(denoise, x, levels, step, key):
        x = state.x
    return x


def slerp(a: Tensor, b: Tensor, u: float) -> Tensor:
    """Spherical interpolation between noises of one shape (Shoemake 1985): keeps their norm, unlike a straight line."""
    cosine = float((a * b).sum() / (a.norm() * b.norm()))
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    if angle < 1e-6:
        return a
    return (math.sin((1 - u) * angle) * a + math.sin(u * angle) * b) / math.sin(angle)
