"""Schedules: alpha-bars from the papers' formulas, zero terminal SNR, and the levels that a sampler
visits.
"""

import itertools
import math
from typing import get_args

import pytest
import torch

from latentdiff.config.diffusion import SCHEDULES, ScheduleConfig, ScheduleKind, Spacing
from latentdiff.diffusion.schedule import (
    BETAS,
    CURVES,
    MAX_NOISE,
    make_schedule,
    schedule_from_betas,
)
from latentdiff.diffusion.schedule import (
    SPACINGS as SPACING_ROWS,
)

KINDS: tuple[ScheduleKind, ...] = get_args(ScheduleKind)
SPACINGS: tuple[Spacing, ...] = get_args(Spacing)
PRESERVING: tuple[ScheduleKind, ...] = tuple(kind for kind in KINDS if kind in BETAS)


def test_every_kind_and_spacing_has_its_rows() -> None:
    """A kind by its name, its facts and its function; level T is pure noise where the facts say so."""
    assert {*BETAS, *CURVES} == set(SCHEDULES) == {*KINDS, "betas"} and not set(BETAS) & set(CURVES)
    assert tuple(SPACING_ROWS) == SPACINGS
    for kind in KINDS:
        assert (make_schedule(kind).at(1000) == (0.0, 1.0)) == SCHEDULES[kind].pure_noise


@pytest.mark.parametrize("T", [1, 2, 1000])
def test_rectified_flow_is_a_straight_line(T: int) -> None:
    """Liu et al. 2023, eq. 1: x_t = (1 - u) x_0 + u eps, u = t / T."""
    schedule = make_schedule("rectified-flow", T=T)
    for t in range(T + 1):
        assert schedule.at(t) == pytest.approx((1 - t / T, t / T), abs=1e-15)
    assert schedule.at(0) == (1.0, 0.0) and schedule.at(T) == (0.0, 1.0)
    assert schedule.preserves_variance == (T == 1)
    same = make_schedule(ScheduleConfig(kind="rectified-flow", T=max(T, 2), zero_terminal_snr=True))
    torch.testing.assert_close(same.alpha, make_schedule("rectified-flow", T=max(T, 2)).alpha)


@pytest.mark.parametrize("kind", KINDS)
def test_forward_kernels_join_the_levels(kind: ScheduleKind) -> None:
    """x_t = r x_s + sqrt(variance) z has the signal and the noise of level t; reverse: Gaussians'
    conditioning.
    """
    schedule = make_schedule(kind, T=50)
    for t, s in ((50, 49), (50, 20), (30, 1), (7, 0), (1, 0)):
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        r, variance = alpha_t / alpha_s, float(schedule.forward_variance(t, s))
        assert r**2 * sigma_s**2 + variance == pytest.approx(sigma_t**2, rel=1e-9)
        total_s, total_t = alpha_s**2 + sigma_s**2, alpha_t**2 + sigma_t**2
        conditional = total_s - (r * total_s) ** 2 / total_t  # Var - Cov^2 / Var
        assert float(schedule.reverse_variance(t, s)) == pytest.approx(conditional, rel=1e-9)
    table = schedule.forward_variance(slice(1, None), slice(0, -1))
    assert table.tolist() == [float(schedule.forward_variance(t, t - 1)) for t in range(1, 51)]


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("T", [2, 10, 1000])
@pytest.mark.parametrize("kind", PRESERVING)
def test_every_schedule_of_betas_preserves_variance_and_only_gets_noisier(
    kind: ScheduleKind, T: int, zero: bool
) -> None:
    schedule = make_schedule(ScheduleConfig(kind=kind, T=T, zero_terminal_snr=zero))
    assert schedule.T == T
    assert schedule.alpha.shape == schedule.sigma.shape == (T + 1,)
    assert schedule.alpha.dtype == schedule.sigma.dtype == torch.float64
    assert schedule.at(0) == (1.0, 0.0)
    torch.testing.assert_close(schedule.alpha.square() + schedule.sigma.square(), torch.ones(T + 1).double())
    assert (schedule.alpha.diff() < 0).all()
    assert (schedule.alpha[-1] == 0) == zero
    assert schedule.sigma[-1] == 1 or not zero


def test_linear_betas_are_those_of_ho_et_al() -> None:
    schedule = make_schedule("linear")
    bar = 1.0
    for t in range(1, 1001):
        bar *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
        assert schedule.at(t)[0] ** 2 == pytest.approx(bar, rel=1e-12)


