"""The formulas of docs/mathematics.md, each held against the function it became by another way of computing it."""

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.config.diffusion import Prediction
from latentdiff.denoise import Estimate, guided
from latentdiff.loss import MIN_SNR_GAMMA, VariationalBound, level_weights
from latentdiff.operators import matrix
from latentdiff.predict import target, to_x0
from latentdiff.random import Key
from latentdiff.sample import noised
from latentdiff.schedule import make_schedule
from latentdiff.solve import ald, gaussian_update, half_quadratic
from latentdiff.step import ddpm, forward_std, reverse_move

DOUBLE = torch.float64
SCHEDULE = make_schedule("cosine", T=100)
PREDICTIONS: tuple[Prediction, ...] = ("eps", "v", "x0", "score")
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
        beta = forward_std(schedule, t, t - 1) ** 2
        factor, variance = math.sqrt(1 - beta) * factor, (1 - beta) * variance + beta
        factors[t] = factor
        assert schedule.at(t) == pytest.approx((factor, math.sqrt(variance)), rel=1e-9)
    assert forward_std(schedule, 40, 10) == pytest.approx(math.sqrt(1 - (factors[40] / factors[10]) ** 2))
    x0 = normals(1, 6)
    alpha, sigma = schedule.at(30)
    key = KEY.at("init")
    torch.testing.assert_close(noised(x0, 30, schedule, KEY), alpha * x0 + sigma * key.normal((6,), dtype=DOUBLE))
    row = torch.tensor([[alpha, sigma, *target("v", alpha, sigma)]], dtype=DOUBLE)
    x_t, v = ops.add_noise(x0, row, noise=x0.flip(0))
    torch.testing.assert_close(x_t, alpha * x0 + sigma * x0.flip(0))
    torch.testing.assert_close(v, alpha * x0.flip(0) - sigma * x0)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_the_posterior_of_a_step(t: int, s: int) -> None:
    """The product of prior and likelihood, integrated on a grid of x_s."""
    (alpha_s, sigma_s), r, beta = SCHEDULE.at(s), math.sqrt(1 - merged_beta(t, s)), merged_beta(t, s)
    move = reverse_move(SCHEDULE, t, s, eta=1.0)
    grid = torch.linspace(-12, 12, 400_001, dtype=DOUBLE)
    for x0, x_t in ((0.7, -1.1), (-2.0, 0.4)):
        log = -((grid - alpha_s * x0) ** 2) / (2 * sigma_s**2) - (x_t - r * grid) ** 2 / (2 * beta)
        density = log.softmax(0)
        mean = float((density * grid).sum())
        variance = float((density * (grid - mean) ** 2).sum())
        assert mean == pytest.approx(move.k * x_t + move.m * x0, abs=1e-6)
        assert variance == pytest.approx(move.c**2, rel=1e-4)
        assert move.m == pytest.approx(alpha_s - move.k * SCHEDULE.at(t)[0])


