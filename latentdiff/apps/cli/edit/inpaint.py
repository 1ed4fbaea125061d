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

    samples: int = setting(3, "different fillings of each image, one column each", was="draws", ge=1, le=20)


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
    stages, scores, results = [("original", inputs.images), ("known", y)], {"known": inputs.scores(y)}, {}
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
        name = f"filled in, {k + 1}"
        stages += [*driver.estimates(made.frames[1:-1]), (name, made.images)]
        results[variant(draw=text)] = made.images
        scores[name] = inputs.scores(made.images)
    draws = {name: each for name, each in scores.items() if name != "known"}
    return driver.EditResult(
        model=inputs,
        stages=stages,
        scores=scores,
        images=results,
        facts={
            "missing": float((mask == 0).float().mean()),
            "restoration": how.model_dump(),
            "masked": scores_dict(scores["known"]),
            "draws": [scores_dict(score) for score in draws.values()],
        },
        title=how.solver,
        lines=[
            f"as masked: {scores_text(scores['known'])}",
            *(f"{name}: {scores_text(score)}" for name, score in draws.items()),
        ],
    )
