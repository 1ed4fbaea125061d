"""`latentdiff train-vae`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    command_line_wins,
    dry_run_option,
    options_of,
)
from latentdiff.config.loop import BUDGETS, RunOptions
from latentdiff.config.training import TrainVAE

PLANNED = (  # in the context: the VAE of a dry run, for the dry run of the denoiser that follows
    "latentdiff.vae"
)


@cli_command(
    "train-vae",
    "latentdiff train-vae --latent 32",
    "latentdiff train-vae --data photos/ --size 64 --latent 4x16x16 --minutes 60",
    "latentdiff train-vae --resume NAME",
)
@options_of(TrainVAE, RunOptions)
@dry_run_option
@click.pass_context
def command(ctx: click.Context, /, dry_run: bool, as_json: bool, **values: Any) -> int:
    """Train a VAE that maps images to a small latent space.

    The run folder (runs/DATE-vae) holds checkpoints, log.jsonl, the loss curve and reconstructions of
    validation images. The mean and standard deviation of the latents are measured at the end;
    `latentdiff train-denoiser` normalizes by them.
    """
    command_line_wins(ctx, values, BUDGETS)
    options, place = build(TrainVAE, values), build(RunOptions, values)

    from latentdiff.apps.cli.shared.processes import together
    from latentdiff.apps.cli.shared.progress import note, result
    from latentdiff.apps.cli.train import common
    from latentdiff.errors import InputError
    from latentdiff.nn import VAE
    from latentdiff.nn import build as build_network
    from latentdiff.nn.base_config import cross
    from latentdiff.parallel.device import resolve_device
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import of_diffusers
    from latentdiff.pipeline.checkpoint.runs import locate
    from latentdiff.pipeline.components import load_vae
    from latentdiff.train.build import vae_config_of
    from latentdiff.train.vae import VAETask

    options, resume, data_place = common.resumed("vae", options, place, common.given_options(ctx, options))
    common.prepare(options)
    ranks, device = together(resolve_device(options.device), "every batch")
    data = common.read_training_images(options, data_place, stream=options.stream)
    config = vae_config_of(options, data)
    if options.latent is None and len(config.latent) == 3:
        note(f"latent {cross(*config.latent)}, the default for colour images of this size; --latent chooses")
    network: VAE = build_network(config, seed=options.seed)
    if place.init_from is not None:
        source = locate(Path(place.init_from), Path(place.runs))
        if of_diffusers(source.json(INDEX), "vae"):
            raise InputError(
                f"--init-from {source.folder}: its autoencoder is of diffusers, expected one of this package"
            )
        first, _ = load_vae(source)
        if first.config != config:
            raise InputError(f"--init-from {source.folder}: its VAE is {_differences(first.config, config)}")
        network.load_state_dict(first.state_dict())
    task = VAETask(options, data, network, device)
    ctx.meta[PLANNED] = network
    if options.perceptual is None and task.perceptual_fingerprint is not None:
        note(
            f"perceptual term by the network {task.perceptual_fingerprint}: 28x28 grey images are taken for"
            " digits; --perceptual 0 leaves it out"
        )
    if dry_run:
        plan = common.describe(task, options, data, device, ranks)
        result(plan, as_json=as_json, text=json.dumps(plan, indent=2))
        return 0
    run = common.new_run("vae", place, resume, ranks)
    outcome = common.train(task, options, run, data, device, resume, ranks)
    metrics, lines = outcome.metrics, {}
    if metrics:
        lines = {
            "validation": f"PSNR {metrics['val_psnr']:.2f} dB, KL {metrics['val_kl']:.1f} nats",
            "active latent units": f"{metrics['active_units']} of {metrics['latent_units']}",
            "posterior collapse": (
                "yes: no unit carries information; lower --beta" if metrics["collapsed"] else "no"
            ),
        }
    lines["pictures"] = f"{outcome.run}/samples-{outcome.step:08d}.png, loss.png"
    if ctx.info_name == command.name:  # by `latentdiff train` the denoiser's training follows anyway
        lines["next"] = (
            common.then("train-denoiser", ctx, options) + f" --vae {shlex.quote(str(outcome.run))}"
        )
    return common.close(outcome, lines, as_json=as_json)


def _differences(found: Any, expected: Any) -> str:
    """The first field in which two configurations differ."""
    left, right = found.model_dump(), expected.model_dump()
    name = next(key for key in left if left[key] != right[key])
    return f"of {name} {left[name]}, expected {right[name]}"
