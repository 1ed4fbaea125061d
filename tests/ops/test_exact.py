"""The float32 arithmetic that every implementation of the operations shares."""

import hashlib
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from latentdiff.ops import exact


def nearest_float32(value: Fraction) -> float:
    """Round an exact rational to float32, ties to even, with subnormals and overflow."""
    if value == 0:
        return 0.0
    exponent = math.frexp(float(abs(value)))[1] if abs(value) >= Fraction(2) ** -1000 else -1000
    while abs(value) >= Fraction(2) ** exponent:
        exponent += 1
    while abs(value) < Fraction(2) ** (exponent - 1):
        exponent -= 1
    quantum = Fraction(2) ** max(exponent - 24, -149)
    nearest = round(value / quantum) * quantum  # Fraction's round is half to even
    if abs(nearest) >= Fraction(2) ** 128:
        return math.copysign(math.inf, value)
    return math.copysign(float(nearest), value)


def bits(x: Tensor) -> Tensor:
    return x.float().contiguous().view(torch.int32)


def held_fma(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    return exact.fma(a.double(), b.double(), c.double())


def any_bits(n: int, g: torch.Generator) -> Tensor:
    values = torch.randint(-(1 << 31), 1 << 31, (n,), generator=g).to(torch.int32).view(torch.float32)
    return torch.where(values.isfinite(), values, 1.0)


def integers(n: int, size: int, g: torch.Generator, low: int, high: int) -> Tensor:
    """Odd ``size``-bit integers times powers of two in [2^low, 2^high): products and sums that land on
    ties.
    """
    mantissa = torch.randint(-(1 << (size - 1)), 1 << (size - 1), (n,), generator=g) * 2 + 1
    return torch.ldexp(mantissa.double(), torch.randint(low, high, (n,), generator=g)).float()


def triples() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    n, g = 400, torch.Generator().manual_seed(0)
    a, b = torch.randn(n, generator=g), torch.randn(n, generator=g)
    near = -(a.double() * b.double()).float()
    return {
        "ordinary": (a, b, torch.randn(n, generator=g)),
        "any bits": (any_bits(n, g), any_bits(n, g), any_bits(n, g)),
        "cancellation": (a, b, near),
        "near cancellation": (a, b, near * (1 + 2.0**-12)),
        "ties": (integers(n, 12, g, 0, 1), integers(n, 13, g, 0, 1), integers(n, 24, g, -2, 3)),
        "ties broken far below": (
            integers(n, 12, g, 0, 1),
            integers(n, 13, g, -9, 9),
            integers(n, 3, g, -120, -60),
        ),
        "subnormal results": (
            integers(n, 12, g, -75, -70),
            integers(n, 12, g, -90, -70),
            integers(n, 4, g, -149, -146),
        ),
        "overflow": (integers(n, 12, g, 55, 60), integers(n, 12, g, 44, 46), integers(n, 24, g, 95, 104)),
    }


@pytest.mark.parametrize("kind", triples())
def test_fma_rounds_the_exact_value_once(kind: str) -> None:
    a, b, c = triples()[kind]
    expected = [
        nearest_float32(Fraction(x) * Fraction(y) + Fraction(z))
        for x, y, z in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)
    ]
    assert torch.equal(held_fma(a, b, c), torch.tensor(expected, dtype=torch.float64))


def test_the_tie_cases_tell_fma_from_two_roundings_and_from_a_float64_sum() -> None:
    a, b, c = (torch.cat(parts) for parts in zip(*triples().values(), strict=True))
    fused = held_fma(a, b, c)
    assert (fused.float() != a * b + c).any()
    assert (fused.float() != (a.double() * b.double() + c.double()).float()).any()


def test_fma_of_zeros_infinities_and_nan() -> None:
    inf, nan = math.inf, math.nan
    cases = [
        (1.0, 1.0, -1.0, 0.0),
        (-0.0, 1.0, -0.0, -0.0),
        (0.0, -1.0, 0.0, 0.0),
        (inf, 1.0, 1.0, inf),
        (-inf, 1.0, 1.0, -inf),
        (1.0, 1.0, -inf, -inf),
        (-2.0, inf, 3.0, -inf),
        (inf, 0.0, 1.0, nan),
        (inf, 1.0, -inf, nan),
        (nan, 1.0, 1.0, nan),
        (1.0, 1.0, nan, nan),
        (1.5e38, 2.0, 1.5e38, inf),
        (-3e38, 3e38, 1.0, -inf),
    ]
    a, b, c, expected = (torch.tensor(column) for column in zip(*cases, strict=True))
    result = held_fma(a, b, c).float()
    assert torch.equal(result.isnan(), expected.isnan())
    finite = ~expected.isnan()
    assert torch.equal(bits(result)[finite], bits(expected)[finite])  # bits: -0.0 is not 0.0


def test_fma_broadcasts_coefficients_and_keeps_its_arguments() -> None:
    g = torch.Generator().manual_seed(1)
    a, b, c = (torch.randn(shape, generator=g) for shape in ((2, 1), (2, 5), (2, 5)))
    held = a.double(), b.double(), c.double()
    result = exact.fma(*held)
    assert torch.equal(result, held_fma(a.expand(2, 5).contiguous(), b, c))
    for before, after in zip((a, b, c), held, strict=True):
        assert torch.equal(before.double(), after)


