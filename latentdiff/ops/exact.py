"""float32 arithmetic with fixed rounding in float64 tensors: fma, log and sincos are bitwise the native ones.

Values are float32 numbers *held* in float64 tensors. There a product of two is exact, so one rounding to
float32 after a product, sum or square root gives what the float32 instruction gives (53 >= 2 * 24 + 2 bits).
"""

import torch
from torch import Tensor


def single(*values: float) -> tuple[float, ...]:
    """Round Python numbers to the nearest float32 values (infinite beyond the range)."""
    return tuple(torch.tensor(values, dtype=torch.float64).to(torch.float32).tolist())


# Minimax coefficients for log(1 + f) on [sqrt(1/2) - 1, sqrt(2) - 1], highest power first (Cephes logf).
_LOG = single(
    7.0376836292e-2,
    -1.1514610310e-1,
    1.1676998740e-1,
    -1.2420140846e-1,
    1.4249322787e-1,
    -1.6668057665e-1,
    2.0000714765e-1,
    -2.4999993993e-1,
    3.3333331174e-1,
)
_LN2_HIGH, _LN2_LOW = single(0.693359375, -2.12194440e-4)
# sin and cos on [-pi/4, pi/4] in powers of t^2, highest first (Cephes sinf, cosf), and 2 pi / 2^32.
_SIN = single(-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = single(2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
(_TURN,) = single(1.4629180792671596e-9)
_SQRT_HALF_BITS = 0x3F3504F3


def rounded(x: Tensor) -> Tensor:
    """Round a float64 tensor to float32 values, in place: fresh memory costs more than the arithmetic."""
    return x.copy_(x.float())


def fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Compute ``a * b + c`` of held values as the float32 instruction does, with one rounding; a and b
    broadcast to c.

    The float64 sum is rounded to odd, so that rounding it to float32 rounds the exact value (Boldo and
    Melquiond 2008, "Emulation of FMA and correctly rounded sums").
    """
    s = torch.addcmul(c, a, b)  # the product is exact, so this rounds once, contracted or not
    t = s - c  # Knuth's TwoSum: s + error = a b + c exactly
    error = s - t
    torch.sub(c, error, out=error)
    error.sub_(t.addcmul_(a, b, value=-1))
    # > 0: the exact value lies away from zero; NaN where s is not finite, which changes nothing below
    error.mul_(s)
    towards_zero = error < 0
    bits = s.view(torch.int64)
    bits.sub_(towards_zero.view(torch.uint8))  # truncate, then make every inexact value odd
    bits.bitwise_or_((error > 0).logical_or_(towards_zero))
    return rounded(s)


def _fma_known_(a: Tensor, b: Tensor | float, c: Tensor | float) -> Tensor:
    """``a * b + c`` in ``a``'s place, rounded to float64, then to float32: fma unless the first rounding
    makes a tie.

    For the polynomials below it never does: their argument takes 2^24 (log) and 1.2e8 (sincos) values, and
    all of them were compared with ``fmaf``. A test repeats this.
    """
    return rounded(a.mul_(b).add_(c))


def log(u: Tensor) -> Tensor:
    """Natural logarithm of ``u = k / 2^24``, k in 1..2^24, held in float64; below 0.7 ulp of float32 off."""
    bits = u.float().view(torch.int32)
    exponent = (bits - _SQRT_HALF_BITS) >> 23
    f = (bits - (exponent << 23)).view(torch.float32).double().sub_(1.0)
    e = exponent.double()
    z = rounded(f * f)
    p = f * _LOG[0]
    rounded(p.add_(_LOG[1]))
    for coefficient in _LOG[2:]:
        _fma_known_(p, f, coefficient)
    p = rounded(rounded(p.mul_(f)).mul_(z))
    p = rounded(p.add_(e, alpha=_LN2_LOW))
    p = rounded(p.add_(z, alpha=-0.5))
    return rounded(rounded(f.add_(p)).add_(e, alpha=_LN2_HIGH))


def sincos(k: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine of ``2 pi k / 2^32`` for int64 ``k`` in 0..2^32-1, in float64; error below 1.3e-7."""
    quarter = (
        k + (1 << 29)
    ) >> 30  # 0..4: the reduction is in integers, so no rounding precedes the polynomial
    t = rounded((k - (quarter << 30)).float().double().mul_(_TURN))
    z = rounded(t * t)
    sine = rounded((z * _SIN[0]).add_(_SIN[1]))
    sine = _fma_known_(sine, z, _SIN[2])
    sine = _fma_known_(sine, rounded(z * t), t)
    cosine = rounded((z * _COS[0]).add_(_COS[1]))
    cosine = _fma_known_(cosine, z, _COS[2])
    cosine = _fma_known_(cosine, rounded(z * z), rounded((z * -0.5).add_(1.0)))
    odd = (quarter & 1).bool()
    s, c = torch.where(odd, cosine, sine), torch.where(odd, sine, cosine)
    return s.mul_(1 - (quarter & 2)), c.mul_(1 - ((quarter + 1) & 2))
