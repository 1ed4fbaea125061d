"""Intervals of distances cover the known distance of synthetic Gaussians as often as they say.

For each case sets are drawn again and again from two known Gaussians; a 95% interval has to cover their true
distance in 90 to 98% of 200 repeats (its own limits and 1000 repeats where it says so and why). The fast
tests have 40.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from latentdiff.metrics.frechet import Moments, frechet, moments
from latentdiff.metrics.half_samples import frechet_interval, kernel_interval
from latentdiff.metrics.interval import Interval


@dataclass(frozen=True)
class Case:
    """Two Gaussians: equal, near (about as far as a good model's samples), shifted or far; and how much is
    drawn of each.
    """

    D: int
    n: int
    m: int
    kind: str
    resamples: int = 100
    reference: str = "drawn"
    repeats: int = 200
    least: float = 0.90
    most: float = 0.98

    def __str__(self) -> str:
        return f"D{self.D} n{self.n} m{self.m} {self.kind} {self.reference} R{self.resamples}"

    @property
    def seed(self) -> int:
        """Where the seeds of its repeats start: each case has its own luck."""
        return zlib.crc32(str(self).encode())

    def population(self) -> tuple[Moments, Moments]:
        g = torch.Generator().manual_seed(5)
        A, B = (torch.randn(self.D, self.D, generator=g, dtype=torch.float64) / self.D**0.5 for _ in range(2))
        mean, eye = (
            torch.randn(self.D, generator=g, dtype=torch.float64),
            torch.eye(self.D, dtype=torch.float64),
        )
        root = A @ A.T + 0.2 * eye
        other, shift = {
            "equal": (root, 0.0),
            "near": (root + 0.05 * (B @ B.T), 0.05),
            "shift": (root, 0.3),
            "far": (2 * B @ B.T + 0.1 * eye, 0.5),
        }[self.kind]
        return Moments(0, 0 * mean, root @ root), Moments(0, shift * mean, other @ other)


def draw(population: Moments, n: int, generator: torch.Generator) -> Tensor:
    z = torch.randn(n, len(population.mean), generator=generator, dtype=torch.float64)
    return z @ torch.linalg.cholesky(population.cov).T + population.mean


def expected_kernel(a: Moments, b: Moments) -> float:
    """E (x.y / D + 1)^3 for independent Gaussian x and y, by the moments of x.y up to the third."""
    p, q, S, T, D = a.mean, b.mean, a.cov, b.cov, len(a.mean)
    dot = p @ q
    first, second = dot, ((S + torch.outer(p, p)) * (T + torch.outer(q, q))).sum()
    third = dot**3 + 3 * dot * (p @ T @ p + q @ S @ q + (S * T).sum()) + 6 * p @ T @ S @ q
    return float(third / D**3 + 3 * second / D**2 + 3 * first / D + 1)


def true_kernel_distance(a: Moments, b: Moments) -> float:
    return expected_kernel(a, a) + expected_kernel(b, b) - 2 * expected_kernel(a, b)


def coverage(case: Case, bootstrap: Callable[..., Interval], truth: float, repeats: int) -> float:
    first, second = case.population()
    fixed = None
    if case.reference == "fixed":  # the reference is the population: its own moments are the truth
        fixed = draw(second, case.m, torch.Generator().manual_seed(1))
        truth = frechet(first, moments(fixed))
    hits = 0
    for repeat in range(repeats):
        g = torch.Generator().manual_seed(case.seed + repeat)
        x = draw(first, case.n, g)
        y = draw(second, case.m, g) if fixed is None else fixed
        if case.reference == "paired":  # a row of y shares half the variance of its row of x
            y = second.mean + (x - first.mean + draw(first, case.m, g) - first.mean) / 2**0.5
        found = bootstrap(x, y, resamples=case.resamples, seed=repeat, reference=case.reference)
        hits += found.low <= truth <= found.high
    return hits / repeats


FRECHET = [
    Case(2, 300, 300, "equal"),
    Case(2, 300, 300, "near", resamples=200),
    Case(2, 5000, 1000, "shift"),
    Case(2, 300, 2000, "far"),
    Case(16, 300, 300, "equal", resamples=200),
    Case(16, 300, 300, "near"),
    Case(
        16, 2000, 1000, "near", repeats=1000, most=0.985
    ),  # where theta, bias and noise are alike: a little too wide
    Case(16, 500, 500, "near", reference="fixed"),
    Case(16, 300, 300, "shift", reference="paired"),
    Case(16, 300, 300, "equal", reference="paired"),
    Case(16, 300, 300, "far"),
    Case(64, 300, 300, "equal"),
    Case(64, 300, 300, "near"),
    Case(64, 300, 300, "near", resamples=40, repeats=1000),  # as few as many dimensions have
    Case(64, 1000, 1000, "shift"),
    Case(64, 5000, 2000, "near"),
    Case(64, 300, 300, "far"),
]
KERNEL = [
    Case(2, 300, 300, "equal"),
    Case(2, 300, 300, "near"),
    Case(
        2, 1000, 300, "far", least=0.85
    ),  # the kernel's variance is a 6th moment, which 300 draws do not show
    Case(16, 300, 300, "equal"),
    Case(16, 300, 300, "near"),
    Case(16, 500, 1000, "shift"),
    Case(16, 300, 300, "shift", reference="paired"),
    Case(16, 300, 300, "equal", reference="paired"),
    Case(64, 300, 300, "equal"),
    Case(64, 300, 300, "near"),
    Case(64, 1000, 1000, "near"),
    Case(64, 300, 300, "far"),
]


@pytest.mark.parametrize("case", [FRECHET[0], FRECHET[5], FRECHET[8]], ids=str)
def test_frechet_intervals_cover_in_a_few_repeats(case: Case) -> None:
    assert coverage(case, frechet_interval, frechet(*case.population()), 40) >= 0.85


@pytest.mark.parametrize("case", [KERNEL[0], KERNEL[5]], ids=str)
def test_kernel_intervals_cover_in_a_few_repeats(case: Case) -> None:
    assert coverage(case, kernel_interval, true_kernel_distance(*case.population()), 40) >= 0.85


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", FRECHET, ids=str)
def test_frechet_intervals_cover_the_known_distance(case: Case) -> None:
    found = coverage(case, frechet_interval, frechet(*case.population()), case.repeats)
    assert case.least <= found <= case.most


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("case", KERNEL, ids=str)
def test_kernel_intervals_cover_the_known_distance(case: Case) -> None:
    found = coverage(case, kernel_interval, true_kernel_distance(*case.population()), case.repeats)
    assert case.least <= found <= case.most


def test_corrected_distances_have_lost_their_bias() -> None:
    """Of 300 images in 64 dimensions, of one distribution: the plain distance is near 9."""
    case = Case(64, 300, 300, "equal")
    found = []
    for seed in range(12):
        g = torch.Generator().manual_seed(seed)
        found.append(frechet_interval(*(draw(p, 300, g) for p in case.population()), resamples=20, seed=seed))
    plain, corrected = (sum(getattr(each, name) for each in found) / 12 for name in ("estimate", "corrected"))
    assert plain > 8 and abs(corrected) < 0.6
