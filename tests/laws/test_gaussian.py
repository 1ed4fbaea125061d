"""Law 1: with the exact score of a Gaussian every sampler matches a float64 loop written from the papers.

The reference below shares nothing with the package but the noise: it has its own betas, its own alpha-bars
(numpy) and the formulas as the papers print them. The oracle is E[x_0 | x_t] of N(mu, C), turned into each
kind of network output.
"""

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.config.diffusion import Prediction, ScheduleConfig, Spacing
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import run, sample, start
from latentdiff.diffusion.prediction import to_x0
from latentdiff.diffusion.samplers import SamplerStep, ddim, ddim_coefficients, ddpm, dpmpp2m, heun
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

Array = NDArray[np.float64]
T = 1000
MEAN = np.array([3.0, -2.0, 1.0, 0.0, -0.5, 2.0])
VARIANCE = np.array([0.25, 1.0, 4.0, 0.01, 0.5, 2.0])
KEY = Key.of(7, 4)
PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
SPACINGS = get_args(Spacing)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}

SAMPLERS: dict[str, Callable[[Schedule], SamplerStep]] = {
    "ddim eta 0": lambda schedule: ddim(schedule),
    "ddim eta 0.5": lambda schedule: ddim(schedule, eta=0.5),
    "ddim eta 1": lambda schedule: ddim(schedule, eta=1.0),
    "ddpm small": lambda schedule: ddpm(schedule, variance="small"),
    "ddpm large": lambda schedule: ddpm(schedule, variance="large"),
    "ddpm learned": lambda schedule: ddpm(schedule, variance="learned"),
    "dpm++": dpmpp2m,
    "heun": heun,
}
SCHEDULES = {
    "linear": ScheduleConfig(kind="linear"),
    "scaled_linear": ScheduleConfig(kind="scaled_linear"),
    "cosine": ScheduleConfig(kind="cosine"),
    "cosine zero": ScheduleConfig(kind="cosine", zero_terminal_snr=True),
    "rectified-flow": ScheduleConfig(kind="rectified-flow"),
}


@cache
def schedule_of(name: str) -> Schedule:
    return make_schedule(SCHEDULES[name])


@cache
def alpha_bars(name: str) -> Array:
    """alpha-bar of levels 0..T from the papers' betas.

    Of rectified flow it is that of x_t / sqrt(alpha^2 + sigma^2), which preserves variance and is x_t at 0
    and T: samplers of the two processes make the same samples of the same noise.
    """
    if name == "rectified-flow":
        u = np.arange(T + 1) / T
        return np.asarray((1 - u) ** 2 / ((1 - u) ** 2 + u**2))
    if name == "linear":
        betas = np.linspace(1e-4, 0.02, T)
    elif name == "scaled_linear":
        betas = np.linspace(0.00085**0.5, 0.012**0.5, T) ** 2
    else:
        f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - f[1:] / f[:-1], 0.999)
    bars = np.concatenate([[1.0], np.cumprod(1 - betas)])
    if name.endswith("zero"):  # Lin et al. 2024, algorithm 1
        roots = np.sqrt(bars[1:])
        roots = (roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])
        bars[1:] = roots**2
    return bars


def clean(x: Array, bar: float, mean: Array, covariance: Array) -> Array:
    """E[x_0 | x_t] of N(mean, covariance): a diagonal [D] or a full matrix [D, D]."""
    if covariance.ndim == 1:
        gain = np.sqrt(bar) * covariance / (bar * covariance + 1 - bar)
        return np.asarray(mean + gain * (x - np.sqrt(bar) * mean))
    full = bar * covariance + (1 - bar) * np.eye(len(mean))
    return np.asarray(mean + np.sqrt(bar) * np.linalg.solve(full, (x - np.sqrt(bar) * mean).T).T @ covariance)


def range_output(x: Any, t: int) -> Any:
    """What an imaginary network says about the variance: in [-1, 1], smooth, different for each element and
    level.
    """
    return x / (1 + x * x) + 0.5 * (t / T)


