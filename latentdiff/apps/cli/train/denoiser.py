"""`latentdiff train-denoiser`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    command_line_wins,
    dry_run_option,
    flags,
    given,
    merge_v_pred,
    options_of,
    v_pred_option,
)
from latentdiff.config.loop import BUDGETS, RunOptions
from latentdiff.config.training import TrainDenoiser
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from latentdiff.apps.cli.train.common import Training
    from latentdiff.data import TrainData
    from latentdiff.data.types import ImageData
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.codec import Codec
    from latentdiff.pipeline.text.tokenizer import TextTokenizer


@cli_command(
    "train-denoiser",
    "latentdiff train-denoiser --data photos/ --size 64 --minutes 45",
    "latentdiff train-denoiser --pixel --config mnist-pixel",
)
@options_of(TrainDenoiser, RunOptions)
@v_pred_option
@dry_run_option
def command(*, dry_run: bool, as_json: bool, **values: Any) -> int:
    """Train a denoiser in a VAE's latent space, or on pixels.

    Works on the latents of the newest VAE run, or of --vae; --pixel needs none. The run folder
    (runs/DATE-denoiser) holds all that `latentdiff sample` needs. Labels of the data are used; 10% of them
    are dropped for classifier-free guidance.
    """
    merge_v_pred(values)
    command_line_wins(values, BUDGETS)
    options, place = build(TrainDenoiser, values), build(RunOptions, values)

    from latentdiff.apps.cli.shared.progress import note_loading

    note_loading()

    from latentdiff.apps.cli.train import common
    from latentdiff.apps.cli.train.foreign import check_shape, foreign_model, settled_for
    from latentdiff.train.choices import resolved
    from latentdiff.train.denoiser import DenoiserTask

    training = common.begin("denoiser", options, place)
    options, ranks = training.options, training.ranks
    if ranks.count == 1 and given(["shard"]) and options.shard:
        raise click.UsageError(
            "--shard splits the network among the processes of torchrun, found one process"
        )
    data = common.read_encoded(options, training.data) or common.read_training_images(
        options, training.data, stream=options.stream
    )
    common.check_same_data(training, data)
    foreign = foreign_model(training)
    if foreign is not None and options.shard:
        raise click.UsageError("--shard: is for networks of this package, found a UNet2DModel of diffusers")
    if foreign is not None and training.first is not None:
        training = replace(training, options=settled_for(training, data, *foreign))
        options = training.options
    codec = _planned() or _codec(training, data)
    if training.resume is None and foreign is None:
        training = replace(training, options=resolved(_as_first(training), codec))
        options = training.options
        _note_choices(options, codec)
    if foreign is None:
        tokenizer = _tokenizer(training, data)
        network, process = _network(training, data, codec, tokenizer), None
    else:
        (network, process), tokenizer = foreign, None
        process = process or options.diffusion()
        check_shape(training, network, codec)
    task = DenoiserTask(options, data, codec, network, training.device, tokenizer, process)

    def measured(found: Mapping[str, float]) -> dict[str, str]:
        lines = {"validation": f"loss {found['val_loss']:.4f}"}
        if task.quick is not None and "quick_kd" in found:
            lines["samples"] = task.quick.describe(found)
        return lines

    return common.finish(
        training,
        task,
        data,
        measured,
        "latentdiff sample --run",
        dry_run=dry_run,
        as_json=as_json,
        shard=options.shard and ranks.count > 1,  # one process resumes what several have trained
    )


def _as_first(training: Training[TrainDenoiser]) -> TrainDenoiser:
    """The options with the network and the prediction of the run of --init-from where none are given."""
    from latentdiff.apps.cli.train.foreign import NETWORK
    from latentdiff.nn.networks import kinds_with
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.components import load_config, load_diffusion

    options, source = training.options, training.first
    if source is None:
        return options
    update: dict[str, Any] = {}
    if options.prediction == "auto":
        update["prediction"] = load_diffusion(source, source.json(INDEX)).prediction
    numbers = load_config(source, "denoiser")[0].model_dump()
    if not given(NETWORK) and (kind := numbers.get("kind")) is not None:
        names = ("width", *(name for name in ("depth", "patch") if kind in kinds_with(name)))
        update |= {"network": kind} | {name: numbers[name] for name in names if name in numbers}
    return options.model_copy(update=update)


def _note_choices(options: TrainDenoiser, codec: Codec) -> None:
    """Say what was chosen for the latents where the command line leaves it open."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.nn.base_config import cross

    if options.network != "auto" and not given(["network"]):
        chosen = {name: getattr(options, name) for name in ("network", "width", "prediction", "batch", "lr")}
        words = " ".join(flags({name: value for name, value in chosen.items() if value is not None}))
        note(f"latents {cross(*codec.latent_shape)}: {words}")


