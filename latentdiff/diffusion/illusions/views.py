"""Views of an image, orthogonal maps under which white noise stays white noise, and bands that sum to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import torch
from torch import Tensor

from latentdiff.diffusion.operators import gaussian_blur
from latentdiff.errors import InputError
from latentdiff.ops.random import Key

Map = Callable[[Tensor], Tensor]
NAMES = ("identity", "flip", "mirror", "rotate90", "rotate180", "rotate270", "negative", "patches")


@dataclass(frozen=True, eq=False)
class View:
    """An orthogonal map of images [B, C, H, W] and its inverse (Geng et al. 2024, section 3.3)."""

    name: str
    see: Map
    back: Map

    def __call__(self, x: Tensor) -> Tensor:
        return self.see(x)


@cache  # one object for each view, so that equal parts compare equal
def view(name: str, *, patch: int | None = None, seed: int = 0) -> View:
    """A view by name; ``patch`` (default: a quarter of a side) and ``seed`` are for "patches".

    InputError for other names.
    """
    if name not in NAMES:
        raise InputError(f"`view`: expected one of {', '.join(NAMES)} (orthogonal maps only), got {name!r}")
    if name == "patches":
        return patches(patch, seed=seed)
    simple: dict[str, tuple[Map, Map]] = {
        "identity": (lambda x: x, lambda x: x),
        "flip": (lambda x: x.flip(-2), lambda x: x.flip(-2)),
        "mirror": (lambda x: x.flip(-1), lambda x: x.flip(-1)),
        "rotate90": (lambda x: torch.rot90(_square(x), 1, (-2, -1)), lambda x: torch.rot90(x, -1, (-2, -1))),
        "rotate180": (lambda x: torch.rot90(x, 2, (-2, -1)), lambda x: torch.rot90(x, 2, (-2, -1))),
        "rotate270": (lambda x: torch.rot90(_square(x), -1, (-2, -1)), lambda x: torch.rot90(x, 1, (-2, -1))),
        "negative": (torch.neg, torch.neg),
    }
    return View(name, *simple[name])


def patches(side: int | None = None, *, seed: int = 0) -> View:
    """Square patches of ``side`` pixels (default: a quarter of the image), permuted by ``seed``."""

    def moved(x: Tensor, *, back: bool) -> Tensor:
        size = side or max(1, x.shape[-1] // 4)
        height, width = x.shape[-2:]
        if height % size or width % size:
            raise InputError(f"patches: expected a side that divides {height} and {width} pixels, got {size}")
        tiles = x.unflatten(-2, (-1, size)).unflatten(-1, (-1, size)).transpose(-3, -2).flatten(-4, -3)
        order = Key.of(seed, 1).at("degrade", 1).normal((tiles.shape[-3],))[0].argsort()
        order = (order.argsort() if back else order).to(x.device)
        rows = tiles.index_select(-3, order).unflatten(-3, (height // size, width // size))
        image: Tensor = rows.transpose(-3, -2).flatten(-2).flatten(-3, -2)
        return image

    return View(f"patches{side or ''}", lambda x: moved(x, back=False), lambda x: moved(x, back=True))


def check_orthogonal(view: View, shape: tuple[int, ...]) -> None:
    """InputError unless a view keeps lengths and angles of images of ``shape``, and ``back`` inverts it.

    Any other map changes the statistics of the noise.
    """
    probes = Key.of(0, 4).at("degrade", 2).normal(shape, dtype=torch.float64)
    seen = view(probes)
    if seen.shape != probes.shape:
        raise InputError(f"view {view.name}: expected images of {list(shape)}, got {list(seen.shape[1:])}")
    before, after = (images.flatten(1) @ images.flatten(1).T for images in (probes, seen))
    if not torch.allclose(before, after, rtol=0, atol=1e-6 * float(before.max())):
        raise InputError(
            f"view {view.name}: expected an orthogonal map, found one that changes lengths or angles"
        )
    if not torch.allclose(view.back(seen), probes, rtol=0, atol=1e-6):
        raise InputError(f"view {view.name}: expected `back` to undo it, found another image")


def _square(x: Tensor) -> Tensor:
    if x.shape[-1] != x.shape[-2]:
        raise InputError(
            f"rotation by a quarter turn: expected a square image, got {x.shape[-2]}x{x.shape[-1]}"
        )
    return x


@dataclass(frozen=True, eq=False)
class Band:
    """A linear map from images [B, C, H, W] to one of their components."""

    name: str
    take: Map

    def __call__(self, x: Tensor) -> Tensor:
        return self.take(x)


def frequencies(shape: tuple[int, int, int], sigmas: Sequence[float]) -> tuple[Band, ...]:
    """Bands from the lowest to the highest, cut by Gaussian blurs of falling ``sigmas`` (pixels), one more.

    The lowest is the image blurred by the first sigma, the highest what the last takes away; they sum to the
    image. InputError unless the sigmas are positive and fall. Geng et al. 2024 (Factorized Diffusion),
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
