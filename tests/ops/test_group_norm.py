"""Group normalization of bfloat16 in one operation: the bits of every implementation, and torch's values."""

import pytest
import torch
from helpers import CPU_SETS, served_by
from torch import Tensor
from torch.nn import functional as F

from latentdiff import ops
from latentdiff.ops import fallback

SIZES = [(1, 1), (3, 5), (7, 7), (16, 16), (33, 35)]
CHANNELS = [(1, 1), (6, 3), (8, 8), (8, 2), (24, 8), (24, 1), (40, 8), (64, 16)]


def made(shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = (3 * torch.randn(shape, generator=g) + 2).bfloat16()
    return x, torch.randn(shape[1], generator=g), torch.randn(shape[1], generator=g)


@pytest.mark.parametrize("name", CPU_SETS)
@pytest.mark.parametrize(("channels", "groups"), CHANNELS)
def test_every_implementation_has_the_bits_of_the_fallback(name: str, channels: int, groups: int) -> None:
    for size in SIZES:
        x, weight, bias = made((2, channels, *size))
        with served_by(name):
            found = ops.group_norm(x, groups, weight, bias)
        expected = fallback.group_norm(x, groups, weight, bias, 1e-5)
        assert torch.equal(found, expected) and found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("channels", "groups"), CHANNELS)
@pytest.mark.parametrize("eps", [1e-5, 0.5])
def test_it_is_that_of_torch_to_a_rounding(channels: int, groups: int, eps: float) -> None:
    for size in SIZES:
        if channels // groups * size[0] * size[1] == 1:
            continue  # nothing but the bias
        x, weight, bias = made((3, channels, *size), 1)
        found = ops.group_norm(x, groups, weight, bias, eps=eps).double()
        wanted = F.group_norm(x.double(), groups, weight.double(), bias.double(), eps)
        assert bool(((found - wanted).abs() <= wanted.abs() / 256 + 1e-4).all())


def test_many_pixels_far_from_zero_keep_their_mean_and_deviation() -> None:
    x = made((1, 16, 256, 256), 2)[0] + 64
    found = ops.group_norm(x, 4, torch.ones(16), torch.zeros(16)).double().reshape(4, -1)
    assert float(found.mean(1).abs().max()) < 1e-3 and float((found.std(1) - 1).abs().max()) < 1e-3


def test_batch_threads_and_layout_change_nothing() -> None:
    x, weight, bias = made((5, 24, 9, 11), 3)
    whole = ops.group_norm(x, 8, weight, bias)
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            last = x.contiguous(memory_format=torch.channels_last)
            assert torch.equal(ops.group_norm(last, 8, weight, bias), whole)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(ops.group_norm(x[3:4], 8, weight, bias), whole[3:4])
    assert torch.equal(ops.group_norm(x.repeat(1, 1, 1, 2)[..., :11], 8, weight, bias), whole)


def test_a_number_that_is_not_finite_stays_in_its_group() -> None:
    x, weight, bias = made((2, 24, 4, 4), 4)
    x[0, 3, 2, 1] = torch.nan
    found = ops.group_norm(x, 8, weight, bias)
    assert found.isnan().flatten(2).any(2).nonzero().tolist() == [[0, 3], [0, 4], [0, 5]]


def test_compilers_and_maps_take_it() -> None:
    x, weight, bias = made((4, 8, 3, 5), 5)
    op = torch.ops.latentdiff.group_norm.default
    torch.library.opcheck(op, (x, 2, weight, bias, 1e-5), test_utils=("test_schema", "test_faketensor"))
    mapped = torch.func.vmap(lambda each: ops.group_norm(each, 2, weight, bias))(x.view(2, 2, 8, 3, 5))
    assert torch.equal(mapped.flatten(0, 1), ops.group_norm(x, 2, weight, bias))


X, W = torch.zeros(2, 6, 3, 3, dtype=torch.bfloat16), torch.zeros(6)


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ((X.float(), 2, W, W), TypeError, "x of dtype torch.bfloat16, got torch.float32"),
        ((X[0], 2, W, W), ValueError, "x of shape [B, C, H, W], got [6, 3, 3]"),
        ((X, 4, W, W), ValueError, "groups that divide 6 channels, got 4"),
        ((X, 0, W, W), ValueError, "groups that divide 6 channels, got 0"),
        ((X, 2, W.double(), W), TypeError, "weight of dtype torch.float32, got torch.float64"),
        ((X, 2, W, W[:5]), ValueError, "bias of shape [6], got [5]"),
    ],
)
def test_bad_arguments_are_named_alike(arguments: tuple, kind: type[Exception], message: str) -> None:
    for function in (ops.group_norm, lambda *given: fallback.group_norm(*given, 1e-5)):
        with pytest.raises(kind) as error:
            function(*arguments)
        assert str(error.value) == f"group_norm: expected {message}"
