"""How hard the levels of a process are, so that losses of different processes can be told apart from their levels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentdiff.schedule import Schedule

IDLE = -4.0  # log-SNR below which an image cannot be told from noise
SPAN = (-4.0, 4.0)  # of log-SNR: where losses at equal noise are compared


def log_snr(schedule: Schedule, power: float) -> Tensor:
    """log(alpha-bar power / (1 - alpha-bar)) of levels 1..T, float64 [T]; ``power`` is the mean square of a pixel."""
    return (schedule.snr()[1:] * power).log()


def idle_share(schedule: Schedule, power: float) -> float:
    """The share of the levels at which an image cannot be told from noise."""
    return float((log_snr(schedule, power) < IDLE).double().mean())


def linear_guess(schedule: Schedule, power: float) -> float:
    """The mean over the levels of the error of the best multiple of x_t as a guess of eps.

    For x_0 of mean square ``power``, uncorrelated with the noise, that is alpha-bar power / (alpha-bar power + 1 - alpha-bar).
    """
    signal = schedule.alpha[1:].square() * power
    return float((signal / (signal + schedule.sigma[1:].square())).mean())


def at_equal_noise(schedule: Schedule, power: float, levels: Sequence[int], errors: Sequence[float]) -> float:
    """Errors measured at ``levels``, averaged evenly over log-SNR in SPAN; linear between the levels, constant beyond them."""
    at = log_snr(schedule, power)[torch.tensor(levels) - 1].numpy()
    order = np.argsort(at)
    grid = np.linspace(*SPAN, 81)
    return float(np.interp(grid, at[order], np.array(errors)[order]).mean())
