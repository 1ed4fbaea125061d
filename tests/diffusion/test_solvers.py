"""Restoration against closed form: on a Gaussian prior with the exact denoiser the posterior is known."""

import inspect
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch import Tensor

from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind
from latentdiff.config.restoration import SOLVERS, Restoration, Solver
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import noised, run, sample, start
from latentdiff.diffusion.samplers import (
    SamplerStep,
    ddim,
    ddpm,
    diffpir_step,
    dpmpp2m,
    heun,
    inverse_ddim_step,
)
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.diffusion.solvers import (
    corrected,
    descending,
    dps,
    gaussian_update,
    half_quadratic,
    psld,
    repaint,
    repaint_schedule,
    score_ald,
    solver_function,
    with_renoising,
)
from latentdiff.ops.random import Key

DOUBLE = torch.float64
MEAN = torch.tensor([0.5, -0.3, 0.2, 0.1], dtype=DOUBLE)
MIX = torch.tensor(
    [[1.0, 0, 0, 0], [0.8, 0.4, 0, 0], [-0.5, 0.3, 0.6, 0], [0.2, 0.7, -0.3, 0.5]], dtype=DOUBLE
)
PRIOR = MIX @ MIX.T
SEEN = torch.tensor([[1.0, 0, 0, 0], [0, 0.5, 0.5, 0]], dtype=DOUBLE)
Y = torch.tensor([1.2, -0.4], dtype=DOUBLE)
NOISE = 0.3
KEY = Key.of(11, 4)


@cache
def cosine(*, zero: bool = False) -> Schedule:
    return make_schedule(ScheduleConfig(kind="cosine", zero_terminal_snr=zero))


@pytest.fixture(params=["cosine", "rectified-flow"])
def schedule(request: pytest.FixtureRequest) -> Schedule:
    """A process that preserves variance, and one that does not and ends without signal."""
    return make_schedule(request.param)


def covariance(schedule: Schedule, t: int) -> Tensor:
    """Cov[x_0 | x_t] of the prior."""
    alpha, sigma = schedule.at(t)
    gain = alpha * PRIOR @ torch.linalg.inv(alpha**2 * PRIOR + sigma**2 * torch.eye(4, dtype=DOUBLE))
    return PRIOR - alpha * gain @ PRIOR


def exact(schedule: Schedule) -> Denoiser:
    """E[x_0 | x_t] of the prior, differentiable."""

    def denoise(x: Tensor, t: int) -> Estimate:
        alpha, sigma = schedule.at(t)
        full = alpha**2 * PRIOR + sigma**2 * torch.eye(4, dtype=DOUBLE)
        x0 = MEAN + alpha * torch.linalg.solve(full, (x.double() - alpha * MEAN).T).T @ PRIOR
        return Estimate.from_x0(x, t, x0=x0.to(x.dtype))

    return denoise


def posterior() -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 given y, in closed form."""
    gain = PRIOR @ SEEN.T @ torch.linalg.inv(SEEN @ PRIOR @ SEEN.T + NOISE**2 * torch.eye(2, dtype=DOUBLE))
    return MEAN + gain @ (Y - SEEN @ MEAN), PRIOR - gain @ SEEN @ PRIOR


def affine(denoise: Denoiser, levels: list[int], step: SamplerStep) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the result of a deterministic loop that is affine in x_T: b, and M M^T of x_0 =
    M x_T + b.
    """
    basis = torch.cat([torch.zeros(1, 4, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE)])
    ends = run(denoise, basis, levels, step, Key.of(0, 5))
    m = (ends[1:] - ends[0]).T
    return ends[0], m @ m.T


def errors(mean: Tensor, cov: Tensor) -> tuple[float, float]:
    """Distances from the posterior, in its own units."""
    wanted, spread = posterior()
    off = float((mean - wanted).norm() / spread.diagonal().sum().sqrt())
    return off, float((cov - spread).norm() / spread.norm())


def conditioned(schedule: Schedule) -> Denoiser:
    return corrected(
        exact(schedule), gaussian_update(SEEN, Y, lambda t: covariance(schedule, t), sigma=NOISE)
    )


