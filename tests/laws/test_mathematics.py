"""The formulas of docs/mathematics.md, each held against the function it became by another way of computing
it.
"""

import math
import re
from itertools import pairwise

import pytest
import torch
from helpers import ROOT
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from latentdiff import ops
from latentdiff.config.cold import DegradationConfig
from latentdiff.config.diffusion import Prediction, ScheduleConfig
from latentdiff.diffusion.cold import cold_step, make_degradation
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.guidance import guided
from latentdiff.diffusion.illusions.compose import anagram, hybrid
from latentdiff.diffusion.illusions.views import frequencies, view
from latentdiff.diffusion.loop import noised
from latentdiff.diffusion.losses import MIN_SNR_GAMMA, VariationalBound, level_weights
from latentdiff.diffusion.operators import matrix
from latentdiff.diffusion.prediction import target, to_eps, to_x0
from latentdiff.diffusion.samplers import ddim, ddim_coefficients, ddpm, forward_sigma, heun
from latentdiff.diffusion.schedule import MAX_NOISE, Schedule, make_schedule
from latentdiff.diffusion.solvers import gaussian_update, half_quadratic, repaint, score_ald, with_renoising
from latentdiff.nn import Posterior
from latentdiff.ops.random import Key
from latentdiff.train.denoiser import VLB_WEIGHT

DOUBLE = torch.float64
SCHEDULE = make_schedule("cosine", T=100)
PREDICTIONS: tuple[Prediction, ...] = ("eps", "v", "x0", "score", "flow")
FLOW = make_schedule("rectified-flow", T=100)
MOVES = [(100, 60), (50, 49), (50, 20), (7, 1)]
KEY = Key.of(3, 5)


def normals(stream: int, *shape: int) -> Tensor:
    return Key(KEY.seeds, stream).normal(shape, dtype=DOUBLE)


def merged_beta(t: int, s: int) -> float:
    return 1 - (SCHEDULE.at(t)[0] / SCHEDULE.at(s)[0]) ** 2


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "cosine", "sigmoid", "constant"])
def test_noise_in_one_step(kind: str) -> None:
    """Step by step the factor of the image and the variance of the noise become alpha_t and sigma_t^2."""
    schedule = make_schedule(kind, T=50)  # type: ignore[arg-type]
    factor, variance, factors = 1.0, 0.0, {0: 1.0}
    for t in range(1, 51):
        beta = forward_sigma(schedule, t, t - 1) ** 2
        factor, variance = math.sqrt(1 - beta) * factor, (1 - beta) * variance + beta
        factors[t] = factor
        assert schedule.at(t) == pytest.approx((factor, math.sqrt(variance)), rel=1e-9)
    assert forward_sigma(schedule, 40, 10) == pytest.approx(math.sqrt(1 - (factors[40] / factors[10]) ** 2))
    x0 = normals(1, 6)
    alpha, sigma = schedule.at(30)
    key = KEY.at("init")
    torch.testing.assert_close(
        noised(x0, 30, schedule, KEY), alpha * x0 + sigma * key.normal((6,), dtype=DOUBLE)
    )
    row = torch.tensor([[alpha, sigma, *target("v", alpha, sigma)]], dtype=DOUBLE)
    x_t, v = ops.add_noise(x0, row, noise=x0.flip(0))
    torch.testing.assert_close(x_t, alpha * x0 + sigma * x0.flip(0))
    torch.testing.assert_close(v, alpha * x0.flip(0) - sigma * x0)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_any_alpha_and_sigma(t: int, s: int) -> None:
    """Rectified flow: its kernels, its largest reverse variance, and its moves as those of a process that
    preserves variance.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = FLOW.at(t), FLOW.at(s)
    r, beta = alpha_t / alpha_s, forward_sigma(FLOW, t, s) ** 2
    assert beta == pytest.approx(sigma_t**2 - r**2 * sigma_s**2, abs=1e-12)
    h_t, h_s = math.hypot(alpha_t, sigma_t), math.hypot(alpha_s, sigma_s)
    assert float(FLOW.reverse_variance(t, s)) == pytest.approx(h_s**2 / h_t**2 * beta)
    scaled = Schedule(FLOW.config, FLOW.alpha / h(FLOW), FLOW.sigma / h(FLOW))
    assert scaled.preserves_variance and not FLOW.preserves_variance
    for eta in (0.0, 0.5, 1.0):
        own, other = (ddim_coefficients(each, t, s, eta=eta) for each in (FLOW, scaled))
        assert own.k == pytest.approx(h_s / h_t * other.k, abs=1e-12)
        assert (own.m, own.c) == pytest.approx((h_s * other.m, h_s * other.c), abs=1e-12)
    assert beta == pytest.approx(h_t**2 * forward_sigma(scaled, t, s) ** 2)


def h(schedule: Schedule) -> Tensor:
    """The deviation of x_t for data of unit variance, [T + 1]."""
    return (schedule.alpha.square() + schedule.sigma.square()).sqrt()


@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["cosine", "flow"])
@pytest.mark.parametrize(("t", "s"), [(99, 60), *MOVES[1:]])
def test_the_posterior_of_a_step(t: int, s: int, schedule: Schedule) -> None:
    """The product of prior and likelihood, integrated on a grid of x_s."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    r = alpha_t / alpha_s
    beta = sigma_t**2 - r**2 * sigma_s**2
    move = ddim_coefficients(schedule, t, s, eta=1.0)
    grid = torch.linspace(-12, 12, 400_001, dtype=DOUBLE)
    for x0, x_t in ((0.7, -1.1), (-2.0, 0.4)):
        log = -((grid - alpha_s * x0) ** 2) / (2 * sigma_s**2) - (x_t - r * grid) ** 2 / (2 * beta)
        density = log.softmax(0)
        mean = float((density * grid).sum())
        variance = float((density * (grid - mean) ** 2).sum())
        assert mean == pytest.approx(move.k * x_t + move.m * x0, abs=1e-6)
        assert variance == pytest.approx(move.c**2, rel=1e-4)
        assert move.m == pytest.approx(alpha_s - move.k * alpha_t)


