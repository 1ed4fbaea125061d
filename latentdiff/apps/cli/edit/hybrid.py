"""`latentdiff hybrid`."""

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
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import build, cli_command
from latentdiff.apps.cli.shared.prompts import name_of, names_of
from latentdiff.config.sampling import Sampling

HINT = (
    "small images have little room for two bands: try another --sigma, --weights, or --refine 2"
    " (docs/common.md has shares)"
)


@cli_command(
    "hybrid",
    "latentdiff hybrid --label 3 --label 5 --guidance 4",
)
@option(
    "--label",
    "labels",
    multiple=True,
    callback=each_label,
    help=(
        "A class, once for each band from the lowest to the highest: --label 3 --label 5, or 3,5; three make"
        " a triple hybrid (no default)."
    ),
)
@option(
    "--prompt",
    "prompts",
    multiple=True,
    help="Instead of --label, for a model that listens to texts: a text, once for each band (default: none).",
)
@option(
    "--sigma",
    cls=Several,
    default=None,
    help=(
        "Blurs in pixels that cut the bands, falling, as 2 or 3,1 (default: 2 for two bands, 3,1 for three)."
    ),
)
@option(
    "--colour",
    is_flag=True,
    help="Brightness from the first class, colour from the second (models of RGB images).",
)
@illusion_options("hybrid.png")
def command(*, as_json: bool, labels: tuple[str, ...], prompts: tuple[str, ...], **values: Any) -> int:
    """Draw hybrid images: one class from afar, another close up.

    Low frequencies are drawn as the first class, high ones as the last. Of latents, every band has its own,
    which are kept versions of one picture.
    """
    n = parts_asked(labels, prompts)
    settings, sigmas = build(Sampling, values), _sigmas(values, n)
    weights = weights_of(values["weights"], n)

    import torch

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.diffusion.illusions.bands import brightness_and_colour, frequencies
    from latentdiff.edit import Recorder, hybrid

    outputs.settle(values)
    checkpoint, pipeline = model_for(values, settings, labels, prompts)
    asked, shape = asked_of(pipeline, labels, prompts), tuple(pipeline.codec.image_shape)
    bands = brightness_and_colour(shape) if values["colour"] else frequencies(shape, sigmas)  # type: ignore[arg-type]
    with SamplingBar("hybrid") as bar:
        made = hybrid(
            pipeline,
            list(zip(asked, bands, strict=True)),
            values["n"],
            weights=weights,
            refine=values["refine"],
            settings=settings,
            seed=values["seed"],
            recorder=Recorder(frames=WAY, progress=bar.update),
        )
    rows = [(f"estimate, t = {frame.t}", frame.estimate) for frame in made.frames[:-1]]
    rows.append(("hybrid", made.images))
    read = None
    if not values[
        "colour"
    ]:  # the last class is that of the image itself, the others are seen through the low bands up to theirs
        low = [
            torch.stack([band(made.images) for band in bands[: k + 1]]).sum(0).clamp(-1, 1)
            for k in range(len(bands))
        ]
        read = read_back(pipeline, low, asked)
    rows += [
        (f"{band.name}, drawn as {name_of(pipeline, label)}", band(made.images).clamp(-1, 1))
        for label, band in zip(asked, bands, strict=True)
    ]
    written = common.save_rows(rows, values, made.images)
    answer = {
        "run": str(checkpoint.folder),
        "n": values["n"],
        "seed": values["seed"],
        "bands": [band.name for band in bands],
        "sigmas": None if values["colour"] else sigmas,
        "weights": weights,
        "refine": values["refine"],
        "read": read,
        "labels": names_of(pipeline, asked),
        "settings": pipeline.with_defaults(settings).model_dump(),
        "wrote": written,
    }
    result(answer, as_json=as_json, text=f"{values['n']} hybrids: {', '.join(written)}{as_text(read, HINT)}")
    return 0


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
