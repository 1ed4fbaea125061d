"""`latentdiff restore`."""

from __future__ import annotations

from functools import partial

import click

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.edit.operators import check_operators, operator_of, operator_options
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.options import build, options_of
from latentdiff.apps.cli.shared.pair_scores import scores_by_name, scores_text
from latentdiff.config.restoration import ASSUMED_NOISE, Restoration


@driver.edit_command(
    "restore",
    "latentdiff restore --operator blur --noise 0.05",
    "latentdiff restore --input small.png --already-degraded --operator downsample",
    title="Degradation and solver",
    out="restored.png",
)
@operator_options
@options_of(Restoration)
@option(
    "--already-degraded",
    "degraded",
    was="--degraded",
    is_flag=True,
    help="Restore the images of --input as they are; --operator describes their degradation.",
)
def command(values: driver.Values) -> driver.EditFunction:
    """Restore degraded images: deblur, fill in, enlarge, denoise.

    Images are degraded by --operator and --noise, restored by --solver, and compared with the originals. dps
    wants many steps (--steps 100 or more), diffpir few.
    """
    how = build(Restoration, values)
    driver.check_sampler(how, values)
    check_operators(values)
    if values["degraded"] and values["source"] is None:
        raise click.UsageError("--already-degraded: expected the degraded images with --input, got none")
    return partial(_restore, how=how)


def _restore(values: driver.Values, how: Restoration) -> driver.EditResult:
    from latentdiff.edit import backprojection, measured, restore

    model, degraded, sigma = driver.load_model(values), values["degraded"], values["noise"]
    operator, mask, last_mask = operator_of(values, model.pipeline.codec.image_shape)
    if sigma is None:
        sigma = ASSUMED_NOISE if degraded else 0.0
    inputs = driver.load_inputs(values, model, shape=operator.measured_shape if degraded else None)
    if not degraded:
        y = measured(operator, inputs.images, sigma=sigma, seed=inputs.seed)
    else:  # the pixels of a hole are no measurement
        y = inputs.images if last_mask is None else inputs.images * last_mask
    made = inputs.run(how.solver, restore, operator, y, how=how, sigma=sigma, mask=mask, frames=6)
    seen = backprojection(operator, y).clamp(-1, 1)
    results = {"degraded": seen, "restored": made.images}
    scores = {} if degraded else {name: inputs.scores(images) for name, images in results.items()}
    return driver.EditResult(
        model=inputs,
        stages=[
            *([] if degraded else [("original", inputs.images)]),
            ("degraded", seen),
            *driver.estimates(made.frames[1:-1]),
            ("restored", made.images),
        ],
        scores=scores,
        images=made.images,
        facts={
            "operator": operator.name,
            "noise": sigma,
            "restoration": how.model_dump(),
            **scores_by_name(scores),
        },
        title=how.solver,
        lines=[f"{name}: {scores_text(each)}" for name, each in scores.items()],
    )