@pytest.mark.parametrize(
    "schedule", [cosine(zero=True), make_schedule("rectified-flow")], ids=["zero", "flow"]
)
def test_the_exact_likelihood_converges_to_the_posterior_as_steps_grow(schedule: Schedule) -> None:
    found = []
    for steps in (10, 40, 160, 1000):
        levels = schedule.levels(steps)
        found.append(errors(*affine(conditioned(schedule), levels, ddim(schedule))))
    assert all(mean < 1e-9 for mean, _ in found), "the mean is exact for any number of steps"
    for coarse, fine in pairwise(found):
        assert fine[1] < 0.3 * coarse[1]
    assert found[-1][1] < 0.005


def test_the_exact_likelihood_with_the_ancestral_step(schedule: Schedule) -> None:
    n = 20_000
    key = Key.of(3, n)
    x = run(conditioned(schedule), start(key, (4,), dtype=DOUBLE), schedule.levels(200), ddpm(schedule), key)
    mean, cov = errors(x.mean(0), x.T.cov())
    assert mean < 0.03 and cov < 0.05


WRAPPERS: dict[str, Callable[[Schedule], tuple[Denoiser, SamplerStep]]] = {
    "none": lambda s: (exact(s), ddpm(s)),
    "dps": lambda s: (exact(s), dps(ddpm(s), op.matrix(SEEN), Y, zeta=0.1)),
    "ald": lambda s: (exact(s), score_ald(ddpm(s), op.matrix(SEEN), Y, s, sigma=NOISE)),
    "diffpir": lambda s: (
        corrected(exact(s), half_quadratic(op.matrix(SEEN), Y, s, sigma=NOISE)),
        diffpir_step(s, share=0.3),
    ),
}
BOUNDS = {
    "dps": (0.4, 0.4),
    "ald": (0.3, 0.4),
    "diffpir": (0.12, 0.15),
}  # bias of the mean, of the covariance


@pytest.mark.parametrize("name", BOUNDS)
def test_the_bias_of_a_solver_is_bounded_and_less_than_that_of_the_prior(
    schedule: Schedule, name: str
) -> None:
    n = 4000
    key = Key.of(5, n)

    def measured(solver: str) -> tuple[float, float]:
        denoise, step = WRAPPERS[solver](schedule)
        x = run(denoise, start(key, (4,), dtype=DOUBLE), schedule.levels(250), step, key)
        return errors(x.mean(0), x.T.cov())

    (mean, cov), (prior_mean, prior_cov) = measured(name), measured("none")
    assert mean < BOUNDS[name][0] < prior_mean and cov < BOUNDS[name][1] < prior_cov


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_sample_does_not_depend_on_the_others(name: str) -> None:
    """One residual for each sample: a norm over the batch would couple them."""
    schedule = cosine()
    denoise, step = WRAPPERS[name](schedule)
    x = start(KEY, (4,), dtype=DOUBLE) * torch.tensor([1.0, 3.0, 0.1, 1.0], dtype=DOUBLE).view(4, 1)
    together = run(denoise, x, schedule.levels(20), step, KEY)
    alone = run(denoise, x[2:3], schedule.levels(20), step, KEY[2:3])
    torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)


def test_ald_adds_the_gradient_of_the_likelihood_to_the_score(schedule: Schedule) -> None:
    t = 300
    alpha, sigma = schedule.at(t)
    x = start(KEY, (4,), dtype=DOUBLE)
    gamma = 0.7 * sigma / alpha
    step = score_ald(ddim(schedule), op.matrix(SEEN), Y, schedule, sigma=NOISE, anneal=0.7)
    found = step(exact(schedule), x, t, t - 1, KEY, None)[1].x0()
    plain = exact(schedule)(x, t).x0()
    score = (alpha * plain - x) / sigma**2
    likelihood = (Y - x @ SEEN.T / alpha) @ SEEN / (NOISE**2 + gamma**2) / alpha
    torch.testing.assert_close(found, (x + sigma**2 * (score + likelihood)) / alpha, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [10, 50])
def test_ald_stays_where_samples_are(schedule: Schedule, steps: int) -> None:
    """In few moves alpha grows a hundredfold near pure noise, and a move that follows the gradient as far as
    it goes diverges.
    """
    key = Key.of(2, 500)
    step = score_ald(ddpm(schedule), op.matrix(SEEN), Y, schedule, sigma=NOISE)
    for state in sample(exact(schedule), start(key, (4,), dtype=DOUBLE), schedule.levels(steps), step, key):
        assert float(state.x.abs().max()) < 30


