"""`latentdiff plot-schedule`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from latentdiff.apps.cli.shared.options import Several, build, config_option, json_option
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option
from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind

KINDS = ",".join(get_args(ScheduleKind))


@click.command(name="plot-schedule")
@click.option(
    "--schedule",
    cls=Several,
    default=KINDS,
    show_default=True,
    help="One schedule or several, separated by commas.",
)
@click.option(
    "--T",
    "T",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Number of noise levels.",
)
@click.option(
    "--beta-start",
    type=float,
    default=None,
    help="First beta of linear/scaled_linear, the beta of constant (between 0 and 1; default: by kind).",
)
@click.option(
    "--beta-end",
    type=float,
    default=None,
    help="Last beta of linear/scaled_linear (between 0 and 1; default: by kind).",
)
@click.option(
    "--zero-snr/--no-zero-snr",
    default=False,
    show_default=True,
    help="Rescale so that level T is pure noise.",
)
@click.option(
    "--out",
    type=Output(".png"),
    default=Path("schedules.png"),
    show_default=True,
    help="Where the figure goes (.png).",
)
@overwrite_option
@config_option
@json_option
def command(*, as_json: bool, **values: Any) -> int:
    """Draw noise schedules as a figure.

    Three panels over t/T: beta_t (noise added by a step), alpha-bar_t (signal left) and the log
    signal-to-noise ratio. Also prints alpha-bar at a few levels.
    """
    names = [name.strip() for name in values["schedule"].split(",")]
    for name in names:
        if name not in get_args(ScheduleKind):
            raise click.UsageError(f"--schedule: expected {', '.join(get_args(ScheduleKind))}, got {name!r}")
    given = values | {"zero_terminal_snr": values["zero_snr"]}
    configs = {name: build(ScheduleConfig, given | {"kind": name}) for name in names}

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
