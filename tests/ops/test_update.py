"""Noising and the reverse step: values, roundings, layouts and refusals."""

import hashlib
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.ops import exact

Draw = Callable[..., Tensor]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture
def draw() -> Draw:
    g = torch.Generator().manual_seed(0)
    return lambda *shape, dtype=torch.float32: torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


def key(b: int, stream: int = 9) -> dict[str, Tensor]:
    return {"seeds": torch.arange(b) + 3, "stream": torch.tensor(stream)}


def fma(a: float, b: float, c: float) -> float:
    held = (torch.tensor([value], dtype=torch.float64) for value in (a, b, c))
    return exact.fma(*held).item()


def mul(a: float, b: float) -> float:
    return float(np.float32(a) * np.float32(b))


def step_loop(
    x: Tensor, outs: Sequence[Tensor], coef: Tensor, clip: float | None, z: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The naive twin in float32: one element, one coefficient, one operation at a time."""
    n, x_s, x0s = len(outs), [], []
    for b in range(x.shape[0]):
        k, m, c, p, *weights = coef.float()[b % coef.shape[0]].tolist()
        for i in np.ndindex(*x.shape[1:]):
            x0 = mul(p, x[b, *i].item())
            for q, out in zip(weights[:n], outs, strict=True):
                x0 = fma(q, out[b, *i].item(), x0)
            if clip is not None:
                x0 = min(max(x0, -float(np.float32(clip))), float(np.float32(clip)))
            y = mul(k, x[b, *i].item())
            for r, out in zip(weights[n:], outs if weights[n:] else (), strict=True):
                y = fma(r, out[b, *i].item(), y)
            y = fma(m, x0, y)
            x_s.append(y if z is None else fma(c, z[b, *i].item(), y))
            x0s.append(x0)
    return tuple(torch.tensor(v, dtype=torch.float64).float().view(x.shape) for v in (x_s, x0s))


@pytest.mark.parametrize("clip", [None, 0.7])
@pytest.mark.parametrize("with_r", [False, True])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_step_is_its_loop_bit_for_bit(
    draw: Draw, n: int, rows: int, with_r: bool, clip: float | None
) -> None:
    x, outs = draw(3, 2, 4), [draw(3, 2, 4) for _ in range(n)]
    coef = draw(
        rows, 4 + n * (1 + with_r), dtype=torch.float64
    )  # float64 coefficients are cast once, to float32
    drawn = ops.normal(**key(3), shape=(2, 4))
    for given, z in (({}, None), (key(3), drawn), ({"noise": drawn}, drawn)):
        x_s, x0 = ops.step_x0(x, outs, coef, clip=clip, **given)
        expected = step_loop(x, outs, coef, clip, z)
        assert torch.equal(x_s, expected[0])
        assert torch.equal(x0, expected[1])
        assert torch.equal(ops.step(x, outs, coef, clip=clip, **given), x_s)


@pytest.mark.parametrize("rows", [1, 3])
def test_add_noise_is_its_loop_bit_for_bit(draw: Draw, rows: int) -> None:
    x0, coef = draw(3, 5), draw(rows, 4, dtype=torch.float64)
    z = ops.normal(**key(3), shape=(5,))
    x_t, target = ops.add_noise(x0, coef, **key(3))
    for b, i in np.ndindex(3, 5):
        alpha, sigma, a, b_ = coef.float()[b % rows].tolist()
        assert x_t[b, i].item() == fma(sigma, z[b, i].item(), mul(alpha, x0[b, i].item()))
        assert target[b, i].item() == fma(b_, z[b, i].item(), mul(a, x0[b, i].item()))
    assert all(map(torch.equal, ops.add_noise(x0, coef, noise=z), (x_t, target)))


def test_updates_round_the_exact_value_once() -> None:
    """(1 + 2^-12)^2 lies between two float32 numbers; 2^-80 decides, and both float32 and float64 sums lose
    it.
    """
    e = 1 + 2.0**-12
    up, tiny = 1 + 2.0**-11 + 2.0**-23, torch.tensor([[2.0**-80]])
    factor = torch.tensor([[e]])
    x_t, target = ops.add_noise(tiny, torch.tensor([[1.0, e, -1.0, -e]]), noise=factor)
    assert (x_t.item(), target.item()) == (up, -up)
    estimate = torch.tensor([[0.0, 1.0, 0.0, 1.0, e]])  # x0 = x + e out, and x_s = x0
    assert [result.item() for result in ops.step_x0(tiny, [factor], estimate)] == [up, up]
    direction = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, e]])  # x_s = x + e out
    assert ops.step(tiny, [factor], direction).item() == up
    noise = torch.tensor([[1.0, 0.0, e, 0.0, 0.0]])  # x_s = x + e z
    assert ops.step(tiny, [torch.zeros_like(tiny)], noise, noise=factor).item() == up


def test_golden_hashes_of_step_and_add_noise(implementation: Any) -> None:
    """Any implementation on any device must give these bits.

    The constants were computed by a scalar C++ program (fmaf, g++ -O0 and -O2 -mfma), not by this package.
    """
    to = implementation.device
    keys = torch.tensor([0, 42, -1, 2**40 + 17], device=to), torch.tensor(1 << 56 | 3 << 32 | 999, device=to)
    x, first, second = (
        implementation.normal(keys[0], torch.tensor(stream, device=to), (1003,), torch.float32)
        for stream in (1, 2, 3)
    )
    coef = torch.tensor([[0.913, 0.274, 0.157, 1.031, -0.412, 0.229, 0.051, -0.033]], device=to)
    noising = torch.tensor([[0.913, 0.274, -0.412, 1.031]], device=to)
    results = (
        *implementation.step_x0(x, [first, second], coef, 1.0, None, *keys),
        *implementation.add_noise(x, noising, None, *keys),
    )
    assert [
        hashlib.sha256(result.cpu().numpy().astype("<f4").tobytes()).hexdigest() for result in results
    ] == [
        "71533b7fdd88a47366663544867e9ed7f5b13c59015b4783f73d94db500d7cd8",
        "3131eec775d8e01cf2166807d9b7d7b30a45f4e177e4c95bb0d3a6111a1a3bf0",
        "7a3229d5811b72d9ff6f59cb9a2abfb7a6aa4efc8ac4c17e9b8668da60ed5637",
        "fef99be70344e6262e841b5a4b2551501b46c33fc33004a7d04171e7fe61653d",
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_sixteen_bits_compute_in_float32_and_round_once(draw: Draw, dtype: torch.dtype) -> None:
    x, out, coef = draw(4, 300, dtype=dtype), draw(4, 300, dtype=dtype), draw(1, 6)
    for result, wide in zip(
        (*ops.step_x0(x, [out], coef, clip=1.0, **key(4)), *ops.add_noise(x, coef[:, :4], **key(4))),
        (
            *ops.step_x0(x.float(), [out.float()], coef, clip=1.0, **key(4)),
            *ops.add_noise(x.float(), coef[:, :4], **key(4)),
        ),
        strict=True,
    ):
        assert result.dtype == dtype
        assert torch.equal(result, wide.to(dtype))


def test_float64_computes_in_float64_with_the_float32_normal(draw: Draw) -> None:
    x, out, coef = (draw(*shape, dtype=torch.float64) for shape in ((3, 40), (3, 40), (3, 6)))
    z = ops.normal(**key(3), shape=(40,)).double()
    k, m, c, p, q, r = coef.unsqueeze(2).unbind(1)
    estimate = p * x + q * out
    x_s, x0 = ops.step_x0(x, [out], coef, **key(3))
    torch.testing.assert_close(x0, estimate, rtol=1e-15, atol=1e-15)
    torch.testing.assert_close(x_s, k * x + r * out + m * estimate + c * z, rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(
        ops.add_noise(x, coef[:, :4], **key(3))[0], k * x + m * z, rtol=1e-15, atol=1e-15
    )
    clipped = ops.step_x0(x, [out], coef, clip=0.1)[1]
    assert clipped.abs().max().item() == 0.1  # not float32's 0.1


def test_clip_keeps_nan_and_bounds_infinity() -> None:
    out = torch.tensor([[math.nan, math.inf, -math.inf, 0.25, -7.0]])
    coef = torch.tensor([[0.0, 1.0, 0.0, 0.0, 1.0]])
    for result in ops.step_x0(torch.zeros(1, 5), [out], coef, clip=0.5):
        assert result[0, 0].isnan()
        assert result[0, 1:].tolist() == [0.5, -0.5, 0.25, -0.5]


SPOILED = torch.tensor([math.inf, -math.inf, math.nan, 0.5, -3.0])
PLAIN = torch.tensor([0.25, -0.75, 1.5, 0.5, -3.0])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 5), (3, 45), (2, 4, 5, 1)], ids=str)
def test_a_term_whose_coefficient_is_zero_is_left_out(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Not 0 inf = NaN: an infinity that a sum does not read has no part in it; with the same bits for finite
    numbers.
    """
    plain, spoiled = (
        values.repeat(math.prod(shape) // 5).reshape(shape).to(dtype) for values in (PLAIN, SPOILED)
    )
    coef = torch.linspace(0.3, 1.1, 8, dtype=torch.float64).repeat(shape[0], 1)
    columns = {"x": (0, 3), "first": (4, 6), "second": (5, 7), "noise": (2,)}
    for name, zero in itertools.product(columns, (0.0, -0.0)):
        row = coef.clone()
        row[:, columns[name]] = zero
        given = dict.fromkeys(columns, plain)
        expected = ops.step_x0(
            given["x"], [given["first"], given["second"]], row, clip=0.9, noise=given["noise"]
        )
        given[name] = spoiled
        found = ops.step_x0(
            given["x"], [given["first"], given["second"]], row, clip=0.9, noise=given["noise"]
        )
        assert all(map(torch.equal, found, expected)), name
    row = coef.clone()
    row[:, 1] = 0.0  # an estimate that is NaN or infinite and not used
    expected = ops.step(plain, [plain, plain], row)
    row[:, 3:6] = math.nan
    assert torch.equal(ops.step(plain, [plain, plain], row), expected)
    noising = coef[:, :4].clone()
    noising[:, 2] = 0.0  # target = b z
    assert torch.equal(*(ops.add_noise(x0, noising, noise=plain)[1] for x0 in (plain, spoiled)))
    noising[:, 1] = 0.0  # x_t = alpha x0
    assert torch.equal(*(ops.add_noise(plain, noising, noise=z)[0] for z in (plain, spoiled)))


def layouts() -> dict[str, Callable[[Tensor], Tensor]]:
    def sliced(x: Tensor) -> Tensor:
        wide = torch.zeros(x.shape[0], 2 * x.shape[1], x.shape[2], x.shape[3] + 3, dtype=x.dtype)
        wide[:, ::2, :, 2:-1] = x
        return wide[:, ::2, :, 2:-1]

    return {
        "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
        "transposed": lambda x: x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0),
        "sliced": sliced,
    }


@pytest.mark.parametrize("layout", layouts())
def test_layouts_change_no_bit_and_dense_ones_are_kept(draw: Draw, layout: str) -> None:
    x, out, coef = draw(2, 3, 4, 5), draw(2, 3, 4, 5), draw(2, 6)
    arrange = layouts()[layout]
    placed = arrange(x)
    assert not placed.is_contiguous()
    expected = (*ops.step_x0(x, [out], coef, **key(2)), *ops.add_noise(x, coef[:, :4], **key(2)))
    for other in (out, arrange(out)):
        results = (
            *ops.step_x0(placed, [other], coef, **key(2)),
            *ops.add_noise(placed, coef[:, :4], **key(2)),
        )
        for result, value in zip(results, expected, strict=True):
            assert torch.equal(result, value)
            assert result.stride() == torch.empty_like(placed).stride()


def test_expanded_samples_and_samples_without_dimensions(draw: Draw) -> None:
    x, coef = draw(1, 1, 5), draw(1, 5)
    wide = x.expand(3, 2, 5)
    assert torch.equal(
        ops.step(wide, [wide], coef, **key(3)),
        ops.step(wide.contiguous(), [wide.contiguous()], coef, **key(3)),
    )
    scalars = draw(3)
    assert torch.equal(
        ops.step(scalars, [scalars], coef, **key(3)),
        ops.step(scalars[:, None], [scalars[:, None]], coef, **key(3))[:, 0],
    )


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (3, 2, 0)])
def test_empty_tensors(shape: tuple[int, ...]) -> None:
    x = torch.zeros(shape)
    for coef in (torch.zeros(1, 5), torch.zeros(shape[0], 5)):
        assert ops.step(x, [x], coef, clip=1.0, **key(shape[0])).shape == shape
        assert ops.add_noise(x, coef[:, :4], **key(shape[0]))[1].shape == shape


