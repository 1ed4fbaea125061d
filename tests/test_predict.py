"""Prediction types as two numbers: every identity between x_t, x_0, eps and the network's output."""

from typing import get_args

import pytest
import torch

from latentdiff.config.diffusion import DiffusionConfig, Prediction, ScheduleConfig
from latentdiff.predict import target, to_x0
from latentdiff.schedule import make_schedule

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)


@pytest.mark.parametrize("t", [1, 2, 500, 999, 1000])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_x0_is_read_back_from_the_target(prediction: Prediction, t: int) -> None:
    """A network that returns its target exactly gives x_0 exactly: p (alpha x_0 + sigma eps) + q (a x_0 + b eps) = x_0."""
    alpha, sigma = make_schedule("cosine").at(t)
    p, q = to_x0(prediction, alpha, sigma)
    a, b = target(prediction, alpha, sigma)
    assert p * alpha + q * a == pytest.approx(1, abs=1e-10)
    assert p * sigma + q * b == pytest.approx(0, abs=1e-10)


def test_targets_are_what_their_names_say() -> None:
    alpha, sigma, x0, eps = 0.8, 0.6, 1.7, -0.4
    values = {prediction: target(prediction, alpha, sigma) for prediction in PREDICTIONS}
    out = {prediction: a * x0 + b * eps for prediction, (a, b) in values.items()}
    assert out["eps"] == eps
    assert out["x0"] == x0
    assert out["v"] == pytest.approx(alpha * eps - sigma * x0)  # Salimans & Ho 2022
    x_t = alpha * x0 + sigma * eps
    assert out["score"] == pytest.approx(-(x_t - alpha * x0) / sigma**2)  # grad log N(x_t; alpha x_0, sigma^2)


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
    with pytest.raises(ValueError, match="alpha is 0"):
        DiffusionConfig(schedule=ScheduleConfig(zero_terminal_snr=True), prediction=prediction)


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_v_and_x0_work_without_any_signal(prediction: Prediction) -> None:
    assert to_x0(prediction, 0.0, 1.0) == {"v": (0.0, -1.0), "x0": (0.0, 1.0)}[prediction]
    config = DiffusionConfig(schedule=ScheduleConfig(zero_terminal_snr=True), prediction=prediction)
    assert make_schedule(config.schedule).at(1000) == (0.0, 1.0)


def test_an_unknown_prediction_is_refused() -> None:
    for function in (to_x0, target):
        with pytest.raises(ValueError, match="prediction must be eps, v, x0 or score, got 'flow'"):
            function("flow", 0.8, 0.6)  # type: ignore[arg-type]
