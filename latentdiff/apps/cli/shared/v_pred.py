"""--v-pred, the short form of --prediction v."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from latentdiff.apps.cli.shared.help import option

F = TypeVar("F", bound=Callable[..., Any])


def v_pred_option(function: F) -> F:
    """Adds --v-pred as the parameter ``v_pred``; :func:`merge_v_pred` folds it into ``prediction``."""
    return option(
        "--v-pred",
        is_flag=True,
        group="Diffusion",
        advanced=True,
        help="Short for --prediction v (Salimans & Ho 2022).",
    )(function)


def merge_v_pred(ctx: click.Context, values: dict[str, Any]) -> None:
    """Turn --v-pred into prediction "v"; a usage error if --prediction says something else in the same place.

    Of a command line and a --config file that disagree, the command line wins.
    """
    if not values.pop("v_pred"):
        return
    source, other = ctx.get_parameter_source("v_pred"), ctx.get_parameter_source("prediction")
    if values["prediction"] != "v" and other == source:
        raise click.UsageError(
            f"--v-pred means --prediction v, got --prediction {values['prediction']} as well"
        )
    if source is None or other == click.core.ParameterSource.COMMANDLINE:
        return
    values["prediction"] = "v"
    ctx.set_parameter_source("prediction", source)