def oracle(
    schedule: Schedule, prediction: Prediction, *, mean: Array = MEAN, covariance: Array = VARIANCE
) -> Denoiser:
    """The exact denoiser of the Gaussian as a network of the given prediction type would be."""

    def denoise(x: Tensor, t: int) -> Estimate:
        alpha, sigma = schedule.at(t)
        noisy, scale = x.double().numpy(), np.hypot(alpha, sigma)
        x0 = clean(noisy / scale, (alpha / scale) ** 2, mean, covariance)
        eps = (noisy - alpha * x0) / sigma
        v, score = alpha * eps - sigma * x0, -eps / sigma
        out = {"eps": eps, "v": v, "x0": x0, "score": score, "flow": eps - x0}[prediction]
        p, q = to_x0(prediction, alpha, sigma)
        spread = torch.from_numpy(range_output(noisy / scale, t)).to(x.dtype)
        return Estimate(x, t, p, (torch.from_numpy(out).to(x.dtype),), (q,), variance_range=spread)

    return denoise


def ddim_reference(x: Array, x0: Array, bar_t: float, bar_s: float, eta: float, z: Array) -> Array:
    """Song et al. 2021, eq. 12 and 16."""
    noise_std = eta * np.sqrt((1 - bar_s) / (1 - bar_t)) * np.sqrt(1 - bar_t / bar_s)
    eps = (x - np.sqrt(bar_t) * x0) / np.sqrt(1 - bar_t)
    rest = 1 - bar_s - noise_std**2
    direction = (
        np.sqrt(rest if rest > 1e-15 else 0.0) * eps
    )  # below, it is a rounding of 0: bar_t = 0, eta = 1
    return np.asarray(np.sqrt(bar_s) * x0 + direction + noise_std * z)


def ddpm_reference(
    x: Array, x0: Array, bar_t: float, bar_s: float, kind: str, z: Array, spread: Array | None = None
) -> Array:
    """Ho et al. 2020, eq. 6 and 7 with the merged beta of t -> s; Nichol & Dhariwal 2021, eq.

    15 for learned.
    """
    beta = 1 - bar_t / bar_s
    mean = np.sqrt(bar_s) * beta / (1 - bar_t) * x0 + np.sqrt(1 - beta) * (1 - bar_s) / (1 - bar_t) * x
    if bar_s == 1:
        return np.asarray(mean)
    tilde = (1 - bar_s) / (1 - bar_t) * beta
    if kind == "learned":
        assert spread is not None
        share = (spread + 1) / 2
        variance: Any = np.exp(share * np.log(beta) + (1 - share) * np.log(tilde))
    else:
        variance = {"small": tilde, "large": beta}[kind]
    return np.asarray(mean + np.sqrt(variance) * z)


def dpmpp_reference(x: Array, history: list[tuple[float, Array]], bar_t: float, bar_s: float) -> Array:
    """Lu et al.

    2022 (DPM-Solver++), algorithm 2; ``history``: (alpha-bar, x_0) of this and the previous level.
    """
    (_, x0), *before = history
    if bar_s == 1:  # lambda = inf: exp(-h) = 0, and the last move is of first order
        return x0
    with np.errstate(divide="ignore"):
        lam_t, lam_s = (0.5 * np.log(bar / (1 - bar)) for bar in (bar_t, bar_s))
        h = lam_s - lam_t
        d = x0
        if before:
            ((bar_before, x0_before),) = before
            r = (lam_t - 0.5 * np.log(bar_before / (1 - bar_before))) / h
            d = (1 + 1 / (2 * r)) * x0 - 1 / (2 * r) * x0_before
    return np.asarray(np.sqrt((1 - bar_s) / (1 - bar_t)) * x - np.sqrt(bar_s) * np.expm1(-h) * d)


