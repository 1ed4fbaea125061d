"""Outputs of a network at given noise levels, in float64, from which losses and bounds are computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.data import to_float
from latentdiff.diffusion.denoiser import timestep
from latentdiff.diffusion.prediction import target, to_x0
from latentdiff.evaluate.chunks import chunks
from latentdiff.ops.random import Key
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class OutputTables:
    """alpha, sigma, the target's (a, b) and x_0's (p, q) by level, float64 [T + 1]; that of 0 is not used."""

    alpha: Tensor
    sigma: Tensor
    a: Tensor
    b: Tensor
    p: Tensor
    q: Tensor

    @classmethod
    def of(cls, pipeline: Pipeline) -> OutputTables:
        alpha, sigma = pipeline.schedule.alpha, pipeline.schedule.sigma
        diffusion = pipeline.diffusion
        at = (diffusion.prediction, alpha[1:], sigma[1:])
        pairs = (*target(*at, sigma_data=diffusion.sigma_data), *to_x0(*at, sigma_data=diffusion.sigma_data))
        tables = (alpha, sigma, *(torch.cat([column.new_zeros(1), column]) for column in pairs))
        return cls(*(table.to(pipeline.device) for table in tables))


class NetworkOutput(NamedTuple):
    """``out`` of the network for x_t, its ``target``, and the clipped x_0 it gives; float64 [B, *shape]."""

    x0: Tensor
    x_t: Tensor
    out: Tensor
    target: Tensor
    x0_hat: Tensor
    spread: Tensor | None

    def error(self) -> Tensor:
        """The mean squared error of the prediction, [B]."""
        return (self.out - self.target).square().flatten(1).mean(1)


@torch.no_grad()
def network_output(
    pipeline: Pipeline, tables: OutputTables, x0: Tensor, t: Tensor, labels: Tensor | None, *, noise: Tensor
) -> NetworkOutput:
    """The network's output for clean ``x0`` [B, *shape], each noised to its own level of ``t`` int64 [B]."""
    shape = (-1, *[1] * (x0.ndim - 1))
    alpha, sigma, a, b, p, q = (
        table[t].view(shape) for table in (tables.alpha, tables.sigma, tables.a, tables.b, tables.p, tables.q)
    )
    clean, z = x0.double(), noise.double()
    noised = (alpha * clean + sigma * z).float()
    out = pipeline.network(noised, timestep(t).float(), labels).double()
    spread = None
    if pipeline.diffusion.variance == "learned":
        out, spread = out.chunk(2, 1)
    x_t = noised.double()
    x0_hat = p * x_t + q * out
    if pipeline.diffusion.clip is not None:
        x0_hat = x0_hat.clamp(-pipeline.diffusion.clip, pipeline.diffusion.clip)
    return NetworkOutput(clean, x_t, out, a * clean + b * z, x0_hat, spread)


class CleanChunk(NamedTuple):
    """Images ``rows`` of a set: their latents (modes of the posteriors), labels and noise key."""

    rows: slice
    x0: Tensor
    labels: Tensor | None
    key: Key


@torch.no_grad()
def clean_chunks(
    pipeline: Pipeline, images: Tensor, labels: Tensor | None, *, seed: int
) -> Iterator[CleanChunk]:
    """The latents of images uint8 [N, C, H, W] in fixed chunks; image k has the noise of seed + k."""
    key = Key.of(seed, len(images), device=pipeline.device)
    conditional = pipeline.classes or pipeline.tokenizer
    known = None if labels is None or not conditional else labels.to(pipeline.device)
    for rows in chunks(len(images), images.shape[1:]):
        x0 = pipeline.codec.encode(to_float(images[rows].to(pipeline.device)))
        yield CleanChunk(rows, x0, None if known is None else known[rows], key[rows])
