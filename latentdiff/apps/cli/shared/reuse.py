"""--like PICTURE.png: the settings that a picture carries, as options below those of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from latentdiff.apps.cli.shared.help import option
from latentdiff.errors import InputError
from latentdiff.files.paths import printable

if TYPE_CHECKING:
    from latentdiff.config.recipe import CommandRecipe, MadeWith, Recipe
    from latentdiff.pipeline.checkpoint.folder import Checkpoint

F = TypeVar("F", bound=Callable[..., Any])

# what is no setting of a picture: the model is known by its weights, files are not in a picture
ELSEWHERE = (
    *("run", "runs", "device", "source", "like", "config", "image_cache", "prompt_file"),
    *("out", "files", "maps", "overwrite", "as_json"),
)

STARTS = ("strength", "level", "start_index")  # of which one is given
GIVES_WAY = {  # of samples
    "sampler": ("steps", "spacing", "eta", "variance"),
    "label": ("prompts", "prompt_file", "class_balance"),
    "prompts": ("label", "prompt_file", "class_balance"),
    "prompt_file": ("label", "prompts", "class_balance"),
    "class_balance": ("label",),
}


def _read(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    from latentdiff.config.recipe import CommandRecipe
    from latentdiff.viz.images import read_recipe

    recipe = read_recipe(path)
    if isinstance(recipe, CommandRecipe):
        raise InputError(f"{path}: was made by another command, `latentdiff {recipe.command}`")
    if recipe.made_by != "sample":
        raise InputError(
            f"{path}: was made from another picture ({recipe.made_by}), which it does not hold; expected a"
            " sample"
        )
    ctx.meta["like"] = (path, recipe)
    ctx.default_map = {**(ctx.default_map or {}), **options_of_recipe(recipe)}


def _read_command(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> None:
    if path is None or ctx.resilient_parsing:
        return
    from latentdiff.config.recipe import CommandRecipe
    from latentdiff.viz.images import read_recipe

    recipe, name = read_recipe(path), ctx.command.name
    made_by = recipe.command if isinstance(recipe, CommandRecipe) else "sample"
    if not isinstance(recipe, CommandRecipe) or made_by != name:
        raise InputError(f"{path}: was made by another command, `latentdiff {made_by}`, expected {name}")
    known = {str(param.name): param for param in ctx.command.params if param.name not in ELSEWHERE}
    for key, value in recipe.options.items():
        if key not in known:
            raise InputError(f"{path}: has the option {key!r:.60}, which `latentdiff {name}` does not have")
        if isinstance(value, tuple) and not known[key].multiple:
            raise InputError(f"{path}: expected one value of the option {key}, found {len(value)}")
    several = {key for key in recipe.options if known[key].multiple}
    ctx.meta["like"] = (path, recipe)
    ctx.default_map = {
        **(ctx.default_map or {}),
        **{
            key: [value] if key in several and isinstance(value, str) else value
            for key, value in recipe.options.items()
        },
    }


def _like(read: Callable[[click.Context, click.Parameter, Path | None], None], help: str) -> Callable[[F], F]:
    """--like, whose file ``read`` puts into ``ctx.meta`` and below the command line."""
    return option(
        "--like",
        group="Images",
        type=click.Path(path_type=Path),
        callback=read,
        is_eager=True,
        expose_value=False,
        help=help,
    )


like_option = _like(
    _read,
    "Repeat a PNG of sample or ui; with the settings in the file and the run of the same weights, the command"
    " line wins (default: none).",
)
"""Its recipe stands in ``ctx.meta`` for :func:`recipe_of`."""


like_command_option = _like(
    _read_command,
    "Repeat a figure of this command; with the settings in the file and the run of the same weights, the"
    " command line wins; images of --input have to be given again (default: none).",
)
"""As :data:`like_option`, for commands whose figures hold a
:class:`~latentdiff.config.recipe.CommandRecipe`.
"""


def checkpoint_of_like(values: Mapping[str, Any]) -> Checkpoint | None:
    """The checkpoint of --like (:func:`find_like`); None without."""
    like = click.get_current_context().meta.get("like")
    return None if like is None else find_like(like[1], values["run"], values["runs"])


def recipe_of_command(checkpoint: Checkpoint, values: Mapping[str, Any]) -> CommandRecipe:
    """What the figure of the running command keeps of its option ``values``: those that were given."""
    from latentdiff.apps.cli.shared.prompts import prompts_of
    from latentdiff.config.recipe import CommandRecipe
    from latentdiff.config.restoration import MASKS
    from latentdiff.pipeline.checkpoint.runs import made_with

    ctx = click.get_current_context()
    options = {
        name: tuple(map(_text, value)) if isinstance(value, (tuple, list)) else _text(value)
        for name, value in values.items()
        if name not in ELSEWHERE
        and value not in (None, ())
        and ctx.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)
    }
    if values.get("prompt_file") is not None:
        options["prompts"] = tuple(map(_text, prompts_of(dict(values))))
    mask = "" if options.get("mask", "") in MASKS else options.pop("mask", "")
    return CommandRecipe(
        command=str(ctx.command.name),
        options=options,
        input=_name(values.get("source")),
        mask=_name(mask or None),
        **made_with(checkpoint),
    )


def _text(value: Any) -> str:
    """A value as a configuration file has it; bytes that are not UTF-8 escaped."""
    return printable(str(value).lower() if isinstance(value, bool) else str(value))


def _name(path: Any) -> str:
    """The last part of a path; "" for None."""
    return "" if path is None else printable(Path(str(path)).name)[-300:]


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
    found: Recipe | None = _recipe_of(values)
    return found


def check_input(values: dict[str, Any]) -> None:
    """Options of --like that the command line excludes give way in ``values``, and those of --config that are
    not in the figure; UsageError where the command line lacks files that the figure was made from.
    """
    ctx = click.get_current_context()
    if "like" in ctx.meta:
        recipe: CommandRecipe = ctx.meta["like"][1]
        for name in values:
            source = ctx.get_parameter_source(name)
            if source == ParameterSource.DEFAULT_MAP and name not in {*ELSEWHERE, *recipe.options}:
                _revert(ctx, values, name)
        _recipe_of(values)
        for name, flag, known in (("source", "--input", recipe.input), ("mask", "--mask", recipe.mask)):
            if known and ctx.get_parameter_source(name) != ParameterSource.COMMANDLINE:
                raise click.UsageError(
                    f"--like: the figure was made from {flag} {known!r:.80}, which it does not hold; expected"
                    f" {flag}"
                )


def _recipe_of(values: dict[str, Any]) -> Any:
    ctx = click.get_current_context()
    if "like" not in ctx.meta:
        return None
    sources = {name: ctx.get_parameter_source(name) for name in values}
    for name, others in gives_way().items():
        if sources.get(name) == ParameterSource.COMMANDLINE:
            for other in others:
                if sources.get(other) == ParameterSource.DEFAULT_MAP:
                    _revert(ctx, values, other)
    return ctx.meta["like"][1]


def _revert(ctx: click.Context, values: dict[str, Any], name: str) -> None:
    """Set an option to its default, as if it had not been given."""
    parameter = next(each for each in ctx.command.params if each.name == name)
    values[name] = parameter.process_value(ctx, None if parameter.multiple else parameter.default)
    ctx.set_parameter_source(name, ParameterSource.DEFAULT)


def gives_way() -> dict[str, tuple[str, ...]]:
    """What of a picture's options is forgotten where the command line gives another one."""
    from latentdiff.config.restoration import MASKS, OPERATORS, SOLVERS, MaskOptions

    masks = (*MASKS.values(), *MaskOptions.model_fields)
    of_operators = [name for info in OPERATORS.values() for name in info.options.model_fields]
    of_solvers = [name for info in SOLVERS.values() for name in info.options.model_fields]
    parts = ("sigma", "class_weights")
    found = GIVES_WAY | {
        "operator": (*of_operators, *masks),
        "mask": tuple(name for name in masks if name != "mask"),
        "solver": tuple(of_solvers),
        "view": ("patch_side",),
        "colour": ("sigma",),
        **{name: tuple(other for other in STARTS if other != name) for name in STARTS},
        "moments": ("show",),
        "show": ("moments",),
    }
    return found | {name: (*GIVES_WAY[name], *parts) for name in ("label", "prompts")}


def find_like(recipe: MadeWith, run: str | None, runs: str) -> Checkpoint:
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
