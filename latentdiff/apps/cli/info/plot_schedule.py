"""`latentdiff plot-schedule`."""

from __future__ import annotations

from typing import Any, get_args

import click

from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import build, cli_command, options_of, out_option
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option
from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind

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

    from latentdiff.apps.cli.info.schedule_figure import save_schedule_figure
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
