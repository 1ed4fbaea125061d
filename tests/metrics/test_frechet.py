"""The Frechet distance against scipy, torchmetrics and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.frechet import Moments, frechet, moments


def gaussians(D: int, *, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two sets of correlated features of unlike scales, [n, D] and [n + 7, D]."""
    g = torch.Generator().manual_seed(seed)
    mix = [torch.randn(D, D, generator=g, dtype=torch.float64) for _ in range(2)]
    x, y = (torch.randn(n + extra, D, generator=g, dtype=torch.float64) for extra in (0, 7))
    return x @ mix[0], y @ mix[1] + torch.randn(D, generator=g, dtype=torch.float64)


def by_sqrtm(a: Moments, b: Moments) -> float:
    root = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy())
    return float((a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace()) - 2 * float(
        np.trace(root).real
    )


@pytest.mark.parametrize("D", [1, 2, 7, 64, 256])
def test_agrees_with_scipy_and_torchmetrics(D: int) -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = (moments(x) for x in gaussians(D, n=4 * D + 20))
    found = frechet(a, b)
    assert found == pytest.approx(by_sqrtm(a, b), rel=1e-8)
    assert found == pytest.approx(float(fid._compute_fid(a.mean, a.cov, b.mean, b.cov)), rel=1e-8)
    assert found == pytest.approx(frechet(b, a), rel=1e-10)


def test_moments_are_those_of_numpy() -> None:
    x = gaussians(5, n=40)[0]
    found = moments(x.float())
    assert found.n == 40 and found.cov.dtype == torch.float64
    np.testing.assert_allclose(found.mean, x.float().double().numpy().mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.cov, np.cov(x.float().double().numpy().T), rtol=1e-12, atol=1e-14)


def test_closed_form_of_gaussians_that_share_their_axes() -> None:
    g = torch.Generator().manual_seed(3)
    axes = torch.linalg.qr(torch.randn(6, 6, generator=g, dtype=torch.float64)).Q
    s, t = torch.tensor([1, 2, 0.5, 3, 0, 1e-3]).double(), torch.tensor([1, 1, 0, 4, 2, 1]).double()
    a = Moments(9, torch.zeros(6).double(), axes @ s.square().diag() @ axes.T)
    b = Moments(9, torch.ones(6).double(), axes @ t.square().diag() @ axes.T)
    assert frechet(a, b) == pytest.approx(6 + float((s - t).square().sum()), rel=1e-10)


def test_is_unchanged_by_a_rotation_and_a_shift_of_both() -> None:
    x, y = gaussians(16, n=100)
    turn = torch.linalg.qr(gaussians(16, n=16, seed=5)[0]).Q
    turned = frechet(moments(x @ turn + 3), moments(y @ turn + 3))
    assert turned == pytest.approx(frechet(moments(x), moments(y)), rel=1e-11)


@pytest.mark.parametrize(("n", "D"), [(400, 64), (20, 64), (2, 256), (50, 1)])
def test_equal_sets_are_at_distance_zero(n: int, D: int) -> None:
    a = moments(gaussians(D, n=n)[0])
    assert 0 <= frechet(a, a) <= 1e-12 * float(a.cov.trace())


def test_singular_covariances_keep_their_digits() -> None:
    """Of rank 9 in 128 dimensions: the distance is that within the span, where everything is definite."""
    x, y = gaussians(9, n=60)
    lift = torch.linalg.qr(gaussians(128, n=128, seed=2)[0]).Q[:9]
    inside = frechet(moments(x), moments(y))
    assert frechet(moments(x @ lift), moments(y @ lift)) == pytest.approx(inside, rel=1e-10)


def test_constant_features_have_the_distance_of_their_means() -> None:
    flat = torch.ones(5, 3)
    assert frechet(moments(flat), moments(3 * flat)) == pytest.approx(12)


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (torch.zeros(1, 4), "at least 2 images, found 1"),
        (torch.zeros(4), r"\[images, dimensions\], found shape \[4\]"),
        (torch.tensor([[1.0, torch.nan], [0, 0], [0, torch.inf]]), "NaN or infinity in 2 of 3"),
    ],
)
def test_bad_features_are_refused(features: Tensor, words: str) -> None:
    with pytest.raises(InputError, match=words):
        moments(features)


def test_other_dimensions_are_refused() -> None:
    with pytest.raises(InputError, match="found 3 and 4 dimensions"):
        frechet(moments(torch.eye(3)), moments(torch.eye(4)))