@pytest.mark.parametrize("size", ["residual", "gradient"])
def test_dps_moves_along_the_gradient_of_the_residual(schedule: Schedule, size: str) -> None:
    zeta = 0.2
    x = start(KEY, (4,), dtype=DOUBLE)
    step = ddim(schedule)
    moved, _ = dps(step, op.matrix(SEEN), Y, zeta=zeta, size=size)(exact(schedule), x, 400, 380, KEY, None)  # type: ignore[arg-type]
    plain, _ = step(exact(schedule), x, 400, 380, KEY, None)

    def residual(one: Tensor) -> Tensor:
        return (Y - exact(schedule)(one[None], 400).x0()[0] @ SEEN.T).square().sum()

    for k in range(len(x)):
        one = x[k].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(residual(one), one)
        scale = zeta / residual(x[k]).sqrt() if size == "residual" else zeta / gradient.norm()
        torch.testing.assert_close(moved[k], plain[k] - scale * gradient, rtol=1e-8, atol=1e-8)


def test_two_evaluations_a_move_are_refused_where_one_estimate_is_used(schedule: Schedule) -> None:
    """The gradient is of the estimate at x_t; the second evaluation of Heun's method is at another x and
    t.
    """
    x, operator = start(KEY, (4,), dtype=DOUBLE), op.matrix(SEEN)
    for step in (
        dps(heun(schedule), operator, Y),
        score_ald(heun(schedule), operator, Y, schedule, sigma=NOISE),
    ):
        with pytest.raises(ValueError, match="one evaluation of the network a move"):
            step(exact(schedule), x, 400, 300, KEY, None)


def test_a_descent_without_a_slope_stays_finite() -> None:
    schedule = cosine()
    x = start(KEY, (4,), dtype=DOUBLE)
    step = descending(ddim(schedule), lambda x0: 0 * x0.sum(1), normalized=1.0)
    moved, _ = step(exact(schedule), x, 400, 380, KEY, None)
    torch.testing.assert_close(moved, ddim(schedule)(exact(schedule), x, 400, 380, KEY, None)[0])


def test_psld_without_a_codec_is_dps_with_both_weights() -> None:
    """With a mask and D = E = identity the gluing term is the residual again."""
    schedule = cosine()
    mask = torch.diag(torch.tensor([1.0, 0, 1, 0], dtype=DOUBLE))
    y = torch.tensor([0.7, 0, -0.2, 0], dtype=DOUBLE)
    operator = op.matrix(mask)
    x = start(KEY, (4,), dtype=DOUBLE)
    glued = psld(
        ddim(schedule), operator, y.expand(4, 4), decode=lambda z: z, encode=lambda z: z, eta=0.4, gamma=0.1
    )
    ours, _ = glued(exact(schedule), x, 500, 400, KEY, None)
    plain, _ = dps(ddim(schedule), operator, y, zeta=0.25)(exact(schedule), x, 500, 400, KEY, None)
    torch.testing.assert_close(ours, plain)


def test_diffpir_without_trust_in_the_measurement_is_plain_sampling(schedule: Schedule) -> None:
    x, levels = start(KEY, (4,), dtype=DOUBLE), schedule.levels(20)
    deaf = corrected(exact(schedule), half_quadratic(op.matrix(SEEN), Y, schedule, sigma=1e6))
    torch.testing.assert_close(
        run(deaf, x, levels, diffpir_step(schedule), KEY),
        run(exact(schedule), x, levels, ddim(schedule), KEY),
        rtol=1e-5,
        atol=1e-5,
    )


def test_diffpir_explains_a_measurement_without_noise(schedule: Schedule) -> None:
    x = start(KEY, (4,), dtype=DOUBLE)
    denoise = corrected(exact(schedule), half_quadratic(op.matrix(SEEN), Y, schedule, sigma=0.0))
    end = run(denoise, x, schedule.levels(50), diffpir_step(schedule, share=0.5), KEY)
    torch.testing.assert_close(end @ SEEN.T, Y.expand(4, 2), rtol=0, atol=1e-2)


