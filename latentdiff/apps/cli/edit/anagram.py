"""`latentdiff anagram`."""

from __future__ import annotations

from functools import partial

import click

from latentdiff.apps.cli.edit import driver, illusions
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import build, only_with, options_of
from latentdiff.apps.cli.shared.prompts import name_of
from latentdiff.config.base import Config, setting

HINT = (
    "not every pair of classes has a shape in common: try another --view, other seeds, or --resample-steps 2"
    " (docs/editing.md has shares)"
)
VIEWS = ("identity", "flip", "mirror", "rotate90", "rotate180", "rotate270", "negative", "patches")


class PatchOptions(Config):
    """The view that exchanges patches."""

    patch_side: int | None = setting(
        None, "side of --view patches in pixels (default: a quarter)", was="patch", ge=1, le=1024
    )


@driver.edit_command(
    "anagram",
    "latentdiff anagram --label 3 --label 5 --view identity --view rotate180",
    title="Views and conditioning",
    out="anagram.png",
    inputs=(),
)
@option(
    "--view",
    "view",
    type=click.Choice(VIEWS),
    multiple=True,
    help="The view through which each class is seen (default: identity and flip).",
)
@options_of(PatchOptions)
@illusions.illusion_options("view")
def command(values: driver.Values) -> driver.EditFunction:
    """Draw images that show another class when turned.

    Visual anagrams: one image that shows one class upright and another through a view. Latent models keep one
    latent for each view and synchronize them through the decoded image.
    """
    build(PatchOptions, values)
    views, (n, weights) = values["view"] or ("identity", "flip"), illusions.check_parts(values)
    if len(views) != n:
        flag = "--label" if values["label"] else "--prompt"
        raise click.UsageError(f"expected as many {flag} as --view, got {n} and {len(views)}")
    only_with("view", "patches", views, {"patch_side": "--patch-side"})
    return partial(_anagram, names=views, weights=weights)


def _anagram(values: driver.Values, names: tuple[str, ...], weights: list[float] | None) -> driver.EditResult:
    from latentdiff.diffusion.illusions.views import view
    from latentdiff.edit import anagram

    model = driver.load_model(values)
    labels = illusions.conditions_of(model.pipeline, values)
    views = [view(name, patch=values["patch_side"]) for name in names]
    made = illusions.draw_parts(anagram, model, list(zip(labels, views, strict=True)), values, weights)
    seen = [view(made.images) for view in views]
    return illusions.illusion_result(
        model,
        values,
        made,
        stages=[
            (f"{name}\n{name_of(model.pipeline, label)}", images)
            for name, label, images in zip(names, labels, seen, strict=True)
        ],
        seen=seen,
        labels=labels,
        facts={"views": list(names), "weights": weights},
        noun="anagram",
        hint=HINT,
    )