def heun_reference(
    x: Array, x0: Array, bar_t: float, bar_s: float, denoise: Callable[[Array], Array]
) -> Array:
    """Karras et al. 2022, algorithm 1 without noise, for y = x / alpha and n = sigma / alpha; Euler's move
    above n = 80.
    """
    n_t, n_s = (np.sqrt((1 - bar) / bar) if bar > 0 else np.inf for bar in (bar_t, bar_s))
    if n_t > 80 or n_s == 0:
        return ddim_reference(x, x0, bar_t, bar_s, 0.0, np.zeros_like(x))
    y = x / np.sqrt(bar_t)
    slope = (y - x0) / n_t
    guess = y + (n_s - n_t) * slope
    other = (guess - denoise(guess * np.sqrt(bar_s))) / n_s
    return np.asarray((y + (n_s - n_t) * (slope + other) / 2) * np.sqrt(bar_s))


@cache
def noise(t: int, size: int) -> Array:
    return np.asarray(KEY.at("step", t).normal((size,), dtype=torch.float64).numpy())


def reference(
    sampler: str, bars: Array, levels: list[int], x: Array, mean: Array = MEAN, covariance: Array = VARIANCE
) -> Array:
    """The whole trajectory's end in float64 numpy."""
    history: list[tuple[float, Array]] = []
    for t, s in pairwise(levels):
        z = noise(t, x.shape[1])
        x0 = clean(x, bars[t], mean, covariance)
        if sampler.startswith("ddim"):
            x = ddim_reference(x, x0, bars[t], bars[s], float(sampler.split()[-1]), z)
        elif sampler.startswith("ddpm"):
            x = ddpm_reference(x, x0, bars[t], bars[s], sampler.split()[-1], z, range_output(x, t))
        elif sampler == "heun":
            x = heun_reference(
                x, x0, bars[t], bars[s], partial(clean, bar=bars[s], mean=mean, covariance=covariance)
            )
        else:
            history = [(bars[t], x0), *history][:2]
            x = dpmpp_reference(x, history, bars[t], bars[s])
    return x


@cache
def expected(sampler: str, name: str, steps: int, spacing: str) -> Array:
    levels = schedule_of(name).levels(steps, spacing)  # type: ignore[arg-type]
    x = start(KEY, MEAN.shape).double().numpy() / np.hypot(*schedule_of(name).at(levels[0]))
    return reference(sampler, alpha_bars(name), levels, x)


def error(
    sampler: str, name: str, *, steps: int, spacing: str, prediction: Prediction, dtype: torch.dtype
) -> float:
    """Largest deviation from the reference, relative to its largest value."""
    schedule = schedule_of(name)
    levels = schedule.levels(steps, spacing)  # type: ignore[arg-type]
    found = run(
        oracle(schedule, prediction),
        start(KEY, MEAN.shape).to(dtype),
        levels,
        SAMPLERS[sampler](schedule),
        KEY,
    )
    assert found.dtype == dtype
    truth = expected(sampler, name, steps, spacing)
    return float(np.abs(found.double().numpy() - truth).max() / np.abs(truth).max())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_matches_the_papers(
    sampler: str, spacing: str, prediction: Prediction, dtype: torch.dtype
) -> None:
    """v and x0 on the cosine schedule with zero terminal SNR, flow on its own; eps and score, undefined
    there, on scaled_linear.

    In float32 a rounding of eps is amplified by sigma/alpha on its way to x_0; scaled_linear ends at alpha =
    0.068, so 1e-5 is reachable. See the test of the noisiest levels for schedules that end lower.
    """
    names = {"v": "cosine zero", "x0": "cosine zero", "flow": "rectified-flow"}
    name = names.get(prediction, "scaled_linear")
    errors = {
        n: error(sampler, name, steps=n, spacing=spacing, prediction=prediction, dtype=dtype)
        for n in (1, 2, 5, 10)
    }
    amplified = 3 if sampler == "heun" else 1  # its slope at s extrapolates where one move spans all noise
    assert max(errors.values()) < TOLERANCE[dtype] * amplified, errors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_fifty_steps_match_on_every_schedule(sampler: str, dtype: torch.dtype) -> None:
    cases: list[tuple[str, Prediction]] = [("linear", "eps"), ("cosine", "v"), ("cosine zero", "x0")]
    cases += [("rectified-flow", "flow"), ("rectified-flow", "v"), ("cosine", "flow")]
    for name, prediction in cases:
        found = error(sampler, name, steps=50, spacing="trailing", prediction=prediction, dtype=dtype)
        assert found < TOLERANCE[dtype], (name, prediction)


