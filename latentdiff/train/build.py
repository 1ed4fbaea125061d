"""Configurations of the networks that a training builds, from its options and its data."""

from __future__ import annotations

from dataclasses import replace

from latentdiff.config.training import TrainCold, TrainDenoiser, TrainVAE
from latentdiff.data.types import ImageData, TrainData
from latentdiff.errors import InputError
from latentdiff.nn import DenoiserConfig, TextConfig, VAEConfig, default_latent, network_config, parse_latent
from latentdiff.nn.networks import ConvNeXtConfig
from latentdiff.pipeline.codec import Codec
from latentdiff.pipeline.text.encoder import FrozenEncoder, load_encoder
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer, train_tokenizer
from latentdiff.train.choices import resolved

TEXT_LENGTHS = (8, 32)  # tokens of a prompt without --text-length: least and most


def vae_config_of(options: TrainVAE, data: ImageData) -> VAEConfig:
    """The VAE of the options for images of the data's shape; InputError where they do not fit.

    A grid comes with residual blocks, and with upsampling and padding that keep flat areas flat.
    """
    latent = default_latent(data.shape) if options.latent is None else parse_latent(options.latent)
    spatial, depth = len(latent) == 3, options.depth
    if spatial and depth is None:
        depth = max(1, int(VAEConfig.presets[options.preset]["depth"]))
    return VAEConfig.of_preset(
        options.preset,
        image=data.shape,
        latent=latent,
        width=options.width,
        depth=depth,
        detail=options.detail,
        upsampling="checkerboard-free" if spatial else None,
    )


def check_captions(data: TrainData) -> None:
    """InputError where fewer than half of the training images have a caption."""
    found = sum(bool(caption.strip()) for caption in data.train.captions or ())
    if 2 * found < len(data.train) or data.val.captions is None:
        raise InputError(
            f"`text` needs captions, found some for {found} of {len(data.train)} training images"
        )


def tokenizer_of(options: TrainDenoiser, data: TrainData) -> TextTokenizer | None:
    """A tokenizer of the captions, or a frozen text encoder; None without --text.

    InputError for data without captions and an encoder that cannot be loaded.
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
    data: TrainData,
    codec: Codec,
    tokenizer: TextTokenizer | None = None,
) -> DenoiserConfig:
    """The denoiser of the options for the latents of ``codec``; InputError where they do not fit.

    Conditioned on prompts with a tokenizer, otherwise on the labels of the data.
    """
    options = resolved(options, codec)
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


def _text_config(tokenizer: TextTokenizer) -> TextConfig:
    if isinstance(tokenizer, FrozenEncoder):
        return TextConfig(vocabulary=0, length=tokenizer.length, width=tokenizer.width)
    assert isinstance(tokenizer, Tokenizer)
    return TextConfig(vocabulary=len(tokenizer), length=tokenizer.length)


def cold_config_of(options: TrainCold, data: ImageData) -> ConvNeXtConfig:
    """The network of the options that undoes degradations of the data; InputError where they do not fit."""
    return ConvNeXtConfig.of_preset(
        options.preset, shape=data.shape, patch=options.patch, width=options.width, depth=options.depth
    )