@pytest.mark.parametrize("t", [1, 30, 99])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_predictions_are_one_function(prediction: Prediction, t: int) -> None:
    """There and back: x_0 and eps from x_t and any output; v rotates."""
    alpha, sigma = SCHEDULE.at(t)
    x0, eps = normals(1, 8), normals(2, 8)
    x_t = alpha * x0 + sigma * eps
    v, score = alpha * eps - sigma * x0, -eps / sigma
    out = {"eps": eps, "v": v, "x0": x0, "score": score, "flow": eps - x0}[prediction]
    a, b = target(prediction, alpha, sigma)
    d = a * sigma - b * alpha
    assert to_x0(prediction, alpha, sigma) == pytest.approx((-b / d, sigma / d))
    assert to_eps(prediction, alpha, sigma) == pytest.approx((a / d, -alpha / d))
    torch.testing.assert_close(a * x0 + b * eps, out)
    p, q = to_x0(prediction, alpha, sigma)
    torch.testing.assert_close(p * x_t + q * out, x0, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close((x_t - alpha * (p * x_t + q * out)) / sigma, eps, rtol=1e-7, atol=1e-7)
    v = alpha * eps - sigma * x0
    torch.testing.assert_close(sigma * x_t + alpha * v, eps)
    torch.testing.assert_close(
        x_t.square() + v.square(), x0.square() + eps.square()
    )  # a rotation keeps lengths


def test_the_score_is_tweedies() -> None:
    """Images are one of three points: the mean over them is E[x_0 | x_t], autograd of the log-density the
    score.
    """
    alpha, sigma = SCHEDULE.at(40)
    points, shares = torch.tensor([-1.0, 0.3, 2.0], dtype=DOUBLE), torch.tensor([0.2, 0.5, 0.3], dtype=DOUBLE)
    x = torch.linspace(-3, 3, 25, dtype=DOUBLE)[:, None].requires_grad_()
    joint = shares.log() - (x - alpha * points) ** 2 / (2 * sigma**2)
    (score,) = torch.autograd.grad(joint.logsumexp(1).sum(), x)
    expected = (joint.softmax(1) * points).sum(1, keepdim=True)
    p, q = to_x0("score", alpha, sigma)
    torch.testing.assert_close(p * x + q * score, expected)
    noise = (joint.softmax(1) * (x - alpha * points) / sigma).sum(1, keepdim=True)
    torch.testing.assert_close(score, -noise / sigma)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_errors_of_outputs(prediction: Prediction) -> None:
    """An error of x_0 seen as one of the output, and weighed alike by min-SNR whatever the output is."""
    snr = SCHEDULE.snr()[1:]
    _, q = to_x0(prediction, SCHEDULE.alpha[1:], SCHEDULE.sigma[1:])
    factor = {
        "eps": snr,
        "v": snr + 1,
        "x0": torch.ones_like(snr),
        "score": snr / SCHEDULE.sigma[1:].square(),
        "flow": (snr.sqrt() + 1).square(),
    }
    torch.testing.assert_close(1 / q.square(), factor[prediction])
    weighed = level_weights(SCHEDULE, prediction, "min-snr")[1:] / q.square()
    torch.testing.assert_close(weighed, snr.clamp_max(MIN_SNR_GAMMA))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("t", "s"), MOVES)
