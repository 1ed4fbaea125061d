"""From the options of a training to the network that it trains."""

from __future__ import annotations

from dataclasses import replace

from latentdiff.config.training import TrainCold, TrainDenoiser, TrainVAE
from latentdiff.data import Dataset, TrainingImages
from latentdiff.errors import InputError
from latentdiff.nn import DenoiserConfig, TextConfig, VAEConfig, default_latent, network_config, parse_latent
from latentdiff.nn.convnext_config import ConvNeXtConfig
from latentdiff.pipeline.codec import Codec
from latentdiff.pipeline.text.encoder import FrozenEncoder, load_encoder
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer, train_tokenizer
from latentdiff.train.latent_dataset import EncodedData

TEXT_LENGTHS = (8, 32)  # word pieces of a text: at least and at most, unless told otherwise


def vae_config_of(options: TrainVAE, data: TrainingImages) -> VAEConfig:
    """The VAE that the options ask for on images of the data's shape; InputError where they do not fit."""
    return VAEConfig.of_preset(
        options.preset,
        image=data.shape,
        latent=default_latent(data.shape) if options.latent is None else parse_latent(options.latent),
        width=options.width,
        depth=options.depth,
    )


def check_captions(data: TrainingImages | EncodedData) -> None:
    """InputError where fewer than half of the training images have a caption."""
    found = sum(bool(caption.strip()) for caption in data.train.captions or ())
    if 2 * found < len(data.train) or data.val.captions is None:
        raise InputError(
            f"--text needs captions, found some for {found} of {len(data.train)} training images"
        )


def tokenizer_of(options: TrainDenoiser, data: TrainingImages | EncodedData) -> TextTokenizer | None:
    """What reads the captions of the data: a tokenizer learned from them or a frozen encoder; None for models
    without texts.

    InputError as :func:`check_captions`.
    """
    if not options.text:
        return None
    check_captions(data)
    if options.text_encoder != "own":
        return load_encoder(options.text_encoder, length=options.text_length or TEXT_LENGTHS[1])
    captions = data.train.captions or ()
    tokenizer = train_tokenizer(captions, vocabulary=options.vocabulary)
    low, high = TEXT_LENGTHS
    fitting = max(low, min(high, max(tokenizer.needs(caption) for caption in set(captions))))
    return replace(tokenizer, length=options.text_length or fitting)


def denoiser_config_of(
    options: TrainDenoiser,
    data: TrainingImages | EncodedData,
    codec: Codec,
    tokenizer: TextTokenizer | None = None,
) -> DenoiserConfig:
    """The denoiser that the options ask for on the latents of ``codec``; InputError where they do not fit.

    With a tokenizer it listens to texts, otherwise to the labels of the data.
    """
    text = None if tokenizer is None else _text_config(tokenizer)
    return network_config(
        None if options.network == "auto" else options.network,
        options.preset,
        codec.latent_shape,
        levels=options.T,
        num_classes=data.num_classes if options.labels and text is None else 0,
        out_factor=2 if options.variance == "learned" else 1,
        width=options.width,
        depth=options.depth,
        patch=options.patch,
        text=text,
    )


def _text_config(listener: TextTokenizer) -> TextConfig:
    if isinstance(listener, FrozenEncoder):
        return TextConfig(vocabulary=0, length=listener.length, width=listener.width)
    assert isinstance(listener, Tokenizer)
    return TextConfig(vocabulary=len(listener), length=listener.length)


def cold_config_of(options: TrainCold, data: Dataset) -> ConvNeXtConfig:
    """The network that the options ask for to undo degradations of the data; InputError where they do not
    fit.
    """
    return ConvNeXtConfig.of_preset(
        options.preset, shape=data.shape, patch=options.patch, width=options.width, depth=options.depth
    )
