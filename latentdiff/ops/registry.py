"""Schemas, fallback and fake implementations of the operations in ``torch.ops.latentdiff``.

The fallback is ``CompositeExplicitAutograd``: one opaque operation for compilers and autograd on every device. A native
kernel registered for a device wins the dispatch; nothing here or above asks which one runs.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.ops import check, philox, update

LIBRARY = torch.library.Library("latentdiff", "DEF")  # keeps the registrations
_STEP = "Tensor x, Tensor[] outs, Tensor coef, float? clip, Tensor? noise, Tensor? seeds, Tensor? stream"
_SCHEMAS = (
    "normal(Tensor seeds, Tensor stream, SymInt[] shape, ScalarType dtype) -> Tensor",
    "add_noise(Tensor x0, Tensor coef, Tensor? noise, Tensor? seeds, Tensor? stream) -> (Tensor, Tensor)",
    f"step({_STEP}) -> Tensor",
    f"step_x0({_STEP}) -> (Tensor, Tensor)",
)


def _given_or_drawn(x: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None) -> Tensor | None:
    if seeds is None or stream is None:
        return noise
    # float32 whatever x's dtype: 16-bit samples take the unrounded normal, float64 samples the converted one
    return philox.normals(seeds, stream, math.prod(x.shape[1:])).reshape(x.shape)


def _stored(held: Tensor, like: Tensor) -> Tensor:
    return torch.empty_like(like).copy_(held)  # held values are float32 already, so 16 bits round once


def _normal(seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    check.normal(seeds, stream, shape, dtype)
    count = math.prod(shape)
    z = torch.empty((seeds.shape[0], *shape), dtype=dtype, device=seeds.device)
    z.view(seeds.shape[0], count).copy_(philox.normals(seeds, stream, count))
    return z


def _normal_fake(seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    check.normal(seeds, stream, shape, dtype)
    return torch.empty((seeds.shape[0], *shape), dtype=dtype, device=seeds.device)


def _add_noise(
    x0: Tensor, coef: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> tuple[Tensor, Tensor]:
    check.add_noise(x0, coef, noise, seeds, stream)
    z = _given_or_drawn(x0, noise, seeds, stream)
    assert z is not None  # checked above
    x_t, target = update.noised(x0, coef, z)
    return _stored(x_t, x0), _stored(target, x0)


def _add_noise_fake(
    x0: Tensor, coef: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> tuple[Tensor, Tensor]:
    check.add_noise(x0, coef, noise, seeds, stream)
    return torch.empty_like(x0), torch.empty_like(x0)


def _step(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> Tensor:
    check.step("step", x, outs, coef, clip, noise, seeds, stream)
    x_s, _ = update.moved(x, outs, coef, clip=clip, z=_given_or_drawn(x, noise, seeds, stream))
    return _stored(x_s, x)


def _step_fake(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> Tensor:
    check.step("step", x, outs, coef, clip, noise, seeds, stream)
    return torch.empty_like(x)


def _step_x0(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> tuple[Tensor, Tensor]:
    check.step("step_x0", x, outs, coef, clip, noise, seeds, stream)
    x_s, x0 = update.moved(x, outs, coef, clip=clip, z=_given_or_drawn(x, noise, seeds, stream))
    return _stored(x_s, x), _stored(x0, x)


def _step_x0_fake(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> tuple[Tensor, Tensor]:
    check.step("step_x0", x, outs, coef, clip, noise, seeds, stream)
    return torch.empty_like(x), torch.empty_like(x)


for _schema in _SCHEMAS:
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
for _name, _real, _fake in (
    ("normal", _normal, _normal_fake),
    ("add_noise", _add_noise, _add_noise_fake),
    ("step", _step, _step_fake),
    ("step_x0", _step_x0, _step_x0_fake),
):
    LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"latentdiff::{_name}", _fake, lib=LIBRARY)