def test_ddim_keeps_the_noise_levels(t: int, s: int, eta: float) -> None:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = SCHEDULE.at(t), SCHEDULE.at(s)
    move = ddim_coefficients(SCHEDULE, t, s, eta=eta)
    assert move.k * alpha_t + move.m == pytest.approx(alpha_s)
    assert (move.k * sigma_t) ** 2 + move.c**2 == pytest.approx(sigma_s**2)


@pytest.mark.parametrize("t", [2, 50, 100])
def test_eta_one_is_ddpm(t: int) -> None:
    """Ho et al. 2020, eq. 6 and 7, in their own letters."""
    bar, bar_before = SCHEDULE.at(t)[0] ** 2, SCHEDULE.at(t - 1)[0] ** 2
    beta = 1 - bar / bar_before
    move = ddim_coefficients(SCHEDULE, t, t - 1, eta=1.0)
    assert move.m == pytest.approx(math.sqrt(bar_before) * beta / (1 - bar))
    assert move.k == pytest.approx(math.sqrt(1 - beta) * (1 - bar_before) / (1 - bar))
    assert move.c**2 == pytest.approx((1 - bar_before) / (1 - bar) * beta)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_eta_zero_is_an_euler_step(t: int, s: int) -> None:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = SCHEDULE.at(t), SCHEDULE.at(s)
    x_t, x0 = normals(1, 8), normals(2, 8)
    move, eps = ddim_coefficients(SCHEDULE, t, s), (x_t - alpha_t * x0) / sigma_t
    y_s = x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) * eps
    torch.testing.assert_close((move.k * x_t + move.m * x0) / alpha_s, y_s, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_the_score_form(t: int, s: int) -> None:
    """The score is added; subtracted, or with the noise added, it is another move."""
    alpha, sigma = SCHEDULE.at(t)
    beta, small = merged_beta(t, s), ddim_coefficients(SCHEDULE, t, s, eta=1.0).c
    x_t, score, key = normals(1, 8), normals(2, 8), KEY.at("step", t)

    def denoise(x: Tensor, level: int) -> Estimate:
        p, q = to_x0("score", alpha, sigma)
        return Estimate(x, level, p, (score,), (q,))

    x_s, _ = ddpm(SCHEDULE)(denoise, x_t, t, s, key, None)
    noise = small * key.normal((8,), dtype=DOUBLE)
    torch.testing.assert_close(x_s, (x_t + beta * score) / math.sqrt(1 - beta) + noise, rtol=1e-6, atol=1e-6)
    eps = -sigma * score
    torch.testing.assert_close(
        x_s, (x_t - beta / sigma * eps) / math.sqrt(1 - beta) + noise, rtol=1e-6, atol=1e-6
    )
    assert not torch.allclose(x_s, (x_t - beta * score) / math.sqrt(1 - beta) + noise, atol=1e-3)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_ddim_is_the_integral_of_a_constant(t: int, s: int) -> None:
    lam = torch.linspace(SCHEDULE.log_snr(t), SCHEDULE.log_snr(s), 200_001, dtype=DOUBLE)
    move, (_, sigma_t), (_, sigma_s) = ddim_coefficients(SCHEDULE, t, s), SCHEDULE.at(t), SCHEDULE.at(s)
    assert move.m == pytest.approx(sigma_s * float(torch.trapezoid(lam.exp(), lam)), rel=1e-6)
    assert move.k == pytest.approx(sigma_s / sigma_t)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_rectified_flow(t: int, s: int) -> None:
    """The straight line and its velocity: DDIM is an Euler step along what the network returns."""
    x0, eps, out = normals(1, 8), normals(2, 8), normals(3, 8)
    alpha, sigma = FLOW.at(t)
    assert (alpha, sigma) == pytest.approx((1 - t / 100, t / 100))
    u = torch.tensor(t / 100, dtype=DOUBLE, requires_grad=True)
    (velocity,) = torch.autograd.grad(((1 - u) * x0 + u * eps)[0, 0], u)
    a, b = target("flow", alpha, sigma)
    assert float(velocity) == pytest.approx(float((a * x0 + b * eps)[0, 0]))
    p, q = to_x0("flow", alpha, sigma)
    assert (p, q) == pytest.approx((1, -sigma))

    def denoise(x: Tensor, level: int) -> Estimate:
        return Estimate(x, level, p, (out,), (q,))

    x_s, _ = ddim(FLOW)(denoise, x0, t, s, KEY, None)
    torch.testing.assert_close(x_s, x0 + (s - t) / 100 * out)


@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["cosine", "flow"])
@pytest.mark.parametrize(("t", "s"), [(90, 60), *MOVES[1:], (30, 0)])
def test_heun(t: int, s: int, schedule: Schedule) -> None:
    """The mean of two slopes in y = x / alpha over tau = sigma / alpha, and the weight h that it becomes."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    tau_t, tau_s = sigma_t / alpha_t, sigma_s / alpha_s

    def denoise(x: Tensor, level: int) -> Estimate:
        return Estimate.from_x0(x, level, x0=(x + level / 100).sin())

    x = normals(1, 8)
    y = x / alpha_t
    slope = (y - denoise(x, t).x0()) / tau_t
    expected = y + (tau_s - tau_t) * slope
    if s:
        other = (expected - denoise(alpha_s * expected, s).x0()) / tau_s
        expected = y + (tau_s - tau_t) * (slope + other) / 2
    found, _ = heun(schedule)(denoise, x, t, s, KEY, None)
    torch.testing.assert_close(found / alpha_s, expected)
    first, _ = ddim(FLOW)(denoise, x, 100, 60, KEY, None)  # out of pure noise: one slope
    assert torch.equal(heun(FLOW)(denoise, x, 100, 60, KEY, None)[0], first)
    levels = make_schedule("cosine", T=100_000).levels(9, "karras")[1:5]
    noise = [make_schedule("cosine", T=100_000).at(level) for level in levels]
    roots = [(sigma / alpha) ** (1 / 7) for alpha, sigma in noise]
    steps = [MAX_NOISE ** (1 / 7) - roots[0], *(a - b for a, b in pairwise(roots))]
    assert steps == pytest.approx([steps[0]] * 4, rel=0.01)


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_guidance_is_a_gradient(w: float) -> None:
    """Two classes of points: log p(x_t) + w log p(y | x_t) by autograd, against the mixture of two
    estimates.
    """
    alpha, sigma = SCHEDULE.at(50)
    points = torch.tensor([[-1.0, 0.2], [0.6, 2.0]], dtype=DOUBLE)  # [class, point]
    x = torch.linspace(-3, 3, 25, dtype=DOUBLE)[:, None].requires_grad_()
    joint = -((x[..., None] - alpha * points) ** 2) / (2 * sigma**2)  # [N, class, point]
    of_class, total = joint.logsumexp(2), joint.logsumexp((1, 2))
    (score,) = torch.autograd.grad((total + w * (of_class[:, 1] - total)).sum(), x, retain_graph=True)
    cond = (joint[:, 1].softmax(1) * points[1]).sum(1, keepdim=True)
    uncond = (joint.flatten(1).softmax(1) * points.flatten()).sum(1, keepdim=True)
    mixed = guided(Estimate.from_x0(x, 50, x0=cond), Estimate.from_x0(x, 50, x0=uncond), w).x0()
    torch.testing.assert_close(mixed, (x + sigma**2 * score) / alpha)


@pytest.mark.parametrize("schedule", [SCHEDULE, FLOW], ids=["cosine", "flow"])
@pytest.mark.parametrize("t", [2, 50, 100])
def test_a_term_of_the_bound(t: int, schedule: Schedule) -> None:
    x0, x_t, guess = normals(1, 8), normals(2, 8), normals(3, 8)
    snr = schedule.snr()
    expected = (snr[t - 1] - snr[t]) / 2 * (x0 - guess).square().mean(1) / math.log(2)
    smallest = torch.full_like(x0, -1.0)  # the range output that means the posterior's own variance
    found = VariationalBound(schedule, bins=False)(x0, x_t, guess, smallest, torch.full((5,), t))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_an_estimate_that_has_seen_a_measurement() -> None:
    """Two unknown numbers, one measured sum: prior times likelihood, summed on a grid."""
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=DOUBLE)
    a, y, sigma, x0 = (
        torch.tensor([[1.0, -2.0]], dtype=DOUBLE),
        torch.tensor([[0.8]], dtype=DOUBLE),
        0.4,
        (0.3, -0.1),
    )
    side = torch.linspace(-5, 5, 801, dtype=DOUBLE)
    grid = torch.cartesian_prod(side, side)
    away = grid - torch.tensor(x0, dtype=DOUBLE)
    log = -(away @ torch.linalg.inv(covariance) * away).sum(1) / 2 - (y[0, 0] - grid @ a[0]) ** 2 / (
        2 * sigma**2
    )
    expected = log.softmax(0) @ grid
    found = gaussian_update(a, y, lambda t: covariance, sigma=sigma)(torch.tensor([x0], dtype=DOUBLE), 10)
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("strength", [1.0, 7.0])
def test_diffpir_is_its_isotropic_case(strength: float) -> None:
    a, y, x0 = normals(1, 6)[:3], normals(2, 3), normals(3, 6)
    alpha, sigma_t = SCHEDULE.at(60)
    spread = sigma_t**2 / (strength * alpha**2) * torch.eye(6, dtype=DOUBLE)
    exact = gaussian_update(a, y, lambda t: spread, sigma=0.3)(x0, 60)
    found = half_quadratic(matrix(a), y, SCHEDULE, sigma=0.3, strength=strength)(x0, 60)
    torch.testing.assert_close(found, exact, rtol=1e-6, atol=1e-6)


def test_scoreald_is_the_gradient_of_its_likelihood() -> None:
    """Autograd of log N(y; A x_t / alpha_t, sigma^2 + gamma_t^2), through Tweedie's formula, where no move
    overshoots.
    """
    t, s, sigma, anneal = 20, 19, 0.5, 0.5
    alpha, sigma_t = SCHEDULE.at(t)
    a, y, x0 = normals(1, 6)[:3], normals(2, 3), normals(3, 6)
    x = normals(4, 6).requires_grad_()
    variance = sigma**2 + (anneal * sigma_t / alpha) ** 2
    likelihood = -(y - (x / alpha) @ a.T).square().sum() / (2 * variance)
    (gradient,) = torch.autograd.grad(likelihood, x)
    seen: list[Tensor] = []

    def remember(denoise, x, t, s, key, previous):  # type: ignore[no-untyped-def]
        seen.append(denoise(x, t).x0())
        return x, denoise(x, t)

    step = score_ald(remember, matrix(a), y, SCHEDULE, sigma=sigma, anneal=anneal)
    step(lambda x, t: Estimate.from_x0(x, t, x0=x0), x.detach(), t, s, KEY, None)
    torch.testing.assert_close(seen[0], x0 + sigma_t**2 / alpha * gradient)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "constant", "cosine", "sigmoid"])
def test_schedules(kind: str) -> None:
    """The table's formulas, in the letters of the page, at T = 1000 and, with betas three times as large, at
    T = 333.
    """
    sigmoid = [1 / (1 + math.exp(-u)) for u in (3, -3)]
    for T in (1000, 333):
        schedule, u = make_schedule(kind, T=T), torch.arange(T + 1, dtype=DOUBLE) / T  # type: ignore[arg-type]
        t = torch.arange(1, T + 1, dtype=DOUBLE)
        if kind == "cosine":
            f = ((u + 0.008) / 1.008 * math.pi / 2).cos().square()
            bar = f / f[0]
            bar[-1] = bar[-2] * (1 - 0.999)  # the cap
        elif kind == "sigmoid":
            bar = (sigmoid[0] - (6 * u - 3).sigmoid()) / (sigmoid[0] - sigmoid[1])
            bar[-1] = bar[-2] * (1 - 0.999)
        else:
            a, b = (
                1000 / T * x
                for x in {
                    "linear": (1e-4, 0.02),
                    "scaled_linear": (0.00085, 0.012),
                    "constant": (0.01, 0.01),
                }[kind]
            )
            share = (t - 1) / (T - 1)
            beta = (
                (a**0.5 + share * (b**0.5 - a**0.5)) ** 2 if kind == "scaled_linear" else a + share * (b - a)
            )
            bar = torch.cat([t.new_ones(1), (1 - beta).cumprod(0)])
        torch.testing.assert_close(schedule.alpha.square(), bar, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(schedule.sigma.square(), 1 - bar, rtol=1e-9, atol=1e-12)
        zero = make_schedule(ScheduleConfig(kind=kind, T=T, zero_terminal_snr=True)).alpha  # type: ignore[arg-type]
        alpha = schedule.alpha
        torch.testing.assert_close(zero[1:], (alpha[1:] - alpha[-1]) * alpha[1] / (alpha[1] - alpha[-1]))
        assert zero[0] == 1 and zero[1] == pytest.approx(float(alpha[1])) and zero[-1] == 0


@pytest.mark.parametrize("t", [1, 40, 100])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_last_move(t: int, eta: float) -> None:
    move = ddim_coefficients(SCHEDULE, t, 0, eta=eta)
    assert (move.k, move.m, move.c) == pytest.approx((0, 1, 0), abs=1e-12)


@pytest.mark.parametrize("s", [0.2, 0.5, 1.7])
@pytest.mark.parametrize("t", [1, 30, 99])
def test_preconditioning(t: int, s: float) -> None:
    """For normal data of deviation s: c_skip is the regression of x_0 on x_t, c_out the deviation of the rest
    over s.

    The output has the deviation of the data.
    """
    alpha, sigma = SCHEDULE.at(t)
    n = 400_000
    x0, eps = s * normals(1, n)[0], normals(2, n)[0]
    x_t = alpha * x0 + sigma * eps
    p, q = to_x0("x0", alpha, sigma, sigma_data=s)
    rest = x0 - p * x_t
    assert float(x0 @ x_t / (x_t @ x_t)) == pytest.approx(p, abs=5 * s / n**0.5)
    assert float(rest.std()) == pytest.approx(s * q, rel=0.01)
    a, b = target("x0", alpha, sigma, sigma_data=s)
    assert (a**2 * s**2 + b**2) ** 0.5 == pytest.approx(s)
    torch.testing.assert_close(a * x0 + b * eps, rest / q, rtol=1e-7, atol=1e-7)
    assert a == pytest.approx(q) and abs(b) <= s


def test_preconditioning_does_no_harm() -> None:
    """A network that loses e_0 of the image and answers no noise is off by less than the input at every
    level.

    That is so if s is e_0 / sqrt(2) or more.
    """
    schedule, e0 = make_schedule("cosine"), 0.25
    alpha, sigma = schedule.alpha[1:], schedule.sigma[1:]
    for s, harmless in ((e0 / 2**0.5, True), (0.4, True), (0.1, False), (0.0, False)):
        p, q = to_x0("x0", alpha, sigma, sigma_data=s)
        a, _ = target("x0", alpha, sigma, sigma_data=s)
        torch.testing.assert_close(p * alpha + q * a, torch.ones_like(alpha))  # the image itself passes whole
        off = ((p * sigma).square() + (q * a * e0).square()).sqrt()
        assert bool((off <= sigma / alpha * (1 + 1e-9)).all()) == harmless


@pytest.mark.parametrize("t", [2, 50, 100])
def test_the_simple_loss_is_the_bound_without_its_weights(t: int) -> None:
    """Ho et al. 2020, eq.

    12, against the bound's term of the package; the simple loss is eps-prediction's uniform one.
    """
    (alpha, sigma), beta = SCHEDULE.at(t), merged_beta(t, t - 1)
    tilde = ddim_coefficients(SCHEDULE, t, t - 1, eta=1.0).c ** 2
    x0, eps, guess = normals(1, 8), normals(2, 8), normals(3, 8)
    p, q = to_x0("eps", alpha, sigma)
    x_t = alpha * x0 + sigma * eps
    expected = beta**2 / (2 * tilde * (1 - beta) * sigma**2) * (eps - guess).square().mean(1) / math.log(2)
    smallest = torch.full_like(x0, -1.0)
    found = VariationalBound(SCHEDULE, bins=False)(
        x0, x_t, p * x_t + q * guess, smallest, torch.full((5,), t)
    )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    assert bool((level_weights(SCHEDULE, "eps", "uniform")[1:] == 1).all())


@pytest.mark.parametrize("f", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("t", [2, 50, 100])
def test_a_learned_variance(t: int, f: float) -> None:
    beta, move = merged_beta(t, t - 1), ddim_coefficients(SCHEDULE, t, t - 1, eta=1.0)
    tilde = move.c**2
    variance = math.exp(f * math.log(beta) + (1 - f) * math.log(tilde))
    x0, x_t, guess = normals(1, 8), normals(2, 8), normals(3, 8)
    error = (move.m * (x0 - guess)).square()
    expected = 0.5 * (math.log(variance / tilde) + (tilde + error) / variance - 1).mean(1) / math.log(2)
    spread = torch.full_like(x0, 2 * f - 1)  # the output in [-1, 1] that stands for f
    found = VariationalBound(SCHEDULE, bins=False)(x0, x_t, guess, spread, torch.full((5,), t))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    assert VLB_WEIGHT == 0.001


def test_the_bound_of_the_autoencoder() -> None:
    """KL against torch's; the bound of a linear decoder is tight at its true posterior.

    Its negative is the loss with beta = 2 tau^2.
    """
    mean, logvar = normals(1, 6), normals(2, 6)
    expected = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(torch.zeros(()), 1.0)).sum(1)
    torch.testing.assert_close(Posterior(mean, logvar).kl().double(), expected, rtol=1e-5, atol=1e-5)
    a, tau, x = 0.8, 0.5, torch.tensor(1.3, dtype=DOUBLE)  # x = a z + tau n: p(x) and p(z | x) are known
    variance = 1 / (1 + a**2 / tau**2)
    truth = Posterior(
        torch.full((1, 1), a * float(x) / tau**2 * variance, dtype=DOUBLE),
        torch.full((1, 1), math.log(variance), dtype=DOUBLE),
    )
    evidence = float(Normal(0.0, math.sqrt(a**2 + tau**2)).log_prob(x))
    for posterior, gap in ((truth, 0.0), (Posterior(torch.zeros(1, 1), torch.zeros(1, 1)), None)):
        mu, s2 = float(posterior.mean), float(posterior.logvar.exp())
        error = float((x - a * mu) ** 2) + a**2 * s2  # E|x - a z|^2
        bound = -error / (2 * tau**2) - math.log(tau * math.sqrt(2 * math.pi)) - float(posterior.kl())
        if gap is None:
            apart = kl_divergence(Normal(mu, math.sqrt(s2)), Normal(float(truth.mean), math.sqrt(variance)))
            gap = float(apart)
        assert evidence - bound == pytest.approx(gap, abs=1e-5)
        loss = error + 2 * tau**2 * float(posterior.kl())
        assert loss == pytest.approx(2 * tau**2 * (-bound - math.log(tau * math.sqrt(2 * math.pi))))


@pytest.mark.parametrize("t", [5, 50, 100])
def test_sdedit_starts(t: int) -> None:
    (alpha, sigma), snr = SCHEDULE.at(t), float(SCHEDULE.snr()[t])
    x, other = normals(1, 8), normals(2, 8)
    apart = kl_divergence(Normal(alpha * x, sigma), Normal(alpha * other, sigma)).sum(1)
    torch.testing.assert_close(apart, snr / 2 * (x - other).square().sum(1))
    assert float(make_schedule(ScheduleConfig(T=50, zero_terminal_snr=True)).snr()[-1]) == 0


def test_repaint_moves() -> None:
    """Down: the known part is noised to level s, exact at 0.

    Up: the joining step, which keeps the noise level.
    """
    known, mask = normals(1, 8), (torch.arange(8) < 3).double()

    def stay(denoise, x, t, s, key, previous):  # type: ignore[no-untyped-def]
        return x, Estimate.from_x0(x, t, x0=x)

    x = normals(2, 8)
    for t, s in ((50, 20), (7, 0)):
        alpha, sigma = SCHEDULE.at(s)
        key = KEY.at("step", t)
        z = key.with_purpose("known").normal((8,), dtype=DOUBLE)
        found, _ = repaint(stay, known, mask, SCHEDULE)(
            lambda x, t: Estimate.from_x0(x, t, x0=x), x, t, s, key, None
        )
        torch.testing.assert_close(found, mask * (alpha * known + sigma * z) + (1 - mask) * x)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = SCHEDULE.at(20), SCHEDULE.at(50)
    r, key = alpha_t / alpha_s, KEY.at("step", 20)
    up, _ = with_renoising(stay, SCHEDULE)(lambda x, t: Estimate.from_x0(x, t, x0=x), x, 20, 50, key, None)
    torch.testing.assert_close(up, r * x + math.sqrt(1 - r**2) * key.normal((8,), dtype=DOUBLE))
    assert r**2 * sigma_s**2 + 1 - r**2 == pytest.approx(sigma_t**2)


def test_views_turn_noise_into_noise() -> None:
    """V^T V = I for the views of the package, and an anagram's estimate is the sum of the page."""
    x, outs = normals(1, 3, 4, 4), (normals(2, 3, 4, 4), normals(3, 3, 4, 4))
    turned, shares = view("rotate90"), (0.3, 0.7)
    for name in ("rotate90", "rotate180", "flip", "mirror", "negative", "patches"):
        columns = view(name)(torch.eye(48, dtype=DOUBLE).view(48, 3, 4, 4)).flatten(1)
        torch.testing.assert_close(columns @ columns.T, torch.eye(48, dtype=DOUBLE))
    seen: list[Tensor] = []

    def eps(k: int) -> Denoiser:
        def denoise(x: Tensor, t: int) -> Estimate:
            seen.append(x)
            p, q = to_x0("eps", *SCHEDULE.at(t))
            return Estimate(x, t, p, (outs[k],), (q,))

        return denoise

    found = anagram([(eps(0), view("identity")), (eps(1), turned)], weights=shares)(x, 50).x0()
    p, q = to_x0("eps", *SCHEDULE.at(50))
    estimates = [p * x + q * outs[0], turned.back(p * turned(x) + q * outs[1])]
    torch.testing.assert_close(found, shares[0] * estimates[0] + shares[1] * estimates[1])
    torch.testing.assert_close(seen[1], turned(x))


