"""`latentdiff edit`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import command_line_wins, flag_of, numbers_of
from latentdiff.apps.cli.shared.pair_scores import scores_dict, scores_text

STARTS = ("strength", "level", "start_index")  # options of which one is given


@driver.edit_command(
    "edit",
    "latentdiff edit --input drawing.png --strength 0.3,0.5,0.7",
    "latentdiff edit --label 3 --strength 0.6 --guidance 2",
    title="Start",
    out="edit.png",
)
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
    argument="t",
    default=None,
    help="Instead of --strength: noise levels, from 0 to the model's T; several as 100,500 (default: none).",
)
@option(
    "--start-index",
    cls=Several,
    argument="index",
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
def command(values: driver.Values) -> driver.EditFunction:
    """Edit images by noising and denoising them (SDEdit).

    The more noise, the further an image may move from the original towards the model's training data; --label
    moves it towards a class. Several strengths, levels or start indices become columns of one figure, from
    the same noise.
    """
    return partial(_edit, starts=_starts(values))


def _edit(values: driver.Values, starts: list[tuple[str, float]]) -> driver.EditResult:
    from latentdiff.edit import level_at, level_of, sdedit
    from latentdiff.viz.image_folder import aligned, variant
    from latentdiff.viz.table import ACROSS

    inputs = driver.load_inputs(values)
    level: dict[str, Callable[[float], int]] = {
        "strength": lambda value: level_of(inputs.pipeline, value),
        "level": int,
        "start index": lambda value: level_at(inputs.pipeline, inputs.settings, int(value)),
    }
    stages, way, edits, lines, results = [("input", inputs.images)], [], [], [], {}
    scores, moments = {}, max(0, min(driver.FRAMES, ACROSS - len(starts)))  # in one band of the figure
    for (name, value), text in zip(starts, aligned([value for _, value in starts]), strict=True):
        t, title, key = level[name](value), f"{name} {value:g}", name.replace(" ", "_")
        frames = moments if (name, value) == starts[-1] else 0
        made = inputs.run(title, sdedit, inputs.images, t, exact=values["exact_steps"], frames=frames)
        way += [(f"{title}\nt = {frame.t}", frame.noisy) for frame in made.frames[:-1]]
        stages.append((title, made.images))
        results[variant(**{key: text})] = made.images
        found = scores[title] = inputs.scores(made.images)
        edits.append({key: value, "level": t, **scores_dict(found)})
        lines.append(f"{title} (t = {t}), against the input: {scores_text(found)}")
    return driver.EditResult(
        model=inputs,
        stages=[*stages, *way],
        scores=scores,
        images=results,
        facts={"edits": edits},
        lines=lines,
    )


def _starts(values: driver.Values) -> list[tuple[str, float]]:
    """The values of --strength, --level or --start-index, as (name, value); UsageError for two of them."""
    command_line_wins(values, STARTS)
    given = [name for name in STARTS if values[name] is not None]
    if len(given) > 1:
        raise click.UsageError(f"give one of {', '.join(map(flag_of, given))}")
    name = given[0] if given else "strength"
    text, share = values[name] if given else "0.3,0.5,0.7", name == "strength"
    found = numbers_of(
        flag_of(name),
        text,
        f"{'numbers from 0 to 1' if share else 'whole numbers of 0 or more'}, separated by commas",
        lambda found: not share or all(0 <= value <= 1 for value in found),
        whole=not share,
    )
    return [(name.replace("_", " "), value) for value in found]