def true_log(k: Tensor) -> Tensor:
    """``exact.log`` of k / 2^24 with the true fma at every step."""
    u = k.double() * 2.0**-24
    m, e = torch.frexp(u.float())
    low = m < torch.tensor(0x3F3504F3, dtype=torch.int32).view(torch.float32)
    f = torch.where(low, m * 2, m).double() - 1
    e = (e - low.int()).double()
    scalar = lambda value: torch.full_like(f, value)  # noqa: E731
    z = exact.rounded(f * f)
    p = scalar(exact._LOG[0])
    for coefficient in exact._LOG[1:]:
        p = exact.fma(p, f, scalar(coefficient))
    p = exact.rounded(exact.rounded(p * f) * z)
    p = exact.fma(e, scalar(exact._LN2_LOW), p)
    p = exact.fma(scalar(-0.5), z, p)
    return exact.fma(e, scalar(exact._LN2_HIGH), exact.rounded(f + p))


def true_sincos_core(k: Tensor) -> tuple[Tensor, Tensor]:
    """``exact.sincos`` of angles in [-pi/4, pi/4) (k wraps at 2^32) with the true fma at every step."""
    r = torch.where(k >= 1 << 31, k - (1 << 32), k).float().double()
    t = exact.rounded(r * exact._TURN)
    scalar = lambda value: torch.full_like(t, value)  # noqa: E731
    z = exact.rounded(t * t)
    s = exact.fma(exact.fma(scalar(exact._SIN[0]), z, scalar(exact._SIN[1])), z, scalar(exact._SIN[2]))
    s = exact.fma(s, exact.rounded(z * t), t)
    c = exact.fma(exact.fma(scalar(exact._COS[0]), z, scalar(exact._COS[1])), z, scalar(exact._COS[2]))
    return s, exact.fma(c, exact.rounded(z * z), exact.fma(scalar(-0.5), z, scalar(1.0)))


def check_log(k: Tensor) -> None:
    assert torch.equal(exact.log(k.double() * 2.0**-24), true_log(k))


def check_sincos(k: Tensor) -> None:
    for value, expected in zip(exact.sincos(k), true_sincos_core(k), strict=True):
        assert torch.equal(value, expected)


def test_log_is_that_of_true_fma_and_within_a_unit_in_the_last_place() -> None:
    k = torch.cat([torch.arange(1, 4096), torch.arange(4096, (1 << 24) + 1, 257), torch.tensor([1 << 24])])
    check_log(k)
    reference = torch.log(k.double() / 2**24)
    ulp = torch.ldexp(torch.ones(len(k), dtype=torch.float64), torch.frexp(reference)[1] - 24)
    assert ((exact.log(k.double() * 2.0**-24) - reference).abs() <= ulp).all()
    assert exact.log(torch.ones(1, dtype=torch.float64)).item() == 0.0


def test_sincos_is_that_of_true_fma_and_close_in_every_quadrant() -> None:
    r = torch.arange(-(1 << 29), 1 << 29, 4099)
    check_sincos(r % (1 << 32))
    k = torch.cat([torch.arange(0, 1 << 32, 65521), torch.arange(8) << 29, (torch.arange(1, 9) << 29) - 1])
    s, c = exact.sincos(k)
    angle = k.double() * (2 * math.pi / 2**32)
    assert (s - angle.sin()).abs().max() < 1.3e-7
    assert (c - angle.cos()).abs().max() < 1.3e-7


def test_sincos_at_the_axes_is_exact() -> None:
    s, c = exact.sincos(torch.arange(4) << 30)
    assert s.tolist() == [0.0, 1.0, 0.0, -1.0]
    assert c.tolist() == [1.0, 0.0, -1.0, 0.0]


def test_golden_hashes_of_log_and_sincos() -> None:
    """Many values, because a coefficient that is wrong in its last bit shows in one logarithm out of 1e5.

    The constants were computed by a scalar C++ program (fmaf, g++ -O0 and -O2 -mfma), not by this package.
    """
    results = (
        exact.log(torch.arange(1, (1 << 24) + 1, 5).double() * 2.0**-24),
        *exact.sincos(torch.arange(0, 1 << 32, 4099)),
    )
    assert [
        hashlib.sha256(result.float().numpy().astype("<f4").tobytes()).hexdigest() for result in results
    ] == [
        "cf9431168b5c41ebc6dfb47b30d2b04d94f6dbd0c115f1d717a71b2a0535ef8a",
        "cc189440b99b7f0f0fa3cf564ec891e535e68e5d5ea57a44fd8497dd7cf1c831",
        "17d98f0a34ac0d07c6f7572ed3adba23b897e4cf488f7bf08f1cbc57f1468e00",
    ]


@pytest.mark.slow
def test_log_is_that_of_true_fma_everywhere() -> None:
    for k in torch.arange(1, (1 << 24) + 1).split(1 << 15):
        check_log(k)


@pytest.mark.slow
@pytest.mark.parametrize("octave", range(6))
def test_sincos_is_that_of_true_fma_everywhere(octave: int) -> None:
    """The angle is rounded to float32 first, so these are all that differ, up to quadrant and sign (roundings
    are odd).
    """
    first, step = (1 << (23 + octave), 1 << octave) if octave else (0, 1)
    for start in range(first, 1 << (24 + octave), step << 15):
        check_sincos(torch.arange(start, start + (step << 15), step))


def test_single_rounds_to_float32_and_overflows_to_infinity() -> None:
    assert exact.single(0.1, 1e39, -1e39) == (float(torch.tensor(0.1)), math.inf, -math.inf)
