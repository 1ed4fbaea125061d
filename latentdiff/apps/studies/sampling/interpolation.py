"""How smoothly a decoder turns a straight line between two latents into images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.data import permutation
from latentdiff.errors import InputError
from latentdiff.nn import VAE

PIECE = 8  # pairs that are decoded at once


@dataclass(frozen=True, eq=False)
class InterpolationPaths:
    """Decoded straight lines, one number a pair, float64 [N].

    ``length``: sum of the distances of neighbouring frames (Euclidean, pixels in [0, 1]); ``detour``: length
    over the distance between the first frame and the last; ``jump``: the largest distance over their mean.
    """

    length: Tensor
    detour: Tensor
    jump: Tensor


def pairs_of(n: int, count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """``count`` pairs of different images out of n, no image twice: indices int64 [count] and [count]."""
    if 2 * count > n:
        raise InputError(f"expected at least {2 * count} test images for {count} pairs, found {n}")
    order = permutation(n, seed=seed, epoch=0)
    return order[:count], order[count : 2 * count]


@torch.no_grad()
def interpolated(vae: VAE, a: Tensor, b: Tensor, *, points: int) -> Tensor:
    """Decoded lines between the posterior modes of a[k] and b[k]: float32 [points, N, C, H, W] in [-1, 1]."""
    device = next(vae.parameters()).device
    ends = [vae.encode(images.to(device)).mode() for images in (a, b)]
    frames = [
        vae.decode(torch.lerp(ends[0], ends[1], u)).float().clamp(-1, 1)
        for u in torch.linspace(0, 1, points).tolist()
    ]
    return torch.stack(frames).cpu()


def measure_paths(vae: VAE, a: Tensor, b: Tensor, *, points: int) -> InterpolationPaths:
    """The lines between a[k] and b[k], images [N, C, H, W] in [-1, 1], in ``points`` frames each."""
    parts = zip(a.split(PIECE), b.split(PIECE), strict=True)
    measured = [measure_frames(interpolated(vae, one, other, points=points)) for one, other in parts]
    return InterpolationPaths(
        *(torch.cat([getattr(part, name) for part in measured]) for name in ("length", "detour", "jump"))
    )


def measure_frames(frames: Tensor) -> InterpolationPaths:
    """Frames [points, N, ...] of N paths in [-1, 1]; a constant path has a detour and a jump of 1."""
    pixels = (frames.double().flatten(2) + 1) / 2
    steps = (pixels[1:] - pixels[:-1]).norm(dim=2)
    length, straight = steps.sum(0), (pixels[-1] - pixels[0]).norm(dim=1)
    still = torch.ones_like(length)
    detour = torch.where(straight > 0, length / straight, still)
    return InterpolationPaths(
        length, detour, torch.where(length > 0, steps.max(0).values / steps.mean(0), still)
    )
