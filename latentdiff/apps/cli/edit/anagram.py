"""`latentdiff anagram`."""

from __future__ import annotations

from typing import Any

import click

from latentdiff.apps.cli.edit.illusions import (
    WAY,
    as_text,
    asked_of,
    each_label,
    illusion_options,
    model_for,
    parts_asked,
    read_back,
    weights_of,
)
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import build, cli_command, only_with
from latentdiff.apps.cli.shared.prompts import name_of, names_of
from latentdiff.config.sampling import Sampling

HINT = (
    "not every pair of classes has a shape in common: try another --view, other seeds, or --refine 2"
    " (docs/common.md has shares)"
)
VIEWS = ("identity", "flip", "mirror", "rotate90", "rotate180", "rotate270", "negative", "patches")


@cli_command(
    "anagram",
    "latentdiff anagram --label 3 --label 5 --view identity --view rotate180",
)
@option(
    "--label",
    "labels",
    multiple=True,
    callback=each_label,
    help="A class, once for each view: --label 3 --label 5, or 3,5 (no default).",
)
@option(
    "--prompt",
    "prompts",
    multiple=True,
    help="Instead of --label, for a model that listens to texts: a text, once for each view (default: none).",
)
@option(
    "--view",
    "views",
    type=click.Choice(VIEWS),
    multiple=True,
    help="The view through which each class is seen (default: identity and flip).",
)
@option(
    "--patch",
    type=click.IntRange(1, 1024),
    default=None,
    help="Side of --view patches in pixels (default: a quarter).",
)
@illusion_options("anagram.png")
def command(
    *, as_json: bool, labels: tuple[str, ...], prompts: tuple[str, ...], views: tuple[str, ...], **values: Any
) -> int:
    """Draw images that show another class when turned.

    Visual anagrams. Of latents, every view has its own, which are kept versions of one picture.
    """
    seen_as = views or ("identity", "flip")
    n = parts_asked(labels, prompts)
    if len(seen_as) != n:
        option = "--label" if labels else "--prompt"
        raise click.UsageError(f"expected as many {option} as --view, got {n} and {len(seen_as)}")
    only_with("view", "patches", seen_as, {"patch": "--patch"})
    weights = weights_of(values["weights"], n)
    settings = build(Sampling, values)

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.diffusion.illusions.views import view
    from latentdiff.edit import Recorder, anagram

    outputs.settle(values)
    checkpoint, pipeline = model_for(values, settings, labels, prompts)
    asked = asked_of(pipeline, labels, prompts)
    parts = [(label, view(name, patch=values["patch"])) for label, name in zip(asked, seen_as, strict=True)]
    with SamplingBar("anagram") as bar:
        made = anagram(
            pipeline,
            parts,
            values["n"],
            weights=weights,
            refine=values["refine"],
            settings=settings,
            seed=values["seed"],
            recorder=Recorder(frames=WAY, progress=bar.update),
        )
    way = [(f"estimate, t = {frame.t}", frame.estimate) for frame in made.frames[:-1]]
    read = read_back(pipeline, [seen(made.images) for _, seen in parts], asked)
    rows = [
        (f"{name}: {name_of(pipeline, label)}", seen(made.images))
        for name, (label, seen) in zip(seen_as, parts, strict=True)
    ]
    written = common.save_rows([*way, *rows], values, made.images)
    answer = {
        "run": str(checkpoint.folder),
        "n": values["n"],
        "seed": values["seed"],
        "views": list(seen_as),
        "labels": names_of(pipeline, asked),
        "weights": weights,
        "refine": values["refine"],
        "read": read,
        "settings": pipeline.with_defaults(settings).model_dump(),
        "wrote": written,
    }
    result(answer, as_json=as_json, text=f"{values['n']} anagrams: {', '.join(written)}{as_text(read, HINT)}")
    return 0
