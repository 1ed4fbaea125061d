"""`latentdiff edit`."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import click

from latentdiff.apps.cli.edit.common import (
    model_options,
    output_options,
    sampling_options,
    scores_dict,
    scores_text,
)
from latentdiff.apps.cli.edit.driver import FRAMES, EditResult, load_inputs, run_edit, with_bar
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import cli_command


@cli_command(
    "edit",
    "latentdiff edit --input drawing.png --strength 0.3,0.5,0.7",
    "latentdiff edit --label 3 --strength 0.6 --guidance 2",
    title="Start",
)
@model_options
@image_options
@sampling_options
@option(
    "--strength",
    cls=Several,
    default=None,
    help=(
        "Noise level of the start, from 0 (the image itself) to 1 (plain sampling); several as"
        " 0.3,0.5,0.7 (default: 0.3,0.5,0.7)."
    ),
)
@option(
    "--level",
    cls=Several,
    default=None,
    help="Instead of --strength: noise levels, from 0 to the model's T; several as 100,500 (default: none).",
)
@option(
    "--start-index",
    cls=Several,
    default=None,
    help=(
        "Instead of --strength: indices into the sampler's levels, 0 the noisiest; several as 1,3,5,7,10,20"
        " (default: none)."
    ),
)
@option(
    "--exact-steps",
    is_flag=True,
    help="Take all --steps from the start level on, instead of only the sampler's levels below it.",
)
@output_options("edit.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Edit images by noising and denoising them (SDEdit).

    The more noise, the further an image may move from the original towards the model's training data; --label
    moves it towards a class. Several strengths, levels or start indices become rows of one figure, from the
    same noise.
    """
    return run_edit(partial(_edit, starts=_starts(values)), values, as_json=as_json)


def _edit(values: dict[str, Any], starts: list[tuple[str, float]]) -> EditResult:
    from latentdiff.edit import level_at, level_of, sdedit
    from latentdiff.viz.image_folder import aligned, variant

    inputs = load_inputs(values)
    level: dict[str, Callable[[float], int]] = {
        "strength": lambda value: level_of(inputs.pipeline, value),
        "level": int,
        "start index": lambda value: level_at(inputs.pipeline, inputs.settings, int(value)),
    }
    rows, way, edits, lines, results = [("input", inputs.images)], [], [], [], {}
    for (name, value), text in zip(starts, aligned([value for _, value in starts]), strict=True):
        t, title, key = level[name](value), f"{name} {value:g}", name.replace(" ", "_")
        made = with_bar(
            title,
            sdedit,
            inputs.pipeline,
            inputs.images,
            t,
            exact=values["exact_steps"],
            frames=FRAMES if (name, value) == starts[-1] else 0,
            **inputs.conditions,
        )
        way += [(f"{title}: t = {frame.t}", frame.noisy) for frame in made.frames[:-1]]
        rows.append((title, made.images))
        results[variant(**{key: text})] = made.images
        found = inputs.scores(made.images)
        edits.append({key: value, "level": t, **scores_dict(found)})
        lines.append(f"{title} (t = {t}), against the input: {scores_text(found)}")
    return EditResult(
        model=inputs,
        rows=[*rows, *way],
        images=results,
        facts={"edits": edits},
        lines=lines,
    )


def _starts(values: dict[str, Any]) -> list[tuple[str, float]]:
    """The values of --strength, --level or --start-index, as (name, value); UsageError."""
    given = [name for name in ("strength", "level", "start_index") if values[name] is not None]
    if len(given) > 1:
        raise click.UsageError(f"give one of {', '.join('--' + name.replace('_', '-') for name in given)}")
    name = given[0] if given else "strength"
    option, text = f"--{name.replace('_', '-')}", values[name] or "0.3,0.5,0.7"
    parts = [part.strip() for part in str(text).split(",")]
    pattern = r"[0-9]*\.?[0-9]+" if name == "strength" else "[0-9]{1,6}"
    if not all(re.fullmatch(pattern, part) for part in parts) or (
        name == "strength" and max(map(float, parts)) > 1
    ):
        wanted = "numbers from 0 to 1" if name == "strength" else "whole numbers of 0 or more"
        raise click.UsageError(f"{option}: expected {wanted}, separated by commas, got {text!r}")
    return [(name.replace("_", " "), float(part)) for part in parts]
