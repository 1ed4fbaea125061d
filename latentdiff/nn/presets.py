"""Named presets of the networks' numbers, and configurations made from them. Imports no torch."""

from typing import Any, TypeVar

from pydantic import ValidationError

from latentdiff.errors import InputError, explain
from latentdiff.nn.config import (
    CNNConfig,
    ConvNeXtConfig,
    CourseUNetConfig,
    DenoiserConfig,
    MLPConfig,
    NetworkKind,
    UNetConfig,
)
from latentdiff.nn.fields import cross
from latentdiff.nn.text_config import TextConfig
from latentdiff.nn.vae_config import VAEConfig

_C = TypeVar("_C", VAEConfig, MLPConfig, UNetConfig, CNNConfig, CourseUNetConfig, ConvNeXtConfig)

# "unet" is for images, "unet_latent" for small grids (GRID_LIMIT pixels a side at most), where width costs
# little
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "vae": {
        "small": {"width": 32, "depth": 0, "hidden": 256},
        "base": {"width": 64, "depth": 1, "hidden": 512},
        "large": {"width": 128, "depth": 2, "hidden": 1024},
    },
    "mlp": {
        "small": {"width": 320, "depth": 4, "expand": 2, "time_dim": 128},
        "base": {"width": 1024, "depth": 6, "expand": 2, "time_dim": 256},
        "large": {"width": 2048, "depth": 8, "expand": 2, "time_dim": 512},
    },
    "unet": {
        "small": {"width": 24, "mult": (1, 2, 4), "depth": 1, "attention": (2,), "heads": 4, "groups": 8},
        "base": {"width": 64, "mult": (1, 2, 4), "depth": 2, "attention": (1, 2), "heads": 4, "groups": 16},
        "large": {
            "width": 128,
            "mult": (1, 2, 2, 4),
            "depth": 2,
            "attention": (2, 3),
            "heads": 8,
            "groups": 32,
        },
    },
    "unet_latent": {
        "small": {"width": 48, "mult": (1, 2), "depth": 1, "attention": (1,), "heads": 4, "groups": 16},
        "base": {"width": 128, "mult": (1, 2), "depth": 2, "attention": (0, 1), "heads": 4, "groups": 32},
        "large": {"width": 256, "mult": (1, 2), "depth": 3, "attention": (0, 1), "heads": 8, "groups": 32},
    },
    "cnn": {
        "small": {"channels": (16, 32, 32, 16), "kernels": (7, 7, 7, 3, 3), "time_dim": 64},
        "base": {"channels": (32, 64, 64, 32), "kernels": (7, 7, 7, 3, 3), "time_dim": 128},
        "large": {"channels": (64, 128, 128, 64), "kernels": (7, 7, 7, 3, 3), "time_dim": 256},
    },
    "convnext": {
        "small": {"width": 32, "mult": (1, 2, 4), "depth": 1, "expand": 2},
        "base": {"width": 64, "mult": (1, 2, 4), "depth": 2, "expand": 2},
        "large": {"width": 128, "mult": (1, 2, 4), "depth": 2, "expand": 4},
    },
    "course-unet": {"small": {"width": 64}, "base": {"width": 128}, "large": {"width": 256}},
}
GRID_LIMIT = 16
LEAST_SIDE = 4  # of a grid, for convolutions


def vae_config(
    preset: str,
    image: tuple[int, int, int],
    *,
    latent: tuple[int, ...],
    width: int | None = None,
    depth: int | None = None,
    hidden: int | None = None,
) -> VAEConfig:
    """Autoencoder of a named preset ("small", "base", "large"); numbers given override it.

    InputError if invalid.
    """
    return _make(
        VAEConfig, _preset("vae", preset), image=image, latent=latent, width=width, depth=depth, hidden=hidden
    )


def mlp_config(
    preset: str,
    shape: tuple[int, ...],
    *,
    num_classes: int = 0,
    out_factor: int = 1,
    width: int | None = None,
    depth: int | None = None,
    expand: int | None = None,
    time_dim: int | None = None,
    text: TextConfig | None = None,
) -> MLPConfig:
    """MLP denoiser of a named preset for shape (L,) or (C, H, W); numbers given override it.

    InputError if invalid.
    """
    return _make(
        MLPConfig,
        _preset("mlp", preset),
        shape=shape,
        num_classes=num_classes,
        out_factor=out_factor,
        width=width,
        depth=depth,
        expand=expand,
        time_dim=time_dim,
        text=text,
    )


