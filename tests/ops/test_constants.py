"""Constants: made once, told apart to the last bit, and never kept where something traces or wraps what is
made.
"""

import gc
import math
import struct
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from latentdiff.diffusion.denoiser import denoiser
from latentdiff.diffusion.estimate import coefficients
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.ops import constants as constant
from latentdiff.ops.random import Key

CPU = torch.device("cpu")


def row(*values: float, dtype: torch.dtype = torch.float32) -> Tensor:
    return constant.constant_row(values, dtype=dtype, device=CPU)


def bits(tensor: Tensor) -> bytes:
    return tensor.numpy().tobytes()


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Every test starts without kept constants."""
    constant._kept_row.cache_clear()
    constant._kept_filled.cache_clear()


def test_a_row_is_its_values_cast_once() -> None:
    values = [0.1, 1 / 3, -2.5e-41]
    assert torch.equal(row(*values), torch.tensor([values], dtype=torch.float64).float())
    assert torch.equal(row(*values, dtype=torch.float64), torch.tensor([values], dtype=torch.float64))


def test_constants_are_made_once() -> None:
    x, key = torch.zeros(3, 2), Key.of(0, 3).at("step", 7)
    for make in (lambda: coefficients([0.5, 2.0], x), key.stream_tensor):
        assert make() is make()
    assert coefficients([0.5, 2.0], x) is not coefficients([0.5, 2.0], x.double())
    assert key.stream_tensor() is Key.of(9, 5).at("step", 7).stream_tensor()
    assert key.stream_tensor() is not key.at("step", 8).stream_tensor()


def test_rows_that_compare_equal_but_differ_in_bits_are_two() -> None:
    nan, other = struct.unpack("2d", struct.pack("2Q", 0x7FF8000000000000, 0xFFF8000000000000))
    for first, second in ((0.0, -0.0), (nan, other)):
        a, b = row(1.0, first, dtype=torch.float64), row(1.0, second, dtype=torch.float64)
        assert bits(a) == struct.pack("2d", 1.0, first) and bits(b) == struct.pack("2d", 1.0, second)
        assert bits(a) != bits(b)
    assert row(math.nan) is row(math.nan)


def test_fills_keep_to_their_shape_and_type() -> None:
    for shape in ((), (1,), (3,)):
        for dtype in (torch.int64, torch.float32):
            filled = constant.constant_fill(7, shape, dtype=dtype, device=CPU)
            assert torch.equal(filled, torch.full(shape, 7, dtype=dtype)) and filled.dtype == dtype
    far = (1 << 62) + 1  # no float64
    assert constant.constant_fill(far, (), dtype=torch.int64, device=CPU).item() == far


def test_a_constant_made_in_inference_mode_serves_a_backward_pass() -> None:
    with torch.inference_mode():
        made = row(3.0)
    assert made is row(3.0)
    x = torch.ones(1, 1, requires_grad=True)
    (x * x * row(3.0)).sum().backward()
    assert x.grad is not None and x.grad.item() == 6


MAKERS: list[Callable[[], Tensor]] = [
    lambda: row(5.0),
    lambda: constant.constant_fill(5, (1, 1), dtype=torch.float32, device=CPU),
]


@pytest.mark.parametrize("make", MAKERS, ids=["row", "filled"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_fake_tensors_are_neither_kept_nor_given_real_ones(make: Callable[[], Tensor], first: bool) -> None:
    if not first:
        make()
    with FakeTensorMode() as mode:
        fake = make()
    assert mode.is_our_fake(fake)
    assert make().item() == 5


@pytest.mark.parametrize("make", MAKERS, ids=["row", "filled"])
def test_transforms_wrap_nothing_that_is_kept(make: Callable[[], Tensor]) -> None:
    slope = torch.func.grad(lambda x: (x * x * make()).sum())
    assert slope(torch.ones(1)).item() == 10
    kept = make()
    assert not torch._C._functorch.is_functorch_wrapped_tensor(kept) and kept.item() == 5


@pytest.mark.parametrize("make", MAKERS, ids=["row", "filled"])
def test_the_compiler_traces_through(make: Callable[[], Tensor]) -> None:
    compiled = torch.compile(lambda x: x * make(), fullgraph=True, backend="aot_eager")
    assert compiled(torch.full((1,), 2.0)).item() == 10
    assert constant._kept_row.cache_info().currsize == constant._kept_filled.cache_info().currsize == 0


def test_a_loop_of_a_thousand_levels_fits() -> None:
    rows = [row(float(level)) for level in range(1000)]
    assert all(row(float(level)) is kept for level, kept in enumerate(rows))


def test_the_number_kept_is_bounded() -> None:
    first = weakref.ref(constant.constant_fill(0, (), dtype=torch.int64, device=CPU))
    for value in range(1, 2 * constant.ENTRIES + 1):
        constant.constant_fill(value, (), dtype=torch.int64, device=CPU)
    gc.collect()
    assert first() is None


def test_held_constants_are_those_of_the_holder_alone() -> None:
    constants: constant.Constants = {}
    shared = row(1.0)
    with constant.constants_scope(constants):
        held = row(1.0)
        assert held is row(1.0) and held is not shared and torch.equal(held, shared)
    assert [id(tensor) for tensor in constants.values()] == [id(held)]
    assert row(1.0) is shared
    with constant.constants_scope(constants):
        assert row(1.0) is held


class Names(TorchDispatchMode):
    """Notes the names of all operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(str(function.overloadpacket))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_made_in_a_capture_copies_nothing_from_the_host(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    """A graph would repeat the copy from memory that is the host's again; what it records is not kept
    either.
    """
    values = [0.1, -0.0, 1e39, -2.5e-41, math.nan]
    expected = row(*values, dtype=dtype)
    monkeypatch.setattr(constant, "_captured", lambda device: True)
    with Names() as recorded:
        made = row(*values, dtype=dtype)
    assert bits(made) == bits(expected)
    assert recorded.names <= {f"aten.{name}" for name in ("empty", "unbind", "fill_", "_to_copy")}
    assert row(*values, dtype=dtype) is not row(*values, dtype=dtype)


def test_a_network_may_scale_its_times_in_place() -> None:
    """Times are shared by everything in the process: a network gets a copy."""
    schedule = make_schedule("linear", T=1000)

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return x * t.div_(1000).view(-1, 1)

    denoise = denoiser(network, schedule, prediction="eps")
    x = torch.ones(3, 2)
    assert torch.equal(denoise(x, 700).x0(), denoise(x, 700).x0())
