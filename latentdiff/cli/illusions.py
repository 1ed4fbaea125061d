"""What `latentdiff anagram` and `latentdiff hybrid` share: the model of pixels, the classes, the figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.cli.editing import model_options
from latentdiff.cli.options import config_option, json_option, options_of
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])


def illusion_options(out: str) -> Callable[[F], F]:
    """The model, the number of images, the sampler and where the figure goes."""

    def decorate(function: F) -> F:
        function = config_option(json_option(function))
        for option in (
            click.option(
                "--files",
                type=click.Path(path_type=Path),
                default=None,
                help="Also write each image as a PNG into this folder.",
            ),
            click.option(
                "--out",
                type=click.Path(path_type=Path),
                default=Path(out),
                show_default=True,
                help="Where the figure goes (.png).",
            ),
            options_of(Sampling, skip=("compile",)),
            click.option(
                "-n",
                "--number",
                "n",
                type=click.IntRange(1, 1000),
                default=8,
                show_default=True,
                help="Number of images.",
            ),
        ):
            function = option(function)
        return model_options(function)

    return decorate


def classes_of(pipeline: Pipeline, labels: Sequence[str]) -> list[int]:
    """The classes asked for; InputError where the model knows none of them."""
    from latentdiff.classes import class_index

    if not pipeline.classes:
        raise InputError(f"label {labels[0]}: this model is unconditional, illusions need one with classes")
    return [class_index(pipeline.classes, label) for label in labels]
