"""--like PICTURE.png: the settings that a picture carries, as options below those of the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from latentdiff.apps.cli.shared.help import option
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.config.recipe import Recipe
    from latentdiff.pipeline.checkpoint.folder import Checkpoint

GIVES_WAY = {  # what of a picture's options is forgotten where the command line gives another one
    "sampler": ("steps", "spacing", "eta", "variance"),
    "label": ("prompts", "prompt_file", "class_balance"),
    "prompts": ("label", "prompt_file", "class_balance"),
    "prompt_file": ("label", "prompts", "class_balance"),
    "class_balance": ("label",),
}


def _read(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    from latentdiff.viz.images import read_recipe

    recipe = read_recipe(path)
    if recipe.made_by != "sample":
        raise InputError(
            f"{path}: was made from another picture ({recipe.made_by}), which it does not hold; expected a"
            " sample"
        )
    ctx.meta["like"] = (path, recipe)
    ctx.default_map = {**(ctx.default_map or {}), **options_of_recipe(recipe)}


like_option = option(
    "--like",
    group="Images",
    type=click.Path(path_type=Path),
    callback=_read,
    is_eager=True,
    expose_value=False,
    help=(
        "Repeat a PNG of sample or ui; with the settings in the file and the run of the same weights, the"
        " command line wins (default: none)."
    ),
)
"""Its recipe stands in ``ctx.meta`` for :func:`recipe_of`."""


def options_of_recipe(recipe: Recipe) -> dict[str, Any]:
    """The options of `latentdiff sample` by their parameters, as a configuration file would hold them."""
    steps = [each.steps for each in recipe.settings]
    values: dict[str, Any] = recipe.settings[0].model_dump()
    values |= {"steps": None if None in steps else ",".join(map(str, steps))}
    names = ("n", "seed", "label", "prompts", "class_balance", "interpolate", "dtype", "batch", "columns")
    values |= {name: getattr(recipe, name) for name in names}
    return {name: value for name, value in values.items() if value not in (None, ())}


def recipe_of(values: dict[str, Any]) -> Recipe | None:
    """The recipe of --like, or None; options that the command line excludes give way in ``values``."""
    ctx = click.get_current_context()
    if "like" not in ctx.meta:
        return None
    sources = {name: ctx.get_parameter_source(name) for name in values}
    for name in (name for name in GIVES_WAY if sources[name] == ParameterSource.COMMANDLINE):
        for other in (other for other in GIVES_WAY[name] if sources[other] == ParameterSource.DEFAULT_MAP):
            parameter = next(each for each in ctx.command.params if each.name == other)
            values[other] = parameter.process_value(ctx, None if parameter.multiple else parameter.default)
    recipe: Recipe = ctx.meta["like"][1]
    return recipe


def find_like(recipe: Recipe, run: str | None, runs: str) -> Checkpoint:
    """The checkpoint of the recipe's weights, wherever below ``runs`` or in the package it is; or that of
    ``run``, with a note where its weights are others.

    InputError where there is none.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.pipeline.checkpoint.runs import locate, with_fingerprint

    path, known_as = (
        click.get_current_context().meta["like"][0],
        f"{recipe.run!r:.80} with the weights {recipe.weights[:12]}",
    )
    if run is not None:
        checkpoint = locate(Path(run), Path(runs))
        if checkpoint.fingerprint != recipe.weights:
            note(
                f"{path} was drawn by {known_as}, {checkpoint.folder} has others: this will be another"
                " picture"
            )
        return checkpoint
    found = with_fingerprint(Path(runs), recipe.weights)
    if found is None:
        raise InputError(
            f"{path}: was drawn by {known_as}, found no such checkpoint in {runs}/; --run names where it is,"
            " or another"
        )
    note(f"using {found.folder}")
    return found