@pytest.mark.parametrize(
    ("sampler", "name", "prediction", "dtype"),
    [
        ("ddpm small", "scaled_linear", "eps", torch.float32),
        ("ddpm small", "scaled_linear", "eps", torch.float64),
        ("ddim eta 0", "cosine", "v", torch.float32),
        ("dpm++", "cosine zero", "x0", torch.float64),
        ("ddpm small", "rectified-flow", "flow", torch.float32),
        ("heun", "rectified-flow", "flow", torch.float64),
    ],
)
def test_a_thousand_steps_match(sampler: str, name: str, prediction: Prediction, dtype: torch.dtype) -> None:
    found = error(sampler, name, steps=T, spacing="trailing", prediction=prediction, dtype=dtype)
    assert found < TOLERANCE[dtype]


@pytest.mark.parametrize("prediction", ["eps", "score"])
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_float32_loses_what_the_noisiest_level_amplifies_and_no_more(
    name: str, prediction: Prediction, steps: int
) -> None:
    """From alpha_T = 4.9e-5 (cosine) the half ulp of an eps output alone moves x_0 by sigma/alpha 2^-24 =
    1.2e-3.

    No order of operations can undo that: folding m p into k and m q into the outputs in float64 was measured
    and gives the same errors. The bound is four half ulps of the largest amplification m sigma/alpha of a
    move.
    """
    schedule = schedule_of(name)
    amplification = 1.0
    for t, s in pairwise(schedule.levels(steps)):
        alpha, sigma = schedule.at(t)
        amplification = max(amplification, ddim_coefficients(schedule, t, s).m * sigma / alpha)
    found = error(
        "ddim eta 0", name, steps=steps, spacing="trailing", prediction=prediction, dtype=torch.float32
    )
    assert found < 4 * 2.0**-24 * amplification
    exact = error(
        "ddim eta 0", name, steps=steps, spacing="trailing", prediction=prediction, dtype=torch.float64
    )
    assert exact < 1e-10


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_full_covariance_matches(sampler: str, prediction: Prediction) -> None:
    mean = np.array([1.0, -2.0, 0.5])
    root = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [-0.3, 0.4, 0.1]])
    covariance = root @ root.T
    schedule = schedule_of("scaled_linear")
    levels = schedule.levels(10)
    x = start(KEY, mean.shape, dtype=torch.float64)
    denoise = oracle(schedule, prediction, mean=mean, covariance=covariance)
    found = run(denoise, x, levels, SAMPLERS[sampler](schedule), KEY).numpy()
    truth = reference(sampler, alpha_bars("scaled_linear"), levels, x.numpy(), mean, covariance)
    assert np.abs(found - truth).max() / np.abs(truth).max() < 1e-10


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_all_predictions_give_one_trajectory(sampler: str) -> None:
    """Every state on the way agrees, not only the last one."""
    schedule = schedule_of("linear")
    levels = schedule.levels(8)
    x = start(KEY, MEAN.shape, dtype=torch.float64)
    states = {
        prediction: [
            state.x
            for state in sample(oracle(schedule, prediction), x, levels, SAMPLERS[sampler](schedule), KEY)
        ]
        for prediction in PREDICTIONS
    }
    for prediction in PREDICTIONS:
        for one, other in zip(states["v"], states[prediction], strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
