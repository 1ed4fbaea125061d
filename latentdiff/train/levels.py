"""Sampling of the noise levels (timesteps) of a training batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentdiff.data.draws import integers

TimeSampling = Literal["uniform", "stratified", "logit-normal"]
RESOLUTION = 2**24


def draw_levels(kind: TimeSampling, positions: Tensor, *, batch: int, seed: int, T: int) -> Tensor:
    """Levels int64 [B] in 1..T for the data ``positions`` [B]; a pure function of position, seed and batch
    size.

    uniform: independent draws. stratified: one draw from each of ``batch`` equal slices of 0..T, so that
    every batch sees all levels and its loss has less variance (Kingma et al. 2021, appendix I.1).
    logit-normal: the same, with t / T the sigmoid of a standard normal, which visits the middle levels more
    often (Esser et al. 2024, eq. 19).
    """
    if kind == "uniform":
        return 1 + integers("level", positions, seed=seed, choices=T)
    inside = integers("level", positions, seed=seed, choices=RESOLUTION).double() / RESOLUTION
    u = (positions % batch + inside) / batch
    if kind == "logit-normal":
        u = torch.sigmoid(torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))
    return 1 + (u * T).long().clamp(0, T - 1)
