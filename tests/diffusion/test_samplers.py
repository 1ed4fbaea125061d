"""Steps: the coefficients of a reverse move against the papers' posterior, the sizes of noise, clipping,
errors.
"""

import math
from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import run
from latentdiff.diffusion.samplers import (
    Direction,
    StepCoefficients,
    VarianceKind,
    apply_step,
    ddim,
    ddim_coefficients,
    ddpm,
    dpmpp2m,
    forward_sigma,
)
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

KEY = Key.of(5, 3)
SHAPE = (3, 7)  # [B, D] of every sample below


def draw(stream: int) -> Tensor:
    return Key(KEY.seeds, stream).normal(SHAPE[1:], dtype=torch.float64)


X, X0 = draw(1), draw(2)


def knows(x0: Tensor, *, clip: float | None = None, variance_range: Tensor | None = None) -> Denoiser:
    """A denoiser with one answer."""
    return lambda x, t: Estimate(x, t, 0.0, (x0,), (1.0,), clip, variance_range)


def betas(schedule: Schedule) -> list[float]:
    """beta_0 (unused), beta_1, ..., beta_T, straight from the linear schedule's definition."""
    first, last, T = 0.1 / schedule.T, 20 / schedule.T, schedule.T
    return [0.0, *(first + (last - first) * i / (T - 1) for i in range(T))]


@pytest.mark.parametrize("t", [2, 3, 50, 100])
def test_eta_one_is_the_posterior_of_ho_et_al(t: int) -> None:
    """Ho et al. 2020, eq. 6 and 7, from betas: the mean and the variance of q(x_{t-1} | x_t, x_0)."""
    schedule = make_schedule("linear", T=100)
    beta = betas(schedule)
    bar, bar_before = (math.prod(1 - b for b in beta[1 : level + 1]) for level in (t, t - 1))
    mean = (
        math.sqrt(bar_before) * beta[t] / (1 - bar) * X0
        + math.sqrt(1 - beta[t]) * (1 - bar_before) / (1 - bar) * X
    )
    std = math.sqrt((1 - bar_before) / (1 - bar) * beta[t])
    z = KEY.at("step", t).normal(SHAPE[1:], dtype=torch.float64)
    for step in (ddim(schedule, eta=1.0), ddpm(schedule), ddpm(schedule, variance="small")):
        found, estimate = step(knows(X0), X, t, t - 1, KEY.at("step", t), None)
        torch.testing.assert_close(found, mean + std * z, rtol=1e-11, atol=1e-11)
        assert torch.equal(estimate.x0(), X0)


def test_a_skipping_posterior_is_bayes_rule() -> None:
    """q(x_s | x_t, x_0) over any s < t: precisions of x_s | x_0 and of x_t | x_s add up."""
    for kind, t, s in product(("cosine", "rectified-flow"), (999, 700, 40), (3, 1)):
        schedule = make_schedule(kind)  # type: ignore[arg-type]
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        ratio = alpha_t / alpha_s
        beta = sigma_t**2 - (ratio * sigma_s) ** 2
        precision = 1 / sigma_s**2 + ratio**2 / beta
        move = ddim_coefficients(schedule, t, s, eta=1.0)
        assert move.c == pytest.approx(precision**-0.5, rel=1e-9)
        assert move.k == pytest.approx(ratio / beta / precision, rel=1e-6)
        assert move.m == pytest.approx(alpha_s / sigma_s**2 / precision, rel=1e-9)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(
    "config",
    [ScheduleConfig(), ScheduleConfig(zero_terminal_snr=True), ScheduleConfig(kind="rectified-flow")],
    ids=["cosine", "zero", "flow"],
)
def test_every_move_keeps_the_marginals(eta: float, config: ScheduleConfig) -> None:
    """From x_t = alpha_t x_0 + sigma_t eps a move gives mean alpha_s x_0 and variance sigma_s^2 (Song et al.

    2021, lemma 1).
    """
    schedule = make_schedule(config)
    for t, s in ((1000, 999), (1000, 500), (1000, 0), (500, 20), (2, 1), (1, 0)):
        move = ddim_coefficients(schedule, t, s, eta=eta)
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        assert move.k * alpha_t + move.m == pytest.approx(alpha_s, abs=1e-12)
        assert math.hypot(move.k * sigma_t, move.c) == pytest.approx(sigma_s, abs=1e-12)


