"""The fused operations: noise, noising and one reverse step, each a single ``torch.ops.latentdiff``
operation.

float32 results are equal to the last bit whatever implementation, device, stride, batch split or thread count
computes them. 16-bit tensors compute in float32 and round once at the store; float64 tensors compute in
float64.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.ops import (
    autograd,  # noqa: F401  registers the operations and their gradients
    native,
    vmap,  # noqa: F401
)

__all__ = [
    "NATIVE",
    "ON_CUDA",
    "ada_norm",
    "add_ada_norm",
    "add_noise",
    "group_norm",
    "implementation",
    "lookup",
    "normal",
    "step",
    "step_x0",
]

NATIVE = native.load()
ON_CUDA: bool = NATIVE.build.get("cuda") is not None  # native kernels for CUDA tensors
# Looked up once: at small latents a call costs microseconds.
_NORMAL, _ADD_NOISE, _STEP, _STEP_X0 = (
    getattr(torch.ops.latentdiff, name).default for name in ("normal", "add_noise", "step", "step_x0")
)


def normal(
    seeds: Tensor,
    stream: Tensor,
    shape: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Draw standard normals [B, *shape] that depend on (seed, stream, element) alone, on the device of
    ``seeds``.

    ``seeds``: int64 [B]; ``stream``: int64 [] or [B]. ``dtype`` (default: that of ``out``, else float32):
    other normals are the float32 one converted. Element i of a sample, in row-major order, is word i % 4 of
    block i // 4: Philox4x32-10 (Salmon et al. 2011) with the block and the stream as counter and the seed as
    key, then Box and Muller's transform. ``out`` [B, *shape] is written instead of a new tensor.
    """
    if out is not None:
        if list(out.shape) != [*seeds.shape, *shape]:
            raise ValueError(f"normal: expected out of shape {[*seeds.shape, *shape]}, got {list(out.shape)}")
        if dtype not in (None, out.dtype):
            raise TypeError(f"normal: expected out of dtype {dtype}, got {out.dtype}")
        torch.ops.latentdiff.normal.out(seeds, stream, out)
        return out
    z: Tensor = _NORMAL(seeds, stream, list(shape), dtype or torch.float32)
    return z


