"""Law 6: a differential grid against the schedulers of `diffusers`, an independent implementation.

Known differences, and how the comparison stays meaningful:

- diffusers' timestep is our level - 1, and its timestep -1 is our level 0.
- Its tables are float32. The tables themselves are compared as they are; for the arithmetic of the steps they
  are replaced by the same formulas in float64 (numpy), so that trajectories can be compared to 1e-9. One test
  per scheduler also runs it as it comes.
- DDIMScheduler takes ``timestep - T // n`` as the previous timestep, which is not the next one of its own
  list unless n divides T (and never for linspace). It is driven over our (t, s) pairs: ``num_train_timesteps
  = t - s`` with n = 1.
- DDIMScheduler(set_alpha_to_one=False) ends at level 1 instead of at the clean level.
- DDIMScheduler keeps the network's eps when x_0 is clipped (our direction="unclipped"), or derives it again
  with use_clipped_model_output (our "clipped").
- DDPMScheduler adds noise on the last move when that starts above level 1. Ours returns the estimate there,
  as Ho et al. do at their last step; the noise handed to diffusers is zero on that move.
- DDIMScheduler gives NaN where eta = 1 meets zero terminal SNR and ``1 - alpha_bar_s - std^2`` rounds below
  0; ours takes
  0. The grid uses eta = 0.999 there.
- linspace with one step is timestep 0 in diffusers and level T here.
- DPMSolverMultistepScheduler computes in float32 and bounds zero terminal SNR to alpha-bar = 2^-24.
"""

from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from latentdiff.config.diffusion import Prediction, ScheduleConfig, ScheduleKind, Spacing
from latentdiff.diffusion.denoiser import Denoiser, denoiser
from latentdiff.diffusion.loop import run, sample, start
from latentdiff.diffusion.samplers import Direction, VarianceKind, ddim, ddpm, dpmpp2m
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

T = 1000
KEY = Key.of(21, 3)
SHAPE = (2, 5)
NAMES: dict[Prediction, str] = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
KINDS: dict[ScheduleKind, tuple[str, float, float]] = {  # their name and betas
    "linear": ("linear", 1e-4, 0.02),
    "scaled_linear": ("scaled_linear", 0.00085, 0.012),
    "cosine": ("squaredcos_cap_v2", 1e-4, 0.02),  # their betas are not used by this one
}
PROCESSES = [
    (kind, zero, prediction)
    for kind in KINDS
    for zero in (False, True)
    for prediction in NAMES
    if not (zero and prediction == "eps")
]
SPACINGS = ("trailing", "leading", "linspace")
STEPS = (1, 2, 7)
ETAS = (0.0, 0.4, 1.0)
VARIANCES = ("small", "large", "learned")
DDIM_COMPARED, DDPM_COMPARED = 60, 20  # tensors in each test: states and estimates for 3 clips, states for 2


@cache
def schedule_of(kind: ScheduleKind, zero: bool) -> Schedule:
    return make_schedule(ScheduleConfig(kind=kind, zero_terminal_snr=zero))


@cache
def exact_bars(kind: ScheduleKind, zero: bool) -> Tensor:
    """alpha-bar of their timesteps 0..T-1 by the formulas of diffusers, in float64."""
    _, first, last = KINDS[kind]
    if kind == "linear":
        betas = np.linspace(first, last, T)
    elif kind == "scaled_linear":
        betas = np.linspace(first**0.5, last**0.5, T) ** 2
    else:
        curve = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - curve[1:] / curve[:-1], 0.999)
    bars = np.cumprod(1 - betas)
    if zero:
        roots = np.sqrt(bars)
        bars = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
    return torch.from_numpy(bars)


def theirs(
    cls: Any, kind: ScheduleKind, zero: bool, prediction: Prediction, *, exact: bool, **options: Any
) -> Any:
    name, first, last = KINDS[kind]
    scheduler = cls(
        num_train_timesteps=T,
        beta_schedule=name,
        beta_start=first,
        beta_end=last,
        rescale_betas_zero_snr=zero,
        prediction_type=NAMES[prediction],
        **options,
    )
    if exact:
        scheduler.alphas_cumprod = exact_bars(kind, zero)
    return scheduler