def unet_config(
    preset: str,
    shape: tuple[int, ...],
    *,
    num_classes: int = 0,
    out_factor: int = 1,
    patch: int | None = None,
    width: int | None = None,
    mult: tuple[int, ...] | None = None,
    depth: int | None = None,
    attention: tuple[int, ...] | None = None,
    heads: int | None = None,
    groups: int | None = None,
    text: TextConfig | None = None,
) -> UNetConfig:
    """UNet denoiser of a named preset for shape (C, H, W); numbers given override it. InputError if invalid.

    With ``text`` it listens to texts at every resolution of a grid of at most 16 pixels a side. Grids of at
    most 16 pixels a side take their numbers from PRESETS["unet_latent"], larger ones from "unet".
    """
    family = "unet_latent" if len(shape) == 3 and max(shape[1:]) <= GRID_LIMIT else "unet"
    if text is not None and attention is None:
        levels = range(len(mult or _preset(family, preset)["mult"]))
        sides = [max(shape[1:], default=1) // (patch or 1) / 2**level for level in levels]
        attention = tuple(level for level in levels if sides[level] <= GRID_LIMIT)
    return _make(
        UNetConfig,
        _preset(family, preset),
        shape=shape,
        num_classes=num_classes,
        out_factor=out_factor,
        patch=patch,
        width=width,
        mult=mult,
        depth=depth,
        attention=attention,
        heads=heads,
        groups=groups,
        text=text,
    )


def cnn_config(
    preset: str,
    shape: tuple[int, ...],
    *,
    num_classes: int = 0,
    out_factor: int = 1,
    width: int | None = None,
    channels: tuple[int, ...] | None = None,
    kernels: tuple[int, ...] | None = None,
    time_dim: int | None = None,
) -> CNNConfig:
    """Plain CNN denoiser of a named preset for shape (C, H, W); numbers given override it. InputError if
    invalid.

    ``width`` w stands for the channels w, 2 w, 2 w, w where ``channels`` are not given.
    """
    if width is not None and channels is None:
        channels = (width, 2 * width, 2 * width, width)
    return _make(
        CNNConfig,
        _preset("cnn", preset),
        shape=shape,
        num_classes=num_classes,
        out_factor=out_factor,
        channels=channels,
        kernels=kernels,
        time_dim=time_dim,
    )


def course_unet_config(
    preset: str,
    shape: tuple[int, ...],
    *,
    levels: int,
    num_classes: int = 0,
    out_factor: int = 1,
    width: int | None = None,
) -> CourseUNetConfig:
    """Course UNet of a named preset for shape (C, H, W) and a process of ``levels`` timesteps.

    InputError if invalid.
    """
    return _make(
        CourseUNetConfig,
        _preset("course-unet", preset),
        shape=shape,
        levels=levels,
        num_classes=num_classes,
        out_factor=out_factor,
        width=width,
    )


def convnext_config(
    preset: str,
    shape: tuple[int, ...],
    *,
    num_classes: int = 0,
    out_factor: int = 1,
    patch: int | None = None,
    width: int | None = None,
    mult: tuple[int, ...] | None = None,
    depth: int | None = None,
    expand: int | None = None,
) -> ConvNeXtConfig:
    """ConvNeXt UNet of a named preset for shape (C, H, W); numbers given override it.

    InputError if invalid.
    """
    return _make(
        ConvNeXtConfig,
        _preset("convnext", preset),
        shape=shape,
        num_classes=num_classes,
        out_factor=out_factor,
        patch=patch,
        width=width,
        mult=mult,
        depth=depth,
        expand=expand,
    )


def network_config(
    kind: NetworkKind | None,
    preset: str,
    shape: tuple[int, ...],
    *,
    levels: int,
    num_classes: int = 0,
    out_factor: int = 1,
    width: int | None = None,
    depth: int | None = None,
    patch: int | None = None,
    text: TextConfig | None = None,
) -> DenoiserConfig:
    """Denoiser of a kind for what has ``shape``; None: an MLP for vectors and grids too small for
    convolutions, a UNet for others. InputError if it cannot be.

    UNets listen to ``text`` word by word, MLPs to it as a whole, others not.
    """
    vector = len(shape) == 1
    small = not vector and min(shape[1:]) < LEAST_SIDE
    kind = kind or ("mlp" if vector or small else "unet")
    if small and kind != "mlp":
        raise InputError(
            f"network: a {kind} needs sides of {LEAST_SIDE} or more, got {cross(*shape)}; mlp takes any"
        )
    if vector and kind != "mlp":
        raise InputError(f"network: expected mlp for a vector of {shape[0]}, got {kind}")
    if depth is not None and kind in ("cnn", "course-unet"):
        raise InputError(f"depth: expected none for a {kind}, whose layers are fixed, got {depth}")
    if text is not None and kind not in ("unet", "mlp"):
        raise InputError(f"text: expected a UNet or an MLP, got a {kind}")
    if patch is not None and kind not in ("unet", "convnext"):
        raise InputError(f"patch: expected none for a {kind}, got {patch}")
    if kind == "mlp":
        return mlp_config(
            preset, shape, num_classes=num_classes, out_factor=out_factor, width=width, depth=depth, text=text
        )
    if kind == "unet":
        return unet_config(
            preset,
            shape,
            num_classes=num_classes,
            out_factor=out_factor,
            patch=patch,
            width=width,
            depth=depth,
            text=text,
        )
    if kind == "convnext":
        return convnext_config(
            preset,
            shape,
            num_classes=num_classes,
            out_factor=out_factor,
            patch=patch,
            width=width,
            depth=depth,
        )
    if kind == "cnn":
        return cnn_config(preset, shape, num_classes=num_classes, out_factor=out_factor, width=width)
    return course_unet_config(
        preset, shape, levels=levels, num_classes=num_classes, out_factor=out_factor, width=width
    )


def _preset(family: str, name: str) -> dict[str, Any]:
    if name not in PRESETS[family]:
        raise InputError(f"preset: expected one of {', '.join(PRESETS[family])}, got {name!r}")
    return PRESETS[family][name]


def _make(cls: type[_C], preset: dict[str, Any], **given: object) -> _C:
    try:
        return cls.model_validate(preset | {key: value for key, value in given.items() if value is not None})
    except ValidationError as error:
        raise InputError(explain(error)) from error
