"""Photos of pen drawings as the digits of MNIST are: light strokes on black, levelled, scaled and centred."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PAPER = 9  # parts of the longer side: wider than a stroke, narrower than a shadow
FAINT, FULL = 0.25, 0.6  # of the darkest ink: below is paper, above is ink
BOX = 20 / 28  # of the picture's side that the drawing fills, as in MNIST
COVERED = 0.2  # mean of the box around the strokes; thinner ones are made wider
WIDEST = 3  # times that strokes are made wider


def as_strokes(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Drawings uint8 [N, 1, H, W] of several pixels for each of ``size``, (height, width), in that size.

    Uneven light on the paper is taken out, dark ink on light paper becomes light on black, the box around the
    ink is scaled to 20 of 28 parts and its centre of mass moved to the middle (LeCun et al. 1998, how MNIST
    was made). A picture without any ink becomes black.
    """
    found = [_strokes(image[None].float() / 255, size) for image in images]
    return (torch.cat(found) * 255).round().to(torch.uint8)


def _strokes(x: Tensor, size: tuple[int, int]) -> Tensor:
    """One drawing [1, 1, H, W] in [0, 1]."""
    ink = _ink(x)
    place = _box(ink)
    if place is None:
        return x.new_zeros(1, 1, *size)
    top, bottom, left, right = place
    ink = ink[..., top:bottom, left:right]
    height, width = ink.shape[2:]
    scale = BOX * min(size[0] / height, size[1] / width)
    inner = [max(1, min(side, round(scale * each))) for side, each in zip(size, (height, width), strict=True)]
    reach = max(1, round(0.5 / scale))  # half a pixel of the picture on each side
    small = F.interpolate(ink, inner, mode="area")
    for _ in range(WIDEST):
        if float(small.mean()) >= COVERED:
            break
        ink = F.max_pool2d(F.pad(ink, [reach] * 4), 2 * reach + 1, 1, padding=reach)
        small = F.interpolate(ink, inner, mode="area")
    return _centred(small / small.max().clamp_min(1e-6), size)


def _ink(x: Tensor) -> Tensor:
    """How much of a pixel is ink, 0 to 1: how far it is from the paper around it."""
    light = float(_border(x).median()) > 0.5
    x = 1 - x if light else x
    window = max(3, max(x.shape[2:]) // PAPER) | 1
    paper = -F.max_pool2d(-x, window, 1, padding=window // 2)  # the darkest of a window: ink is light now
    paper = F.avg_pool2d(paper, window, 1, padding=window // 2, count_include_pad=False)
    above = (x - paper).clamp_min(0)
    darkest = torch.quantile(above.flatten(), 0.995).clamp_min(above.max() / 4)
    if float(darkest) < 0.1:
        return torch.zeros_like(x)
    return ((above / darkest - FAINT) / (FULL - FAINT)).clamp(0, 1)


def _border(x: Tensor) -> Tensor:
    """The pixels at the edge of [1, 1, H, W]."""
    return torch.cat([x[..., 0, :], x[..., -1, :], x[..., :, 0], x[..., :, -1]], dim=-1)


def _box(ink: Tensor) -> tuple[int, int, int, int] | None:
    """First row, end of the rows, first column and end of the columns that hold 99% of the ink; None without
    any.
    """
    total = float(ink.sum())
    if total == 0:
        return None
    ends = []
    for dimension in (3, 2):
        share = ink.sum(dimension).flatten().cumsum(0) / total
        inside = ((share > 0.005) & (share < 0.995)).nonzero().flatten()
        first, last = (int(inside[0]), int(inside[-1])) if len(inside) else (0, len(share) - 1)
        ends += [max(0, first - 1), min(len(share), last + 2)]
    return ends[0], ends[1], ends[2], ends[3]


def _centred(small: Tensor, size: tuple[int, int]) -> Tensor:
    """Ink [1, 1, h, w] on black of ``size``, its centre of mass in the middle, as far as it stays inside."""
    canvas = small.new_zeros(1, 1, *size)
    starts = []
    for side, dimension, each in zip(size, (3, 2), small.shape[2:], strict=True):
        mass = small.sum(dimension).flatten()
        centre = float((mass * (torch.arange(each) + 0.5)).sum() / mass.sum())
        starts.append(min(max(0, round(side / 2 - centre)), side - each))
    (y, x), (height, width) = starts, small.shape[2:]
    canvas[..., y : y + height, x : x + width] = small
    return canvas
