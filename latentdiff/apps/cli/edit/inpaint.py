"""`latentdiff inpaint`."""

from __future__ import annotations

from functools import partial

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.edit.operators import check_mask, mask_of
from latentdiff.apps.cli.shared.options import build, options_of
from latentdiff.apps.cli.shared.pair_scores import scores_dict, scores_text
from latentdiff.config.base import Config, setting
from latentdiff.config.restoration import Inpainting, MaskOptions


class Fillings(Config):
    """The number of results."""

    samples: int = setting(3, "different fillings of each image, one row each", was="draws", ge=1, le=20)


@driver.edit_command(
    "inpaint",
    "latentdiff inpaint --mask box --samples 4",
    "latentdiff inpaint --input photo.png --mask mask.png",
    title="Mask and solver",
    out="inpainted.png",
)
@options_of(MaskOptions, Inpainting, Fillings)
def command(values: driver.Values) -> driver.EditFunction:
    """Fill in missing parts of images.

    The known pixels are kept exactly. --mask says what is missing; several --samples show different fillings.
    Models of pixels and of spatial latents take every solver (psld: latents only), models of vector latents
    diffpir, dps and psld.
    """
    how = build(Inpainting, values)
    driver.check_sampler(how, values)
    check_mask(values)
    return partial(_inpaint, how=how, count=build(Fillings, values).samples)


def _inpaint(values: driver.Values, how: Inpainting, count: int) -> driver.EditResult:
    from latentdiff.diffusion.operators import make_operator
    from latentdiff.edit import restore
    from latentdiff.viz.image_folder import aligned, variant

    inputs = driver.load_inputs(values)
    mask = mask_of(values, inputs.pipeline.codec.image_shape)
    operator = make_operator("mask", inputs.pipeline.codec.image_shape, mask=mask)
    y = operator(inputs.images)
    rows, scores, results = [("original", inputs.images), ("known", y)], [], {}
    for k, text in enumerate(aligned(range(1, count + 1))):
        made = inputs.run(
            f"{how.solver} {k + 1} of {count}",
            restore,
            operator,
            y,
            how=how,
            mask=mask,
            frames=0 if k else driver.FRAMES,
            seed=inputs.seed + k * len(y),
        )
        rows += [*driver.estimates(made.frames[1:-1]), (f"filled in, {k + 1}", made.images)]
        results[variant(draw=text)] = made.images
        scores.append(inputs.scores(made.images))
    before = inputs.scores(y)
    return driver.EditResult(
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
