"""The operations in plain PyTorch: on any device, bit for bit what the native kernels give in float32."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.ops import check, philox, update


def normal(seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The twin of :func:`latentdiff.ops.normal`."""
    check.normal(seeds, stream, shape, dtype)
    z = torch.empty((seeds.shape[0], *shape), dtype=dtype, device=seeds.device)
    _draw_into(z, seeds, stream)
    return z


def normal_out(seeds: Tensor, stream: Tensor, out: Tensor) -> None:
    """The same into ``out``."""
    check.normal_out(seeds, stream, out)
    _draw_into(out, seeds, stream)


def add_noise(
    x0: Tensor, coef: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The twin of :func:`latentdiff.ops.add_noise`."""
    check.add_noise(x0, coef, noise, seeds, stream)
    z = _given_or_drawn(x0, noise, seeds, stream)
    assert z is not None  # checked above
    x_t, target = update.noised(x0, coef, z)
    return _stored(x_t, x0), _stored(target, x0)


def step(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> Tensor:
    """The twin of :func:`latentdiff.ops.step`."""
    check.step("step", x, outs, coef, clip, noise, seeds, stream)
    x_s, _ = update.moved(x, outs, coef, clip=clip, z=_given_or_drawn(x, noise, seeds, stream))
    return _stored(x_s, x)


def step_x0(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The twin of :func:`latentdiff.ops.step_x0`."""
    check.step("step_x0", x, outs, coef, clip, noise, seeds, stream)
    x_s, x0 = update.moved(x, outs, coef, clip=clip, z=_given_or_drawn(x, noise, seeds, stream))
    return _stored(x_s, x), _stored(x0, x)


def ada_norm(h: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The twin of :func:`latentdiff.ops.ada_norm`."""
    check.ada_norm("ada_norm", h, factor, shift, rows, dtype)
    return _modulated(h, *(_spread(each, rows, h) for each in (factor, shift))).to(dtype)


def add_ada_norm(
    h: Tensor, branch: Tensor, gate: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The twin of :func:`latentdiff.ops.add_ada_norm`."""
    check.add_ada_norm(h, branch, gate, factor, shift, rows)
    gates, factors, shifts = (_spread(each, rows, h) for each in (gate, factor, shift))
    summed = (h + gates * branch.float()).contiguous()
    return summed, _modulated(summed, factors, shifts).to(branch.dtype)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The twin of :func:`latentdiff.ops.group_norm`."""
    check.group_norm(x, groups, weight, bias)
    channels = x.shape[1]
    values = x.permute(0, 2, 3, 1).float().reshape(len(x), -1, channels)

    def mean(each: Tensor) -> Tensor:
        """Means [B, 1, C] of each channel's group."""
        sums = _pixel_sum(each).unflatten(1, (groups, -1))
        total: Tensor = sums[..., 0]
        for c in range(1, channels // groups):
            total = total + sums[..., c]
        found = (total.double() / (each.shape[1] * channels // groups)).float()
        return found.repeat_interleave(channels // groups, 1)[:, None]

    center = mean(values)
    away = values - center
    deviation = (mean(away * away) + torch.tensor(eps)).double().sqrt()
    scale = (1 / deviation.float().double()).float() * weight
    y = (values * scale + (bias - center * scale)).to(x.dtype)
    made: Tensor = torch.empty_like(x, memory_format=torch.channels_last)
    return made.copy_(y.view(len(x), *x.shape[2:], channels).permute(0, 3, 1, 2))


def lookup(x: Tensor, table: Tensor) -> Tensor:
    """The twin of :func:`latentdiff.ops.lookup`."""
    check.lookup(x, table)
    found: Tensor = torch.empty_like(x).copy_(table[x.view(torch.int16).int() & 0xFFFF])
    return found


SUM_LANES = 16  # of sums over a row, in all implementations
EPS = 1e-5


def _spread(values: Tensor, rows: Tensor | None, h: Tensor) -> Tensor:
    """[U, D] -> [B, 1, ..., D], for the rows of h [B, ..., D]."""
    each = values if rows is None else values[rows]
    return each.reshape(len(h), *[1] * (h.dim() - 2), h.shape[-1])


def _modulated(h: Tensor, factor: Tensor, shift: Tensor) -> Tensor:
    """The layer norm of h [..., D] float32, times factor plus shift: every operation has one rounding."""
    width = h.shape[-1]
    # in float64, then rounded: the float32 quotient and square root on every device, which torch's are not
    away = h - (_row_sum(h).double() / width).float()
    variance = (_row_sum(away * away).double() / width).float()
    deviation = (variance + EPS).double().sqrt().float()
    y: Tensor = away * (1 / deviation.double()).float() * factor + shift
    return y.contiguous()


BLOCK_UNITS = 32  # added before their sum is


def _pixel_sum(x: Tensor) -> Tensor:
    """Sums [B, C] of x [B, P, C]: units of pixels that have a multiple of sixteen numbers, in blocks."""
    batch, pixels, channels = x.shape
    together = SUM_LANES // math.gcd(channels, SUM_LANES)  # pixels of a unit
    blocks = F.pad(x, (0, 0, 0, -pixels % (together * BLOCK_UNITS)))
    units = blocks.reshape(batch, -1, BLOCK_UNITS, together, channels)
    for dimension in (2, 1, 1):  # units of a block, blocks, pixels of a unit
        first, *rest = units.unbind(dimension)
        for each in rest:
            first = first + each
        units = first
    return units


def _row_sum(x: Tensor) -> Tensor:
    """Sums [..., 1] of x [..., D]: sixteen lanes, then their halves."""
    parts = F.pad(x, (0, -x.shape[-1] % SUM_LANES)).unflatten(-1, (-1, SUM_LANES))
    lanes: Tensor = parts[..., 0, :]
    for k in range(1, parts.shape[-2]):
        lanes = lanes + parts[..., k, :]
    while lanes.shape[-1] > 1:
        low, high = lanes.chunk(2, dim=-1)
        lanes = low + high
    return lanes


def _draw_into(z: Tensor, seeds: Tensor, stream: Tensor) -> None:
    z.copy_(philox.normals(seeds, stream, math.prod(z.shape[1:])).view(z.shape))


def _given_or_drawn(
    x: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> Tensor | None:
    if seeds is None or stream is None:
        return noise
    # float32 whatever x's dtype: 16-bit samples take the unrounded normal, float64 samples the converted one
    return philox.normals(seeds, stream, math.prod(x.shape[1:])).reshape(x.shape)


def _stored(held: Tensor, like: Tensor) -> Tensor:
    return torch.empty_like(like).copy_(held)  # held values are float32 already, so 16 bits round once
