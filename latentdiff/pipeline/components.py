"""The components of a checkpoint as files, and back: classes from fixed tables, weights checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from latentdiff.config.base import parse as parse_config
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.errors import InputError, pip_install
from latentdiff.files.untrusted import Number, checked
from latentdiff.nn import (
    CONFIGS,
    VAE,
    Autoencoder,
    DenoiserConfig,
    ExternalModel,
    ForeignConfig,
    NetworkConfig,
    build,
    tensor_shapes,
)
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint, Writer, bytes_of, check_tensors
from latentdiff.pipeline.checkpoint.index import (
    has_vae,
    image_shape,
    model_index,
    of_diffusers,
)
from latentdiff.pipeline.codec import Codec, IdentityCodec, LatentStatistics, VAECodec

WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
SCHEDULER_CLASS = "Schedule"
PICTURES = (1, 3)  # channels


def class_name(module: nn.Module) -> str:
    """The name under which a network's class is stored."""
    if isinstance(module, ExternalModel):
        return module.origin.name
    return config_of(module).class_name()


def config_of(module: nn.Module) -> NetworkConfig:
    """The configuration that a network of this package carries; TypeError for other modules."""
    config = getattr(module, "config", None)
    if not isinstance(config, NetworkConfig):
        known = ", ".join(cls.__name__ for cls in CONFIGS.values())
        raise TypeError(f"expected a network with one of {known}, got {type(module).__name__}")
    return config


def denoiser_config(module: nn.Module) -> DenoiserConfig | ForeignConfig:
    """The configuration of a denoiser; TypeError for other modules."""
    if isinstance(module, ExternalModel) and isinstance(module.config, ForeignConfig):
        return module.config
    config = config_of(module)
    if not isinstance(config, DenoiserConfig):
        raise TypeError("expected a denoiser, got a VAE")
    return config


def index_of(vae: Autoencoder | None, denoiser: nn.Module | None) -> dict[str, Any]:
    """The component table of networks, of this package or of another library."""
    index = model_index(vae=vae is not None, denoiser=None if denoiser is None else class_name(denoiser))
    for component, part in (("vae", vae), ("denoiser", denoiser)):
        if isinstance(part, ExternalModel):
            index[component] = [part.origin.library, part.origin.name]
    return index


def save_network(
    writer: Writer, folder: str, module: nn.Module, *, extra: Mapping[str, Any] | None = None
) -> None:
    """Write ``folder``/config.json and its weights; ``extra`` adds to the configuration."""
    if isinstance(module, ExternalModel):  # as its own library writes it
        writer.json(f"{folder}/config.json", module.origin.values)
        writer.tensors(f"{folder}/{WEIGHTS}", module.inner.state_dict())
        return
    config = config_of(module)
    writer.json(
        f"{folder}/config.json",
        {"_class_name": class_name(module), **config.model_dump(mode="json"), **(extra or {})},
    )
    writer.tensors(f"{folder}/{WEIGHTS}", module.state_dict())


def load_config(
    checkpoint: Checkpoint, folder: str, *, extra: tuple[str, ...] = ()
) -> tuple[NetworkConfig, dict[str, Any]]:
    """The configuration of the network in ``folder`` and its ``extra`` keys; InputError if it is invalid."""
    where = f"{checkpoint.folder / folder}/config.json"
    values = checkpoint.json(f"{folder}/config.json")
    name = values.pop("_class_name", None)
    if not isinstance(name, str) or name not in CONFIGS:
        raise InputError(f"{where}: unknown class {name!r}, expected one of {', '.join(CONFIGS)}")
    kept = {key: values.pop(key) for key in extra if key in values}
    return parse_config(CONFIGS[name], values, where), kept


def load_network(
    checkpoint: Checkpoint, folder: str, *, extra: tuple[str, ...] = ()
) -> tuple[nn.Module, dict[str, Any]]:
    """The network in ``folder`` and the ``extra`` keys of its configuration; InputError if it is invalid."""
    config, kept = load_config(checkpoint, folder, extra=extra)
    shapes, where = tensor_shapes(config), f"{checkpoint.folder / folder}/{WEIGHTS}"
    tensors = checkpoint.tensors(f"{folder}/{WEIGHTS}", limit=bytes_of(shapes.values()))
    check_tensors(tensors, shapes, where)  # before a hostile configuration takes memory
    module = build(config)
    module.load_state_dict(tensors)
    return module.eval(), kept


def load_denoiser(checkpoint: Checkpoint, index: Mapping[str, Any]) -> nn.Module:
    """The denoiser of a model, of this package or of diffusers."""
    if of_diffusers(index, "denoiser"):
        network: nn.Module = diffusers_for(checkpoint).read_unet(checkpoint, "denoiser")
        return network
    return load_network(checkpoint, "denoiser")[0]


def diffusers_for(checkpoint: Checkpoint) -> ModuleType:
    """What reads and writes the models of diffusers for a checkpoint; InputError if not installed."""
    try:
        from latentdiff.pipeline import diffusers
    except ModuleNotFoundError as error:
        if error.name != "diffusers":
            raise
        raise InputError(
            f"{checkpoint.folder}: this needs diffusers, which is not installed: {pip_install('diffusers')}"
        ) from None
    return diffusers


