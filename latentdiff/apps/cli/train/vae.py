"""`latentdiff train-vae`."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    command_line_wins,
    dry_run_option,
    flags,
    given,
    options_of,
)
from latentdiff.config.data import DataOptions, StreamOptions
from latentdiff.config.loop import BUDGETS, RunOptions
from latentdiff.config.training import TrainVAE
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.apps.cli.train.common import Training
    from latentdiff.data.types import ImageData
    from latentdiff.nn import Autoencoder
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.codec import LatentStatistics

NETWORK = ("latent", "preset", "width", "depth", "detail")  # options of the network
PLANNED = (  # in the context: the VAE of a dry run, for the dry run of the denoiser that follows
    "latentdiff.vae"
)


@cli_command(
    "train-vae",
    "latentdiff train-vae --latent 32",
    "latentdiff train-vae --data photos/ --size 64 --minutes 15",
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

    from latentdiff.apps.cli.shared.progress import note, note_loading

    note_loading()

    from latentdiff.apps.cli.train import common
    from latentdiff.train.vae import VAETask

    training = common.begin("vae", options, place)
    if training.options.train == "decoder" and training.first is None and training.resume is None:
        raise click.UsageError("--train decoder: needs an encoder that is trained, give --init-from")
    data = common.read_training_images(training.options, training.data, stream=training.options.stream)
    common.check_same_data(training, data)
    network, statistics = _network(training, data)
    if (source := training.first) is not None:
        training = replace(training, options=_settled(training.options, network, source))
    options = training.options
    task = VAETask(options, data, network, training.device, statistics)
    context = click.get_current_context()
    context.meta[PLANNED] = network
    if task.perceptual_fingerprint is not None:
        cost = "" if dry_run else f", a step takes {task.perceptual_cost():.1f} times as long"
        why = "28x28 grey images are taken for digits; --perceptual 0 leaves it out"
        how = "--perceptual-size and --perceptual-every choose"
        found = why if options.perceptual is None else how
        note(f"perceptual term by the network {task.perceptual_fingerprint}{cost}: {found}")

    def measured(found: Mapping[str, float]) -> dict[str, str]:
        if "val_kl" not in found:
            return {"validation": f"PSNR {found['val_psnr']:.2f} dB"}
        collapsed = "yes: no unit carries information; lower --beta" if found["collapsed"] else "no"
        return {
            "validation": f"PSNR {found['val_psnr']:.2f} dB, KL {found['val_kl']:.1f} nats",
            "active latent units": f"{found['active_units']} of {found['latent_units']}",
            "posterior collapse": collapsed,
        }

    # by `latentdiff train` the denoiser's training follows anyway
    following = _following(options) if context.info_name == command.name else None
    return common.finish(training, task, data, measured, following, dry_run=dry_run, as_json=as_json)


def _network(training: Training[TrainVAE], data: ImageData) -> tuple[Autoencoder, LatentStatistics | None]:
    """The autoencoder of the options, or that of the run to resume or start from with its statistics."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.nn import build as build_network
    from latentdiff.nn.base_config import cross
    from latentdiff.nn.vae_config import SMALL_SIDE
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import has_vae, of_diffusers
    from latentdiff.pipeline.components import diffusers_for, load_autoencoder
    from latentdiff.train.build import vae_config_of

    options, source = training.options, training.resume or training.first
    if source is None:
        config = vae_config_of(options, data)
        if options.latent is None and len(config.latent) == 3:
            fewer = math.prod(config.image) / math.prod(config.latent)
            factor = config.image[1] // config.latent[1]
            large = "above" if max(config.image[1:]) > SMALL_SIDE else "up to"
            note(
                f"latent {cross(*config.latent)}: {config.latent[0]} channels at 1/{factor} of each side, as"
                f" for images {large} {SMALL_SIDE} pixels,"
                f" {fewer:.0f} times fewer numbers than they have; --latent chooses"
            )
        return build_network(config, seed=options.seed), None
    index = source.json(INDEX)
    if not has_vae(source, index):
        found = (index.get("denoiser") or index.get("restorer") or ["", "other files"])[1]
        raise InputError(f"--init-from {source.folder}: expected an autoencoder, found {found}")
    if of_diffusers(index, "vae"):
        foreign: tuple[Autoencoder, LatentStatistics] = diffusers_for(source).read_autoencoder(
            source, "vae", data.shape
        )
        return foreign
    network, statistics = load_autoencoder(source, index, data.shape)
    return (network if training.resume else _larger(network, options, data, source)), statistics


def _larger(network: Autoencoder, options: TrainVAE, data: ImageData, source: Checkpoint) -> Autoencoder:
    """The network of ``source`` with the residual blocks that the options add to it, for images of the data.

    InputError for options of another network.
    """
    from latentdiff.nn import build as build_network
    from latentdiff.nn.autoencoder import VAE, grow
    from latentdiff.nn.base_config import cross
    from latentdiff.train.build import vae_config_of

    assert isinstance(network, VAE)
    known: dict[str, Any] = {"latent": cross(*network.config.latent)}
    if not given(("preset",)):
        known |= {name: getattr(network.config, name) for name in ("width", "depth", "detail")}
    missing = {name: value for name, value in known.items() if getattr(options, name) is None}
    expected = vae_config_of(options.model_copy(update=missing), data) if given(NETWORK) else network.config
    expected = expected.model_copy(update={"image": data.shape})
    if network.config == expected:
        return network
    larger = build_network(expected, seed=options.seed)
    try:
        grow(larger, network)
    except ValueError:
        found = _differences(network.config, expected)
        raise InputError(f"--init-from {source.folder}: its VAE is {found}") from None
    return larger


def _settled(options: TrainVAE, network: Autoencoder, source: Checkpoint) -> TrainVAE:
    """The options of a training that starts from another model, with the defaults for that; notes on what it
    leaves out or measures anew.

    A usage error for options that would have no effect.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.apps.cli.train.common import refuse_given
    from latentdiff.nn import ForeignVAEConfig

    config, kl = network.config, ("beta", "beta_warmup")
    if isinstance(config, ForeignVAEConfig):
        refuse_given(NETWORK, source, "the network is that of")
    if options.train == "decoder":
        refuse_given(kl, source, "there is no KL term with --train decoder, the encoder stays that of")
        note("the encoder and the normalisation of its latents stay as they are; the loss has no KL term")
        return options
    if not network.variational:
        refuse_given(kl, source, "there is no KL term without a variance, as in")
        note("an AutoencoderTiny has no variance: the loss has no KL term")
    note("the encoder is trained, too: the normalisation of its latents is measured anew at the end")
    return options


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
