"""`latentdiff evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    device_option,
    given,
    number_option,
    options_of,
    out_option,
    run_options,
    seed_option,
    split_option,
    threads_option,
)
from latentdiff.apps.cli.shared.outputs import Output, overwrite_option, refuse_foreign
from latentdiff.config.data import DataOptions
from latentdiff.config.evaluation import PARTS, EvaluationOptions
from latentdiff.config.sampling import Sampling
from latentdiff.metrics.names import NAMES, NEEDS_WEIGHTS, PERCEPTUAL_NAMES


def _check_evaluation(folder: Path) -> None:
    from latentdiff.apps.cli.measure.evaluation import earlier
    from latentdiff.data.written import foreign_in

    refuse_foreign(folder, foreign_in(folder, written=earlier(folder)))


@cli_command(
    "evaluate",
    "latentdiff evaluate",
    "latentdiff evaluate --what samples --sampler ddim --steps 50 -n 10000",
    "latentdiff evaluate --images samples.npz --reference mnist",
)
@run_options("Run or checkpoint folder (default: the newest run).")
@option(
    "--what",
    cls=Several,
    group="Metrics",
    help=(
        "Parts of a run, as samples,denoiser; vae, samples, denoiser, reconstruction, and of text models of"
        " `scenes` also scenes (default: all that it has)."
    ),
)
@option(
    "--images",
    group="Images",
    help=(
        "Score these images instead of a run; a folder, an .npz (images or x) or a data set name (default:"
        " score a run)."
    ),
)
@option(
    "--reference",
    group="Images",
    help="Images that --images are compared with; a folder, an .npz or a data set name (no default).",
)
@option(
    "--paired",
    is_flag=True,
    group="Images",
    help="Also compare image by image; image k of both, in folders by file name.",
)
@options_of(DataOptions, skip=("flip", "random_shift"), of_run=True)
@split_option("Split of the data set that is the reference.")
@number_option(
    4,
    1_000_000,
    10_000,
    "Number of samples; also the most images of the split that the VAE is measured on.",
)
@options_of(Sampling, skip=("compile",))
@seed_option("Image k has seed + k; also seeds noise and resampling.")
@option(
    "--features",
    type=click.Choice(NAMES),
    group="Metrics",
    help="Feature network (default: mnist for 28x28 grey digits, else efficientnet-lite0).",
)
@option(
    "--perceptual-network",
    "perceptual",
    was="--perceptual",
    type=click.Choice(PERCEPTUAL_NAMES),
    group="Metrics",
    advanced=True,
    help="Network of the perceptual distance (default: as --features, where it has one).",
)
@options_of(EvaluationOptions)
@threads_option
@device_option
@out_option(Output(check=_check_evaluation), "evaluation", "Folder of the figures and evaluation.json.")
@overwrite_option
def command(*, as_json: bool, **values: Any) -> int:
    """Measure the quality of a model or of a set of images.

    Of a run: its VAE, its samples, its denoiser and reconstructions from noise. Of images: --images A
    --reference B. Every value has an interval and the name of the feature network it depends on.
    docs/evaluation.md explains them.
    """
    _check(values)
    settings = build(Sampling, values)
    build(EvaluationOptions, values)

    import torch

    from latentdiff.apps.cli.measure.evaluation import evaluate_run, evaluate_sets
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.parallel.threads import cpu_threads

    outputs.settle(values)
    with cpu_threads(values["threads"] or torch.get_num_threads()):
        if values["images"] is not None:
            return evaluate_sets(values, as_json=as_json)
        return evaluate_run(values, settings, as_json=as_json)


OF_A_RUN = (
    *("run", "runs", "what", "data", "n", "class_balance", "test_images", "neighbors", "dtype"),
    *Sampling.model_fields,
)
FLAGS = {
    "features": "--features",
    "feature_weights": "--feature-weights",
    "perceptual": "--perceptual-network",
    "perceptual_weights": "--perceptual-weights",
}


def _check(values: dict[str, Any]) -> None:
    """Usage errors for options that do not go together, and for unknown parts."""
    chosen = given(values)
    if values["images"] is None:
        for name in ("reference", "paired"):
            if name in chosen:
                raise click.UsageError(f"--{name} is about --images, it needs --images")
    elif values["reference"] is None:
        raise click.UsageError(
            "--images are compared with --reference: give a folder, an .npz or a data set name"
        )
    else:
        for name in OF_A_RUN:
            if name in chosen:
                flag = "-n" if name == "n" else f"--{name.replace('_', '-')}"
                raise click.UsageError(f"{flag} is about a run, it does not go with --images")
    if values["images"] is not None and not values["paired"]:
        for name in ("perceptual", "perceptual_weights"):
            if name in chosen:
                raise click.UsageError(
                    f"{FLAGS[name]} is for pairs of images, with --images it needs --paired"
                )
    for part in [] if values["what"] is None else values["what"].split(","):
        if part.strip() not in PARTS:
            raise click.UsageError(f"--what: expected {', '.join(PARTS)}, got {part.strip()!r}")
    for name, needs, network in (
        ("feature_weights", "features", "inception"),
        ("perceptual_weights", "perceptual", "lpips-alex or lpips-vgg"),
    ):
        if values[name] is not None and (values[needs] is None or values[needs] not in NEEDS_WEIGHTS):
            raise click.UsageError(
                f"{FLAGS[name]} goes with {FLAGS[needs]} {network}, got {FLAGS[needs]} {values[needs]}"
            )
