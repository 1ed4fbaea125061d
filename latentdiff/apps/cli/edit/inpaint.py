"""`latentdiff inpaint`."""

from __future__ import annotations

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
from latentdiff.apps.cli.edit.driver import (
    FRAMES,
    EditResult,
    check_sampler,
    estimates,
    load_inputs,
    run_edit,
    with_bar,
)
from latentdiff.apps.cli.edit.masks import check_mask, mask_of
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import build, cli_command, options_of
from latentdiff.config.restoration import Inpainting, MaskOptions


@cli_command(
    "inpaint",
    "latentdiff inpaint --mask box --samples 4",
    "latentdiff inpaint --input photo.png --mask mask.png",
    title="Mask and solver",
)
@model_options
@image_options
@options_of(MaskOptions, Inpainting)
@sampling_options
@option(
    "--samples",
    was="--draws",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Different fillings of each image, one row each.",
)
@output_options("inpainted.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Fill in missing parts of images.

    The known pixels are kept exactly. --mask says what is missing; several --samples show different fillings.
    Models of pixels and of spatial latents take every solver (psld: latents only), models of vector latents
    diffpir, dps and psld.
    """
    how = build(Inpainting, values)
    check_sampler(how, values)
    check_mask(values)
    return run_edit(partial(_inpaint, how=how), values, as_json=as_json)


def _inpaint(values: dict[str, Any], how: Inpainting) -> EditResult:
    from latentdiff.diffusion.operators import make_operator
    from latentdiff.edit import restore
    from latentdiff.viz.image_folder import aligned, variant

    inputs, count = load_inputs(values), values["samples"]
    mask = mask_of(values, inputs.pipeline.codec.image_shape)
    operator = make_operator("mask", inputs.pipeline.codec.image_shape, mask=mask)
    y = operator(inputs.images)
    rows, scores, results = [("original", inputs.images), ("known", y)], [], {}
    for k, text in enumerate(aligned(range(1, count + 1))):
        made = with_bar(
            f"{how.solver} {k + 1} of {count}",
            restore,
            inputs.pipeline,
            operator,
            y,
            how=how,
            mask=mask,
            frames=0 if k else FRAMES,
            **inputs.conditions | {"seed": inputs.seed + k * len(y)},
        )
        rows += [*estimates(made.frames[1:-1]), (f"filled in, {k + 1}", made.images)]
        results[variant(draw=text)] = made.images
        scores.append(inputs.scores(made.images))
    before = inputs.scores(y)
    return EditResult(
        model=inputs,
        rows=rows,
        images=results,
        facts={
            "missing": float((mask == 0).float().mean()),
            "restoration": how.model_dump(),
            "masked": scores_dict(before),
            "draws": [scores_dict(score) for score in scores],
        },
        title=how.solver,
        lines=[
            f"as masked: {scores_text(before)}",
            *(f"filled in, {k + 1}: {scores_text(score)}" for k, score in enumerate(scores)),
        ],
    )
