"""`latentdiff plot-schedule`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import build, cli_command, options_of, out_option
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option
from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind

if TYPE_CHECKING:
    from latentdiff.diffusion.schedule import Schedule

KINDS = ",".join(get_args(ScheduleKind))


@cli_command(
    "plot-schedule",
    "latentdiff plot-schedule --schedule linear,cosine",
    "latentdiff plot-schedule --schedule cosine --zero-snr --T 500",
)
@option(
    "--schedule",
    cls=Several,
    default=KINDS,
    group="Diffusion",
    help="Schedules to draw, as linear,cosine.",
)
@options_of(ScheduleConfig, skip=("kind", "betas"))
@out_option(Output(".png"), "schedules.png")
@overwrite_option
def command(*, as_json: bool, **values: Any) -> int:
    """Draw noise schedules as a figure.

    Three panels over t/T: beta_t (noise added by a step), alpha-bar_t (signal left) and the log
    signal-to-noise ratio. Also prints alpha-bar at a few levels.
    """
    names = [name.strip() for name in values["schedule"].split(",")]
    for name in names:
        if name not in get_args(ScheduleKind):
            raise click.UsageError(f"--schedule: expected {', '.join(get_args(ScheduleKind))}, got {name!r}")
    configs = {name: build(ScheduleConfig, values | {"kind": name}) for name in names}

    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.diffusion.schedule import make_schedule

    outputs.settle(values)
    T, out = values["T"], values["out"]
    schedules = {name: make_schedule(config) for name, config in configs.items()}
    save_schedule_figure(schedules, out)
    shown = sorted({0, T // 4, T // 2, 3 * T // 4, T})
    table = {name: {str(t): float(made.alpha[t] ** 2) for t in shown} for name, made in schedules.items()}

    lines = ["alpha-bar at t = " + "  ".join(f"{t:>9}" for t in shown)]
    lines += [
        f"{name:>16} " + "  ".join(f"{value:9.3g}" for value in row.values()) for name, row in table.items()
    ]
    result({"wrote": str(out), "alpha_bar": table}, as_json=as_json, text="\n".join([*lines, str(out)]))
    return 0


def save_schedule_figure(schedules: Mapping[str, Schedule], path: Path) -> None:
    """beta, alpha-bar and log-SNR over the levels, one line for each schedule."""
    import numpy as np

    from latentdiff.viz.figures import COLORS, Math, new_figure, save_figure

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
