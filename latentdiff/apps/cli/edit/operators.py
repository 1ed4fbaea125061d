"""--operator and --noise of `latentdiff restore`, and the operator that they name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from latentdiff.apps.cli.edit.masks import check_mask, mask_of
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import build, flag_of, only_with, options_of
from latentdiff.config.restoration import OPERATORS, MeasurementOptions

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.diffusion.operators import Operator

F = TypeVar("F", bound=Callable[..., Any])


def operator_options(function: F) -> F:
    """--operator, --noise and the options of every operator."""
    operator = option(
        "--operator",
        cls=Several,
        default="blur",
        show_default=True,
        help=(
            f"Degradation of the images; {', '.join(OPERATORS)}, or several, as blur,downsample, one after"
            " the other."
        ),
    )
    of_each = [info.options for info in OPERATORS.values()]
    return operator(options_of(MeasurementOptions, *of_each)(function))


def check_operators(values: dict[str, Any]) -> list[str]:
    """The names of --operator; UsageError for unknown ones, and for options of others."""
    build(MeasurementOptions, values)
    names = [name.strip() for name in values["operator"].split(",")]
    if unknown := [name for name in names if name not in OPERATORS]:
        raise click.UsageError(f"--operator: expected {', '.join(OPERATORS)}, got {unknown[0]!r}")
    for name, info in OPERATORS.items():
        flags = {field: flag_of(field) for field in info.options.model_fields}
        only_with("operator", name, names, flags)
        if name in names:
            build(info.options, values)
    if "mask" in names:
        check_mask(values)
    if set(names) == {"noise"} and not values["noise"]:
        raise click.UsageError(
            "--operator noise: expected a --noise above 0, got none; there is nothing to restore"
        )
    return names


class OperatorChoice(NamedTuple):
    """An operator; its ``mask`` [H, W] where it is one and nothing else; ``last_mask``: that of the operator
    that acts last, if it is a mask.
    """

    operator: Operator
    mask: Tensor | None
    last_mask: Tensor | None


def operator_of(values: dict[str, Any], shape: Sequence[int]) -> OperatorChoice:
    """The operators of the options on images [C, H, W], one after the other. UsageError, InputError."""
    from latentdiff.diffusion.operators import identity, make_operator

    total, mask = identity(tuple(shape)), None
    names = check_operators(values)
    for k, name in enumerate(names):
        here = total.measured_shape
        options = build(OPERATORS[name].options, values).model_dump()
        mask = mask_of(values, here) if name == "mask" else None
        try:
            part = make_operator(name, here, **(options if mask is None else {"mask": mask}))
        except ValueError as error:
            raise click.UsageError(f"--operator {name}: {error}") from None
        total = part.after(total) if k else part
    return OperatorChoice(total, mask if len(names) == 1 else None, mask)
