"""The figure of `latentdiff plot-schedule`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from latentdiff.diffusion.schedule import Schedule
from latentdiff.viz.figures import COLORS, Math, new_figure, save_figure


def save_schedule_figure(schedules: Mapping[str, Schedule], path: Path) -> None:
    """beta, alpha-bar and log-SNR over the levels, one line for each schedule."""
    figure = new_figure(12, 3.6)
    panels = figure.subplots(1, 3)
    for (name, schedule), color in zip(
        schedules.items(), COLORS * (1 + len(schedules) // len(COLORS)), strict=False
    ):
        t = np.arange(1, schedule.T + 1) / schedule.T
        alpha_bar = schedule.alpha.square().numpy()
        beta = schedule.forward_variance(slice(1, None), slice(0, -1)).numpy()
        panels[0].plot(t, beta, color=color, label=name)
        panels[1].plot(np.arange(schedule.T + 1) / schedule.T, alpha_bar, color=color, label=name)
        snr = schedule.snr()[1:].numpy()
        panels[2].plot(t[snr > 0], np.log(snr[snr > 0]), color=color, label=name)
    panels[0].set(ylabel=Math(r"$\beta_t$"), yscale="log", title="noise added by a step")
    panels[1].set(ylabel=Math(r"$\bar\alpha_t$"), title="signal left")
    panels[2].set(ylabel=Math(r"$\log\,\mathrm{SNR}_t$"), title="signal-to-noise ratio")
    for axes in panels:
        axes.set_xlabel("t / T")
        axes.grid(alpha=0.25)
    panels[1].legend(frameon=False)
    save_figure(figure, path)