def test_hybrids_of_noise_are_hybrids_of_images() -> None:
    """The mixture of the estimates, read as noise, is the low band of one noise and what the other has
    besides.
    """
    alpha, sigma = SCHEDULE.at(50)
    x, one, two = normals(1, 1, 8, 8), normals(2, 1, 8, 8), normals(3, 1, 8, 8)
    low, high = frequencies((1, 8, 8), (1.5,))
    p, q = to_x0("eps", alpha, sigma)

    def eps(out: Tensor) -> Denoiser:
        return lambda x, t: Estimate(x, t, p, (out,), (q,))

    x0 = hybrid([(eps(one), low), (eps(two), high)])(x, 50).x0()
    torch.testing.assert_close((x - alpha * x0) / sigma, low(one) + (two - low(two)))
    torch.testing.assert_close(hybrid([(eps(one), low), (eps(one), high)])(x, 50).x0(), p * x + q * one)


@pytest.mark.parametrize("kind", ["blur", "pixelate", "fade"])
def test_cold_moves(kind: str) -> None:
    degrade = make_degradation(DegradationConfig(degradation=kind, T=10), (1, 8, 8))  # type: ignore[arg-type]
    x0, error = normals(1, 1, 8, 8), normals(2, 1, 8, 8)
    x_t, guess = degrade(x0, 7), x0 + error
    moved = {}
    for improved in (False, True):
        step = cold_step(degrade, improved=improved)
        moved[improved], _ = step(lambda x, t: Estimate.from_x0(x, t, x0=guess), x_t, 7, 5, KEY, None)
    torch.testing.assert_close(moved[False] - degrade(x0, 5), degrade(error, 5))
    torch.testing.assert_close(moved[True] - degrade(x0, 5), degrade(error, 5) - degrade(error, 7))
    # with noise of one direction for a degradation, both are deterministic DDIM
    noise = (x_t - SCHEDULE.at(70)[0] * guess) / SCHEDULE.at(70)[1]

    def noising(x: Tensor, t: int) -> Tensor:
        alpha, sigma = SCHEDULE.at(t)
        return alpha * x + sigma * noise

    move = ddim_coefficients(SCHEDULE, 70, 50)
    for improved in (False, True):
        step = cold_step(noising, improved=improved)  # type: ignore[arg-type]
        found, _ = step(lambda x, t: Estimate.from_x0(x, t, x0=guess), x_t, 70, 50, KEY, None)
        torch.testing.assert_close(found, move.k * x_t + move.m * guess)


