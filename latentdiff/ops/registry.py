"""Schemas, fallback and fake implementations of the operations in ``torch.ops.latentdiff``.

The fallback is ``CompositeExplicitAutograd``: one opaque operation for compilers and autograd on every
device. A native kernel registered for a device wins the dispatch; nothing here or above depends on which one
runs.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from latentdiff.ops import check, fallback

LIBRARY = torch.library.Library("latentdiff", "DEF")  # keeps the registrations
_NOISING = "Tensor x0, Tensor coef, Tensor? noise, Tensor? seeds, Tensor? stream"
_STEP = "Tensor x, Tensor[] outs, Tensor coef, float? clip, Tensor? noise, Tensor? seeds, Tensor? stream"
_SCHEMAS = (
    "normal(Tensor seeds, Tensor stream, SymInt[] shape, ScalarType dtype) -> Tensor",
    f"add_noise({_NOISING}) -> (Tensor, Tensor)",
    f"step({_STEP}) -> Tensor",
    f"step_x0({_STEP}) -> (Tensor, Tensor)",
    # They return nothing rather than what they wrote, so that compilers can make them functional.
    "normal.out(Tensor seeds, Tensor stream, Tensor(a!) out) -> ()",
    f"add_noise.out({_NOISING}, Tensor(a!) x_t, Tensor(b!) target) -> ()",
    f"step.out({_STEP}, Tensor(a!) out) -> ()",
    f"step_x0.out({_STEP}, Tensor(a!) x_s, Tensor(b!) x0) -> ()",
)


def _normal_fake(seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    check.normal(seeds, stream, shape, dtype)
    return torch.empty((seeds.shape[0], *shape), dtype=dtype, device=seeds.device)


def _add_noise_fake(
    x0: Tensor, coef: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> tuple[Tensor, Tensor]:
    check.add_noise(x0, coef, noise, seeds, stream)
    return torch.empty_like(x0), torch.empty_like(x0)


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


def _out_fake(*arguments: object) -> None:
    """Writing into tensors makes none; what is written is checked when it runs."""


_OPERATIONS: tuple[tuple[str, Callable[..., object], Callable[..., object]], ...] = (
    ("normal", fallback.normal, _normal_fake),
    ("add_noise", fallback.add_noise, _add_noise_fake),
    ("step", fallback.step, _step_fake),
    ("step_x0", fallback.step_x0, _step_x0_fake),
    ("normal.out", fallback.normal_out, _out_fake),
    ("add_noise.out", fallback.add_noise_out, _out_fake),
    ("step.out", fallback.step_out, _out_fake),
    ("step_x0.out", fallback.step_x0_out, _out_fake),
)

for _schema in _SCHEMAS:
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
for _name, _real, _fake in _OPERATIONS:
    LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"latentdiff::{_name}", _fake, lib=LIBRARY)
    LIBRARY.impl(_name, _fake, "Meta")  # else the fallback would serve tensors without data
