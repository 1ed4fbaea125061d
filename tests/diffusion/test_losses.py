"""Losses: weights over levels through the identity of errors, the variational bound against
torch.distributions.
"""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from latentdiff.config.diffusion import Prediction, ScheduleConfig
from latentdiff.diffusion.losses import MIN_SNR_GAMMA, VariationalBound, Weighting, level_weights
from latentdiff.diffusion.prediction import target, to_x0
from latentdiff.diffusion.schedule import Schedule, make_schedule

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
LEVELS = torch.tensor([2, 3, 10, 30, 40])
SCHEDULE = make_schedule("linear", T=40)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def squared_error(
    prediction: Prediction,
    schedule: Schedule,
    t: int,
    x0: Tensor,
    x0_hat: Tensor,
    eps: Tensor,
    sigma_data: float = 0.0,
) -> float:
    """|out - target|^2 of the network output that stands for the estimate x0_hat at x_t."""
    alpha, sigma = schedule.at(t)
    x_t = alpha * x0 + sigma * eps
    p, q = to_x0(prediction, alpha, sigma, sigma_data=sigma_data)
    a, b = target(prediction, alpha, sigma, sigma_data=sigma_data)
    out = (x0_hat - p * x_t) / q
    return float((out - (a * x0 + b * eps)).square().sum())


@pytest.mark.parametrize(("prediction", "sigma_data"), [*((each, 0.0) for each in PREDICTIONS), ("x0", 0.2)])
def test_min_snr_is_one_loss_whatever_the_network_predicts(prediction: Prediction, sigma_data: float) -> None:
    """weight |out - target|^2 = min(snr, 5) |x_0 - x0_hat|^2 for the same estimate (Hang et al. 2023, eq.

    6).
    """
    schedule = make_schedule("cosine")
    weights = level_weights(schedule, prediction, "min-snr", sigma_data=sigma_data)
    assert weights.dtype == torch.float64
    assert weights.shape == (1001,)
    x0, x0_hat, eps = (draw(6, seed=i) for i in range(3))
    for t in (1, 5, 200, 400, 900, 1000):
        alpha, sigma = schedule.at(t)
        wanted = min((alpha / sigma) ** 2, 5.0) * float((x0 - x0_hat).square().sum())
        found = float(weights[t]) * squared_error(prediction, schedule, t, x0, x0_hat, eps, sigma_data)
        assert found == pytest.approx(wanted, rel=1e-6)
    assert MIN_SNR_GAMMA == 5.0


@pytest.mark.parametrize(("prediction", "sigma_data"), [("eps", 0.0), ("v", 0.0), ("x0", 0.0), ("x0", 0.2)])
def test_uniform_weighs_the_error_of_the_prediction(prediction: Prediction, sigma_data: float) -> None:
    weights = level_weights(SCHEDULE, prediction, "uniform", sigma_data=sigma_data)
    assert weights[1:].tolist() == [1.0] * 40


@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_a_weighted_score_is_the_loss_of_eps(weighting: Weighting) -> None:
    """sigma^2 |score error|^2 = |eps error|^2 (Song et al. 2021, eq. 7)."""
    score, eps_weights = (level_weights(SCHEDULE, prediction, weighting) for prediction in ("score", "eps"))
    x0, x0_hat, eps = (draw(6, seed=i) for i in range(3))
    for t in (1, 2, 20, 40):
        of_score = float(score[t]) * squared_error("score", SCHEDULE, t, x0, x0_hat, eps)
        of_eps = float(eps_weights[t]) * squared_error("eps", SCHEDULE, t, x0, x0_hat, eps)
        assert of_score == pytest.approx(of_eps, rel=1e-9)
        assert of_eps > 0


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("weighting", get_args(Weighting))
def test_level_zero_is_never_trained_and_the_others_are(prediction: Prediction, weighting: Weighting) -> None:
    weights = level_weights(make_schedule("cosine"), prediction, weighting)
    assert weights[0] == 0
    assert torch.isfinite(weights).all()
    assert (weights[1:] > 0).all()


def test_v_is_trained_at_zero_terminal_snr() -> None:
    """Without signal v = -x_0 costs nothing in the x_0 error; uniform weighs it like any other level."""
    schedule = make_schedule(ScheduleConfig(zero_terminal_snr=True))
    assert level_weights(schedule, "v", "uniform")[-1] == 1
    assert level_weights(schedule, "v", "min-snr")[-1] == 0


def posterior(x0: Tensor, x_t: Tensor, t: int) -> tuple[Tensor, float, float]:
    """Mean, beta tilde and beta of q(x_{t-1} | x_t, x_0) from the betas 0.0025 to 0.5 of 40 levels (Ho et
    al., eq. 7).
    """
    betas = [0.0025 + (0.5 - 0.0025) * i / 39 for i in range(40)]
    bar, before = (math.prod(1 - b for b in betas[:level]) for level in (t, t - 1))
    beta = betas[t - 1]
    mean = math.sqrt(before) * beta / (1 - bar) * x0 + math.sqrt(1 - beta) * (1 - before) / (1 - bar) * x_t
    return mean, (1 - before) / (1 - bar) * beta, beta


