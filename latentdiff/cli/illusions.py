"""What `latentdiff anagram` and `latentdiff hybrid` share: the model of pixels, the classes, the figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.cli.editing import model_options, output_options
from latentdiff.cli.options import options_of
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])


def illusion_options(out: str) -> Callable[[F], F]:
    """The model, the number of images, the sampler and where the figure goes."""

    def decorate(function: F) -> F:
        function = options_of(Sampling, skip=("compile",))(output_options(out)(function))
        number = click.option(
            "-n", "--number", "n", type=click.IntRange(1, 1000), default=8, show_default=True, help="Number of images."
        )
        return model_options(number(function))

    return decorate


def classes_of(pipeline: Pipeline, labels: Sequence[str]) -> list[int]:
    """The classes asked for; InputError where the model knows none of them."""
    from latentdiff.classes import class_index

    if not pipeline.classes:
        raise InputError(f"label {labels[0]}: this model is unconditional, illusions need one with classes")
    return [class_index(pipeline.classes, label) for label in labels]