def _planned() -> Codec | None:
    """The codec of a VAE that is not trained yet: for the denoiser of `latentdiff train --dry-run`."""
    import torch

    from latentdiff.apps.cli.train.vae import PLANNED
    from latentdiff.pipeline.codec import LatentStatistics, VAECodec

    if (vae := click.get_current_context().meta.get(PLANNED)) is None:
        return None
    channels = vae.config.latent[0]
    return VAECodec(vae, LatentStatistics(torch.zeros(channels), torch.ones(channels)))


def _codec(training: Training[TrainDenoiser], data: TrainData) -> Codec:
    """The codec: of pixels, of encoded data, of the run to resume, of --vae or of the newest VAE run."""
    from latentdiff.data.types import ImageData
    from latentdiff.pipeline.codec import IdentityCodec, VAECodec
    from latentdiff.train.latent_dataset import EncodedData

    options, place, resume, image = training.options, training.place, training.resume, data.shape
    if isinstance(data, EncodedData):
        if options.pixel or options.vae is not None:
            raise InputError(
                f"{options.data}: holds latents and their VAE, expected neither --pixel nor --vae"
            )
        return data.codec
    assert isinstance(data, ImageData)
    if options.pixel:
        return IdentityCodec(image, options.pixel_scale, options.pixel_shift)
    if resume is not None:
        checkpoint: Checkpoint | None = resume
    elif options.vae is not None:
        checkpoint = training.locate(options.vae)
    else:
        checkpoint = _newest_vae(Path(place.runs), image)
    if checkpoint is None:
        raise InputError(
            f"no VAE run in {place.runs}; make one with `latentdiff train-vae`, or work on pixels with"
            " --pixel"
        )
    named = options.vae is not None or resume is not None
    codec = _fitted(checkpoint, data, training, anywhere=named)
    if isinstance(codec, IdentityCodec):
        raise InputError(
            f"{checkpoint.folder}: is a pixel model without a VAE; name a VAE run with --vae, or work on"
            " pixels with --pixel"
        )
    if resume is not None and options.vae is not None and given(["vae"]):
        other = _fitted(training.locate(options.vae), data, training, anywhere=True)
        if not (isinstance(codec, VAECodec) and codec.same_as(other)):
            raise InputError(
                f"--vae {options.vae}: holds another VAE than {checkpoint.folder}; resume continues the same"
                " training"
            )
    if codec.image_shape != image:
        raise InputError(
            f"{checkpoint.folder}: its VAE is for images {list(codec.image_shape)}, the data has"
            f" {list(image)} (channels, height, width); name a fitting one with --vae, other images with"
            " --data, or make one with `latentdiff train-vae`"
        )
    return codec


