"""Prediction types as two numbers: every identity between x_t, x_0, eps and the network's output."""

from typing import get_args

import pytest
import torch

from latentdiff.config.diffusion import (
    NEEDS_SIGNAL,
    DiffusionConfig,
    Prediction,
    ScheduleConfig,
    ScheduleKind,
)
from latentdiff.config.training import TrainDenoiser
from latentdiff.diffusion.prediction import PREDICTIONS as ROWS
from latentdiff.diffusion.prediction import target, to_eps, to_x0
from latentdiff.diffusion.schedule import make_schedule

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


def test_every_prediction_has_a_row() -> None:
    """Those that hide x_0 where alpha = 0 are the ones that the configuration refuses there."""
    assert tuple(ROWS) == PREDICTIONS
    hidden = []
    for prediction in PREDICTIONS:
        try:
            to_x0(prediction, 0.0, 1.0)
        except ValueError:
            hidden.append(prediction)
    assert tuple(hidden) == NEEDS_SIGNAL


@pytest.mark.parametrize("kind", ["cosine", "rectified-flow"])
@pytest.mark.parametrize("t", [1, 2, 500, 999])
@pytest.mark.parametrize(
    ("prediction", "sigma_data"), [*((each, 0.0) for each in PREDICTIONS), ("x0", 0.2), ("x0", 3.0)]
)
def test_x0_and_eps_are_read_back_from_the_target(
    prediction: Prediction, sigma_data: float, t: int, kind: ScheduleKind
) -> None:
    """A network that returns its target exactly gives x_0 and eps exactly: p (alpha x_0 + sigma eps) + q (a
    x_0 + b eps) = x_0.
    """
    alpha, sigma = make_schedule(kind).at(t)
    p, q = to_x0(prediction, alpha, sigma, sigma_data=sigma_data)
    a, b = target(prediction, alpha, sigma, sigma_data=sigma_data)
    assert p * alpha + q * a == pytest.approx(1, abs=1e-10)
    assert p * sigma + q * b == pytest.approx(0, abs=1e-10)
    p, q = to_eps(prediction, alpha, sigma, sigma_data=sigma_data)
    assert p * alpha + q * a == pytest.approx(0, abs=1e-10)
    assert p * sigma + q * b == pytest.approx(1, abs=1e-10)


def test_a_process_that_preserves_variance_has_exact_numbers() -> None:
    """The bits that samples were made with: v is solved by its transpose, eps by one division."""
    schedule = make_schedule("cosine")
    for t in range(1, 1001):
        alpha, sigma = schedule.at(t)
        assert to_x0("v", alpha, sigma) == (alpha, -sigma) and to_eps("v", alpha, sigma) == (sigma, alpha)
        assert to_x0("eps", alpha, sigma) == (1 / alpha, -sigma / alpha)
        assert (
            str(to_x0("x0", alpha, sigma)) == "(0.0, 1.0)"
            and str(to_eps("eps", alpha, sigma)) == "(0.0, 1.0)"
        )
    alpha, sigma = schedule.alpha[1:], schedule.sigma[1:]
    assert all(torch.equal(a, b) for a, b in zip(to_x0("v", alpha, sigma), (alpha, -sigma), strict=True))


