"""The components of a checkpoint (VAE, denoiser, scheduler) as files, and back.

Class names in files select from fixed tables; weights are checked against the configuration before they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentdiff.checkpoint import INDEX, Checkpoint, Writer
from latentdiff.codec import Codec, IdentityCodec, LatentStatistics, VAECodec
from latentdiff.config.base import parse as parse_config
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.errors import InputError
from latentdiff.listener import load_listener, save_listener
from latentdiff.nn import (
    CLASSES,
    CONFIGS,
    VAE,
    DenoiserConfig,
    NetConfig,
    UNetConfig,
    VAEConfig,
    build,
    tensor_shapes,
)
from latentdiff.tokenizer import Listener

WEIGHTS = "diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
SCHEDULER_CLASS = "Schedule"
FLOAT_MAX = torch.finfo(torch.float32).max


def class_name(module: nn.Module) -> str:
    """The name under which a network's class is stored."""
    return next(name for name, (_, cls) in CLASSES.items() if type(module) is cls)


def config_of(module: nn.Module) -> NetConfig:
    """The configuration that a network of this package carries; TypeError for other modules."""
    config = getattr(module, "config", None)
    if not isinstance(config, NetConfig):
        known = ", ".join(cls.__name__ for cls in CONFIGS.values())
        raise TypeError(f"expected a network with one of {known}, got {type(module).__name__}")
    return config


def denoiser_config(module: nn.Module) -> DenoiserConfig:
    """The configuration of a denoiser; TypeError for other modules."""
    config = config_of(module)
    if isinstance(config, VAEConfig):
        raise TypeError("expected a denoiser, got a VAE")
    return config


def model_index(*, vae: bool, denoiser: str | None) -> dict[str, Any]:
    """The component table of model_index.json, in the form Hugging Face users know."""
    index: dict[str, Any] = {
        "_class_name": "AutoencoderPipeline" if denoiser is None else "DiffusionPipeline",
        "vae": ["latentdiff", "AutoencoderKL"] if vae else [None, None],
    }
    if denoiser is not None:
        index |= {"denoiser": ["latentdiff", denoiser], "scheduler": ["latentdiff", "Schedule"]}
    return index


def holds_vae_alone(index: Mapping[str, Any]) -> bool:
    """Whether a model index is that of a trained VAE without a denoiser on it."""
    return "denoiser" not in index and index.get("vae") not in (None, [None, None])


class Model(NamedTuple):
    """What a checkpoint of a trained denoiser holds; ``data`` is the name of what it was trained on, ``class_counts`` how
    many images of each class that had (() where it is not known).
    """

    network: nn.Module
    diffusion: DiffusionConfig
    codec: Codec
    classes: tuple[str, ...]
    data: str
    class_counts: tuple[int, ...] = ()
    tokenizer: Listener | None = None  # of a network that listens to texts


def save_model(writer: Writer, model: Model) -> None:
    """Write the components and the model index of a model."""
    codec = model.codec
    if isinstance(codec, VAECodec):
        save_vae(writer, codec.vae, codec.statistics)
    save_network(writer, "denoiser", model.network)
    if model.tokenizer is not None:
        save_listener(writer, model.tokenizer)
    save_diffusion(writer, model.diffusion)
    index = model_index(vae=isinstance(codec, VAECodec), denoiser=class_name(model.network))
    about: dict[str, Any] = {"classes": list(model.classes), "image": list(codec.image_shape), "data": model.data}
    if model.class_counts:
        about["class_counts"] = list(model.class_counts)
    scale = {"pixel_scale": codec.scale} if isinstance(codec, IdentityCodec) and codec.scale != 1 else {}
    writer.json(INDEX, {**index, **about, **scale})