def _fitted(
    checkpoint: Checkpoint, data: ImageData, training: Training[TrainDenoiser], *, anywhere: bool
) -> Codec:
    """The codec of a checkpoint; ``anywhere``: for images of any size that its convolutions take.

    A VAE of the package, or one that was trained on images of another size, has its latents' mean and
    deviation measured anew on the images to train on.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.nn.base_config import cross
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.pretrained import about
    from latentdiff.pipeline.codec import VAECodec
    from latentdiff.pipeline.components import load_codec
    from latentdiff.train.latents import normalized_for

    index = checkpoint.json(INDEX)
    codec = load_codec(checkpoint, index, image=data.shape if anywhere else None)
    if not isinstance(codec, VAECodec) or codec.image_shape != data.shape:
        return codec
    trained_on = tuple(index.get("image", data.shape))
    if checkpoint is training.resume or (trained_on == data.shape and not about(checkpoint.folder)):
        return codec
    if trained_on != data.shape:
        note(
            f"{checkpoint.folder.name}: trained on images of {cross(*trained_on[1:])}, used at"
            f" {cross(*data.shape[1:])}: latents of {cross(*codec.latent_shape)}"
        )
    return normalized_for(codec, data.train, training.device)


def _newest_vae(runs: Path, image: tuple[int, ...]) -> Checkpoint | None:
    """The newest VAE run whose images have the shape ``image``, named on stderr; else the newest; or None."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.pipeline.checkpoint.folder import INDEX
    from latentdiff.pipeline.checkpoint.index import holds_vae_alone
    from latentdiff.pipeline.checkpoint.runs import runs_by_date

    newest: Checkpoint | None = None
    for run in runs_by_date(runs):
        checkpoint = run.newest()
        if checkpoint is None or not holds_vae_alone(index := checkpoint.json(INDEX)):
            continue
        # one of diffusers has no images of its own: the index says for which it was trained
        if checkpoint.json("vae/config.json").get("image", index.get("image")) == list(image):
            passed = (
                ""
                if newest is None
                else f": that of {newest.folder.parent}, which is newer, is for other images"
            )
            note(f"using the VAE of {checkpoint.folder}{passed}")
            return checkpoint
        newest = newest or checkpoint
    return newest


def _tokenizer(training: Training[TrainDenoiser], data: TrainData) -> TextTokenizer | None:
    """The tokenizer of the run to resume or start from, or one of the captions; None without --text."""
    from latentdiff.nn import text_of
    from latentdiff.pipeline.components import load_config
    from latentdiff.pipeline.text.encoder import load_text_tokenizer
    from latentdiff.train.build import check_captions, tokenizer_of

    options, resume = training.options, training.resume
    source = resume or training.first
    if options.text and source is not None:
        check_captions(data)
        config, _ = load_config(source, "denoiser")
        text = text_of(config)
        own = options.text_encoder == "own" and text is not None and text.vocabulary > 0
        if resume is not None or own:  # fine-tuning takes the encoder of --text-encoder
            moved = options.text_encoder if resume is not None and given(["text_encoder"]) else None
            return load_text_tokenizer(source, text, moved=None if moved == "own" else moved)
    return tokenizer_of(options, data)


def _network(
    training: Training[TrainDenoiser], data: TrainData, codec: Codec, tokenizer: TextTokenizer | None
) -> nn.Module:
    from latentdiff.nn import build as build_network
    from latentdiff.pipeline.components import config_of, load_config, load_network
    from latentdiff.train.build import denoiser_config_of

    if training.resume is not None:  # what a kind and a preset stand for may have changed since
        config, _ = load_config(training.resume, "denoiser")
        return build_network(config, seed=training.options.seed)
    config = denoiser_config_of(training.options, data, codec, tokenizer)
    network = build_network(config, seed=training.options.seed)
    if (source := training.first) is None:
        return network
    first, _ = load_network(source, "denoiser")
    if config_of(first) != config:
        found, wanted = config_of(first).model_dump(), config.model_dump()
        name = next((key for key in found if found[key] != wanted.get(key)), "kind")
        raise InputError(
            f"--init-from {source.folder}: its denoiser has {name} {found[name]}, expected {wanted.get(name)}"
        )
    network.load_state_dict(first.state_dict())
    return network
