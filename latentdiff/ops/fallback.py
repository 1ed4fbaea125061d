"""The operations in plain PyTorch: on any device, bit for bit what the native kernels give in float32."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

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
