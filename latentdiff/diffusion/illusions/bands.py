"""Decompositions of an image into bands that sum to it: frequencies, or brightness and colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from latentdiff.diffusion.operators import gaussian_blur
from latentdiff.errors import InputError

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Band:
    """A linear map from images [B, C, H, W] to one of their components."""

    name: str
    take: Map

    def __call__(self, x: Tensor) -> Tensor:
        return self.take(x)


def frequencies(shape: tuple[int, int, int], sigmas: Sequence[float]) -> tuple[Band, ...]:
    """Bands from the lowest to the highest, cut by Gaussian blurs of falling ``sigmas`` (pixels): one gives
    two, two three.

    The lowest is the image blurred by the first sigma, the highest what the last blur takes away; they sum to
    the image. InputError unless the sigmas are positive and fall. Geng et al. 2024 (Factorized Diffusion),
    section 3.2.
    """
    if not sigmas or any(sigma <= 0 for sigma in sigmas) or any(a <= b for a, b in pairwise(sigmas)):
        raise InputError(
            f"bands: expected falling sigmas above 0, got {', '.join(f'{s:g}' for s in sigmas) or 'none'}"
        )
    blurs = [gaussian_blur(shape, sigma=sigma) for sigma in sigmas]
    middle = [
        Band(f"{a:g}-{b:g}", _between(wide, narrow))
        for (a, wide), (b, narrow) in pairwise(zip(sigmas, blurs, strict=True))
    ]
    return (Band("low", blurs[0]), *middle, Band("high", lambda x: x - blurs[-1](x)))


def _between(wide: Map, narrow: Map) -> Map:
    return lambda x: narrow(x) - wide(x)


def brightness_and_colour(shape: tuple[int, int, int]) -> tuple[Band, Band]:
    """The mean over the channels, and what is left; they sum to the image. InputError for grey images."""
    if shape[0] < 2:
        raise InputError(f"colour: expected images with 3 channels, got {shape[0]}")
    grey = Band("brightness", lambda x: x.mean(1, keepdim=True).expand_as(x))
    return grey, Band("colour", lambda x: x - x.mean(1, keepdim=True))
