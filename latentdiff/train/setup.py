"""From the options of a training to the network that it trains."""

from __future__ import annotations

from latentdiff.codec import Codec
from latentdiff.config.training import TrainCold, TrainDenoiser, TrainVAE
from latentdiff.data import Dataset
from latentdiff.nn import (
    ConvNeXtConfig,
    DenoiserConfig,
    VAEConfig,
    convnext_config,
    network_config,
    parse_latent,
    vae_config,
)


def vae_config_of(options: TrainVAE, data: Dataset) -> VAEConfig:
    """The VAE that the options ask for on images of the data's shape; InputError where they do not fit."""
    return vae_config(
        options.preset,
        (data.channels, data.height, data.width),
        latent=parse_latent(options.latent),
        width=options.width,
        depth=options.depth,
    )


def denoiser_config_of(options: TrainDenoiser, data: Dataset, codec: Codec) -> DenoiserConfig:
    """The denoiser that the options ask for on the latents of ``codec``; InputError where they do not fit."""
    return network_config(
        None if options.network == "auto" else options.network,
        options.preset,
        codec.latent_shape,
        levels=options.T,
        num_classes=data.num_classes if options.labels else 0,
        out_factor=2 if options.variance == "learned" else 1,
        width=options.width,
        depth=options.depth,
        patch=options.patch,
    )


def cold_config_of(options: TrainCold, data: Dataset) -> ConvNeXtConfig:
    """The network that the options ask for to undo degradations of the data; InputError where they do not fit."""
    shape = (data.channels, data.height, data.width)
    return convnext_config(options.preset, shape, patch=options.patch, width=options.width, depth=options.depth)