def test_large_variance_is_the_beta_of_the_merged_step() -> None:
    schedule = make_schedule("linear", T=100)
    beta = betas(schedule)
    step = ddpm(schedule, variance="large")
    for t, s in ((100, 99), (60, 40), (2, 1)):
        merged = 1 - math.prod(1 - b for b in beta[s + 1 : t + 1])
        assert forward_sigma(schedule, t, s) == pytest.approx(math.sqrt(merged), rel=1e-10)
        key = KEY.at("step", t)
        found, _ = step(knows(X0), X, t, s, key, None)
        small, _ = ddpm(schedule)(knows(X0), X, t, s, key, None)
        z = key.normal(SHAPE[1:], dtype=torch.float64)
        tilde = merged * schedule.at(s)[1] ** 2 / schedule.at(t)[1] ** 2
        torch.testing.assert_close(
            found - small, (math.sqrt(merged) - math.sqrt(tilde)) * z, rtol=0, atol=1e-10
        )


def test_learned_range_interpolates_the_logarithm() -> None:
    """Nichol & Dhariwal 2021, eq.

    15: exp(v log beta + (1 - v) log beta tilde), v = (variance_range + 1) / 2, for each element.
    """
    schedule = make_schedule("linear", T=100)
    variance_range = torch.linspace(-1, 1, X.numel(), dtype=torch.float64).view(SHAPE)
    t, s = 60, 40
    key = KEY.at("step", t)
    z = key.normal(SHAPE[1:], dtype=torch.float64)
    found, _ = ddpm(schedule, variance="learned")(
        knows(X0, variance_range=variance_range), X, t, s, key, None
    )
    mean = apply_step(knows(X0)(X, t), StepCoefficients(*_mean_of(schedule, t, s), 0.0))
    beta = forward_sigma(schedule, t, s) ** 2
    tilde = beta * schedule.at(s)[1] ** 2 / schedule.at(t)[1] ** 2
    v = (variance_range + 1) / 2
    torch.testing.assert_close(
        found, mean + (v * math.log(beta) + (1 - v) * math.log(tilde)).exp().sqrt() * z
    )
    for end, variance in ((-1.0, "small"), (1.0, "large")):
        kind: VarianceKind = "small" if variance == "small" else "large"
        same, _ = ddpm(schedule, variance="learned")(
            knows(X0, variance_range=torch.full_like(X, end)), X, t, s, key, None
        )
        torch.testing.assert_close(same, ddpm(schedule, variance=kind)(knows(X0), X, t, s, key, None)[0])


def _mean_of(schedule: Schedule, t: int, s: int) -> tuple[float, float]:
    move = ddim_coefficients(schedule, t, s, eta=1.0)
    return move.k, move.m


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_the_last_move_is_the_estimate_without_noise(variance: VarianceKind) -> None:
    schedule = make_schedule("cosine")
    for t in (1, 50, 1000):
        found, _ = ddpm(schedule, variance=variance)(knows(X0, variance_range=X * 0), X, t, 0, KEY, None)
        torch.testing.assert_close(found, X0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [ddim, dpmpp2m])
def test_a_deterministic_step_draws_nothing(make: Callable[[Schedule], object]) -> None:
    schedule = make_schedule("cosine")
    step = ddim(schedule) if make is ddim else dpmpp2m(schedule)
    one, _ = step(knows(X0), X, 500, 400, Key.of(1, 3), None)
    other, _ = step(knows(X0), X, 500, 400, Key.of(2, 3), None)
    assert torch.equal(one, other)
    assert not torch.equal(
        *(ddim(schedule, eta=0.5)(knows(X0), X, 500, 400, Key.of(i, 3), None)[0] for i in (1, 2))
    )