def load_model(checkpoint: Checkpoint) -> Model:
    """The model of an opened checkpoint, on the CPU; InputError says what is missing or does not fit."""
    index = checkpoint.json(INDEX)
    if "denoiser" not in index:
        raise InputError(
            f"{checkpoint.folder}: holds a VAE but no denoiser; `latentdiff train-denoiser` trains one on it"
        )
    network, _ = load_network(checkpoint, "denoiser")
    diffusion, codec = load_diffusion(checkpoint), load_codec(checkpoint, index)
    shape = denoiser_config(network).shape
    if shape != codec.latent_shape:
        found = f"the denoiser works on {list(shape)}, the codec gives {list(codec.latent_shape)}"
        raise InputError(f"{checkpoint.folder}: {found}; expected one shape")
    classes = load_classes(checkpoint, index, network)
    counts = load_class_counts(checkpoint, index, len(classes))
    config = denoiser_config(network)
    tokenizer = load_listener(checkpoint, config.text if isinstance(config, UNetConfig) else None)
    return Model(network, diffusion, codec, classes, str(index.get("data", "")), counts, tokenizer)


def save_network(writer: Writer, folder: str, module: nn.Module, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write ``folder``/config.json and its weights; ``extra`` adds to the configuration."""
    config = config_of(module)
    writer.json(
        f"{folder}/config.json", {"_class_name": class_name(module), **config.model_dump(mode="json"), **(extra or {})}
    )
    writer.tensors(f"{folder}/{WEIGHTS}", module.state_dict())


def load_config(
    checkpoint: Checkpoint, folder: str, *, extra: tuple[str, ...] = ()
) -> tuple[NetConfig, dict[str, Any]]:
    """The configuration of the network in ``folder`` and its ``extra`` keys; InputError names what does not fit."""
    where = f"{checkpoint.folder / folder}/config.json"
    values = checkpoint.json(f"{folder}/config.json")
    name = values.pop("_class_name", None)
    if not isinstance(name, str) or name not in CLASSES:
        raise InputError(f"{where}: unknown class {name!r}, expected one of {', '.join(CLASSES)}")
    kept = {key: values.pop(key) for key in extra if key in values}
    return parse_config(CLASSES[name][0], values, where), kept


def load_network(
    checkpoint: Checkpoint, folder: str, *, extra: tuple[str, ...] = ()
) -> tuple[nn.Module, dict[str, Any]]:
    """The network in ``folder`` and the ``extra`` keys of its configuration; InputError names what does not fit."""
    config, kept = load_config(checkpoint, folder, extra=extra)
    tensors = checkpoint.tensors(f"{folder}/{WEIGHTS}")
    where = f"{checkpoint.folder / folder}/{WEIGHTS}"
    check_tensors(tensors, tensor_shapes(config), where)  # before a hostile configuration takes memory
    module = build(config)
    module.load_state_dict(tensors)
    return module.eval(), kept


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, torch.Size], where: str) -> None:
    """InputError unless the tensors have exactly the expected names and shapes and finite values."""
    missing, unknown = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or unknown:
        what = f"lacks tensor {missing[0]!r}" if missing else f"has an unexpected tensor {unknown[0]!r}"
        raise InputError(f"{where}: {what} ({len(expected)} expected, {len(tensors)} found)")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise InputError(f"{where}: {name} should have shape {list(shape)}, found {list(tensors[name].shape)}")
        if not bool(torch.isfinite(tensors[name]).all()):
            raise InputError(f"{where}: {name} holds values that are not finite")


def save_vae(writer: Writer, vae: VAE, statistics: LatentStatistics | None) -> None:
    """Write ``vae/``; without statistics (training not finished) no denoiser can be trained on it."""
    extra = (
        {} if statistics is None else {"latents_mean": statistics.mean.tolist(), "latents_std": statistics.std.tolist()}
    )
    save_network(writer, "vae", vae, extra=extra)


def load_vae(checkpoint: Checkpoint) -> tuple[VAE, LatentStatistics | None]:
    """The VAE in ``vae/`` and its latent statistics, if they were measured."""
    module, extra = load_network(checkpoint, "vae", extra=("latents_mean", "latents_std"))
    where = f"{checkpoint.folder}/vae/config.json"
    if not isinstance(module, VAE):
        raise InputError(f"{where}: expected an AutoencoderKL, found {class_name(module)}")
    if not extra:
        return module, None
    channels = module.config.latent[0]
    tables = []
    for key in ("latents_mean", "latents_std"):
        values = extra.get(key)
        if (
            not isinstance(values, list)
            or len(values) != channels
            or not all(isinstance(v, int | float) and abs(v) <= FLOAT_MAX for v in values)
        ):
            raise InputError(f"{where}: expected {key} as a list of {channels} finite numbers, found {values!r:.60}")
        tables.append(torch.tensor(values, dtype=torch.float32))
    return module, LatentStatistics(*tables)


def save_diffusion(writer: Writer, diffusion: DiffusionConfig) -> None:
    writer.json(SCHEDULER, {"_class_name": SCHEDULER_CLASS, **diffusion.model_dump(mode="json")})


def load_diffusion(checkpoint: Checkpoint) -> DiffusionConfig:
    """The diffusion process of a checkpoint."""
    where = f"{checkpoint.folder}/{SCHEDULER}"
    values = checkpoint.json(SCHEDULER)
    name = values.pop("_class_name", None)
    if name != SCHEDULER_CLASS:
        raise InputError(f"{where}: unknown class {name!r}, expected {SCHEDULER_CLASS}")
    return parse_config(DiffusionConfig, values, where)


def has_vae(checkpoint: Checkpoint, index: dict[str, Any]) -> bool:
    """Whether a model works in a VAE's latent space; InputError where its index does not say."""
    entry = index.get("vae")
    if not isinstance(entry, list) or len(entry) != 2:
        raise InputError(
            f"{checkpoint.folder}/{INDEX}: expected vae as [library, class] or [null, null], found {entry!r:.60}"
        )
    return entry != [None, None]


def load_codec(checkpoint: Checkpoint, index: dict[str, Any]) -> Codec:
    """The codec of a checkpoint: its VAE with statistics, or the identity where it has none."""
    if not has_vae(checkpoint, index):
        image = index.get("image")
        if (
            not isinstance(image, list)
            or len(image) != 3
            or not all(isinstance(side, int) and side > 0 for side in image)
        ):
            raise InputError(f"{checkpoint.folder}/{INDEX}: image must be [channels, height, width], found {image!r}")
        scale = index.get("pixel_scale", 1.0)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= FLOAT_MAX:
            raise InputError(f"{checkpoint.folder}/{INDEX}: pixel_scale must be a positive number, found {scale!r:.60}")
        return IdentityCodec(tuple(image), float(scale))
    vae, statistics = load_vae(checkpoint)
    if statistics is None:
        raise InputError(
            f"{checkpoint.folder}: this VAE has no latent statistics (latents_mean, latents_std), which are measured "
            f"when its training ends; finish it with `latentdiff train-vae --resume {checkpoint.folder.parent}`"
        )
    return VAECodec(vae, statistics)


def load_classes(checkpoint: Checkpoint, index: dict[str, Any], network: nn.Module) -> tuple[str, ...]:
    """The class names of a checkpoint's model index, one for each label that its denoiser knows."""
    names, expected = index.get("classes") or [], denoiser_config(network).num_classes
    if not isinstance(names, list) or len(names) != expected:
        raise InputError(f"{checkpoint.folder}/{INDEX}: expected the names of {expected} classes, found {names!r:.80}")
    return tuple(str(name) for name in names)


def load_class_counts(checkpoint: Checkpoint, index: dict[str, Any], classes: int) -> tuple[int, ...]:
    """How many training images each class had; () of a checkpoint that does not say."""
    counts = index.get("class_counts")
    if counts is None:
        return ()
    if (
        not isinstance(counts, list)
        or len(counts) != classes
        or not all(type(count) is int and 0 <= count < 2**53 for count in counts)
        or not any(counts)
    ):
        what = f"class_counts as {classes} whole numbers of 0 or more, not all 0"
        raise InputError(f"{checkpoint.folder}/{INDEX}: expected {what}, found {counts!r:.80}")
    return tuple(counts)
