"""Intervals of means and shares, and what every interval of a distance obeys; coverage has its own file."""

import math
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics import half_samples
from latentdiff.metrics.frechet import frechet, moments
from latentdiff.metrics.half_samples import (
    LARGE_RESAMPLES,
    _Sums,
    frechet_interval,
    kernel_interval,
    random_half,
)
from latentdiff.metrics.interval import (
    Interval,
    bootstrap_mean,
    generator_of,
    proportion_interval,
    ratio_interval,
    student_quantile,
)
from latentdiff.metrics.mmd import kernel_distance

Bootstrap = Callable[..., Interval]
DISTANCES = pytest.mark.parametrize("bootstrap", [frechet_interval, kernel_interval])


def features(n: int, D: int, *, seed: int, shift: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, D, generator=g, dtype=torch.float64) + shift


@pytest.mark.parametrize("n", [40, 41])
def test_moments_of_halves_are_those_of_their_rows(n: int) -> None:
    x = features(n, 3, seed=1, shift=100)
    half, other = _Sums.of(x).halves(random_half(n, generator_of(5)))
    chosen = torch.zeros(n, dtype=torch.bool)
    chosen[random_half(n, generator_of(5))] = True
    for found, rows in ((half, x[chosen]), (other, x[~chosen])):
        expected = moments(rows)
        assert found.n == expected.n
        torch.testing.assert_close(found.mean, expected.mean)
        torch.testing.assert_close(found.cov, expected.cov)


