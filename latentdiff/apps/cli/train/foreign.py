"""`latentdiff train-denoiser --init-from` a UNet2DModel of diffusers: what it decides and what must fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from latentdiff.apps.cli.shared.options import build, given
from latentdiff.config.diffusion import SCHEDULES
from latentdiff.config.training import TrainDenoiser
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.apps.cli.train.common import Training
    from latentdiff.config.diffusion import DiffusionConfig
    from latentdiff.data import TrainData
    from latentdiff.nn import ExternalModel
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.codec import Codec

# options that a UNet2DModel of --init-from decides: its network, and the process of its scheduler
NETWORK = ("network", "preset", "width", "depth", "patch")
PROCESS = ("prediction", "schedule", "T", "beta_start", "beta_end", "zero_snr")
NOT_FOREIGN = (  # what it does not have
    "text",
    "text_encoder",
    "text_length",
    "vocabulary",
    "label_dropout",
    "variance",
    "sigma_data",
    "pixel_scale",
    "pixel_shift",
)


def foreign_model(training: Training[TrainDenoiser]) -> tuple[ExternalModel, DiffusionConfig | None] | None:
    """The UNet2DModel to start or go on from, with its process if there is one; None where it is no such."""
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import of_diffusers
    from latentdiff.pipeline.components import load_denoiser, load_diffusion

    source = training.resume or training.first
    if source is None:
        return None
    index = source.json(INDEX)
    if "denoiser" not in index and training.resume is None:
        raise InputError(
            f"--init-from {source.folder}: expected a denoiser, found {index.get('_class_name')!s:.60}"
        )
    if not of_diffusers(index, "denoiser"):
        return None
    alone = index.get("scheduler") == [None, None]
    process = None if alone else load_diffusion(source, index)
    return cast("ExternalModel", load_denoiser(source, index)), process


def settled_for(
    training: Training[TrainDenoiser],
    data: TrainData,
    network: ExternalModel,
    process: DiffusionConfig | None,
) -> TrainDenoiser:
    """The options of a training that starts from a UNet2DModel: what that decides is not chosen again.

    A usage error for options that would have no effect; notes on what was decided.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.apps.cli.train.common import refuse_given
    from latentdiff.pipeline.components import PICTURES, denoiser_config
    from latentdiff.train.latent_dataset import EncodedData

    options, source, shape = training.options, training.first, denoiser_config(network).shape
    assert source is not None
    refuse_given(NETWORK, source, "the network is that of")
    refuse_given(NOT_FOREIGN, source, "is not for a UNet2DModel, as in")
    update: dict[str, Any] = {"label_dropout": 0.0}
    if process is not None:
        refuse_given(PROCESS, source, "the process is that of the scheduler of")
        update |= {"prediction": process.prediction, "T": process.schedule.T}
        if process.schedule.kind in SCHEDULES and process.schedule.kind != "betas":
            about = process.schedule
            update |= {"schedule": about.kind, "beta_start": about.beta_start, "beta_end": about.beta_end}
            update["zero_snr"] = about.zero_terminal_snr
    elif not given(["prediction"]):
        raise click.UsageError(
            f"--init-from {source.folder}: a UNet2DModel without a scheduler; name what it predicts with"
            " --prediction, and its --schedule"
        )
    if options.vae is None and not isinstance(data, EncodedData) and shape[0] in PICTURES:
        update["pixel"] = True
        if not options.pixel:
            note(f"trained on pixels, as its {shape[0]} channels suggest; --vae trains it on latents")
    _check_classes(options, data, network, source)
    return build(TrainDenoiser, options.model_dump() | update)


def _check_classes(
    options: TrainDenoiser, data: TrainData, network: ExternalModel, source: Checkpoint
) -> None:
    """InputError unless the data has as many classes as a network that needs some; a note on labels that are
    not used.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.pipeline.components import denoiser_config

    expected, found = denoiser_config(network).num_classes, data.num_classes if options.labels else 0
    if expected and found != expected:
        raise InputError(
            f"--init-from {source.folder}: its UNet2DModel has {expected} classes, expected data with as"
            f" many, found {found}"
        )
    if found and not expected:
        note("its UNet2DModel has no classes: the labels of the data are not used")


def check_shape(training: Training[TrainDenoiser], network: ExternalModel, codec: Codec) -> None:
    """InputError unless a UNet2DModel is for what the codec gives."""
    from latentdiff.pipeline.components import denoiser_config

    wanted, found = denoiser_config(network).shape, codec.latent_shape
    source = training.resume or training.first
    if source is None or tuple(found) == wanted:
        return
    channels, height, *_ = wanted
    what, hint = "latents of the VAE", "a VAE of such latents with --vae, or another --size"
    if training.options.pixel:
        what, hint = "images", f"--size {height} --channels {channels}"
    raise InputError(
        f"--init-from {source.folder}: its UNet2DModel is for {list(wanted)}, the {what} are {list(found)};"
        f" expected {hint}"
    )