def test_batches_split_without_changing_a_bit(draw: Draw) -> None:
    x, out, coef = draw(5, 7), draw(5, 7), draw(5, 6)
    whole = ops.step(x, [out], coef, **key(5))
    given = key(5)
    for i in range(5):
        part = slice(i, i + 1)
        alone = ops.step(x[part], [out[part]], coef[part], seeds=given["seeds"][part], stream=given["stream"])
        assert torch.equal(alone, whole[part])


def test_results_are_new_and_arguments_stay(draw: Draw) -> None:
    for dtype in DTYPES:
        tensors = [draw(2, 3, dtype=dtype) for _ in range(3)]
        before = [tensor.clone() for tensor in tensors]
        x, out, noise = tensors
        coef = torch.tensor(
            [[1.0, 0.0, 0.0, 1.0, 0.0]]
        )  # x_s = x0 = x: the case where an alias would be tempting
        results = [*ops.step_x0(x, [out], coef, noise=noise), *ops.add_noise(x, coef[:, :4], noise=noise)]
        pointers = {tensor.data_ptr() for tensor in [*tensors, *results]}
        assert len(pointers) == len(tensors) + len(results)
        assert all(map(torch.equal, tensors, before))
        assert torch.equal(results[0], x)


X, OUT = torch.zeros(2, 3), torch.zeros(2, 3)
C5 = torch.zeros(1, 5)
SEEDS, STREAM = torch.arange(2), torch.tensor(0)
MANY_COLUMNS = torch.zeros(1, 14)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (
            (X.int(), [OUT], C5),
            {},
            TypeError,
            "x of dtype float16, bfloat16, float32, float64, got torch.int32",
        ),
        ((X[0, 0], [OUT], C5), {}, ValueError, r"x of shape \[B, ...\], got a 0-d tensor"),
        ((X, [], C5), {}, ValueError, "1 to 4 outs, got 0"),
        ((X, [OUT] * 5, MANY_COLUMNS), {}, ValueError, "1 to 4 outs, got 5"),
        (
            (X, OUT, C5),
            {},
            TypeError,
            r"outs as a list or tuple of tensors, got one tensor of shape \[2, 3\]",
        ),
        ((X, [OUT, OUT[:, :2]], C5), {}, ValueError, r"outs\[1\] of x's shape \[2, 3\], got \[2, 2\]"),
        ((X, [OUT.half()], C5), {}, TypeError, r"outs\[0\] of x's dtype torch.float32, got torch.float16"),
        ((X, [OUT.to("meta")], C5), {}, ValueError, r"outs\[0\] on x's device cpu, got meta"),
        ((X, [OUT], C5.half()), {}, TypeError, "coef of dtype float32, float64, got torch.float16"),
        ((X, [OUT], C5[0]), {}, ValueError, r"coef of shape \[1 or 2, 5 or 6\], got \[5\]"),
        ((X, [OUT], torch.zeros(3, 5)), {}, ValueError, r"coef of shape \[1 or 2, 5 or 6\], got \[3, 5\]"),
        ((X, [OUT], torch.zeros(1, 7)), {}, ValueError, r"coef of shape \[1 or 2, 5 or 6\], got \[1, 7\]"),
        ((X, [OUT], C5.to("meta")), {}, ValueError, "coef on x's device cpu, got meta"),
        ((X, [OUT], C5), {"clip": 0.0}, ValueError, r"clip > 0 or None, got 0"),
        ((X, [OUT], C5), {"clip": math.nan}, ValueError, "clip > 0 or None, got nan"),
        ((X, [OUT], C5), {"noise": OUT, "seeds": SEEDS, "stream": STREAM}, ValueError, "got both"),
        ((X, [OUT], C5), {"noise": OUT[:1]}, ValueError, r"noise of x's shape \[2, 3\], got \[1, 3\]"),
        (
            (X, [OUT], C5),
            {"noise": OUT.double()},
            TypeError,
            "noise of x's dtype torch.float32, got torch.float64",
        ),
        ((X, [OUT], C5), {"seeds": SEEDS}, ValueError, "seeds and stream together, got seeds alone"),
        ((X, [OUT], C5), {"stream": STREAM}, ValueError, "seeds and stream together, got stream alone"),
        (
            (X, [OUT], C5),
            {"seeds": SEEDS[:1], "stream": STREAM},
            ValueError,
            r"seeds of shape \[2\], got \[1\]",
        ),
        ((X, [OUT], C5), {"seeds": SEEDS, "stream": SEEDS[:1]}, ValueError, r"\[\] or \[2\], got \[1\]"),
        (
            (X, [OUT], C5),
            {"seeds": SEEDS.int(), "stream": STREAM},
            TypeError,
            "seeds of dtype int64, got torch.int32",
        ),
    ],
)
def test_step_refuses_bad_arguments(
    arguments: tuple[Tensor, list[Tensor], Tensor],
    options: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    for op in (ops.step, ops.step_x0):
        with pytest.raises(error, match=message):
            op(*arguments, **options)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((X.long(), C5[:, :4]), {"noise": X}, TypeError, "x0 of dtype .* got torch.int64"),
        ((X, C5), {"noise": X}, ValueError, r"coef of shape \[1 or 2, 4\], got \[1, 5\]"),
        ((X, C5[:, :4]), {}, ValueError, r"noise or \(seeds, stream\), got neither"),
        ((X, C5[:, :4]), {"noise": X, "stream": STREAM}, ValueError, "got both"),
        ((X, C5[:, :4]), {"noise": X[:, :1]}, ValueError, r"noise of x0's shape \[2, 3\], got \[2, 1\]"),
        ((X, C5[:, :4]), {"seeds": SEEDS}, ValueError, "got seeds alone"),
    ],
)
def test_add_noise_refuses_bad_arguments(
    arguments: tuple[Tensor, Tensor], options: dict[str, Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.add_noise(*arguments, **options)