def test_what_reports_get_wrong() -> None:
    """docs/errata.md: the right column passes the check of its row, the left one does not."""
    t = 50
    bar, before = SCHEDULE.at(t)[0] ** 2, SCHEDULE.at(t - 1)[0] ** 2
    beta = 1 - bar / before
    a = 1 - beta  # DDPM's alpha_t
    assert a + (1 - a) == 1 and a + a != pytest.approx(1)
    assert merged_beta(t, t - 1) == pytest.approx(1 - a) and forward_sigma(
        SCHEDULE, t, t - 1
    ) ** 2 == pytest.approx(1 - a)
    assert SCHEDULE.at(t)[1] == pytest.approx(math.sqrt(1 - bar)) != pytest.approx(1 - bar)
    of_x0, of_x_t = math.sqrt(before) * beta / (1 - bar), math.sqrt(a) * (1 - before) / (1 - bar)
    move = ddim_coefficients(SCHEDULE, t, t - 1, eta=1.0)
    assert (move.m, move.k) == pytest.approx((of_x0, of_x_t))
    assert of_x0 + of_x_t * math.sqrt(bar) == pytest.approx(math.sqrt(before))
    assert math.sqrt(before * beta) / (1 - bar) + of_x_t * math.sqrt(bar) != pytest.approx(
        math.sqrt(before), rel=1e-2
    )
    assert before * (1 - merged_beta(t, t - 1)) == pytest.approx(bar)
    eps, (low, high) = normals(1, 1, 8, 8), frequencies((1, 8, 8), (1.5,))
    torch.testing.assert_close(low(eps) + high(eps), eps)
    assert not torch.allclose(low(eps) + (eps - high(eps)), eps, atol=1e-2)
    turned = view("rotate180")
    commuting = [
        0.5 * (eps + turned(eps)),
        0.5 * (eps + turned.back(turned(eps))),
    ]  # a denoiser with eps(V x) = V eps(x)
    assert not torch.allclose(commuting[0], eps, atol=1e-2) and torch.allclose(commuting[1], eps)
    cond, uncond = normals(2, 4), normals(3, 4)
    pair = guided(Estimate.from_x0(eps, t, x0=cond), Estimate.from_x0(eps, t, x0=uncond), 1.0)
    torch.testing.assert_close(
        pair.outputs[0] * pair.q[0] + pair.outputs[1] * pair.q[1], uncond + 1.0 * (cond - uncond)
    )
    page = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
    assert "`what_reports_get_wrong`" in page


def test_the_page_names_every_test_and_no_other() -> None:
    page = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    lines = re.findall(r"\*Tests?\*:(.*?)(?:\n\n|\Z)", page, re.DOTALL)
    named = {name for line in lines for name in re.findall(r"`([a-z_]+)`", line)}
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    of_errata = {"what_reports_get_wrong"}
    assert named == here - of_errata - {"the_page_names_every_test_and_no_other"}
