"""The kernel distance against a double loop, torchmetrics and its expectation."""

import pytest
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics import mmd
from latentdiff.metrics.mmd import kernel_distance


def features(n: int, D: int, *, seed: int, shift: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=g, dtype=torch.float64) + shift


def naive(x: Tensor, y: Tensor) -> float:
    def k(a: Tensor, b: Tensor) -> float:
        return float((a @ b / len(a) + 1) ** 3)

    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize(("n", "m", "D"), [(2, 2, 1), (13, 20, 5), (31, 9, 40)])
def test_agrees_with_a_double_loop(n: int, m: int, D: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(n, D, seed=1), features(m, D, seed=2, shift=0.3)
    assert kernel_distance(x, y) == pytest.approx(naive(x, y), rel=1e-10)
    monkeypatch.setattr(mmd, "BLOCK", 4)  # blocks that end within the sets
    assert kernel_distance(x, y) == pytest.approx(naive(x, y), rel=1e-10)


@pytest.mark.parametrize("D", [3, 128])
def test_agrees_with_torchmetrics_across_blocks(D: int) -> None:
    kid = pytest.importorskip("torchmetrics.image.kid")
    x, y = features(1100, D, seed=3), features(1100, D, seed=4, shift=0.1)
    assert kernel_distance(x, y) == pytest.approx(float(kid.poly_mmd(x, y)), rel=1e-9)


def test_is_unbiased() -> None:
    """Sets of 4: the mean over many is 0 for equal distributions, where counting pairs with itself gives
    0.5.
    """
    found = torch.tensor(
        [kernel_distance(features(4, 2, seed=i), features(4, 2, seed=10**6 + i)) for i in range(4000)]
    )
    assert abs(found.mean()) < 3 * found.std() / 4000**0.5
    assert (found < 0).any()


def test_bad_features_are_refused() -> None:
    good = torch.zeros(3, 2)
    for other, words in [
        (torch.zeros(1, 2), "at least 2 images, found 1"),
        (torch.zeros(3, 4), "found 2 and 4 dimensions"),
        (torch.full((3, 2), torch.nan), "NaN"),
    ]:
        with pytest.raises(InputError, match=words):
            kernel_distance(good, other)
