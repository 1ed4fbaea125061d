"""`latentdiff hybrid`."""

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
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import cli_command
from latentdiff.apps.cli.shared.prompts import name_of

HINT = (
    "small images have little room for two bands: try another --sigma, --class-weights, or --resample-steps 2"
    " (docs/editing.md has shares)"
)


@cli_command("hybrid", "latentdiff hybrid --label 3 --label 5 --guidance 4", title="Bands and conditioning")
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
@illusion_options("hybrid.png", part="band")
def command(*, as_json: bool, **values: Any) -> int:
    """Draw hybrid images: one class from afar, another close up.

    The low frequencies show the first class, the high ones the last; three classes make a triple hybrid.
    Latent models keep one latent for each band and synchronize them.
    """
    n = count_parts(values)
    sigmas, weights = _sigmas(values, n), weights_of(values["class_weights"], n)
    return run_edit(partial(_hybrid, sigmas=sigmas, weights=weights), values, as_json=as_json)


def _hybrid(values: dict[str, Any], sigmas: list[float], weights: list[float] | None) -> EditResult:
    import torch

    from latentdiff.diffusion.illusions.views import brightness_and_colour, frequencies
    from latentdiff.edit import hybrid

    model = load_model(values)
    pipeline, labels = model.pipeline, conditions_of(model.pipeline, values)
    channels, height, width = pipeline.codec.image_shape
    shape = (channels, height, width)
    bands = brightness_and_colour(shape) if values["colour"] else frequencies(shape, sigmas)
    images = draw_parts(hybrid, model, list(zip(labels, bands, strict=True)), values, weights)
    found = [band(images.images) for band in bands]
    read = None
    if not values["colour"]:  # a class is recognised in its band and all lower ones
        low = [torch.stack(found[: k + 1]).sum(0).clamp(-1, 1) for k in range(len(bands))]
        read = read_back(pipeline, low, labels)
    parts = [
        (f"{band.name}, drawn as {name_of(pipeline, label)}", part.clamp(-1, 1))
        for label, band, part in zip(labels, bands, found, strict=True)
    ]
    return illusion_result(
        model,
        values,
        images.images,
        rows=[*estimates(images.frames[:-1]), ("hybrid", images.images), *parts],
        labels=labels,
        facts={
            "bands": [band.name for band in bands],
            "sigmas": None if values["colour"] else sigmas,
            "weights": weights,
            "read": read,
        },
        noun="hybrids",
        hint=HINT,
    )


def _sigmas(values: dict[str, Any], n: int) -> list[float]:
    if values["colour"]:
        if n != 2 or values["sigma"] is not None:
            raise click.UsageError("--colour takes two classes and no --sigma")
        return []
    if n < 2:
        raise click.UsageError(f"expected --label twice or more (or --prompt), got {n}")
    text = values["sigma"] or ",".join(f"{3 / 3**k if n > 2 else 2:g}" for k in range(n - 1))
    try:
        sigmas = [float(part) for part in str(text).split(",")]
    except ValueError:
        sigmas = []
    if (
        len(sigmas) != n - 1
        or not all(0 < s < 1000 for s in sigmas)
        or sigmas != sorted(set(sigmas), reverse=True)
    ):
        raise click.UsageError(
            f"--sigma: expected {n - 1} falling numbers above 0 for {n} classes, got {text!r}"
        )
    return sigmas
