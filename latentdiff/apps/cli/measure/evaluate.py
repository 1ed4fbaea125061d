"""`latentdiff evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentdiff.apps.cli.shared.options import Several, build, config_option, json_option, option, options_of
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option, refuse_foreign
from latentdiff.apps.cli.shared.types import Finite
from latentdiff.config.base import device_name
from latentdiff.config.evaluation import PARTS
from latentdiff.config.loop import DataOptions
from latentdiff.config.sampling import Sampling
from latentdiff.metrics.features.names import NAMES, NEEDS_WEIGHTS, PERCEPTUAL_NAMES

LEAST_RESAMPLES = 20  # that make an interval


def _check_evaluation(folder: Path) -> None:
    from latentdiff.apps.cli.measure.evaluation import earlier
    from latentdiff.viz.image_folder import foreign_in

    refuse_foreign(folder, foreign_in(folder, written=earlier(folder)))


@click.command(name="evaluate")
@click.option("--run", default=None, help="Run or checkpoint folder (default: the newest run).")
@click.option("--runs", default="runs", show_default=True, help="Folder of all runs.")
@click.option(
    "--what",
    cls=Several,
    default=None,
    help=(
        "Parts of a run as samples,denoiser (default: all that it has): vae, samples, denoiser,"
        " reconstruction, and of text models of `scenes` also scenes."
    ),
)
@click.option(
    "--images",
    default=None,
    help=(
        "Score these images instead of a run: a folder, an .npz (images or x) or a data set name (default:"
        " score a run)."
    ),
)
@click.option(
    "--reference",
    default=None,
    help="What --images are compared with: a folder, an .npz or a data set name (no default).",
)
@click.option(
    "--paired",
    is_flag=True,
    help="Also compare image k of --images with image k of --reference (folders: by their file names).",
)
@options_of(DataOptions, skip=("flip", "crop"), of_run=True)
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Which images are the reference.",
)
@click.option(
    "-n",
    "--number",
    "n",
    type=click.IntRange(4, 1_000_000),
    default=10_000,
    show_default=True,
    help="Number of samples, and of the images of the split that the VAE is measured on at most.",
)
@options_of(Sampling, skip=("compile",))
@click.option(
    "--seed",
    type=click.IntRange(0, 2**62),
    default=0,
    show_default=True,
    help="Sample k is the image of seed + k; also seeds noise and resampling.",
)
@click.option(
    "--class-balance",
    type=click.Choice(["equal", "data"]),
    default=None,
    help=(
        "How often samples are of each class: all in turn, or as often as in the training data (default: data"
        " where the model records it)."
    ),
)
@click.option(
    "--test-images",
    type=click.IntRange(2, 1_000_000),
    default=500,
    show_default=True,
    help="Images of the split for the denoiser and the reconstructions from noise.",
)
@click.option(
    "--neighbors",
    type=click.IntRange(0, 1_000_000),
    default=1000,
    show_default=True,
    help="Samples whose nearest training images are looked up; 0 leaves it out.",
)
@click.option(
    "--features",
    type=click.Choice(NAMES),
    default=None,
    help="Feature network (default: mnist for 28x28 grey digits, else efficientnet-lite0).",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    default=None,
    help="Weights (.safetensors) of a feature network that brings none (default: its own).",
)
@click.option(
    "--perceptual",
    type=click.Choice(PERCEPTUAL_NAMES),
    default=None,
    help="Network of the perceptual distance (default: as --features, where it has one).",
)
@click.option(
    "--perceptual-weights",
    type=click.Path(path_type=Path),
    default=None,
    help="Weights (.safetensors) of an LPIPS network (default: none, for networks that bring their own).",
)
@click.option(
    "--resamples",
    type=click.IntRange(0, 100_000),
    default=200,
    show_default=True,
    help="Bootstrap resamples for the intervals (20 or more); 0 turns them off.",
)
@option(
    "--confidence",
    was="--level",
    type=Finite(0.5, 0.999),
    default=0.95,
    show_default=True,
    help="Confidence level of the intervals.",
)
@click.option(
    "--batch",
    type=click.IntRange(1, 65536),
    default=500,
    show_default=True,
    help="Images moved to the device at once; changes memory, no figure.",
)
@click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Keep the features of references in $LATENTDIFF_CACHE or ~/.cache/latentdiff/features.",
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=None, help="CPU threads (default: torch's choice)."
)
@click.option(
    "--device",
    type=str,
    default="auto",
    show_default=True,
    help="Where to compute: auto, cpu, cuda, cuda:N or mps.",
)
@click.option(
    "--out",
    type=Output(check=_check_evaluation),
    default=Path("evaluation"),
    show_default=True,
    help="Folder for the figures and evaluation.json.",
)
@overwrite_option
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, /, as_json: bool, **values: Any) -> int:
    """Measure the quality of a model or of a set of images.

    Of a run: its VAE, its samples, its denoiser and reconstructions from noise. Of images: --images A
    --reference B. Every value has a bootstrap interval and the name of the feature network it depends on.
    docs/evaluation.md explains them.
    """
    _check(ctx, values)
    settings = build(Sampling, values)

    import torch

    from latentdiff.apps.cli.measure.evaluation import evaluate_run, evaluate_sets
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.parallel.threads import cpu_threads

    outputs.settle(values)
    with cpu_threads(values["threads"] or torch.get_num_threads()):
        if values["images"] is not None:
            return evaluate_sets(values, as_json=as_json)
        return evaluate_run(ctx, values, settings, as_json=as_json)


OF_A_RUN = (
    "run",
    "runs",
    "what",
    "data",
    "n",
    "class_balance",
    "seed",
    "test_images",
    "neighbors",
    *Sampling.model_fields,
)


def _check(ctx: click.Context, values: dict[str, Any]) -> None:
    """Usage errors for options that do not go together, and for unknown parts."""
    default = click.core.ParameterSource.DEFAULT
    given = {name for name in values if ctx.get_parameter_source(name) not in (default, None)}
    try:
        device_name(values["device"])
    except ValueError as error:
        raise click.UsageError(f"--device: {error}") from None
    if values["images"] is None:
        for name in ("reference", "paired"):
            if name in given:
                raise click.UsageError(f"--{name} is about --images, it needs --images")
    elif values["reference"] is None:
        raise click.UsageError(
            "--images are compared with --reference: give a folder, an .npz or a data set name"
        )
    else:
        for name in OF_A_RUN:
            if name in given and name != "seed":
                flag = "-n" if name == "n" else f"--{name.replace('_', '-')}"
                raise click.UsageError(f"{flag} is about a run, it does not go with --images")
    if values["images"] is not None and not values["paired"]:
        for name in ("perceptual", "perceptual_weights"):
            if name in given:
                raise click.UsageError(
                    f"--{name.replace('_', '-')} is for pairs of images, with --images it needs --paired"
                )
    if 0 < values["resamples"] < LEAST_RESAMPLES:
        raise click.UsageError(
            f"--resamples: expected 0 (no intervals) or {LEAST_RESAMPLES} and more, got {values['resamples']}"
        )
    for part in [] if values["what"] is None else values["what"].split(","):
        if part.strip() not in PARTS:
            raise click.UsageError(f"--what: expected {', '.join(PARTS)}, got {part.strip()!r}")
    for name, network in (("weights", "inception"), ("perceptual_weights", "lpips-alex or lpips-vgg")):
        option = "features" if name == "weights" else "perceptual"
        if values[name] is not None and (values[option] is None or values[option] not in NEEDS_WEIGHTS):
            raise click.UsageError(
                f"--{name.replace('_', '-')} goes with --{option} {network}, got --{option} {values[option]}"
            )
