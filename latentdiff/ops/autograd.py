"""Gradients of ``add_noise``, ``step`` and ``step_x0`` in differentiable operations: second ones too.

Gradients reach the samples, the network outputs and a given noise; coefficients and keys get none. The
gradient of the clip is 1 where ``|p x + sum q_i out_i| <= clip`` and 0 elsewhere, NaN included, as for
``torch.clamp``. A coefficient of 0 lets no gradient through, not even an infinite one: its term is left out
of the sums.
"""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentdiff.ops.registry import LIBRARY

Grad = Tensor | None


def _compute_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _columns(coef: Tensor, dtype: torch.dtype, ndim: int) -> tuple[Tensor, ...]:
    return coef.to(dtype).reshape(*coef.shape, *[1] * (ndim - 1)).unbind(1)


def _sum(*grads: Grad) -> Grad:
    there = [grad for grad in grads if grad is not None]
    return functools.reduce(torch.add, there) if there else None


def _times(coefficient: Tensor, grad: Grad) -> Grad:
    return None if grad is None else torch.where(coefficient == 0, 0.0, coefficient * grad)


def _to(grad: Grad, dtype: torch.dtype) -> Grad:
    return None if grad is None else grad.to(dtype)


def _add_noise_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x0, coef, *_ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(coef)
    ctx.dtype, ctx.ndim = x0.dtype, x0.dim()


def _add_noise_backward(ctx: Any, grad_x_t: Grad, grad_target: Grad) -> tuple[Grad, ...]:
    (coef,) = ctx.saved_tensors
    dtype = _compute_dtype(ctx.dtype)
    alpha, sigma, a, b = _columns(coef, dtype, ctx.ndim)
    g, h = _to(grad_x_t, dtype), _to(grad_target, dtype)
    grad_x0 = _sum(_times(alpha, g), _times(a, h)) if ctx.needs_input_grad[0] else None
    grad_noise = _sum(_times(sigma, g), _times(b, h)) if ctx.needs_input_grad[2] else None
    return _to(grad_x0, ctx.dtype), None, _to(grad_noise, ctx.dtype), None, None


def _step_setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, Tensor]) -> None:
    x, outs, coef, clip, *_ = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(coef, *((x, *outs) if clip is not None else ()))  # only the clip's mask needs them
    ctx.dtype, ctx.ndim, ctx.n, ctx.clip = x.dtype, x.dim(), len(outs), clip


def _inside(x: Tensor, outs: Sequence[Tensor], coef: Tensor, clip: float) -> Tensor:
    """Where the estimate, as the kernel computes it before any rounding to 16 bits, lies within the clip."""
    dtype = _compute_dtype(x.dtype)
    with torch.no_grad():
        wide = [out.to(dtype) for out in outs]
        _, x0 = torch.ops.latentdiff.step_x0(x.to(dtype), wide, coef, None, None, None, None)
        inside: Tensor = x0.abs() <= clip
    return inside


def _step_backward(ctx: Any, grad_x_s: Grad, grad_x0: Grad = None) -> tuple[Grad | list[Grad], ...]:
    coef, *saved = ctx.saved_tensors
    dtype = _compute_dtype(ctx.dtype)
    k, m, c, p, *weights = _columns(coef, dtype, ctx.ndim)
    q, r = weights[: ctx.n], weights[ctx.n :]
    g = _to(grad_x_s, dtype)
    h = _sum(_times(m, g), _to(grad_x0, dtype))
    if h is not None and ctx.clip is not None:
        h = torch.where(_inside(saved[0], saved[1:], coef, ctx.clip), h, 0.0)
    needs_x, needs_outs, _, _, needs_noise, *_ = ctx.needs_input_grad
    grad_x = _sum(_times(k, g), _times(p, h)) if needs_x else None
    grad_outs = [
        _to(_sum(_times(q[i], h), _times(r[i], g) if r else None), ctx.dtype) if needed else None
        for i, needed in enumerate(needs_outs)
    ]
    grad_noise = _times(c, g) if needs_noise else None
    return _to(grad_x, ctx.dtype), grad_outs, None, None, _to(grad_noise, ctx.dtype), None, None


torch.library.register_autograd(
    "latentdiff::add_noise", _add_noise_backward, setup_context=_add_noise_setup, lib=LIBRARY
)
for _name in ("step", "step_x0"):
    torch.library.register_autograd(
        f"latentdiff::{_name}", _step_backward, setup_context=_step_setup, lib=LIBRARY
    )
