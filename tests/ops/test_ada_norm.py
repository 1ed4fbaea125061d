"""Adaptive layer norm in one pass: the bits of every implementation, torch's layer norm, bad arguments."""

from collections.abc import Iterator

import pytest
import torch
from helpers import CPU_SETS, served_by
from torch import Tensor
from torch.nn import functional as F

from latentdiff import ops
from latentdiff.ops import fallback

HALVES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(params=[*CPU_SETS, "cuda"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Of each implementation that the machine has."""
    with served_by(request.param) as device:
        yield device


def made(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    *,
    shared: bool,
    seed: int = 0,
    device: torch.device | None = None,
) -> tuple[Tensor, ...]:
    """h, branch, gate, factor, shift and rows; conditions are parts of larger rows, as networks have them."""
    g = torch.Generator().manual_seed(seed)
    rows = torch.randint(0, 3, shape[:1], generator=g) if shared else None
    gate, factor, shift = torch.randn(3 if shared else shape[0], 3 * shape[-1], generator=g).chunk(3, 1)
    h = 3 * torch.randn(shape, generator=g) + 1
    found = h, torch.randn(shape, generator=g).to(dtype), gate, factor, shift, rows
    return tuple(each if each is None else each.to(device) for each in found)  # type: ignore[misc]


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("width", [1, 2, 7, 8, 15, 16, 17, 24, 40, 320, 1000])
def test_every_implementation_has_the_bits_of_the_fallback(
    device: torch.device, width: int, dtype: torch.dtype
) -> None:
    for shape in ((5, width), (4, 3, width), (2, 3, 4, width)):
        for shared in (False, True):
            h, branch, gate, factor, shift, rows = made(shape, dtype, shared=shared, device=device)
            y = ops.ada_norm(h, factor, shift, rows, dtype=dtype)
            assert torch.equal(y, fallback.ada_norm(h, factor, shift, rows, dtype)) and y.dtype == dtype
            found = ops.add_ada_norm(h, branch, gate, factor, shift, rows)
            expected = fallback.add_ada_norm(h, branch, gate, factor, shift, rows)
            assert all(map(torch.equal, found, expected)) and found[0].dtype == torch.float32


def test_numbers_that_are_not_finite_stay_in_their_rows(device: torch.device) -> None:
    h, branch, gate, factor, shift, rows = made((6, 40), torch.bfloat16, shared=True, device=device)
    h[1, 3], h[2, 39], branch[4, 0] = torch.nan, torch.inf, -torch.inf
    _, y = ops.add_ada_norm(h, branch, gate, factor, shift, rows)
    _, expected = fallback.add_ada_norm(h, branch, gate, factor, shift, rows)
    assert torch.equal(y.isnan(), expected.isnan())
    assert y.isnan().any(1).tolist() == [False, True, True, False, True, False]
    assert torch.equal(y.nan_to_num(), expected.nan_to_num())


@pytest.mark.parametrize("shared", [False, True])
def test_it_is_the_layer_norm_of_torch_in_one_pass(*, shared: bool) -> None:
    h, branch, gate, factor, shift, rows = made((40, 9, 72), torch.float32, shared=shared)
    each = [x if rows is None else x[rows] for x in (gate, factor, shift)]
    gates, factors, shifts = (x.double()[:, None] for x in each)
    summed, y = ops.add_ada_norm(h, branch, gate, factor, shift, rows)
    exact = h.double() + gates * branch.double()
    assert float((summed - exact).abs().max()) < 2e-6
    wanted = F.layer_norm(exact, (72,)) * factors + shifts
    assert float((y - wanted).abs().max()) < 1e-5
    alone = ops.ada_norm(summed, factor, shift, rows, dtype=torch.float32)
    assert torch.equal(alone, y)


def test_threads_batch_and_layout_change_nothing() -> None:
    h, branch, gate, factor, shift, rows = made((300, 328), torch.bfloat16, shared=True)
    whole = ops.add_ada_norm(h, branch, gate, factor, shift, rows)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            assert all(map(torch.equal, whole, ops.add_ada_norm(h, branch, gate, factor, shift, rows)))
    finally:
        torch.set_num_threads(threads)
    part = ops.add_ada_norm(h[7:9], branch[7:9], gate, factor, shift, rows[7:9])
    assert all(torch.equal(a[7:9], b) for a, b in zip(whole, part, strict=True))
    turned = ops.add_ada_norm(h.t().contiguous().t(), branch, gate, factor, shift.t().contiguous().t(), rows)
    assert all(map(torch.equal, whole, turned)) and turned[1].is_contiguous()


def test_compilers_and_maps_take_it() -> None:
    h, branch, gate, factor, shift, rows = made((4, 3, 24), torch.bfloat16, shared=True)
    op = torch.ops.latentdiff
    checks = ("test_schema", "test_faketensor")
    torch.library.opcheck(op.ada_norm.default, (h, factor, shift, rows, torch.float16), test_utils=checks)
    given = (h, branch, gate, factor, shift, rows)
    torch.library.opcheck(op.add_ada_norm.default, given, test_utils=checks)
    stacked = torch.stack([h, h + 1])
    mapped = torch.func.vmap(lambda x: ops.add_ada_norm(x, branch, gate, factor, shift, rows))(stacked)
    for k in range(2):
        expected = ops.add_ada_norm(stacked[k], branch, gate, factor, shift, rows)
        assert all(torch.equal(each[k], one) for each, one in zip(mapped, expected, strict=True))


H, C, B16 = torch.zeros(2, 3, 8), torch.zeros(2, 8), torch.zeros(2, 3, 8, dtype=torch.bfloat16)
BAD = {
    "dtype": (TypeError, (H, B16.double(), C, C, C, None), "result of dtype float16, bfloat16, float32, got"),
    "h": (TypeError, (B16, B16, C, C, C, None), "h of dtype torch.float32, got torch.bfloat16"),
    "one dimension": (ValueError, (H[0, 0], H[0, 0], C, C, C, None), "h of shape [B, ..., D], got [8]"),
    "width": (ValueError, (H, B16, C, C[:, :4], C, None), "factor of shape [2, 8], got [2, 4]"),
    "shift": (ValueError, (H, B16, C, C, C[:1], None), "shift of shape [2, 8], got [1, 8]"),
    "gate": (ValueError, (H, B16, C[0], C, C, None), "gate of shape [2, 8], got [8]"),
    "conditions": (ValueError, (H, B16, *[C[:1]] * 3, None), "factor of shape [2, 8], got [1, 8]"),
    "rows": (ValueError, (H, B16, C, C, C, torch.zeros(3, dtype=torch.int64)), "rows of shape [2], got [3]"),
    "row type": (TypeError, (H, B16, C, C, C, torch.zeros(2)), "rows of dtype int64, got torch.float32"),
    "branch": (ValueError, (H, B16[:, :2], C, C, C, None), "branch of h's shape [2, 3, 8], got [2, 2, 8]"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named_alike(case: str) -> None:
    kind, arguments, message = BAD[case]
    for function in (ops.add_ada_norm, fallback.add_ada_norm):
        with pytest.raises(kind) as error:
            function(*arguments)
        assert str(error.value).startswith("add_ada_norm: expected ") and message in str(error.value)


def test_rows_beyond_the_conditions_are_refused() -> None:
    for row in (2, -3):
        with pytest.raises(IndexError):
            ops.ada_norm(H, C, C, torch.tensor([0, row]), dtype=torch.float32)