def test_scaled_linear_betas_are_linear_in_their_roots() -> None:
    schedule = make_schedule("scaled_linear")
    betas = 1 - (schedule.alpha[1:] / schedule.alpha[:-1]).square()
    roots = betas.sqrt()
    assert roots[0] == pytest.approx(math.sqrt(0.00085), rel=1e-9)
    assert roots[-1] == pytest.approx(math.sqrt(0.012), rel=1e-9)
    torch.testing.assert_close(
        roots.diff(), torch.full((999,), float(roots.diff().mean())).double(), rtol=1e-7, atol=0
    )


def test_constant_betas_give_a_geometric_series() -> None:
    schedule = make_schedule(ScheduleConfig(kind="constant", T=50, beta_start=0.1))
    torch.testing.assert_close(schedule.alpha.square(), 0.9 ** torch.arange(51).double())


def test_cosine_follows_its_curve_until_the_cap() -> None:
    """alpha-bar_t = f(t)/f(0), f = cos^2 ((t/T + 0.008)/1.008 pi/2) (Nichol & Dhariwal 2021, eq.

    17); beta <= 0.999.
    """
    schedule = make_schedule("cosine")
    curve = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in range(1000):
        assert schedule.at(t)[0] ** 2 == pytest.approx(curve[t] / curve[0], rel=1e-9)
    last = 1 - (schedule.alpha[-1] / schedule.alpha[-2]) ** 2
    assert float(last) == pytest.approx(0.999, abs=1e-9)


