"""Fused attention with keys that are filled up: against the formula, with gradients, whatever the batch."""

import math

import pytest
import torch
from torch import Tensor

from latentdiff.nn.attention import KEYS, MOST_LEFT, fused_attention

COUNTS = (1, 7, KEYS - 1, KEYS, KEYS + 1, MOST_LEFT - 1, MOST_LEFT, MOST_LEFT + 1)


def drawn(count: int, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Queries of 9 positions, keys and values of ``count``, in 2 heads of 4 channels."""
    torch.manual_seed(count)
    return [torch.randn(5, 2, n, 4, dtype=dtype, requires_grad=True) for n in (9, count, count)]


def naive(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1) @ v


@pytest.mark.parametrize("count", COUNTS)
def test_fused_attention_is_the_formula_with_its_gradients(count: int) -> None:
    parts = drawn(count)
    found, expected = fused_attention(*parts), naive(*parts)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    weight = torch.randn_like(found)
    mine, theirs = (torch.autograd.grad((out * weight).sum(), parts) for out in (found, expected))
    for gradient, its in zip(mine, theirs, strict=True):
        torch.testing.assert_close(gradient, its, rtol=0, atol=1e-13)


@pytest.mark.parametrize("count", COUNTS)
def test_a_sample_does_not_depend_on_the_others(count: int) -> None:
    with torch.no_grad():
        parts = drawn(count, torch.float32)
        whole = fused_attention(*parts)
        assert all(
            torch.equal(fused_attention(*(part[i : i + 1] for part in parts))[0], whole[i]) for i in range(5)
        )
