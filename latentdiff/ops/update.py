"""Noising and a reverse step, in one fixed order of roundings (the naive twin of the kernels)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.ops import exact


@dataclass(frozen=True)
class Arithmetic:
    """Held values in float64: rounded to float32 after every operation (``single``), or plain float64.

    A term whose coefficient is 0 is left out: an infinity or NaN that it would have met does not make it NaN.
    """

    single: bool

    @classmethod
    def of(cls, dtype: torch.dtype) -> "Arithmetic":
        """float64 tensors compute in float64, all others in float32."""
        return cls(single=dtype != torch.float64)

    def load(self, x: Tensor) -> Tensor:
        """Take a tensor into held form, rounded once to the compute dtype."""
        return x.float().double() if self.single else x.double()

    def scalar(self, value: float) -> float:
        """Round a Python number to the compute dtype."""
        return exact.single(value)[0] if self.single else value

    def columns(self, coef: Tensor, ndim: int) -> tuple[Tensor, ...]:
        """Split coefficients [rows, K] into K held tensors that broadcast against ``ndim`` dimensions."""
        return self.load(coef).view(*coef.shape, *[1] * (ndim - 1)).unbind(1)

    def mul(self, a: Tensor, b: Tensor) -> Tensor:
        """a b for a coefficient a."""
        b = _kept(a, b)
        return exact.rounded(a * b) if self.single else a * b

    def fma(self, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        """a b + c for a coefficient a: one rounding in float32, plain product and sum in float64."""
        b = _kept(a, b)
        return exact.fma(a, b, c) if self.single else a * b + c


def _kept(a: Tensor, b: Tensor) -> Tensor:
    """b, and a zero of its sign where the coefficient a is 0: a product of finite numbers keeps its bits."""
    return torch.where(a == 0, torch.copysign(b.new_zeros(()), b), b)


def noised(x0: Tensor, coef: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Compute ``alpha x0 + sigma z`` and ``a x0 + b z``, held; coef columns are (alpha, sigma, a, b)."""
    real = Arithmetic.of(x0.dtype)
    alpha, sigma, a, b = real.columns(coef, x0.dim())
    x0, z = real.load(x0), real.load(z)
    return real.fma(sigma, z, real.mul(alpha, x0)), real.fma(b, z, real.mul(a, x0))


def moved(
    x: Tensor, outs: Sequence[Tensor], coef: Tensor, *, clip: float | None, z: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Compute ``x_s = k x + sum r_i out_i + m x0 + c z`` and ``x0 = clip(p x + sum q_i out_i)``, held.

    coef columns are (k, m, c, p, q_1..q_n) or (k, m, c, p, q_1..q_n, r_1..r_n). NaN passes through the clip.
    """
    real = Arithmetic.of(x.dtype)
    k, m, c, p, *weights = real.columns(coef, x.dim())
    q, r = weights[: len(outs)], weights[len(outs) :]
    x, outs = real.load(x), [real.load(out) for out in outs]
    x0 = real.mul(p, x)
    for weight, out in zip(q, outs, strict=True):
        x0 = real.fma(weight, out, x0)
    if clip is not None:
        x0 = x0.clamp(-real.scalar(clip), real.scalar(clip))
    y = real.mul(k, x)
    if r:
        for weight, out in zip(r, outs, strict=True):
            y = real.fma(weight, out, y)
    y = real.fma(m, x0, y)
    return (y if z is None else real.fma(c, real.load(z), y)), x0