@pytest.mark.parametrize("t", [1, 30, 99])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_predictions_are_one_function(prediction: Prediction, t: int) -> None:
    """There and back: x_0 and eps from x_t and any output; v rotates."""
    alpha, sigma = SCHEDULE.at(t)
    x0, eps = normals(1, 8), normals(2, 8)
    x_t = alpha * x0 + sigma * eps
    out = {"eps": eps, "v": alpha * eps - sigma * x0, "x0": x0, "score": -eps / sigma}[prediction]
    a, b = target(prediction, alpha, sigma)
    torch.testing.assert_close(a * x0 + b * eps, out)
    p, q = to_x0(prediction, alpha, sigma)
    torch.testing.assert_close(p * x_t + q * out, x0, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close((x_t - alpha * (p * x_t + q * out)) / sigma, eps, rtol=1e-7, atol=1e-7)
    v = alpha * eps - sigma * x0
    torch.testing.assert_close(sigma * x_t + alpha * v, eps)
    torch.testing.assert_close(x_t.square() + v.square(), x0.square() + eps.square())  # a rotation keeps lengths


def test_the_score_is_tweedies() -> None:
    """Images are one of three points: the mean over them is E[x_0 | x_t], autograd of the log-density the score."""
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
    factor = {"eps": snr, "v": snr + 1, "x0": torch.ones_like(snr), "score": snr / SCHEDULE.sigma[1:].square()}
    torch.testing.assert_close(1 / q.square(), factor[prediction])
    weighed = level_weights(SCHEDULE, prediction, "min-snr")[1:] / q.square()
    torch.testing.assert_close(weighed, snr.clamp_max(MIN_SNR_GAMMA))


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("t", "s"), MOVES)
def test_ddim_keeps_the_noise_levels(t: int, s: int, eta: float) -> None:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = SCHEDULE.at(t), SCHEDULE.at(s)
    move = reverse_move(SCHEDULE, t, s, eta=eta)
    assert move.k * alpha_t + move.m == pytest.approx(alpha_s)
    assert (move.k * sigma_t) ** 2 + move.c**2 == pytest.approx(sigma_s**2)


