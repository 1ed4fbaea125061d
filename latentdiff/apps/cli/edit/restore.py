"""`latentdiff restore`."""

from __future__ import annotations

from typing import Any

import click

from latentdiff.apps.cli.edit.common import check_moves, model_options, output_options, sampling_options
from latentdiff.apps.cli.edit.operators import INEXACT, operator_of, operator_options
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import build, cli_command, options_of
from latentdiff.apps.cli.shared.prompts import names_of
from latentdiff.config.restoration import Restoration


@cli_command(
    "restore",
    "latentdiff restore --operator blur --noise 0.05",
    "latentdiff restore --input small.png --degraded --operator downsample",
)
@model_options
@image_options
@operator_options
@options_of(Restoration)
@sampling_options
@option(
    "--degraded",
    is_flag=True,
    help=(
        "The images of --input are degraded already: restore them as they are (without figures against an"
        " original)."
    ),
)
@output_options("restored.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Restore degraded images: deblur, fill in, enlarge, denoise.

    Images are degraded by --operator and --noise, restored by --solver, and compared with the originals. dps
    wants many steps (--steps 100 or more), diffpir few.
    """
    how = build(Restoration, values)
    check_moves(how, values)
    if values["degraded"] and values["source"] is None:
        raise click.UsageError(
            "--degraded: says that the images of --input are degraded already, expected --input"
        )

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.edit import Recorder, backprojection, measured, restore

    outputs.settle(values)
    model = common.model_of(values)
    operator, mask, pixels = operator_of(values, model.pipeline.codec.image_shape)
    sigma = values["sigma"] if values["sigma"] is not None else INEXACT if values["degraded"] else 0.0
    work = common.bench(values, model, shape=operator.measured_shape if values["degraded"] else None)
    labels = common.labels_of(values, work)
    if values["degraded"]:
        y = work.images if pixels is None else work.images * pixels  # what lies in a hole is no measurement
    else:
        y = measured(operator, work.images, sigma=sigma, seed=values["seed"])
    with SamplingBar(how.solver) as bar:
        made = restore(
            work.pipeline,
            operator,
            y,
            how=how,
            settings=work.settings,
            sigma=sigma,
            mask=mask,
            label=labels,
            seed=values["seed"],
            recorder=Recorder(frames=6, progress=bar.update),
        )
    seen = backprojection(operator, y).clamp(-1, 1)
    original = [] if values["degraded"] else [("original", work.images)]
    estimates = [(f"estimate, t = {frame.t}", frame.estimate) for frame in made.frames[1:-1]]
    rows = [*original, ("degraded", seen), *estimates, ("restored", made.images)]
    written = common.save_rows(rows, values, made.images)
    answer: dict[str, Any] = {
        "run": str(work.checkpoint.folder),
        "input": work.source,
        "n": len(work.images),
        "seed": values["seed"],
        "labels": names_of(work.pipeline, labels),
        "operator": operator.name,
        "noise": sigma,
        "restoration": how.model_dump(),
        "settings": work.pipeline.with_defaults(work.settings).model_dump(),
    }
    text = f"{how.solver}: {', '.join(written)}"
    if not values["degraded"]:
        before, after = (common.scores_of(x, work.images, work.pipeline.classes) for x in (seen, made.images))
        answer |= {"degraded": common.as_json(before), "restored": common.as_json(after)}
        text += f"\n  degraded: {common.as_text(before)}\n  restored: {common.as_text(after)}"
    result({**answer, "wrote": written}, as_json=as_json, text=text)
    return 0
