"""`latentdiff sample-cold`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.edit.driver import model_options, output_options
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.inputs import image_options, read_input
from latentdiff.apps.cli.shared.options import Finite, cli_command, given
from latentdiff.apps.cli.shared.pair_scores import scores_by_name, scores_of, scores_text
from latentdiff.apps.cli.shared.reuse import (
    check_input,
    checkpoint_of_like,
    like_command_option,
    recipe_of_command,
)
from latentdiff.config.data import FITTING, LABELLING

if TYPE_CHECKING:
    from torch import Tensor


@cli_command(
    "sample-cold",
    "latentdiff sample-cold --restore",
    "latentdiff sample-cold -n 16 --out new.png",
    title="Start",
)
@like_command_option
@model_options
@image_options
@option(
    "--restore",
    "restoring",
    is_flag=True,
    help="Degrade images and restore them; those of --input, instead of generating new ones.",
)
@option(
    "--degradation-level",
    "level",
    argument="t",
    was="--level",
    type=click.IntRange(1, 10_000),
    help="Level of the degradation; with --restore (default: T).",
)
@option(
    "--steps",
    type=click.IntRange(1, 10_000),
    group="Sampling",
    help="Number of steps (default: every level).",
)
@option(
    "--improved/--naive",
    default=True,
    group="Sampling",
    advanced=True,
    help="Use x - D(x0, t) + D(x0, s) (improved), or D(x0, s) (naive).",
)
@option(
    "--start-noise",
    "noise",
    was="--noise",
    type=Finite(0, 1),
    default=0.002,
    group="Sampling",
    advanced=True,
    help="Standard deviation of the noise that breaks the symmetry of the start; without --restore.",
)
@option(
    "--start",
    type=click.Choice(["cells", "flat"]),
    group="Sampling",
    advanced=True,
    help=(
        "Start from random intensities of a grid of cells, or of the whole image; without --restore, flat is"
        " as published (default: cells, where the run has them)."
    ),
)
@output_options("cold.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Generate or restore images with a cold diffusion model.

    Restored images are compared with the network's restoration in one step, which is closer on average, and
    blurrier.
    """
    for name in given(
        ("noise", "seed", "start")
        if values["restoring"]
        else ("source", "level", "split", "drawing", "negate", *FITTING, *LABELLING)
    ):
        flag = {"source": "input", "noise": "start-noise"}.get(name, name).replace("_", "-")
        raise click.UsageError(
            f"--{flag} is for new images, --restore draws no noise"
            if values["restoring"]
            else f"--{flag} is for --restore; new images are generated from drawn intensities"
        )

    from latentdiff.apps.cli.edit import driver
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.find import find_run
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.data import to_float
    from latentdiff.data.classes import order_by_class
    from latentdiff.diffusion.trajectory import Recorder
    from latentdiff.errors import counted
    from latentdiff.parallel.device import resolve_device
    from latentdiff.pipeline.cold import cold_from
    from latentdiff.viz.image_folder import variant

    check_input(values)
    kept = dict(values)
    outputs.settle(values)
    run, runs = values["run"], values["runs"]
    missing = f"no cold diffusion model in {runs}/; make one with `latentdiff train-cold`"
    checkpoint = checkpoint_of_like(values) or find_run(
        run, runs, wanted=lambda index: "restorer" in index, missing=missing
    )
    model = cold_from(checkpoint).to(resolve_device(values["device"]))
    how = {"steps": values["steps"], "improved": values["improved"]}
    results: dict[str, Tensor] = {}
    answer = {"run": str(checkpoint.folder), "degradation": model.config.model_dump(), **how}
    if values["restoring"]:
        t = values["level"] or model.config.T
        model.levels(t, values["steps"])  # refuses a level that the model does not know before any work
        found = read_input(checkpoint, model.image_shape, values)
        x0 = to_float(found.images[order_by_class(found.labels, len(found.images))[: values["n"]]])
        degraded = model.degradation(x0.to(model.device), t)
        with SamplingBar("restoring") as bar:
            drawn = model.restore(degraded, t, recorder=Recorder(frames=8, progress=bar.update), **how)
        direct = model.one_step(degraded, t)
        ends = [("one step", direct), ("step by step", drawn.images)]
        stages = [("original", x0), (f"degraded\nt = {t}", degraded.cpu()), *ends]
        stages += [(f"t = {frame.t}", frame.noisy) for frame in drawn.frames[1:-1]]
        scores = {name: scores_of(x, x0, ()) for name, x in ends}
        results = {variant(method="one-step"): direct, variant(method="step-by-step"): drawn.images}
        answer |= {
            "level": t,
            "input": found.name,
            **scores_by_name(scores),
        }
        text = "\n".join(f"  {name}: {scores_text(score)}" for name, score in scores.items())
    else:
        with SamplingBar("generating") as bar:
            drawn = model.sample(
                values["n"],
                seed=values["seed"],
                noise=values["noise"],
                start=values["start"],
                recorder=Recorder(frames=8, progress=bar.update),
                **how,
            )
        stages = [("result", drawn.images)]
        stages += [(f"t = {frame.t}", frame.noisy) for frame in drawn.frames[:-1]]
        scores = {}
        answer |= {"seed": values["seed"], "noise": values["noise"], "start": values["start"]}
        text = f"  {counted(len(drawn.images), 'image')} from seed {values['seed']}"
    recipe = recipe_of_command(checkpoint, kept)
    written = driver.save_stages([stages], values, results or drawn.images, scores=scores, recipe=recipe)
    answer |= {"n": len(drawn.images), "wrote": written}
    result(answer, as_json=as_json, text=f"{', '.join(written)}\n{text}")
    return 0