@pytest.mark.parametrize("t", [2, 50, 100])
def test_eta_one_is_ddpm(t: int) -> None:
    """Ho et al. 2020, eq. 6 and 7, in their own letters."""
    bar, bar_before = SCHEDULE.at(t)[0] ** 2, SCHEDULE.at(t - 1)[0] ** 2
    beta = 1 - bar / bar_before
    move = reverse_move(SCHEDULE, t, t - 1, eta=1.0)
    assert move.m == pytest.approx(math.sqrt(bar_before) * beta / (1 - bar))
    assert move.k == pytest.approx(math.sqrt(1 - beta) * (1 - bar_before) / (1 - bar))
    assert move.c**2 == pytest.approx((1 - bar_before) / (1 - bar) * beta)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_eta_zero_is_an_euler_step(t: int, s: int) -> None:
    (alpha_t, sigma_t), (alpha_s, sigma_s) = SCHEDULE.at(t), SCHEDULE.at(s)
    x_t, x0 = normals(1, 8), normals(2, 8)
    move, eps = reverse_move(SCHEDULE, t, s), (x_t - alpha_t * x0) / sigma_t
    y_s = x_t / alpha_t + (sigma_s / alpha_s - sigma_t / alpha_t) * eps
    torch.testing.assert_close((move.k * x_t + move.m * x0) / alpha_s, y_s, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_the_score_form(t: int, s: int) -> None:
    """The score is added; subtracted, or with the noise added, it is another move."""
    alpha, sigma = SCHEDULE.at(t)
    beta, small = merged_beta(t, s), reverse_move(SCHEDULE, t, s, eta=1.0).c
    x_t, score, key = normals(1, 8), normals(2, 8), KEY.at("step", t)

    def denoise(x: Tensor, level: int) -> Estimate:
        p, q = to_x0("score", alpha, sigma)
        return Estimate(x, level, p, (score,), (q,))

    x_s, _ = ddpm(SCHEDULE)(denoise, x_t, t, s, key, None)
    noise = small * key.normal((8,), dtype=DOUBLE)
    torch.testing.assert_close(x_s, (x_t + beta * score) / math.sqrt(1 - beta) + noise, rtol=1e-6, atol=1e-6)
    eps = -sigma * score
    torch.testing.assert_close(x_s, (x_t - beta / sigma * eps) / math.sqrt(1 - beta) + noise, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(x_s, (x_t - beta * score) / math.sqrt(1 - beta) + noise, atol=1e-3)


@pytest.mark.parametrize(("t", "s"), MOVES)
def test_ddim_is_the_integral_of_a_constant(t: int, s: int) -> None:
    lam = torch.linspace(SCHEDULE.log_snr(t), SCHEDULE.log_snr(s), 200_001, dtype=DOUBLE)
    move, (_, sigma_t), (_, sigma_s) = reverse_move(SCHEDULE, t, s), SCHEDULE.at(t), SCHEDULE.at(s)
    assert move.m == pytest.approx(sigma_s * float(torch.trapezoid(lam.exp(), lam)), rel=1e-6)
    assert move.k == pytest.approx(sigma_s / sigma_t)


@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_guidance_is_a_gradient(w: float) -> None:
    """Two classes of points: log p(x_t) + w log p(y | x_t) by autograd, against the mixture of two estimates."""
    alpha, sigma = SCHEDULE.at(50)
    points = torch.tensor([[-1.0, 0.2], [0.6, 2.0]], dtype=DOUBLE)  # [class, point]
    x = torch.linspace(-3, 3, 25, dtype=DOUBLE)[:, None].requires_grad_()
    joint = -((x[..., None] - alpha * points) ** 2) / (2 * sigma**2)  # [N, class, point]
    of_class, total = joint.logsumexp(2), joint.logsumexp((1, 2))
    (score,) = torch.autograd.grad((total + w * (of_class[:, 1] - total)).sum(), x, retain_graph=True)
    cond = (joint[:, 1].softmax(1) * points[1]).sum(1, keepdim=True)
    uncond = (joint.flatten(1).softmax(1) * points.flatten()).sum(1, keepdim=True)
    mixed = guided(Estimate.known(x, 50, x0=cond), Estimate.known(x, 50, x0=uncond), w).x0()
    torch.testing.assert_close(mixed, (x + sigma**2 * score) / alpha)


@pytest.mark.parametrize("t", [2, 50, 100])
def test_a_term_of_the_bound(t: int) -> None:
    x0, x_t, guess = normals(1, 8), normals(2, 8), normals(3, 8)
    snr = SCHEDULE.snr()
    expected = (snr[t - 1] - snr[t]) / 2 * (x0 - guess).square().mean(1) / math.log(2)
    smallest = torch.full_like(x0, -1.0)  # the range output that means the posterior's own variance
    found = VariationalBound(SCHEDULE, bins=False)(x0, x_t, guess, smallest, torch.full((5,), t))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


def test_an_estimate_that_has_seen_a_measurement() -> None:
    """Two unknown numbers, one measured sum: prior times likelihood, summed on a grid."""
    covariance = torch.tensor([[0.5, 0.2], [0.2, 0.3]], dtype=DOUBLE)
    a, y, sigma, x0 = torch.tensor([[1.0, -2.0]], dtype=DOUBLE), torch.tensor([[0.8]], dtype=DOUBLE), 0.4, (0.3, -0.1)
    side = torch.linspace(-5, 5, 801, dtype=DOUBLE)
    grid = torch.cartesian_prod(side, side)
    away = grid - torch.tensor(x0, dtype=DOUBLE)
    log = -(away @ torch.linalg.inv(covariance) * away).sum(1) / 2 - (y[0, 0] - grid @ a[0]) ** 2 / (2 * sigma**2)
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
    """Autograd of log N(y; A x_t / alpha_t, sigma^2 + gamma_t^2), through Tweedie's formula, where no move overshoots."""
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

    step = ald(remember, matrix(a), y, SCHEDULE, sigma=sigma, anneal=anneal)
    step(lambda x, t: Estimate.known(x, t, x0=x0), x.detach(), t, s, KEY, None)
    torch.testing.assert_close(seen[0], x0 + sigma_t**2 / alpha * gradient)


def test_the_page_names_every_test_and_no_other() -> None:
    page = (Path(__file__).parents[1] / "docs" / "mathematics.md").read_text(encoding="utf-8")
    lines = re.findall(r"\*Tests?\*:(.*)", page)
    named = {name for line in lines for name in re.findall(r"`([a-z_]+)`", line)}
    here = {name.removeprefix("test_") for name in globals() if name.startswith("test_")}
    assert named == here - {"the_page_names_every_test_and_no_other"}