def test_sigmoid_follows_its_curve() -> None:
    """Jabri et al. 2022: a sigmoid from -3 to 3, rescaled to run from 1 to 0."""
    schedule = make_schedule("sigmoid")
    for t in (1, 250, 500, 900, 999):
        value = 1 / (1 + math.exp(6 * t / 1000 - 3))
        ends = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))
        assert schedule.at(t)[0] ** 2 == pytest.approx((value - ends[1]) / (ends[0] - ends[1]), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_terminal_snr_shifts_and_scales_alpha(kind: ScheduleKind) -> None:
    """Lin et al. 2024, algorithm 1: linear in sqrt(alpha-bar), 0 at T, unchanged at level 1."""
    plain = make_schedule(kind).alpha
    rescaled = make_schedule(ScheduleConfig(kind=kind, zero_terminal_snr=True)).alpha
    assert rescaled[1] == pytest.approx(float(plain[1]), rel=1e-12)
    slope = plain[1] / (plain[1] - plain[-1])
    torch.testing.assert_close(rescaled[1:], (plain[1:] - plain[-1]) * slope, rtol=0, atol=1e-14)


@pytest.mark.parametrize("kind", ["linear", "scaled_linear", "constant"])
def test_fewer_levels_reach_about_the_same_noise(kind: ScheduleKind) -> None:
    """The default betas scale with 1000 / T, so that the last log-SNR stays where it is for T = 1000."""
    last = [make_schedule(kind, T=T).log_snr(T) for T in (200, 1000, 5000)]
    assert max(last) - min(last) < 0.6
    assert max(last) < -2


def test_given_betas_are_used() -> None:
    schedule = make_schedule(ScheduleConfig(kind="linear", T=3, beta_start=0.1, beta_end=0.3))
    torch.testing.assert_close(schedule.alpha.square(), torch.tensor([1, 0.9, 0.72, 0.504]).double())
    betas = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    same = schedule_from_betas(betas, schedule.config)
    torch.testing.assert_close(same.alpha, schedule.alpha)
    torch.testing.assert_close(same.sigma, schedule.sigma)


def test_a_last_beta_below_the_default_first_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`beta_start` must not exceed `beta_end`, got 0\.0001 > 1e-05"):
        make_schedule(ScheduleConfig(kind="linear", beta_end=1e-5))


def test_betas_of_another_length_or_type_are_refused() -> None:
    config = ScheduleConfig(kind="linear", T=3)
    with pytest.raises(ValueError, match=r"float64 of shape \[3\], got torch.float64 \[4\]"):
        schedule_from_betas(torch.full((4,), 0.1, dtype=torch.float64), config)
    with pytest.raises(ValueError, match=r"float64 of shape \[3\], got torch.float32 \[3\]"):
        schedule_from_betas(torch.full((3,), 0.1), config)


def test_signal_to_noise_is_a_ratio_with_its_limits() -> None:
    schedule = make_schedule(ScheduleConfig(kind="cosine", zero_terminal_snr=True))
    snr = schedule.snr()
    assert snr[0] == math.inf
    assert snr[-1] == 0
    assert schedule.log_snr(0) == math.inf
    assert schedule.log_snr(1000) == -math.inf
    assert float(snr[300]) == pytest.approx(math.exp(2 * schedule.log_snr(300)))
    alpha, sigma = schedule.at(300)
    assert schedule.log_snr(300) == pytest.approx(math.log(alpha / sigma))


@pytest.mark.parametrize("t", [-1, 1001])
def test_levels_outside_the_schedule_are_refused(t: int) -> None:
    with pytest.raises(ValueError, match=rf"0\.\.1000, got {t}"):
        make_schedule("cosine").at(t)


@pytest.mark.parametrize("T", [1, 2, 7, 1000])
@pytest.mark.parametrize("spacing", SPACINGS)
def test_levels_descend_strictly_to_zero(spacing: Spacing, T: int) -> None:
    schedule = make_schedule("linear", T=T)
    for steps in {n for n in (1, 2, 3, 5, 6, 7, 50, 333, 501, 999, 1000) if n <= T}:
        levels = schedule.levels(steps, spacing)
        assert len(levels) == steps + 1
        assert levels[-1] == 0
        assert all(t > s for t, s in itertools.pairwise(levels)), (steps, levels)
        assert levels[0] <= T
        if spacing != "leading":
            assert levels[0] == T  # leading is the one that does not start from noise


@pytest.mark.parametrize("spacing", SPACINGS)
def test_all_levels_is_every_level(spacing: Spacing) -> None:
    assert make_schedule("linear", T=20).levels(None, spacing) == list(range(20, -1, -1))
    assert make_schedule("linear", T=20).levels(20, spacing) == list(range(20, -1, -1))


@pytest.mark.parametrize(
    ("spacing", "levels"),
    [  # table 2 of Lin et al. 2024 prints these for T = 1000 and 10 steps, with timestep = level or level - 1
        ("leading", [901, 801, 701, 601, 501, 401, 301, 201, 101, 1, 0]),
        ("linspace", [1000, 889, 778, 667, 556, 445, 334, 223, 112, 1, 0]),
        ("trailing", [1000, 900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
    ],
)
def test_ten_steps_visit_the_levels_of_the_paper(spacing: Spacing, levels: list[int]) -> None:
    assert make_schedule("linear").levels(10, spacing) == levels


def test_quadratic_levels_grow_with_the_square() -> None:
    levels = make_schedule("linear").levels(11, "quadratic")
    assert levels == [round(999 * (i / 10) ** 2) + 1 for i in reversed(range(11))] + [0]


@pytest.mark.parametrize("kind", ["cosine", "rectified-flow", "scaled_linear"])
def test_karras_levels_are_even_in_the_seventh_root_of_the_noise(kind: ScheduleKind) -> None:
    """Karras et al. 2022, eq. 5, from sigma / alpha = 80 (or that of level T) to that of level 1."""
    schedule, n = make_schedule(kind, T=20_000), 12
    levels = schedule.levels(n, "karras")
    noise = [schedule.at(t)[1] / max(schedule.at(t)[0], 1e-300) for t in range(20_001)]
    high, low = min(noise[-1], MAX_NOISE), noise[1]
    wanted = [(high ** (1 / 7) + i / (n - 1) * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(n)]
    assert levels[0] == 20_000 and levels[-2:] == [1, 0]
    for t, value in list(zip(levels, wanted, strict=False))[1 : n // 2]:  # where levels are dense
        assert noise[t] == pytest.approx(value, rel=0.01)


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"`steps` must lie in 1\.\.1000 .*got {steps}"):
        make_schedule("linear").levels(steps)


def test_an_unknown_spacing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`spacing` must be .*karras, got 'cubic'"):
        make_schedule("linear").levels(5, "cubic")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "cosine", "beta_start": 0.1}, "`beta_start` is not used by the cosine schedule"),
        ({"kind": "constant", "beta_end": 0.1}, "`beta_end` is not used by the constant schedule"),
        ({"kind": "linear", "beta_start": 0.2, "beta_end": 0.1}, "`beta_start` must not exceed `beta_end`"),
        (
            {"kind": "cosine", "T": 1, "zero_terminal_snr": True},
            "`zero_terminal_snr` needs `T` of at least 2",
        ),
    ],
)
def test_contradicting_options_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScheduleConfig.model_validate(values)