def batch() -> dict[str, Tensor]:
    n = len(LEVELS)
    x0, x_t, x0_hat = (draw(n, 2, 3, seed=i) for i in range(3))
    return {
        "x0": x0,
        "x_t": x_t,
        "x0_hat": x0_hat,
        "variance_range": torch.tanh(draw(n, 2, 3, seed=4)),
        "t": LEVELS,
    }


@pytest.mark.parametrize("bins", [False, True])
def test_the_bound_is_the_divergence_of_two_gaussians(bins: bool) -> None:
    """KL(q(x_{t-1} | x_t, x_0) || p) in bits per dimension (Nichol & Dhariwal 2021, eq.

    5 and 15), levels of a mixed batch.
    """
    values = batch()
    found = VariationalBound(SCHEDULE, bins=bins)(**values)
    assert found.shape == (len(LEVELS),)
    for i, t in enumerate(LEVELS.tolist()):
        mean, small, large = posterior(values["x0"][i], values["x_t"][i], t)
        mean_hat, _, _ = posterior(values["x0_hat"][i], values["x_t"][i], t)
        share = (values["variance_range"][i] + 1) / 2
        std = (share * math.log(large) + (1 - share) * math.log(small)).mul(0.5).exp()
        divergence = kl_divergence(Normal(mean, math.sqrt(small)), Normal(mean_hat, std))
        assert float(found[i]) == pytest.approx(float(divergence.mean()) / math.log(2), rel=1e-8)


def first_level(x0: Tensor, x0_hat: Tensor, spread: Tensor) -> dict[str, Tensor]:
    return {
        "x0": x0,
        "x_t": torch.zeros_like(x0),
        "x0_hat": x0_hat,
        "variance_range": spread,
        "t": torch.ones(len(x0), dtype=torch.int64),
    }


def first_std(spread: Tensor) -> Tensor:
    """At level 1 beta tilde is 0: its logarithm is taken from level 2, as improved-diffusion does."""
    _, small, _ = posterior(spread, spread, 2)
    _, _, large = posterior(spread, spread, 1)
    share = (spread + 1) / 2
    return (share * math.log(large) + (1 - share) * math.log(small)).mul(0.5).exp()


def test_the_first_level_of_latents_is_a_density() -> None:
    x0, x0_hat, spread = draw(4, 3, seed=0), draw(4, 3, seed=1), torch.tanh(draw(4, 3, seed=2))
    found = VariationalBound(SCHEDULE, bins=False)(**first_level(x0, x0_hat, spread))
    log_density = Normal(x0_hat, first_std(spread)).log_prob(x0)
    torch.testing.assert_close(found, -log_density.mean(1) / math.log(2))


@pytest.mark.parametrize("center", [-1.2, -0.999, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("spread", [-1.0, 0.5])
@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_the_first_level_of_pixels_is_a_distribution_over_256_values(
    center: float, spread: float, scale: float
) -> None:
    """Ho et al. 2020, eq.

    13: bins of width 2 scale/255, the outer ones reaching to infinity; they sum to one.
    """
    pixels = scale * (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(-1, 1)
    values = first_level(pixels, torch.full_like(pixels, center), torch.full_like(pixels, spread))
    probabilities = 2.0 ** -VariationalBound(SCHEDULE, bins=True, scale=scale)(**values)
    assert float(probabilities.sum()) == pytest.approx(1, abs=1e-9)
    normal = Normal(torch.tensor(center, dtype=torch.float64), first_std(values["variance_range"][0, 0]))
    edges = scale * (torch.arange(257, dtype=torch.float64) - 128) / 127.5
    edges[0], edges[-1] = -math.inf, math.inf
    torch.testing.assert_close(probabilities, normal.cdf(edges).diff(), rtol=1e-6, atol=2e-12)


@pytest.mark.parametrize("bins", [False, True])
@pytest.mark.parametrize("t", [1, 20])
def test_the_bound_trains_the_range_and_nothing_else(bins: bool, t: int) -> None:
    x0, x_t, x0_hat, spread = (draw(3, 4, seed=i).mul(0.1).requires_grad_() for i in range(4))
    bound = VariationalBound(SCHEDULE, bins=bins)
    bound(x0.detach(), x_t.detach(), x0_hat, spread, torch.full((3,), t)).sum().backward()
    assert x0_hat.grad is None
    assert spread.grad is not None
    assert (spread.grad != 0).all()


def test_a_perfect_estimate_wants_the_small_variance() -> None:
    """With x0_hat = x_0 the bound is 0 at beta tilde (variance_range -1) and grows from there."""
    values = batch() | {"x0_hat": batch()["x0"]}
    bound = VariationalBound(SCHEDULE, bins=False)
    at = [bound(**(values | {"variance_range": torch.full_like(values["x0"], s)})) for s in (-1.0, 0.0, 1.0)]
    torch.testing.assert_close(at[0], torch.zeros_like(at[0]), rtol=0, atol=1e-9)
    assert (at[0] < at[1]).all()
    assert (at[1] < at[2]).all()


def test_a_schedule_of_one_level_has_a_finite_bound() -> None:
    schedule = make_schedule(ScheduleConfig(kind="linear", T=1, beta_start=0.5, beta_end=0.5))
    x = draw(2, 3, seed=0)
    values = first_level(x, x, torch.zeros_like(x))
    assert torch.isfinite(VariationalBound(schedule, bins=False)(**values)).all()