@pytest.mark.parametrize("reference", ["drawn", "fixed", "paired"])
def test_kernel_distances_of_halves_are_those_of_their_rows(
    reference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quadratic forms against the distance of the rows themselves, with blocks that end within the
    sets.
    """
    monkeypatch.setattr("latentdiff.metrics.mmd.BLOCK", 8)
    monkeypatch.setattr(half_samples, "BLOCK", 8)
    found = {}
    monkeypatch.setattr(
        half_samples,
        "distance_interval",
        lambda halves, level: found.update(halves=halves, level=level),
    )
    fixed, m = reference == "fixed", 31 if reference == "paired" else 20
    x, y = features(31, 4, seed=2), features(m, 4, seed=3, shift=0.5)
    kernel_interval(x, y, resamples=20, seed=7, reference=reference)
    generator = generator_of(7)
    p = half_samples._indicators(31, 10, generator).bool()
    q = p if reference == "paired" else half_samples._indicators(m, 10, generator).bool()
    q = torch.ones_like(q) if fixed else q
    apart = reference == "paired"

    def distance(a: Tensor, b: Tensor) -> float:
        """Without partners: of pairs the kernel distance counts them between the sets."""
        partners = ((a * b).sum(1) / 4 + 1).pow(3).mean() if apart else 0
        between = ((a @ b.T) / 4 + 1).pow(3).mean()
        return kernel_distance(a, b) + (2 * float(partners - between) / (len(a) - 1) if apart else 0)

    f = torch.tensor([distance(x[p[:, i]], y[q[:, i]]) for i in range(10)]).double()
    g = torch.tensor([distance(x[~p[:, i]], y if fixed else y[~q[:, i]]) for i in range(10)]).double()
    halves = found["halves"]
    torch.testing.assert_close(halves.odd, (f - g) / 2, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(halves.even, (f + g) / 2 - distance(x, y), rtol=1e-5, atol=1e-6)
    assert halves.estimate == pytest.approx(kernel_distance(x, y), rel=1e-12)
    assert halves.corrected == pytest.approx(distance(x, y), rel=1e-12)

    def mean(a: Tensor, b: Tensor) -> float:
        return float(((a @ b.T) / 4 + 1).pow(3).mean())

    plugin = mean(x, x) + mean(y, y) - 2 * mean(x, y)
    if fixed:
        plugin = kernel_distance(x, y) + mean(x, x) - (mean(x, x) * 31 - _diagonal(x)) / 30
    assert halves.plugin == pytest.approx(plugin, rel=1e-10)


def _diagonal(x: Tensor) -> float:
    return float((x.square().sum(1) / x.shape[1] + 1).pow(3).mean())


@DISTANCES
def test_the_seed_decides_and_the_estimate_is_the_plain_distance(bootstrap: Bootstrap) -> None:
    x, y = features(60, 5, seed=4), features(50, 5, seed=5, shift=0.4)
    first, again, other = (bootstrap(x, y, resamples=40, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    plain = frechet(moments(x), moments(y)) if bootstrap is frechet_interval else kernel_distance(x, y)
    assert first.estimate == pytest.approx(plain, rel=1e-9) and other.estimate == first.estimate
    assert first.low < first.corrected < first.high and (first.level, first.resamples) == (0.95, 40)
    assert first.corrected < first.estimate or bootstrap is kernel_interval


@DISTANCES
def test_a_higher_level_is_wider_and_a_fixed_reference_narrower(bootstrap: Bootstrap) -> None:
    x, y = features(200, 4, seed=6), features(200, 4, seed=7, shift=1)

    def width(found: Interval) -> float:
        return found.high - found.low

    assert width(bootstrap(x, y, level=0.5)) < width(bootstrap(x, y)) < width(bootstrap(x, y, level=0.99))
    assert width(bootstrap(x, y, reference="fixed")) < 0.9 * width(bootstrap(x, y))


@DISTANCES
def test_copies_are_closer_than_draws_and_at_distance_zero_as_pairs(bootstrap: Bootstrap) -> None:
    x = features(100, 6, seed=8)
    as_draws, as_pairs = bootstrap(x, x.clone()), bootstrap(x, x.clone(), reference="paired")
    assert as_draws.high < 0
    assert (as_pairs.low, as_pairs.corrected, as_pairs.high) == pytest.approx((0, 0, 0), abs=1e-12)


@DISTANCES
def test_few_images_and_constant_ones_have_intervals(bootstrap: Bootstrap) -> None:
    tiny = bootstrap(features(4, 30, seed=9), features(5, 30, seed=10), resamples=20)
    assert all(map(math.isfinite, (tiny.estimate, tiny.corrected, tiny.low, tiny.high)))
    flat = bootstrap(torch.ones(8, 3), torch.ones(9, 3))
    assert (flat.low, flat.corrected, flat.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_many_dimensions_have_fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentdiff.metrics.half_samples.LARGE_DIMENSION", 5)
    x = features(8, 5, seed=11)
    assert frechet_interval(x, x + 1).resamples == LARGE_RESAMPLES
    assert frechet_interval(x, x + 1, resamples=20).resamples == 20
    assert frechet_interval(x[:, 1:], x[:, 1:] + 1, resamples=50).resamples == 50


@DISTANCES
def test_bad_arguments_are_refused(bootstrap: Bootstrap) -> None:
    x = features(8, 3, seed=12)
    for call, words in [
        (lambda: bootstrap(x, x[:3]), "at least 4 images, found 3"),
        (lambda: bootstrap(x, x, resamples=3), "at least 20 resamples, found 3"),
        (lambda: bootstrap(x, x, level=95), "between 0 and 1, found 95"),
        (lambda: bootstrap(x, x, seed=-1), "seed in .* found -1"),
        (lambda: bootstrap(x, x[:, :2]), "found 3 and 2 dimensions"),
        (lambda: bootstrap(x, x[:5], reference="paired"), "found 8 and 5"),
        (lambda: bootstrap(x, x / 0), "NaN or infinity in 8 of 8"),
    ]:
        with pytest.raises(InputError, match=words):
            call()


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 9, 99, 20_000])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.95, 0.99, 0.9999])
def test_students_quantiles_are_those_of_scipy(freedom: int, level: float) -> None:
    exact = scipy.stats.t.ppf((1 + level) / 2, freedom)
    assert student_quantile(level, freedom) == pytest.approx(exact, rel=1e-9)


def test_bca_is_scipys() -> None:
    """Skewed values, where BCa and the plain percentiles differ by a tenth of the width."""
    x = torch.from_numpy(scipy.stats.expon.rvs(size=40, random_state=3))
    found = bootstrap_mean(x, resamples=20_000, seed=1)
    expected = scipy.stats.bootstrap(
        (x.numpy(),), lambda v, axis: v.mean(axis), n_resamples=20_000, rng=1, method="BCa"
    )
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(expected.confidence_interval, abs=0.03 * width)
    assert found.estimate == found.corrected == pytest.approx(float(x.mean()))
    assert found == bootstrap_mean(x, resamples=20_000, seed=1) != bootstrap_mean(x, resamples=20_000, seed=2)


@pytest.mark.parametrize("n", [50, 400])
def test_intervals_of_means_cover(n: int) -> None:
    g = torch.Generator().manual_seed(n)
    hits = 0
    for seed in range(200):
        found = bootstrap_mean(
            -torch.rand(n, generator=g, dtype=torch.float64).log(), resamples=400, seed=seed
        )
        hits += found.low <= 1 <= found.high
    assert 180 <= hits <= 196


def test_means_of_infinities_and_of_one_value() -> None:
    """The PSNR of an identical pair."""
    found = bootstrap_mean(torch.tensor([30.0, math.inf, 20.0]))
    assert (found.estimate, found.corrected, found.low, found.high) == (math.inf,) * 4
    one = bootstrap_mean(torch.tensor([3.0]))
    assert (one.estimate, one.low, one.high) == (3, -math.inf, math.inf)
    same = bootstrap_mean(torch.full((50,), 0.1))
    assert (same.low, same.high) == pytest.approx((0.1, 0.1))
    for bad in (torch.zeros(0), torch.zeros(2, 2)):
        with pytest.raises(InputError, match="found shape"):
            bootstrap_mean(bad)
    with pytest.raises(InputError, match="NaN"):
        bootstrap_mean(torch.tensor([1.0, math.nan]))


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (1, 20), (7, 20), (20, 20), (9950, 10_000)])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_shares_have_wilsons_interval(hits: int, n: int, level: float) -> None:
    found = proportion_interval(torch.arange(n) < hits, level=level)
    expected = scipy.stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert found.estimate == found.corrected == hits / n


def test_shares_are_of_zeros_and_ones() -> None:
    for bad in (torch.tensor([0.5, 1.0]), torch.zeros(0), torch.zeros(2, 2)):
        with pytest.raises(InputError, match="0 and 1"):
            proportion_interval(bad)


@pytest.mark.parametrize(
    ("p", "q", "n", "m"), [(0.4, 0.8, 200, 300), (0.1, 0.25, 60, 60), (0.9, 0.8, 150, 120)]
)
def test_ratios_of_shares_cover(p: float, q: float, n: int, m: int) -> None:
    generator = torch.Generator().manual_seed(0)
    covered, repeats = 0, 1500
    for _ in range(repeats):
        hits = torch.rand(n, generator=generator) < p
        base = torch.rand(m, generator=generator) < q
        found = ratio_interval(hits, base)
        covered += found.low <= p / q <= found.high
        assert found.low <= found.estimate <= found.high
    assert abs(covered / repeats - 0.95) < 0.03


def test_a_ratio_needs_a_base_and_may_be_zero() -> None:
    none, some = torch.zeros(20, dtype=torch.bool), torch.arange(20) < 9
    found = ratio_interval(none, some)
    assert found.low == found.estimate == 0 < found.high < 1
    with pytest.raises(InputError, match="a share above 0 to divide by, found 0 of 20"):
        ratio_interval(some, none)