def test_inpainting_keeps_known_pixels_exactly_and_noises_them_on_the_way(schedule: Schedule) -> None:
    known = Key.of(9, 4).normal((4,))
    mask = torch.tensor([1, 0, 1, 0])
    x, noise = start(KEY, (4,)), {}
    step = repaint(ddim(schedule), known, mask, schedule)
    for state in sample(exact(schedule), x, schedule.levels(25), step, KEY):
        alpha, sigma = schedule.at(state.t)
        if state.t:
            noise[state.t] = ((state.x - alpha * known) / sigma)[:, mask.bool()]
    assert torch.equal(state.x[:, mask.bool()], known[:, mask.bool()])
    every = torch.stack(list(noise.values()))
    assert 0.7 < float(every.std()) < 1.3
    assert len(torch.unique(every)) == every.numel(), "every level has its own noise"


@pytest.mark.parametrize("kind", ["cosine", "rectified-flow"])
def test_resampling_brings_inpainting_closer_to_the_posterior(kind: ScheduleKind) -> None:
    """Replacement alone conditions too late; RePaint's way back harmonises.

    The hidden value is tied to the known one.
    """
    schedule, n = make_schedule(kind, T=100), 3000
    key, mask = Key.of(2, n), torch.tensor([True, False, False, False])
    known = torch.full((n, 4), 2.0, dtype=DOUBLE)
    wanted = MEAN + PRIOR[0] / PRIOR[0, 0] * (2.0 - MEAN[0])
    x = start(key, (4,), dtype=DOUBLE)
    step = repaint(with_renoising(ddpm(schedule), schedule), known, mask, schedule)
    levels = schedule.levels(50)
    off = {}
    for times in (1, 4):
        end = run(exact(schedule), x, repaint_schedule(levels, length=5, times=times), step, key)
        off[times] = float((end.mean(0) - wanted).norm())
        assert bool((end[:, 0] == 2.0).all())
    assert off[4] < 0.5 * off[1]


def published_way(moves: int, length: int, times: int) -> list[int]:
    """`get_schedule_jump` of the authors' code (github.com/andreas128/RePaint): -1 is the clean image."""
    jumps = dict.fromkeys(range(0, moves - length, length), times - 1)
    t, way = moves, []
    while t >= 1:
        t -= 1
        way.append(t)
        if jumps.get(t, 0) > 0:
            jumps[t] -= 1
            for _ in range(length):
                t += 1
                way.append(t)
    return [*way, -1]


@pytest.mark.parametrize(
    ("moves", "length", "times"), [(12, 3, 2), (12, 5, 3), (50, 10, 5), (6, 1, 4), (7, 6, 2), (5, 5, 9)]
)
def test_the_way_of_repaint(moves: int, length: int, times: int) -> None:
    levels = list(range(moves, -1, -1))
    assert [level - 1 for level in repaint_schedule(levels, length=length, times=times)] == published_way(
        moves, length, times
    )
    assert repaint_schedule(levels, length=length, times=1) == levels


def test_jumps_that_are_none_are_refused() -> None:
    for length, times in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="1 or more"):
            repaint_schedule([2, 1, 0], length=length, times=times)