def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """Any function of x and t will do: it saturates nothing and differs for each level.

    Twice the channels.
    """
    time = (t.to(x.dtype) / T).view(-1, 1, 1)
    return torch.cat([0.8 * x / (1 + 0.1 * x * x) + 0.3 * time - 0.1, x / (1 + x * x)], 1)


def ours(
    schedule: Schedule, prediction: Prediction, *, clip: float | None, learned: bool = False
) -> Denoiser:
    def half(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return network(x, t, labels) if learned else network(x, t, labels)[:, : x.shape[1]]

    return denoiser(half, schedule, prediction=prediction, clip=clip, learned_variance=learned)


def output(x: Tensor, t: int, *, learned: bool = False) -> Tensor:
    """What the network says at level t, for the step function of diffusers."""
    both = network(x, torch.full((len(x),), t - 1), None)
    return both if learned else both[:, : x.shape[1]]


@cache
def noise(t: int, dtype: torch.dtype) -> Tensor:
    return KEY.at("step", t).normal(SHAPE, dtype=dtype)


def deviation(found: Tensor, wanted: Tensor) -> float:
    assert torch.isfinite(wanted).all()
    return float((found - wanted).abs().max() / wanted.abs().max())


def their_ddim(
    scheduler: Any, x: Tensor, levels: list[int], *, eta: float, direction: Direction
) -> Iterator[tuple[Tensor, Tensor]]:
    """The states and x_0 estimates of DDIMScheduler over our levels."""
    for t, s in pairwise(levels):
        scheduler.register_to_config(num_train_timesteps=t - s)
        scheduler.num_inference_steps = 1
        result = scheduler.step(
            output(x, t),
            t - 1,
            x,
            eta=eta,
            variance_noise=noise(t, x.dtype),
            use_clipped_model_output=direction == "clipped",
        )
        x = result.prev_sample
        yield x, result.pred_original_sample


@pytest.mark.parametrize("eta", ETAS)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("kind", "zero", "prediction"), PROCESSES)
def test_ddim_states_agree(
    kind: ScheduleKind, zero: bool, prediction: Prediction, spacing: Spacing, eta: float
) -> None:
    """Every state and every estimate of 3 step counts x (no clip, clip with both directions): 1e-9 in
    float64.
    """
    schedule = schedule_of(kind, zero)
    eta = 0.999 if zero and eta == 1 else eta
    x = start(KEY, SHAPE, dtype=torch.float64)
    compared = 0
    choices: tuple[tuple[float | None, Direction], ...] = (
        (None, "clipped"),
        (0.9, "clipped"),
        (0.9, "unclipped"),
    )
    for clip, direction in choices:
        options = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0}
        scheduler = theirs(DDIMScheduler, kind, zero, prediction, exact=True, **options)
        for n in STEPS:
            levels = schedule.levels(n, spacing)
            step = ddim(schedule, eta=eta, direction=direction)
            states = sample(ours(schedule, prediction, clip=clip), x, levels, step, KEY)
            reference = their_ddim(scheduler, x, levels, eta=eta, direction=direction)
            for state, (wanted, wanted_x0) in zip(states, reference, strict=True):
                assert deviation(state.x, wanted) < 1e-9, (clip, direction, n, state.t)
                assert deviation(state.estimate.x0(), wanted_x0) < 1e-9, (clip, direction, n, state.t)
                compared += 2
    assert compared == DDIM_COMPARED


