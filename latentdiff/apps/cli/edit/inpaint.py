"""`latentdiff inpaint`."""

from __future__ import annotations

from typing import Any

import click

from latentdiff.apps.cli.edit.common import check_moves, model_options, output_options, sampling_options
from latentdiff.apps.cli.edit.operators import mask_of, mask_options
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import build, cli_command, options_of
from latentdiff.apps.cli.shared.prompts import names_of
from latentdiff.config.restoration import Inpainting

WAY = 5  # moments of the first draw in the figure


@cli_command(
    "inpaint",
    "latentdiff inpaint --mask box --draws 4",
    "latentdiff inpaint --input photo.png --mask mask.png",
)
@model_options
@image_options
@mask_options
@options_of(Inpainting)
@sampling_options
@option(
    "--draws",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Different fillings of each image, one row each.",
)
@output_options("inpainted.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Fill in missing parts of images.

    The known pixels are kept exactly. --mask says what is missing; several --draws show what else could stand
    there. Models of pixels and of spatial latents take every solver, models of vector latents diffpir, dps
    and psld.
    """
    how = build(Inpainting, values)
    check_moves(how, values)

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.diffusion.operators import masked
    from latentdiff.edit import Recorder, restore
    from latentdiff.viz.image_folder import aligned, variant

    outputs.settle(values)
    work = common.bench(values)
    labels = common.labels_of(values, work)
    mask = mask_of(values, work.pipeline.codec.image_shape)
    operator = masked(tuple(work.pipeline.codec.image_shape), mask)  # type: ignore[arg-type]
    y = operator(work.images)
    before = common.scores_of(y, work.images, work.pipeline.classes)
    rows, scores, results = [("original", work.images), ("known", y)], [], {}
    for draw, text in enumerate(aligned(range(1, values["draws"] + 1))):
        with SamplingBar(f"{how.solver} {draw + 1} of {values['draws']}") as bar:
            made = restore(
                work.pipeline,
                operator,
                y,
                how=how,
                settings=work.settings,
                mask=mask,
                label=labels,
                seed=values["seed"] + draw * len(y),
                recorder=Recorder(frames=0 if draw else WAY, progress=bar.update),
            )
        rows += [(f"estimate, t = {frame.t}", frame.estimate) for frame in made.frames[1:-1]]
        rows.append((f"filled in, {draw + 1}", made.images))
        results[variant(draw=text)] = made.images
        scores.append(common.scores_of(made.images, work.images, work.pipeline.classes))
    written = common.save_rows(rows, values, results)
    answer = {
        "run": str(work.checkpoint.folder),
        "input": work.source,
        "n": len(work.images),
        "seed": values["seed"],
        "missing": float((mask == 0).float().mean()),
        "labels": names_of(work.pipeline, labels),
        "restoration": how.model_dump(),
        "settings": work.pipeline.with_defaults(work.settings).model_dump(),
        "masked": common.as_json(before),
        "draws": [common.as_json(score) for score in scores],
        "wrote": written,
    }
    lines = [f"  as masked: {common.as_text(before)}"]
    lines += [f"  filled in, {k + 1}: {common.as_text(score)}" for k, score in enumerate(scores)]
    text = "\n".join([f"{how.solver}: {', '.join(written)}", *lines])
    result(answer, as_json=as_json, text=text)
    return 0
