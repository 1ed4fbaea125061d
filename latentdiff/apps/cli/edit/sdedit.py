"""`latentdiff edit`."""

from __future__ import annotations

import re
from typing import Any

import click

from latentdiff.apps.cli.edit.common import model_options, output_options, sampling_options
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import cli_command
from latentdiff.apps.cli.shared.prompts import names_of

WAY = 5  # moments of the last edit in the figure


@cli_command(
    "edit",
    "latentdiff edit --input drawing.png --strength 0.3,0.5,0.7",
    "latentdiff edit --label 3 --strength 0.6 --guidance 2",
)
@model_options
@image_options
@sampling_options
@option(
    "--strength",
    cls=Several,
    default=None,
    help=(
        "How far images are noised, from 0 (not at all) to 1 (plain sampling); several as 0.3,0.5,0.7"
        " (default: 0.3,0.5,0.7)."
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
        "Instead of --strength: places in the sampler's levels, 0 the noisiest; several as 1,3,5,7,10,20"
        " (default: none)."
    ),
)
@option(
    "--exact-steps",
    is_flag=True,
    help="Make --steps moves from the start level on, instead of visiting the sampler's levels below it.",
)
@output_options("edit.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Edit images by noising and denoising them (SDEdit).

    The more noise, the further an image may move from the original towards what the model knows; --label
    moves it towards a class. Several strengths, levels or start indices become rows of one figure, from the
    same noise.
    """
    starts = _starts(values)

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, counted, result
    from latentdiff.edit import Recorder, level_at, level_of, sdedit
    from latentdiff.viz.image_folder import aligned, variant

    outputs.settle(values)
    work = common.bench(values)
    labels = common.labels_of(values, work)
    find = {
        "strength": lambda value: level_of(work.pipeline, value),
        "level": lambda value: int(value),
        "start index": lambda value: level_at(work.pipeline, work.settings, int(value)),
    }
    rows, way, scores, lines = [("input", work.images)], [], [], []
    results = {}
    for (name, value), text in zip(starts, aligned([value for _, value in starts]), strict=True):
        t = find[name](value)
        with SamplingBar(f"{name} {value:g}") as bar:
            made = sdedit(
                work.pipeline,
                work.images,
                t,
                settings=work.settings,
                label=labels,
                seed=values["seed"],
                exact=values["exact_steps"],
                recorder=Recorder(frames=WAY if (name, value) == starts[-1] else 0, progress=bar.update),
            )
        way += [(f"{name} {value:g}: t = {frame.t}", frame.noisy) for frame in made.frames[:-1]]
        rows.append((f"{name} {value:g}", made.images))
        results[variant(**{name.replace(" ", "_"): text})] = made.images
        found = common.scores_of(made.images, work.images, work.pipeline.classes)
        scores.append({name.replace(" ", "_"): value, "level": t, **common.as_json(found)})
        lines.append(f"  {name} {value:g} (t = {t}), against the input: {common.as_text(found)}")
    written = common.save_rows([*rows, *way], values, results)
    answer = {
        "run": str(work.checkpoint.folder),
        "input": work.source,
        "n": len(work.images),
        "seed": values["seed"],
        "labels": names_of(work.pipeline, labels),
        "settings": work.pipeline.with_defaults(work.settings).model_dump(),
        "edits": scores,
        "wrote": written,
    }
    text = "\n".join(
        [f"{counted(len(work.images), 'image')} from {work.source}: {', '.join(written)}", *lines]
    )
    result(answer, as_json=as_json, text=text)
    return 0


def _starts(values: dict[str, Any]) -> list[tuple[str, float]]:
    """What the user gave of --strength, --level and --start-index, as (which, value)."""
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