def their_ddpm(
    scheduler: Any, x: Tensor, levels: list[int], monkeypatch: pytest.MonkeyPatch, *, learned: bool
) -> Iterator[Tensor]:
    """The states of DDPMScheduler over our levels with our noise, none on the last move."""
    scheduler.set_timesteps(timesteps=[t - 1 for t in levels[:-1]])
    for t, s in pairwise(levels):
        z = noise(t, x.dtype) if s > 0 else torch.zeros_like(x)
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, z=z, **__: z)
        x = scheduler.step(output(x, t, learned=learned), t - 1, x).prev_sample
        yield x


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize(("kind", "zero", "prediction"), PROCESSES)
def test_ddpm_states_agree(
    kind: ScheduleKind,
    zero: bool,
    prediction: Prediction,
    spacing: Spacing,
    variance: VarianceKind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every state of 3 step counts, with and without a clip: 1e-9 in float64."""
    schedule = schedule_of(kind, zero)
    x = start(KEY, SHAPE, dtype=torch.float64)
    learned, compared = variance == "learned", 0
    name = {"small": "fixed_small", "large": "fixed_large", "learned": "learned_range"}[variance]
    for clip in (None, 0.9):
        options = {"clip_sample": clip is not None, "clip_sample_range": clip or 1.0, "variance_type": name}
        scheduler = theirs(DDPMScheduler, kind, zero, prediction, exact=True, **options)
        for n in STEPS:
            levels = schedule.levels(n, spacing)
            denoise = ours(schedule, prediction, clip=clip, learned=learned)
            states = sample(denoise, x, levels, ddpm(schedule, variance=variance), KEY)
            reference = their_ddpm(scheduler, x, levels, monkeypatch, learned=learned)
            for state, wanted in zip(states, reference, strict=True):
                assert deviation(state.x, wanted) < 1e-9, (clip, n, state.t)
                compared += 1
    assert compared == DDPM_COMPARED


def test_the_grid_is_of_ten_thousand_comparisons() -> None:
    """10,800: each of the two tests above says how many of them it makes."""
    places = len(PROCESSES) * len(SPACINGS)
    assert places * (len(ETAS) * DDIM_COMPARED + len(VARIANCES) * DDPM_COMPARED) >= 10_000


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_alpha_bars_agree_with_their_float32_tables(kind: ScheduleKind, zero: bool) -> None:
    scheduler = theirs(DDPMScheduler, kind, zero, "v", exact=False)
    alpha_bar = schedule_of(kind, zero).alpha.square()[1:]
    torch.testing.assert_close(scheduler.alphas_cumprod.double(), alpha_bar, rtol=0, atol=1e-6)
    torch.testing.assert_close(exact_bars(kind, zero), alpha_bar, rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("cls", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_levels_are_their_timesteps_plus_one(cls: Any, spacing: Spacing) -> None:
    scheduler = cls(timestep_spacing=spacing)
    levels = make_schedule("linear").levels
    for n in (1, 2, 3, 4, 7, 10, 25, 30, 50, 99, 333, 500, 999, 1000):
        scheduler.set_timesteps(n)
        if spacing == "linspace" and n == 1:
            assert scheduler.timesteps.tolist() == [0]  # they denoise once from almost no noise
            assert levels(1, "linspace") == [T, 0]
        else:
            assert [*(scheduler.timesteps + 1).tolist(), 0] == levels(n, spacing), n


def test_steps_offset_shifts_leading_levels_only_there() -> None:
    """Stable Diffusion's steps_offset = 1 starts its leading timesteps one level higher; ours has no such
    option.
    """
    scheduler: Any = theirs(
        DDIMScheduler, "linear", False, "v", exact=False, timestep_spacing="leading", steps_offset=1
    )
    scheduler.set_timesteps(10)
    assert scheduler.timesteps.tolist() == make_schedule("linear").levels(10, "leading")[:-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("spacing", "n"), [("trailing", 25), ("leading", 30)])
@pytest.mark.parametrize(
    ("kind", "zero", "prediction"),
    [("scaled_linear", False, "eps"), ("linear", False, "x0"), ("cosine", True, "v")],
)
def test_ddim_as_it_comes(
    kind: ScheduleKind, zero: bool, prediction: Prediction, spacing: Spacing, n: int, dtype: torch.dtype
) -> None:
    """Its own timesteps, arithmetic and tables, where its arithmetic means its own list: float32 tables allow
    1e-4.
    """
    schedule = schedule_of(kind, zero)
    scheduler = theirs(DDIMScheduler, kind, zero, prediction, exact=False, timestep_spacing=spacing)
    scheduler.set_timesteps(n)
    x = wanted = start(KEY, SHAPE).to(dtype)
    for t in scheduler.timesteps.tolist():
        wanted = scheduler.step(
            output(wanted, t + 1), t, wanted, eta=0.5, variance_noise=noise(t + 1, dtype)
        ).prev_sample
    step = ddim(schedule, eta=0.5, direction="unclipped")
    found = run(ours(schedule, prediction, clip=1.0), x, schedule.levels(n, spacing), step, KEY)
    assert found.dtype == wanted.dtype == dtype
    assert deviation(found, wanted) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize(
    ("kind", "prediction"), [("scaled_linear", "eps"), ("linear", "x0"), ("cosine", "v")]
)
def test_ddpm_as_it_comes(
    kind: ScheduleKind,
    prediction: Prediction,
    variance: VarianceKind,
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """25 of its own steps with its own tables: 1e-4."""
    schedule = schedule_of(kind, False)
    options = {"variance_type": f"fixed_{variance}", "timestep_spacing": "trailing"}
    scheduler = theirs(DDPMScheduler, kind, False, prediction, exact=False, **options)
    x = start(KEY, SHAPE).to(dtype)
    levels = schedule.levels(25)
    *_, wanted = their_ddpm(scheduler, x, levels, monkeypatch, learned=False)
    found = run(ours(schedule, prediction, clip=1.0), x, levels, ddpm(schedule, variance=variance), KEY)
    assert found.dtype == wanted.dtype == dtype
    assert deviation(found, wanted) < 1e-4


def test_a_quarter_of_all_levels_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    schedule = schedule_of("linear", False)
    scheduler = theirs(DDPMScheduler, "linear", False, "eps", exact=True)
    x = start(KEY, SHAPE, dtype=torch.float64)
    levels = schedule.levels(250)
    *_, wanted = their_ddpm(scheduler, x, levels, monkeypatch, learned=False)
    found = run(ours(schedule, "eps", clip=1.0), x, levels, ddpm(schedule), KEY)
    assert deviation(found, wanted) < 1e-9


@pytest.mark.parametrize("t", [2, 20, 400])
def test_without_alpha_to_one_ddim_ends_at_level_one(t: int) -> None:
    """Stable Diffusion's set_alpha_to_one=False: its "timestep -1" is our level 1."""
    schedule = schedule_of("scaled_linear", False)
    scheduler = theirs(
        DDIMScheduler, "scaled_linear", False, "v", exact=True, set_alpha_to_one=False, clip_sample=False
    )
    scheduler.final_alpha_cumprod = exact_bars("scaled_linear", False)[0]
    x = start(KEY, SHAPE, dtype=torch.float64)
    ((wanted, _),) = their_ddim(scheduler, x, [t, 0], eta=0.0, direction="clipped")
    found = run(ours(schedule, "v", clip=None), x, [t, 1], ddim(schedule), KEY)
    assert deviation(found, wanted) < 1e-9


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("n", [1, 2, 3, 14, 20])
@pytest.mark.parametrize("prediction", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_dpmpp_agrees(kind: ScheduleKind, prediction: Prediction, n: int) -> None:
    """Same levels, float32 on their side (log-SNR from float32 sigmas; at alpha = 5e-5, cosine, that costs
    digits).
    """
    schedule = schedule_of(kind, False)
    levels = schedule.levels(n)
    scheduler = theirs(
        DPMSolverMultistepScheduler,
        kind,
        False,
        prediction,
        exact=False,
        algorithm_type="dpmsolver++",
        solver_order=2,
        final_sigmas_type="zero",
        lower_order_final=True,
    )
    scheduler.set_timesteps(timesteps=[t - 1 for t in levels[:-1]])
    x = wanted = start(KEY, SHAPE)
    for t in levels[:-1]:
        wanted = scheduler.step(output(wanted, t), t - 1, wanted).prev_sample
    found = run(ours(schedule, prediction, clip=None), x, levels, dpmpp2m(schedule), KEY)
    # eps read at alpha_T = 4.9e-5: their float32 alpha-bar alone is off by 1e-4 there
    assert deviation(found, wanted) < (1e-2 if (kind, prediction) == ("cosine", "eps") else 1e-4)