def test_every_visit_of_a_level_has_its_own_noise() -> None:
    schedule, streams = cosine(), []

    def spy(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        streams.append(key.stream)
        return x, Estimate.from_x0(x, t, x0=x)

    run(exact(schedule), start(KEY, (4,)), repaint_schedule(schedule.levels(20), length=3, times=3), spy, KEY)
    assert len(set(streams)) == len(streams) > 20


def test_noise_on_the_way_up_is_that_of_the_forward_process(schedule: Schedule) -> None:
    n = 40_000
    key = Key.of(0, n)
    x = noised(torch.full((n, 1), 1.5, dtype=DOUBLE), 100, schedule, key)
    up, _ = with_renoising(ddim(schedule), schedule)(exact(schedule), x, 100, 400, key.at("step", 100), None)
    alpha, sigma = schedule.at(400)
    assert abs(float(up.mean()) - 1.5 * alpha) < 0.02 and abs(float(up.std()) - sigma) < 0.02


def test_a_multistep_sampler_starts_anew_after_a_way_up() -> None:
    schedule = cosine()
    x, step = start(KEY, (4,), dtype=DOUBLE), with_renoising(dpmpp2m(schedule), schedule)
    _, before = step(exact(schedule), x, 300, 200, KEY.at("step", 300), None)
    again, _ = step(exact(schedule), x, 300, 200, KEY.at("step", 300), before)
    fresh, _ = step(exact(schedule), x, 300, 200, KEY.at("step", 300), None)
    assert torch.equal(again, fresh)
    up, carried = step(exact(schedule), x, 200, 300, KEY.at("step", 200), before)
    after, _ = step(exact(schedule), up, 300, 200, KEY.at("step", 300, 1), carried)
    assert torch.equal(after, step(exact(schedule), up, 300, 200, KEY.at("step", 300, 1), None)[0])


@pytest.mark.parametrize("kind", ["cosine", "rectified-flow"])
def test_the_error_of_a_round_trip_falls_as_one_over_the_steps(kind: ScheduleKind) -> None:
    schedule = make_schedule(kind, T=4000)
    x0 = MEAN + Key.of(4, 3).normal((4,), dtype=DOUBLE) @ MIX.T
    found = []
    for steps in (25, 50, 100, 200):
        levels = [level for level in schedule.levels(steps) if level <= 3600]
        noise = run(exact(schedule), x0, levels[::-1], inverse_ddim_step(schedule), KEY)
        back = run(exact(schedule), noise, levels, ddim(schedule), KEY)
        found.append(float((back - x0).norm()))
    ratios = [coarse / fine for coarse, fine in pairwise(found)]
    assert all(1.7 < ratio < 2.3 for ratio in ratios), ratios


def test_inversion_ends_in_noise(schedule: Schedule) -> None:
    x0 = MEAN + Key.of(4, 5000).normal((4,), dtype=DOUBLE) @ MIX.T
    key = Key.of(0, 5000)
    noise = run(exact(schedule), x0, schedule.levels(200)[::-1], inverse_ddim_step(schedule), key)
    torch.testing.assert_close(noise.T.cov(), torch.eye(4, dtype=DOUBLE), rtol=0, atol=0.1)
    with pytest.raises(ValueError, match="inverse move"):
        inverse_ddim_step(schedule)(exact(schedule), x0, 5, 5, key, None)


@pytest.mark.parametrize(
    "schedule", [cosine(zero=True), make_schedule("rectified-flow")], ids=["zero", "flow"]
)
def test_sdedit_starts_from_its_input_or_from_noise(schedule: Schedule) -> None:
    x0 = Key.of(8, 4).normal((4,))
    assert noised(x0, 0, schedule, KEY) is x0
    assert torch.equal(noised(x0, schedule.T, schedule, KEY), start(KEY, (4,)))
    alpha, sigma = schedule.at(500)
    torch.testing.assert_close(noised(x0, 500, schedule, KEY), alpha * x0 + sigma * start(KEY, (4,)))


def test_renoising_is_ddim_at_share_0_and_independent_noise_at_1(schedule: Schedule) -> None:
    x, key = start(KEY, (4,)), KEY.at("step", 300)
    plain, _ = ddim(schedule)(exact(schedule), x, 300, 200, key, None)
    assert torch.equal(diffpir_step(schedule)(exact(schedule), x, 300, 200, key, None)[0], plain)
    alpha, sigma = schedule.at(200)
    fresh, estimate = diffpir_step(schedule, share=1.0)(exact(schedule), x, 300, 200, key, None)
    torch.testing.assert_close(fresh, alpha * estimate.x0() + sigma * key.normal((4,)), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="share"):
        diffpir_step(schedule, share=1.5)


@pytest.mark.parametrize("name", get_args(Solver))
def test_a_row_of_the_table_names_a_function_of_its_options(name: Solver) -> None:
    function, options = solver_function(name), SOLVERS[name].options
    assert function.__module__.endswith(f"solvers.{SOLVERS[name].function.split(':')[0]}")
    assert [*inspect.signature(function).parameters][:2] == ["problem", "loop"]
    assert set(list(inspect.signature(function).parameters)[2:]) == set(options.model_fields)
    assert issubclass(Restoration, options)
    assert Restoration(solver=name).options() == options().model_dump()


def test_every_solver_has_a_row_and_every_option_a_solver() -> None:
    assert tuple(SOLVERS) == get_args(Solver)
    taken = {option for info in SOLVERS.values() for option in info.options.model_fields}
    assert taken | {"solver"} == set(Restoration.model_fields)
