"""Schemas, fallback and fake implementations of the operations in ``torch.ops.latentdiff``.

The fallback is ``CompositeExplicitAutograd``: one opaque operation for compilers and autograd on every
device. A native kernel registered for a device wins the dispatch; nothing here depends on which one runs.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentdiff.ops import check, fallback

LIBRARY = torch.library.Library("latentdiff", "DEF")  # keeps the registrations
_NOISING = "Tensor x0, Tensor coef, Tensor? noise, Tensor? seeds, Tensor? stream"
_STEP = "Tensor x, Tensor[] outs, Tensor coef, float? clip, Tensor? noise, Tensor? seeds, Tensor? stream"
_ADDING = "Tensor h, Tensor branch, Tensor gate, Tensor factor, Tensor shift, Tensor? rows"
_SCHEMAS = (
    "normal(Tensor seeds, Tensor stream, SymInt[] shape, ScalarType dtype) -> Tensor",
    f"add_noise({_NOISING}) -> (Tensor, Tensor)",
    f"step({_STEP}) -> Tensor",
    f"step_x0({_STEP}) -> (Tensor, Tensor)",
    "ada_norm(Tensor h, Tensor factor, Tensor shift, Tensor? rows, ScalarType dtype) -> Tensor",
    f"add_ada_norm({_ADDING}) -> (Tensor, Tensor)",
    "group_norm(Tensor x, int groups, Tensor weight, Tensor bias, float eps) -> Tensor",
    "lookup(Tensor x, Tensor table) -> Tensor",
    # They return nothing rather than what they wrote, so that compilers can make them functional.
    "normal.out(Tensor seeds, Tensor stream, Tensor(a!) out) -> ()",
    f"add_noise.out({_NOISING}, Tensor(a!) x_t, Tensor(b!) target) -> ()",
    f"step.out({_STEP}, Tensor(a!) out) -> ()",
    f"step_x0.out({_STEP}, Tensor(a!) x_s, Tensor(b!) x0) -> ()",
)


def _normal_fake(seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    check.normal(seeds, stream, shape, dtype)
    return torch.empty((seeds.shape[0], *shape), dtype=dtype, device=seeds.device)


def _ada_norm_fake(
    h: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None, dtype: torch.dtype
) -> Tensor:
    check.ada_norm("ada_norm", h, factor, shift, rows, dtype)
    return torch.empty(h.shape, dtype=dtype, device=h.device)


def _add_ada_norm_fake(h: Tensor, branch: Tensor, *conditions: Any) -> tuple[Tensor, Tensor]:
    check.add_ada_norm(h, branch, *conditions)
    return torch.empty(h.shape, device=h.device), torch.empty(h.shape, dtype=branch.dtype, device=h.device)


def _group_norm_fake(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    check.group_norm(x, groups, weight, bias)
    return torch.empty_like(x, memory_format=torch.channels_last)


def _made_like(checked: Callable[..., None], results: int) -> Callable[..., object]:
    """Checks the arguments and returns tensors like the first of them: one, or a tuple."""

    def fake(like: Tensor, *others: Any) -> object:
        checked(like, *others)
        made = tuple(torch.empty_like(like) for _ in range(results))
        return made if results > 1 else made[0]

    return fake


def _writing(function: Callable[..., object], op: str, like: str, *names: str) -> Callable[..., None]:
    """``function`` of all arguments but the last, ``names``, which get its results; ``like``: the first."""

    def write(*arguments: Any) -> None:
        inputs, outs = arguments[: -len(names)], arguments[-len(names) :]
        made = function(*inputs)
        check.written(op, names, outs, like, inputs[0])
        for out, values in zip(outs, made if isinstance(made, tuple) else (made,), strict=True):
            out.copy_(values)

    return write


def _out_fake(*arguments: object) -> None:
    """Writing into tensors makes none; what is written is checked when it runs."""


_OPERATIONS: tuple[tuple[str, Callable[..., object], Callable[..., object]], ...] = (
    ("normal", fallback.normal, _normal_fake),
    ("add_noise", fallback.add_noise, _made_like(check.add_noise, 2)),
    ("step", fallback.step, _made_like(partial(check.step, "step"), 1)),
    ("step_x0", fallback.step_x0, _made_like(partial(check.step, "step_x0"), 2)),
    ("ada_norm", fallback.ada_norm, _ada_norm_fake),
    ("add_ada_norm", fallback.add_ada_norm, _add_ada_norm_fake),
    ("group_norm", fallback.group_norm, _group_norm_fake),
    ("lookup", fallback.lookup, _made_like(check.lookup, 1)),
    ("normal.out", fallback.normal_out, _out_fake),
    ("add_noise.out", _writing(fallback.add_noise, "add_noise", "x0", "x_t", "target"), _out_fake),
    ("step.out", _writing(fallback.step, "step", "x", "out"), _out_fake),
    ("step_x0.out", _writing(fallback.step_x0, "step_x0", "x", "x_s", "x0"), _out_fake),
)

for _schema in _SCHEMAS:
    LIBRARY.define(_schema, tags=(torch.Tag.pt2_compliant_tag,))
for _name, _real, _fake in _OPERATIONS:
    LIBRARY.impl(_name, _real, "CompositeExplicitAutograd")
    torch.library.register_fake(f"latentdiff::{_name}", _fake, lib=LIBRARY)
    LIBRARY.impl(_name, _fake, "Meta")  # else the fallback would serve tensors without data
