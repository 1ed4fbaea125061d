"""`latentdiff anagram`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from latentdiff.apps.cli.edit.driver import EditResult, estimates, load_model, run_edit
from latentdiff.apps.cli.edit.illusions import (
    conditions_of,
    count_parts,
    draw_parts,
    illusion_options,
    illusion_result,
    read_back,
    weights_of,
)
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import cli_command, only_with
from latentdiff.apps.cli.shared.prompts import name_of

HINT = (
    "not every pair of classes has a shape in common: try another --view, other seeds, or --resample-steps 2"
    " (docs/editing.md has shares)"
)
VIEWS = ("identity", "flip", "mirror", "rotate90", "rotate180", "rotate270", "negative", "patches")


@cli_command(
    "anagram",
    "latentdiff anagram --label 3 --label 5 --view identity --view rotate180",
    title="Views and conditioning",
)
@option(
    "--view",
    "view",
    type=click.Choice(VIEWS),
    multiple=True,
    help="The view through which each class is seen (default: identity and flip).",
)
@option(
    "--patch-side",
    "patch",
    was="--patch",
    type=click.IntRange(1, 1024),
    default=None,
    help="Side of --view patches in pixels (default: a quarter).",
)
@illusion_options("anagram.png", part="view")
def command(*, as_json: bool, **values: Any) -> int:
    """Draw images that show another class when turned.

    Visual anagrams: one image that shows one class upright and another through a view. Latent models keep one
    latent for each view and synchronize them through the decoded image.
    """
    views, n = values["view"] or ("identity", "flip"), count_parts(values)
    if len(views) != n:
        flag = "--label" if values["label"] else "--prompt"
        raise click.UsageError(f"expected as many {flag} as --view, got {n} and {len(views)}")
    only_with("view", "patches", views, {"patch": "--patch-side"})
    weights = weights_of(values["class_weights"], n)
    return run_edit(partial(_anagram, names=views, weights=weights), values, as_json=as_json)


def _anagram(values: dict[str, Any], names: tuple[str, ...], weights: list[float] | None) -> EditResult:
    from latentdiff.diffusion.illusions.views import view
    from latentdiff.edit import anagram

    model = load_model(values)
    labels = conditions_of(model.pipeline, values)
    views = [view(name, patch=values["patch"]) for name in names]
    made = draw_parts(anagram, model, list(zip(labels, views, strict=True)), values, weights)
    seen = [view(made.images) for view in views]
    rows = [
        (f"{name}: {name_of(model.pipeline, label)}", images)
        for name, label, images in zip(names, labels, seen, strict=True)
    ]
    return illusion_result(
        model,
        values,
        made.images,
        rows=[*estimates(made.frames[:-1]), *rows],
        labels=labels,
        facts={"views": list(names), "weights": weights, "read": read_back(model.pipeline, seen, labels)},
        noun="anagrams",
        hint=HINT,
    )