def renormalize(vae: nn.Module, statistics: LatentStatistics) -> None:
    """Set the normalisation of an autoencoder of another library as measured; does nothing to one of this
    package, beside which it is written.

    In the form that its configuration has: ``latents_mean`` and ``latents_std`` by channel, else one
    ``scaling_factor`` = 1 / std, about a ``shift_factor`` where that is not 0. This is what
    :func:`load_autoencoder` reads.
    """
    if not isinstance(vae, ExternalModel):
        return
    mean, std, values = statistics.mean.double(), statistics.std.double(), dict(vae.origin.values)
    if values.get("latents_mean") is not None:
        values |= {"latents_mean": mean.tolist(), "latents_std": std.tolist(), "scaling_factor": 1.0}
    else:
        overall = (std.square() + mean.square()).mean() - mean.mean().square()
        values["scaling_factor"] = float(overall.rsqrt())
        if values.get("shift_factor"):
            values["shift_factor"] = float(mean.mean())
    vae.origin = replace(vae.origin, values=values)


def save_vae(writer: Writer, vae: Autoencoder, statistics: LatentStatistics | None) -> None:
    """Write ``vae/``; without statistics (training not finished) no denoiser can be trained on it."""
    extra: dict[str, Any] = (
        {}
        if statistics is None
        else {"latents_mean": statistics.mean.tolist(), "latents_std": statistics.std.tolist()}
    )
    save_network(writer, "vae", vae, extra=extra)


def load_vae(checkpoint: Checkpoint) -> tuple[VAE, LatentStatistics | None]:
    """The VAE of this package in ``vae/`` and its latent statistics, if they were measured."""
    module, extra = load_network(checkpoint, "vae", extra=("latents_mean", "latents_std"))
    where = f"{checkpoint.folder}/vae/config.json"
    if not isinstance(module, VAE):
        raise InputError(f"{where}: expected an AutoencoderKL, found {class_name(module)}")
    if not extra:
        return module, None
    n = module.config.latent[0]
    kind = Annotated[list[Number], Field(min_length=n, max_length=n)]
    mean, std = (
        torch.tensor(checked(kind, extra.get(key), where, f"{key} as a list of {n} finite numbers"))
        for key in ("latents_mean", "latents_std")
    )
    return module, LatentStatistics(mean, std)


def _at(vae: VAE, image: tuple[int, ...]) -> VAE:
    """The same weights for images [C, H, W] of another size, if they fit it."""
    config = vae.config.at(image) if len(image) == 3 else None
    if config is None or config == vae.config:
        return vae
    other: VAE = build(config)
    other.load_state_dict(vae.state_dict())
    return other.eval()


def load_autoencoder(
    checkpoint: Checkpoint, index: Mapping[str, Any], image: tuple[int, ...] | None = None
) -> tuple[Autoencoder, LatentStatistics | None]:
    """The autoencoder in ``vae/``, of this package or of diffusers, and its latent statistics.

    One of diffusers is for the images of the model; alone it is for ``image`` [C, H, W], or those it says.
    One of this package is for ``image`` where its convolutions take that size, else for those it was
    trained on.
    """
    if not of_diffusers(index, "vae"):
        vae, statistics = load_vae(checkpoint)
        return (vae if image is None else _at(vae, image)), statistics
    known = image_shape(checkpoint, index) if "image" in index else image
    found: tuple[Autoencoder, LatentStatistics] = diffusers_for(checkpoint).read_autoencoder(
        checkpoint, "vae", known
    )
    return found


def save_diffusion(writer: Writer, diffusion: DiffusionConfig) -> None:
    writer.json(SCHEDULER, {"_class_name": SCHEDULER_CLASS, **diffusion.model_dump(mode="json")})


def load_diffusion(checkpoint: Checkpoint, index: Mapping[str, Any]) -> DiffusionConfig:
    """The diffusion process of a checkpoint; InputError for a UNet2DModel that lies without its scheduler."""
    if index.get("scheduler") == [None, None]:
        raise InputError(
            f"{checkpoint.folder}: a {index.get('_class_name')} without a scheduler; expected the folder of"
            f" its pipeline, with {INDEX}"
        )
    if of_diffusers(index, "scheduler"):
        process: DiffusionConfig = diffusers_for(checkpoint).read_process(checkpoint)
        return process
    where = f"{checkpoint.folder}/{SCHEDULER}"
    values = checkpoint.json(SCHEDULER)
    name = values.pop("_class_name", None)
    if name != SCHEDULER_CLASS:
        raise InputError(f"{where}: unknown class {name!r}, expected {SCHEDULER_CLASS}")
    return parse_config(DiffusionConfig, values, where)


def load_codec(
    checkpoint: Checkpoint, index: dict[str, Any], *, image: tuple[int, ...] | None = None
) -> Codec:
    """The codec of a checkpoint: its VAE with statistics (see :func:`load_autoencoder`), or the identity."""
    if not has_vae(checkpoint, index):
        shape = image_shape(checkpoint, index)
        if of_diffusers(index, "denoiser") and shape[0] not in PICTURES:
            raise InputError(
                f"{checkpoint.folder}: a UNet2DModel of {shape[0]} channels, which are latents; expected"
                " pictures of 1 or 3, or a model with its autoencoder"
            )
        where, kind = f"{checkpoint.folder}/{INDEX}", Annotated[Number, Field(gt=0)]
        scale = checked(kind, index.get("pixel_scale", 1.0), where, "pixel_scale as a positive number")
        shift = checked(Number, index.get("pixel_shift", 0.0), where, "pixel_shift as a number")
        return IdentityCodec(shape, scale, shift)
    vae, statistics = load_autoencoder(checkpoint, index, image)
    if statistics is None:
        raise InputError(
            f"{checkpoint.folder}: this VAE has no latent statistics (latents_mean, latents_std), which are"
            " measured when its training ends; finish it with `latentdiff train-vae --resume"
            f" {checkpoint.folder.parent}`"
        )
    return VAECodec(vae, statistics)