def test_targets_are_what_their_names_say() -> None:
    alpha, sigma, x0, eps = 0.8, 0.6, 1.7, -0.4
    values = {prediction: target(prediction, alpha, sigma) for prediction in PREDICTIONS}
    out = {prediction: a * x0 + b * eps for prediction, (a, b) in values.items()}
    assert out["eps"] == eps
    assert out["x0"] == x0
    assert out["flow"] == eps - x0  # Liu et al. 2023, eq. 1, from data to noise
    assert out["v"] == pytest.approx(alpha * eps - sigma * x0)  # Salimans & Ho 2022
    x_t = alpha * x0 + sigma * eps
    assert out["score"] == pytest.approx(
        -(x_t - alpha * x0) / sigma**2
    )  # grad log N(x_t; alpha x_0, sigma^2)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_tables_give_the_numbers_of_their_levels(prediction: Prediction) -> None:
    schedule = make_schedule("linear", T=20)
    for function in (to_x0, target):
        tables = function(prediction, schedule.alpha[1:], schedule.sigma[1:])
        for t in range(1, 21):
            numbers = function(prediction, *schedule.at(t))
            assert [float(table[t - 1]) for table in tables] == pytest.approx(list(numbers), rel=1e-14)


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_x0_hidden_by_zero_signal_is_refused(prediction: Prediction) -> None:
    with pytest.raises(ValueError, match=f"'{prediction}' at a level with alpha = 0"):
        to_x0(prediction, 0.0, 1.0)
    with pytest.raises(ValueError, match=f"'{prediction}' at a level with alpha = 0"):
        to_x0(prediction, torch.tensor([0.5, 0.0]), torch.tensor([0.9, 1.0]))
    with pytest.raises(ValueError, match="cannot be used with the rectified-flow schedule"):
        DiffusionConfig(schedule=ScheduleConfig(kind="rectified-flow"), prediction=prediction)
    with pytest.raises(ValueError, match="alpha is 0"):
        DiffusionConfig(schedule=ScheduleConfig(zero_terminal_snr=True), prediction=prediction)


@pytest.mark.parametrize("prediction", ["v", "x0", "flow"])
def test_others_work_without_any_signal(prediction: Prediction) -> None:
    assert (
        to_x0(prediction, 0.0, 1.0)
        == {
            "v": (0.0, -1.0),
            "x0": (0.0, 1.0),
            "flow": (1.0, -1.0),
        }[prediction]
    )
    config = DiffusionConfig(schedule=ScheduleConfig(zero_terminal_snr=True), prediction=prediction)
    assert make_schedule(config.schedule).at(1000) == (0.0, 1.0)


@pytest.mark.parametrize("t", [1, 30, 400, 1000])
def test_preconditioning_is_edm_s_and_its_ends_are_x0_and_v(t: int) -> None:
    """Karras et al.

    2022, table 1, for the input x_t / alpha_t with the noise sigma_t / alpha_t; its output is ours over
    sigma_data.
    """
    alpha, sigma = make_schedule("cosine").at(t)
    noise, s = sigma / alpha, 0.5
    p, q = to_x0("x0", alpha, sigma, sigma_data=s)
    assert alpha * p == pytest.approx(s**2 / (noise**2 + s**2), rel=1e-12)
    assert s * q == pytest.approx(noise * s / (noise**2 + s**2) ** 0.5, rel=1e-12)
    assert to_x0("x0", alpha, sigma) == (0, 1) and target("x0", alpha, sigma) == (
        1,
        0,
    )  # exactly what they were
    v, of_v = to_x0("v", alpha, sigma), target("v", alpha, sigma)
    assert to_x0("x0", alpha, sigma, sigma_data=1.0) == pytest.approx((v[0], -v[1]), rel=1e-12)
    assert target("x0", alpha, sigma, sigma_data=1.0) == pytest.approx((-of_v[0], -of_v[1]), rel=1e-12)


def test_preconditioning_is_off_in_files_that_do_not_name_it() -> None:
    old = DiffusionConfig.model_validate({"prediction": "x0", "clip": 1.0})
    assert (
        old.sigma_data == 0 and "sigma_data" not in old.model_dump()
    )  # so that their files stay as they are
    new = DiffusionConfig(prediction="x0", sigma_data=0.2)
    assert DiffusionConfig.model_validate(new.model_dump()) == new
    with pytest.raises(ValueError, match=r"`sigma_data` belongs to `prediction` x0, got 0.2 with v"):
        DiffusionConfig(prediction="v", sigma_data=0.2)
    assert TrainDenoiser(prediction="x0").diffusion() == DiffusionConfig(prediction="x0")
    assert TrainDenoiser(prediction="x0", sigma_data=0.2).diffusion() == new


def test_an_unknown_prediction_is_refused() -> None:
    for function in (to_x0, target):
        with pytest.raises(
            ValueError, match="`prediction` must be one of eps, v, x0, score, flow, got 'velocity'"
        ):
            function("velocity", 0.8, 0.6)  # type: ignore[arg-type]
