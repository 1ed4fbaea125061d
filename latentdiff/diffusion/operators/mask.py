"""Inpainting masks: 1 where a pixel is known, 0 where it is missing."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from latentdiff.diffusion.operators.linear import Operator
from latentdiff.ops.random import Key

Half = Literal["top", "bottom", "left", "right"]


def masked(image_shape: tuple[int, int, int], mask: Tensor) -> Operator:
    """A x = mask x: known pixels as they are, the others 0 (grey).

    mask: [H, W] or [C, H, W] of 0 and 1; ValueError for another shape and other values.
    """
    known = mask.to(torch.float32)
    if known.shape not in (image_shape, image_shape[1:]):
        raise ValueError(
            f"`mask`: expected {list(image_shape[1:])} or {list(image_shape)}, got {list(mask.shape)}"
        )
    if not bool(((known == 0) | (known == 1)).all()):
        raise ValueError("`mask`: expected 0 (missing) and 1 (known) only, got other values")
    shape = tuple(image_shape)
    return Operator("mask", shape, shape, lambda x: x * known.to(x), lambda y: y * known.to(y))


def box(
    height: int, width: int, *, size: tuple[int, int] | None = None, corner: tuple[int, int] | None = None
) -> Tensor:
    """All known but a box of ``size`` (default: half the sides) at ``corner`` (default: central), [H, W].

    ValueError for a box that does not lie in the image.
    """
    h, w = size or (max(1, height // 2), max(1, width // 2))
    top, left = corner or ((height - h) // 2, (width - w) // 2)
    if h < 1 or w < 1 or top < 0 or left < 0 or top + h > height or left + w > width:
        raise ValueError(f"box: expected one within {height}x{width} pixels, got {h}x{w} at {top},{left}")
    mask = torch.ones(height, width)
    mask[top : top + h, left : left + w] = 0
    return mask


def half(height: int, width: int, missing: Half = "bottom") -> Tensor:
    """One half missing, [H, W]; the odd row or column in the middle is known."""
    h, w = height // 2, width // 2
    sizes = {"top": (h, width), "bottom": (h, width), "left": (height, w), "right": (height, w)}
    corners = {"top": (0, 0), "bottom": (height - h, 0), "left": (0, 0), "right": (0, width - w)}
    if missing not in sizes:
        raise ValueError(f"half: expected one of {', '.join(sizes)}, got {missing!r}")
    return box(height, width, size=sizes[missing], corner=corners[missing])


def scattered(height: int, width: int, *, missing: float = 0.5, seed: int = 0) -> Tensor:
    """Exactly round(missing H W) pixels missing, drawn at random, [H, W]; ValueError outside [0, 1]."""
    if not 0 <= missing <= 1:
        raise ValueError(f"`missing`: expected a share from 0 to 1, got {missing}")
    noise = Key.of(seed, 1).at("degrade", 3).normal((height * width,))[0]  # not the noise of a measurement
    mask = torch.ones(height * width)
    mask[noise.argsort()[: round(missing * height * width)]] = 0
    return mask.view(height, width)
