"""Nearest neighbours, precision, recall, density and coverage against loops over all pairs."""

import pytest
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics import neighbors
from latentdiff.metrics.neighbors import nearest, precision_recall


def features(n: int, D: int, *, seed: int, shift: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=g, dtype=torch.float64) + shift


@pytest.fixture(params=[7, 2048], ids=lambda size: f"block {size}")
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Blocks that end within the sets, and whole sets."""
    monkeypatch.setattr(neighbors, "BLOCK", request.param)
    return int(request.param)


def distances(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y).square().sum(2).sqrt()


@pytest.mark.parametrize("k", [1, 3, 50])
def test_nearest_agrees_with_all_pairs(block: int, k: int) -> None:
    queries, base = features(30, 6, seed=1), features(50, 6, seed=2)
    expected = distances(queries, base).sort(dim=1)
    distance, index = nearest(queries, base, k=k)
    assert torch.equal(index, expected.indices[:, :k]) and index.dtype == torch.int64
    torch.testing.assert_close(distance, expected.values[:, :k], rtol=1e-14, atol=0)


def test_a_copy_is_at_distance_zero_exactly(block: int) -> None:
    """Far from the origin, where |x|^2 + |y|^2 - 2 x.y leaves 1e-4."""
    base = features(60, 8, seed=3, shift=1e4)
    for rows in (base, base.float()):
        distance, index = nearest(rows, rows)
        assert (distance == 0).all() and index[:, 0].tolist() == list(range(60))


def test_far_from_the_origin_the_order_is_still_right() -> None:
    """The squares that the search compares are off by 0.001 there, more than many neighbours differ by."""
    queries, base = features(300, 4, seed=5, shift=1e6), features(300, 4, seed=6, shift=1e6)
    distance, index = nearest(queries, base, k=2)
    expected = distances(queries, base).sort(dim=1)
    assert torch.equal(index, expected.indices[:, :2]) and torch.equal(distance, expected.values[:, :2])


def test_a_query_does_not_depend_on_its_batch() -> None:
    queries, base = features(9, 20, seed=7), features(100, 20, seed=8)
    whole = nearest(queries, base)
    single = [nearest(row[None], base) for row in queries]
    assert torch.equal(whole[0], torch.cat([d for d, _ in single]))
    assert torch.equal(whole[1], torch.cat([i for _, i in single]))


def by_loops(real: Tensor, fake: Tensor, k: int) -> tuple[float, float, float, float]:
    def radius(x: Tensor) -> list[float]:
        return [
            sorted(float((p - q).norm()) for j, q in enumerate(x) if j != i)[k - 1] for i, p in enumerate(x)
        ]

    real_radius, fake_radius = radius(real), radius(fake)
    inside = [[float((f - r).norm()) <= real_radius[i] for i, r in enumerate(real)] for f in fake]
    precision = sum(any(row) for row in inside) / len(fake)
    density = sum(map(sum, inside)) / (k * len(fake))
    coverage = sum(any(row[i] for row in inside) for i in range(len(real))) / len(real)
    recalled = [any(float((r - f).norm()) <= fake_radius[j] for j, f in enumerate(fake)) for r in real]
    return precision, sum(recalled) / len(real), density, coverage


@pytest.mark.parametrize(
    ("n", "m", "shift", "k"), [(40, 25, 0.0, 3), (25, 40, 1.0, 3), (20, 20, 0.5, 1), (12, 30, 5.0, 5)]
)
def test_manifolds_agree_with_loops(block: int, n: int, m: int, shift: float, k: int) -> None:
    real, fake = features(n, 3, seed=9), features(m, 3, seed=10, shift=shift)
    found = precision_recall(real, fake, k=k)
    expected = by_loops(real, fake, k)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(
        expected, abs=1e-12
    )


def test_manifolds_at_the_extremes() -> None:
    real = features(50, 4, seed=11)
    same, far = precision_recall(real, real.clone()), precision_recall(real, real + 100)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_one_mode_of_two_is_precise_and_half_recalled() -> None:
    real = torch.cat([features(100, 4, seed=12), features(100, 4, seed=13, shift=50)])
    found = precision_recall(real, features(100, 4, seed=14))
    assert found.precision > 0.8 and 0.3 < found.recall <= 0.5 and found.coverage <= 0.5


def test_piles_of_equal_images_have_balls_of_radius_zero() -> None:
    """k + 1 copies of each: only an exact copy is inside, whatever rounding says of the distances."""
    real = features(10, 30, seed=15, shift=1e5).repeat(4, 1)
    assert (neighbors.squared_distances(real, real).diagonal() == 0).all()
    same, moved = precision_recall(real, real.flip(0)[:23]), precision_recall(real, real + 1)
    assert (same.precision, same.recall) == (1, 1) and (moved.precision, moved.recall) == (0, 0)


def test_bad_input_is_refused() -> None:
    good = torch.zeros(5, 2)
    with pytest.raises(InputError, match=r"k in 1\.\.5, .*found 6"):
        nearest(good, good, k=6)
    with pytest.raises(InputError, match="at least 4 images, found 3"):
        precision_recall(good, good[:3])
    with pytest.raises(InputError, match="k of at least 1, found 0"):
        precision_recall(good, good, k=0)
    with pytest.raises(InputError, match="found 2 and 3 dimensions"):
        nearest(good, torch.zeros(5, 3))
