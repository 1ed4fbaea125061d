"""Measures of the noise levels of a process, for comparing losses between processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from latentdiff.diffusion.schedule import Schedule

IDLE = -4.0  # log-SNR below which an image is indistinguishable from noise


def log_snr(schedule: Schedule, power: float) -> Tensor:
    """log(alpha-bar power / (1 - alpha-bar)) of levels 1..T, float64 [T]; ``power``: a mean squared pixel."""
    return (schedule.snr()[1:] * power).log()


def idle_share(schedule: Schedule, power: float) -> float:
    """The share of levels with a log-SNR below IDLE."""
    return float((log_snr(schedule, power) < IDLE).double().mean())


def linear_guess(schedule: Schedule, power: float) -> float:
    """The mean over the levels of the error of the best multiple of x_t as a guess of eps.

    For x_0 of mean square ``power``, uncorrelated with the noise, that is alpha-bar power / (alpha-bar power
    + 1 - alpha-bar).
    """
    signal = schedule.alpha[1:].square() * power
    return float((signal / (signal + schedule.sigma[1:].square())).mean())


def at_equal_noise(at: Sequence[float], errors: Sequence[float], span: tuple[float, float]) -> float:
    """Errors measured at the log-SNRs ``at``, averaged evenly over a ``span`` of log-SNR that they cover;
    linear in between. ValueError beyond them.
    """
    low, high = span
    if not min(at) <= low < high <= max(at):
        raise ValueError(
            f"expected a span within the measured {min(at):g} to {max(at):g}, got {low:g} to {high:g}"
        )
    order = np.argsort(at)
    grid = np.linspace(low, high, 81)
    return float(np.interp(grid, np.array(at)[order], np.array(errors)[order]).mean())


def common_span(measured: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The range of log-SNR that all of several processes were measured in."""
    return max(min(at) for at in measured), min(max(at) for at in measured)