def add_noise(
    x0: Tensor,
    coef: Tensor,
    *,
    noise: Tensor | None = None,
    seeds: Tensor | None = None,
    stream: Tensor | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``x_t = alpha x0 + sigma z`` and the training target ``a x0 + b z`` from one pass.

    ``x0``: [B, ...]; ``coef``: float32 or float64 [1 or B, 4] with columns (alpha, sigma, a, b). z is
    ``noise``, shaped and typed as x0, or drawn from ``seeds`` and ``stream`` as :func:`normal` does; exactly
    one of the two is required. A term whose coefficient is 0 is left out, even where its tensor is infinite
    or NaN. ``out`` = (x_t, target) are written instead of new tensors; one of them may be x0 itself or the
    noise (in place). Raises ValueError or TypeError with what was expected and found.
    """
    if out is not None:
        _refuse_gradients("add_noise", x0, noise, *out)
        torch.ops.latentdiff.add_noise.out(x0, coef, noise, seeds, stream, *out)
        return out
    x_t_and_target: tuple[Tensor, Tensor] = _ADD_NOISE(x0, coef, noise, seeds, stream)
    return x_t_and_target


def step(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    *,
    clip: float | None = None,
    noise: Tensor | None = None,
    seeds: Tensor | None = None,
    stream: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Return ``x_s = k x + sum r_i out_i + m x0 + c z`` with ``x0 = clip(p x + sum q_i out_i)`` from one
    pass.

    ``x``: [B, ...]; ``outs``: one to four network outputs like x; ``coef``: float32 or float64 [1 or B, K]
    with columns (k, m, c, p, q_1..q_n) or (k, m, c, p, q_1..q_n, r_1..r_n). x0 is clipped to [-clip, clip];
    NaN stays NaN. z is ``noise``, shaped and typed as x, or drawn from ``seeds`` and ``stream`` as
    :func:`normal` does; with neither the term c z is left out; so is every term whose coefficient is 0, even
    where its tensor is infinite or NaN. ``out`` is written instead of a new tensor; it may be x (in place),
    one of outs or the noise. Coefficients and keys get no gradient. Raises ValueError or TypeError with what
    was expected and found.
    """
    if out is not None:
        _refuse_gradients("step", x, noise, *outs, out)
        torch.ops.latentdiff.step.out(x, _several(outs), coef, clip, noise, seeds, stream, out)
        return out
    x_s: Tensor = _STEP(x, _several(outs), coef, clip, noise, seeds, stream)
    return x_s


def step_x0(
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    *,
    clip: float | None = None,
    noise: Tensor | None = None,
    seeds: Tensor | None = None,
    stream: Tensor | None = None,
    out: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return ``(x_s, x0)`` of :func:`step` from one pass; same arguments and errors, ``out`` = (x_s, x0)."""
    if out is not None:
        _refuse_gradients("step_x0", x, noise, *outs, *out)
        torch.ops.latentdiff.step_x0.out(x, _several(outs), coef, clip, noise, seeds, stream, *out)
        return out
    x_s_and_x0: tuple[Tensor, Tensor] = _STEP_X0(x, _several(outs), coef, clip, noise, seeds, stream)
    return x_s_and_x0


def ada_norm(
    h: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None = None, *, dtype: torch.dtype
) -> Tensor:
    """Return the layer norm of ``h``, without weights of its own, times ``factor`` plus ``shift``, from one
    pass: adaptive layer norm (Peebles and Xie 2023, section 3.2, where factor is 1 + scale).

    ``h``: float32 [B, ..., D]; ``factor``, ``shift``: float32 [U, D]; ``rows``: int64 [B], which of them each
    sample has (None: its own, U = B). The result has the shape of h and the ``dtype``, float32, float16 or
    bfloat16. No gradient. Raises ValueError or TypeError with what was expected and found.
    """
    y: Tensor = torch.ops.latentdiff.ada_norm(h, factor, shift, rows, dtype)
    return y


def add_ada_norm(
    h: Tensor, branch: Tensor, gate: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return ``h + gate branch`` and its :func:`ada_norm` in the dtype of ``branch``, from one pass.

    ``branch``: the output of a block, shaped as h, float32, float16 or bfloat16; ``gate``: float32 [U, D].
    """
    summed_and_y: tuple[Tensor, Tensor] = torch.ops.latentdiff.add_ada_norm(
        h, branch, gate, factor, shift, rows
    )
    return summed_and_y


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor, *, eps: float = 1e-5) -> Tensor:
    """Return the group normalization (Wu and He 2018) of ``x``: float32 within, without copies of it.

    ``x``: bfloat16 [B, C, H, W]; ``weight``, ``bias``: float32 [C]. The result is like x, channels last. No
    gradient. Raises ValueError or TypeError with what was expected and found.
    """
    y: Tensor = torch.ops.latentdiff.group_norm(x, groups, weight, bias, eps)
    return y


def lookup(x: Tensor, table: Tensor) -> Tensor:
    """Return ``table[bits of x]``: any function of 16-bit numbers, by its value for each of them.

    ``x``: float16 or bfloat16, any shape; ``table`` [65536] of the same dtype: entry i for the number whose
    bits are i, as an unsigned integer. Memory format is kept. No gradient. Raises ValueError or TypeError
    with what was expected and found.
    """
    found: Tensor = torch.ops.latentdiff.lookup(x, table)
    return found


def implementation() -> str:
    """Name the kernels that serve CPU and CUDA tensors: "fallback" (PyTorch) or "native", or one a device."""
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    cpu, cuda = ("native" if has("latentdiff::step", key) else "fallback" for key in ("CPU", "CUDA"))
    return cpu if cpu == cuda else f"cpu {cpu}, cuda {cuda}"


def _refuse_gradients(op: str, *tensors: Tensor | None) -> None:
    if torch.is_grad_enabled() and any(tensor is not None and tensor.requires_grad for tensor in tensors):
        raise ValueError(
            f"{op}: expected no tensor that requires a gradient with out=, got one (use torch.no_grad())"
        )


def _several(outs: Sequence[Tensor] | Tensor) -> Sequence[Tensor]:
    if isinstance(outs, Tensor):  # a tensor is a sequence of its rows: never what was meant
        raise TypeError(
            f"expected outs as a list or tuple of tensors, got one tensor of shape {list(outs.shape)}"
        )
    return outs