@pytest.mark.parametrize("prediction", ["x0", "eps"])
@pytest.mark.parametrize("direction", ["clipped", "unclipped"])
def test_a_clipped_estimate_and_its_direction(direction: Direction, prediction: str) -> None:
    """clipped: eps is read again from the clipped x_0; unclipped: eps stays what the network said."""
    schedule = make_schedule("linear")
    t, s, clip = 600, 500, 0.7
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
    eps = (X - alpha_t * X0) / sigma_t
    clipped = X0.clamp(-clip, clip)
    assert not torch.equal(clipped, X0)
    used = eps if direction == "unclipped" else (X - alpha_t * clipped) / sigma_t
    if prediction == "x0":
        estimate = Estimate(X, t, 0.0, (X0,), (1.0,), clip)
    else:
        estimate = Estimate(X, t, 1 / alpha_t, (eps,), (-sigma_t / alpha_t,), clip)
    found, _ = ddim(schedule, direction=direction)(lambda x, t: estimate, X, t, s, KEY, None)
    torch.testing.assert_close(found, alpha_s * clipped + sigma_s * used, rtol=0, atol=1e-11)
    torch.testing.assert_close(estimate.x0(), clipped, rtol=0, atol=1e-11)


def test_without_a_clip_both_directions_are_one() -> None:
    schedule = make_schedule("linear")
    results = [
        ddim(schedule, direction=d)(knows(X0), X, 600, 500, KEY, None)[0] for d in ("clipped", "unclipped")
    ]
    assert torch.equal(*results)


def test_dpmpp_extrapolates_through_the_clipped_previous_estimate() -> None:
    """The second move of DPM-Solver++(2M) reads D = (1 + 1/2r) x_0(t) - 1/2r x_0(t_before) with clipped
    x_0.
    """
    schedule = make_schedule("cosine")
    before, t, s, clip = 800, 600, 300, 0.7
    answers = {before: X0, t: X0.flip(0)}

    def denoise(x: Tensor, t: int) -> Estimate:
        return Estimate(x, t, 0.0, (answers[t],), (1.0,), clip)

    found = run(denoise, X, [before, t, s], dpmpp2m(schedule), KEY)
    lam = {level: schedule.log_snr(level) for level in (before, t, s)}
    one, two = (answers[level].clamp(-clip, clip) for level in (before, t))

    def first_order(x: Tensor, d: Tensor, a: int, b: int) -> Tensor:
        return schedule.at(b)[1] / schedule.at(a)[1] * x - schedule.at(b)[0] * math.expm1(lam[a] - lam[b]) * d

    middle = first_order(X, one, before, t)
    r = (lam[t] - lam[before]) / (lam[s] - lam[t])
    d = (1 + 1 / (2 * r)) * two - 1 / (2 * r) * one
    torch.testing.assert_close(found, first_order(middle, d, t, s), rtol=0, atol=1e-11)


def test_given_noise_is_used_instead_of_the_keys() -> None:
    estimate, move = knows(X0)(X, 5), StepCoefficients(0.5, 0.25, 2.0)
    z = draw(9)
    torch.testing.assert_close(apply_step(estimate, move, noise=z), 0.5 * X + 0.25 * X0 + 2.0 * z)
    torch.testing.assert_close(
        apply_step(estimate, move, key=KEY),
        0.5 * X + 0.25 * X0 + 2.0 * KEY.normal(SHAPE[1:], dtype=torch.float64),
    )
    with pytest.raises(ValueError, match=r"noise \(c = 2\) needs a key or a noise tensor"):
        apply_step(estimate, move)


@pytest.mark.parametrize(("t", "s"), [(5, 5), (5, 6), (5, -1), (1001, 5)])
def test_moves_that_do_not_descend_are_refused(t: int, s: int) -> None:
    with pytest.raises(ValueError, match=f"0 <= s < t <= 1000, got t = {t}, s = {s}"):
        ddim_coefficients(make_schedule("linear"), t, s)


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_eta_outside_its_range_is_refused(eta: float) -> None:
    with pytest.raises(ValueError, match=rf"`eta` must lie in \[0, 1\], got {eta}"):
        ddim(make_schedule("linear"), eta=eta)


def test_learned_variance_needs_a_network_that_learned_it() -> None:
    schedule = make_schedule("linear")
    with pytest.raises(ValueError, match="`variance` learned needs a network trained with learned variance"):
        ddpm(schedule, variance="learned")(knows(X0), X, 500, 400, KEY, None)
