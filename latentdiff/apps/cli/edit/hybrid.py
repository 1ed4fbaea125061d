"""`latentdiff hybrid`."""

from __future__ import annotations

from functools import partial

import click

from latentdiff.apps.cli.edit import driver, illusions
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import numbers_of
from latentdiff.apps.cli.shared.prompts import name_of

HINT = (
    "small images have little room for two bands: try another --sigma, --class-weights, or --resample-steps 2"
    " (docs/editing.md has shares)"
)


@driver.edit_command(
    "hybrid",
    "latentdiff hybrid --label 3 --label 5 --guidance 4",
    title="Bands and conditioning",
    out="hybrid.png",
    inputs=(),
)
@option(
    "--sigma",
    cls=Several,
    default=None,
    help=(
        "Standard deviations in pixels of the blurs between the bands, falling, as 2 or 3,1 (default: 2 for"
        " two bands, 3,1 for three)."
    ),
)
@option(
    "--colour",
    is_flag=True,
    help="Brightness from the first class, colour from the second (models of RGB images).",
)
@illusions.illusion_options("band")
def command(values: driver.Values) -> driver.EditFunction:
    """Draw hybrid images: one class from afar, another close up.

    The low frequencies show the first class, the high ones the last; three classes make a triple hybrid.
    Latent models keep one latent for each band and synchronize them.
    """
    n, weights = illusions.check_parts(values)
    return partial(_hybrid, sigmas=_sigmas(values, n), weights=weights)


def _hybrid(values: driver.Values, sigmas: list[float], weights: list[float] | None) -> driver.EditResult:
    import torch

    from latentdiff.diffusion.illusions.views import brightness_and_colour, frequencies
    from latentdiff.edit import hybrid

    model = driver.load_model(values)
    pipeline, labels = model.pipeline, illusions.conditions_of(model.pipeline, values)
    channels, height, width = pipeline.codec.image_shape
    shape = (channels, height, width)
    bands = brightness_and_colour(shape) if values["colour"] else frequencies(shape, sigmas)
    made = illusions.draw_parts(hybrid, model, list(zip(labels, bands, strict=True)), values, weights)
    found = [band(made.images) for band in bands]
    # a class is recognised in its band and all lower ones
    low = [torch.stack(found[: k + 1]).sum(0).clamp(-1, 1) for k in range(len(bands))]
    parts = [
        (f"{band.name}\ndrawn as {name_of(pipeline, label)}", part.clamp(-1, 1))
        for label, band, part in zip(labels, bands, found, strict=True)
    ]
    return illusions.illusion_result(
        model,
        values,
        made,
        stages=[("hybrid", made.images), *parts],
        seen=None if values["colour"] else low,
        labels=labels,
        facts={
            "bands": [band.name for band in bands],
            "sigmas": None if values["colour"] else sigmas,
            "weights": weights,
        },
        noun="hybrid",
        hint=HINT,
    )


def _sigmas(values: driver.Values, n: int) -> list[float]:
    if values["colour"]:
        if n != 2 or values["sigma"] is not None:
            raise click.UsageError("--colour takes two classes and no --sigma")
        return []
    if n < 2:
        raise click.UsageError(f"expected --label twice or more (or --prompt), got {n}")
    plain = ",".join(f"{3 / 3**k if n > 2 else 2:g}" for k in range(n - 1))
    expected = "a number above 0" if n == 2 else f"{n - 1} falling numbers above 0"
    return numbers_of(
        "--sigma",
        plain if values["sigma"] is None else values["sigma"],
        f"{expected} for {n} classes",
        lambda found: (
            len(found) == n - 1
            and all(0 < s < 1000 for s in found)
            and found == sorted(set(found), reverse=True)
        ),
    )
