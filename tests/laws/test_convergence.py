"""Law 1, the limits: more steps bring every sampler to the exact solution of the Gaussian, at the order it
promises.
"""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from latentdiff.config.diffusion import ScheduleKind
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import SamplerStep, ddim, ddpm, dpmpp2m, heun
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

MEAN, VARIANCE = 0.7, 0.3
SPREAD = 0.2


def oracle(schedule: Schedule, mean: float = MEAN, variance: float = VARIANCE) -> Denoiser:
    """E[x_0 | x_t] of N(mean, variance) in every element."""

    def denoise(x: Tensor, t: int) -> Estimate:
        alpha, sigma = schedule.at(t)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        x0 = mean + gain * (x - alpha * mean)
        return Estimate(x, t, 0.0, (x0,), (1.0,), variance_range=torch.full_like(x, SPREAD))

    return denoise


def flow(schedule: Schedule, x: Tensor, t: int, s: int) -> Tensor:
    """The probability-flow ODE of a Gaussian carries x along its quantile: (x - mean_t) / std_t is
    constant.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    std_t, std_s = (
        math.hypot(a * math.sqrt(VARIANCE), b) for a, b in ((alpha_t, sigma_t), (alpha_s, sigma_s))
    )
    return alpha_s * MEAN + std_s / std_t * (x - alpha_t * MEAN)


def errors_and_orders(
    step: SamplerStep, schedule: Schedule, grids: list[list[int]]
) -> tuple[list[float], list[float]]:
    """Largest deviation from the flow on each grid of levels, and the orders seen between grids of doubling
    length.
    """
    x = torch.linspace(-2, 2, 5, dtype=torch.float64).view(5, 1)
    errors = [
        float(
            (run(oracle(schedule), x, grid, step, Key.of(0, 5)) - flow(schedule, x, grid[0], grid[-1]))
            .abs()
            .max()
        )
        for grid in grids
    ]
    return errors, [math.log2(coarse / fine) for coarse, fine in pairwise(errors)]


@pytest.mark.parametrize("kind", ["linear", "cosine", "rectified-flow"])
@pytest.mark.parametrize(("solver", "order"), [(ddim, 1.0), (dpmpp2m, 2.0), (heun, 2.0)])
def test_solvers_follow_the_flow_at_their_order(
    kind: ScheduleKind, solver: Callable[[Schedule], SamplerStep], order: float
) -> None:
    """Between two inner levels, where halving the steps halves every step of the log-SNR."""
    schedule = make_schedule(kind, T=8000)
    errors, orders = errors_and_orders(
        solver(schedule), schedule, [list(range(6400, 799, -gap)) for gap in (56, 28, 14, 7)]
    )
    assert orders == pytest.approx([order] * 3, abs=0.25), errors


@pytest.mark.parametrize("kind", ["linear", "cosine", "sigmoid", "rectified-flow"])
def test_ddim_converges_to_the_exact_sample_of_its_noise(kind: ScheduleKind) -> None:
    """From level T to 0: x_0 = mu + sqrt(C / (alpha_T^2 C + sigma_T^2)) (x_T - alpha_T mu), at order 1."""
    schedule = make_schedule(kind, T=8000)
    errors, orders = errors_and_orders(
        ddim(schedule), schedule, [schedule.levels(n) for n in (50, 100, 200, 400)]
    )
    assert orders == pytest.approx([1.0] * 3, abs=0.1), errors
    assert errors[-1] < 0.01


def test_dpmpp_needs_far_fewer_steps_than_ddim() -> None:
    schedule = make_schedule("cosine", T=8000)
    grids = [schedule.levels(n) for n in (25, 50, 100, 200)]
    first, _ = errors_and_orders(ddim(schedule), schedule, grids)
    second, _ = errors_and_orders(dpmpp2m(schedule), schedule, grids)
    assert all(fast < slow / 10 for fast, slow in zip(second, first, strict=True)), (first, second)


@pytest.mark.parametrize("kind", ["linear", "cosine", "rectified-flow"])
def test_heun_converges_to_the_exact_sample_over_karras_levels(kind: ScheduleKind) -> None:
    """From level T to 0 at order 2; over other levels the first move, out of pure noise, is of first
    order.
    """
    schedule = make_schedule(kind, T=8000)
    errors, orders = errors_and_orders(
        heun(schedule), schedule, [schedule.levels(n, "karras") for n in (18, 36, 72)]
    )
    assert orders == pytest.approx([2.0] * 2, abs=0.3), errors
    trailing, _ = errors_and_orders(heun(schedule), schedule, [schedule.levels(18)])
    assert trailing[0] < 0.1


def moments(
    schedule: Schedule, levels: list[int], kind: str, *, mu: float = MEAN, C: float = VARIANCE
) -> tuple[float, float]:
    """Mean and variance that the ancestral chain reaches on N(mu, C): a recursion over affine maps (Ho et
    al., eq. 7).
    """
    mean, variance = 0.0, 1.0
    for t, s in pairwise(levels):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        ratio = (alpha_t / alpha_s) ** 2
        forward = sigma_t**2 - ratio * sigma_s**2
        gain = alpha_t * C / (alpha_t**2 * C + sigma_t**2)
        on_x0, on_x = alpha_s * forward / sigma_t**2, math.sqrt(ratio) * sigma_s**2 / sigma_t**2
        tilde = forward * sigma_s**2 / sigma_t**2
        beta = forward * (alpha_s**2 + sigma_s**2) / (alpha_t**2 + sigma_t**2)
        share = {"small": 0.0, "large": 1.0, "learned": (SPREAD + 1) / 2}[kind]
        noise = beta**share * tilde ** (1 - share) if s > 0 else 0.0
        slope = on_x + on_x0 * gain
        mean, variance = slope * mean + on_x0 * (mu - gain * alpha_t * mu), slope**2 * variance + noise
    return mean, variance


@pytest.mark.parametrize("kind", ["small", "large", "learned"])
@pytest.mark.parametrize("steps", [4, 40])
@pytest.mark.parametrize("process", ["cosine", "rectified-flow"])
def test_ancestral_samples_have_the_moments_of_their_chain(
    process: ScheduleKind, kind: str, steps: int
) -> None:
    """Within 4.5 standard errors of 65,536 draws; the chain's own bias is the next test's."""
    schedule = make_schedule(process)
    levels = schedule.levels(steps)
    key = Key.of(11, 16)
    step = ddpm(schedule, variance=kind)  # type: ignore[arg-type]
    x = run(oracle(schedule), start(key, (4096,), dtype=torch.float64), levels, step, key)
    mean, variance = moments(schedule, levels, kind)
    assert abs(float(x.mean()) - mean) < 4.5 * math.sqrt(variance / x.numel())
    assert abs(float(x.var()) - variance) < 4.5 * variance * math.sqrt(2 / x.numel())


@pytest.mark.parametrize("kind", ["small", "large", "learned"])
@pytest.mark.parametrize("process", ["linear", "rectified-flow"])
def test_ancestral_moments_converge_to_the_data(process: ScheduleKind, kind: str) -> None:
    schedule = make_schedule(process, T=16_000)
    bias = []
    for steps in (250, 1000, 4000, 16_000):
        mean, variance = moments(schedule, schedule.levels(steps), kind)
        bias.append(abs(mean - MEAN) + abs(variance - VARIANCE))
    assert all(fine < coarse for coarse, fine in pairwise(bias)), bias
    assert bias[-1] < 0.01 * VARIANCE, bias


def test_a_full_covariance_comes_out_of_the_ancestral_chain() -> None:
    """Along the eigenvectors of C the chain is a scalar one: mean and covariance within 4.5 standard
    errors.
    """
    schedule = make_schedule("cosine")
    levels = schedule.levels(40)
    mean = torch.tensor([1.0, -0.5], dtype=torch.float64)
    covariance = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)

    def denoise(x: Tensor, t: int) -> Estimate:
        alpha, sigma = schedule.at(t)
        full = alpha**2 * covariance + sigma**2 * torch.eye(2, dtype=torch.float64)
        x0 = mean + (x - alpha * mean) @ torch.linalg.solve(full, alpha * covariance)
        return Estimate(x, t, 0.0, (x0,), (1.0,))

    n = 20_000
    key = Key.of(3, n)
    x = run(denoise, start(key, (2,), dtype=torch.float64), levels, ddpm(schedule), key)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    chains = [
        moments(schedule, levels, "small", mu=float(mu), C=float(C))
        for mu, C in zip(vectors.T @ mean, eigenvalues, strict=True)
    ]
    reached_mean, reached_variance = (
        torch.tensor(values, dtype=torch.float64) for values in zip(*chains, strict=True)
    )
    torch.testing.assert_close(x.mean(0), vectors @ reached_mean, rtol=0, atol=4.5 * math.sqrt(0.5 / n))
    reached = vectors @ reached_variance.diag() @ vectors.T
    torch.testing.assert_close(torch.cov(x.T), reached, rtol=0, atol=4.5 * 0.5 * math.sqrt(2 / n))
