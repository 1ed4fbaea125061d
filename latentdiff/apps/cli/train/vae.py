"""`latentdiff train-vae`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

import click

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    command_line_wins,
    dry_run_option,
    flags,
    options_of,
)
from latentdiff.config.data import DataOptions, StreamOptions
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
def command(*, dry_run: bool, as_json: bool, **values: Any) -> int:
    """Train a VAE that maps images to a small latent space.

    The run folder (runs/DATE-vae) holds checkpoints, log.jsonl, the loss curve and reconstructions of
    validation images. The mean and standard deviation of the latents are measured at the end;
    `latentdiff train-denoiser` normalizes by them.
    """
    command_line_wins(values, BUDGETS)
    options, place = build(TrainVAE, values), build(RunOptions, values)

    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.apps.cli.train import common
    from latentdiff.errors import InputError
    from latentdiff.nn import VAE
    from latentdiff.nn import build as build_network
    from latentdiff.nn.base_config import cross
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import of_diffusers
    from latentdiff.pipeline.components import load_vae
    from latentdiff.train.build import vae_config_of
    from latentdiff.train.vae import VAETask

    training = common.begin("vae", options, place)
    options = training.options
    data = common.read_training_images(options, training.data, stream=options.stream)
    # what a size and a preset stand for may have changed since the run began
    resumed = training.resume and load_vae(training.resume)[0].config
    config = resumed or vae_config_of(options, data)
    if options.latent is None and len(config.latent) == 3:
        fewer = math.prod(config.image) / math.prod(config.latent)
        note(f"latent {cross(*config.latent)}: {fewer:.0f} times fewer numbers than pixels; --latent chooses")
    network: VAE = build_network(config, seed=options.seed)
    if (source := training.first) is not None:
        if of_diffusers(source.json(INDEX), "vae"):
            raise InputError(
                f"--init-from {source.folder}: its autoencoder is of diffusers, expected one of this package"
            )
        first, _ = load_vae(source)
        if first.config != config:
            raise InputError(f"--init-from {source.folder}: its VAE is {_differences(first.config, config)}")
        network.load_state_dict(first.state_dict())
    task = VAETask(options, data, network, training.device)
    context = click.get_current_context()
    context.meta[PLANNED] = network
    if options.perceptual is None and task.perceptual_fingerprint is not None:
        note(
            f"perceptual term by the network {task.perceptual_fingerprint}: 28x28 grey images are taken for"
            " digits; --perceptual 0 leaves it out"
        )

    def measured(found: Mapping[str, float]) -> dict[str, str]:
        collapsed = "yes: no unit carries information; lower --beta" if found["collapsed"] else "no"
        return {
            "validation": f"PSNR {found['val_psnr']:.2f} dB, KL {found['val_kl']:.1f} nats",
            "active latent units": f"{found['active_units']} of {found['latent_units']}",
            "posterior collapse": collapsed,
        }

    # by `latentdiff train` the denoiser's training follows anyway
    following = _following(options) if context.info_name == command.name else None
    return common.finish(training, task, data, measured, following, dry_run=dry_run, as_json=as_json)


def _following(options: TrainVAE) -> str:
    """The command line of the denoiser's training on the same data, before the name of this run; by the same
    --config if that has a section for it.
    """
    config, sections = click.get_current_context().meta.get("sections", ("", ()))
    chosen = {"config": config} if "train-denoiser" in sections else {}
    plain = TrainVAE()
    for name in (*DataOptions.model_fields, *StreamOptions.model_fields):
        if (value := getattr(options, name)) not in (None, getattr(plain, name)):
            chosen[name] = value
    return f"latentdiff train-denoiser {shlex.join([*flags(chosen), '--vae'])}"


def _differences(found: Any, expected: Any) -> str:
    """The first field in which two configurations differ."""
    left, right = found.model_dump(), expected.model_dump()
    name = next(key for key in left if left[key] != right[key])
    return f"of {name} {left[name]}, expected {right[name]}"
