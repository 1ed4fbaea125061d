"""The table of denoisers: their configurations, from which all choices, help texts and checks are computed.

Imports no torch: a row names its class, which :func:`latentdiff.nn.build` imports.
"""

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.errors import InputError
from latentdiff.nn.base_config import (
    LEAST_SIDE,
    SMALL_GRID,
    DenoiserConfig,
    GridShape,
    Guided,
    LineWidth,
    NetworkConfig,
    Numbers,
    PatchedConfig,
    PeakLR,
    Presets,
    PyramidConfig,
    TextOption,
    Width,
    cross,
    is_small,
)
from latentdiff.nn.vae_config import VAEConfig

MOST_NUMBERS = 65_536  # that an MLP sees at once
MAX_SIDE = 256  # its bottleneck has a weight for each pixel of the lowest resolution
MOST_PATCHES = 4096  # attention compares each with each


class UNetConfig(PyramidConfig):
    """UNet denoiser of spatial latents and pixels (C, H, W)."""

    network = "latentdiff.nn.unet:UNetDenoiser"
    about = "residual UNet with attention for spatial latents and pixels"
    difference = (
        "its skip connections come from the blocks alone, those of UNet2DModel also from the stem and from"
        " each halving"
    )
    words = True
    presets: ClassVar[Presets] = {
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
    }
    small_grid_presets: ClassVar[Presets] = {
        "small": {"width": 48, "mult": (1, 2), "depth": 1, "attention": (1,), "heads": 4, "groups": 16},
        "base": {"width": 128, "mult": (1, 2), "depth": 2, "attention": (0, 1), "heads": 4, "groups": 32},
        "large": {"width": 256, "mult": (1, 2), "depth": 3, "attention": (0, 1), "heads": 8, "groups": 32},
    }

    kind: Literal["unet"] = "unet"
    width: Width = Field(default=24, description="channels at the full resolution, after the patches")
    depth: int = Field(default=1, ge=1, le=8, description="residual blocks at each resolution, down and up")
    attention: Annotated[
        tuple[Annotated[int, Field(ge=0, le=6)], ...],
        Field(
            strict=False,
            description="resolutions with attention, 0 is the full one; the middle always has it",
        ),
    ] = (2,)
    heads: int = Field(default=4, ge=1, le=64, description="attention heads")
    groups: int = Field(default=8, ge=1, le=64, description="groups of the group normalization")
    text: TextOption = None
    guided: Guided = False

    @classmethod
    def completed(cls, preset: str, given: Numbers) -> Numbers:
        """A text is attended to at every resolution of at most 16 pixels a side."""
        numbers = super().completed(preset, given)
        if "text" not in given or "attention" in given:
            return numbers
        side = max(given["shape"][1:], default=1) / numbers.get("patch", 1)
        levels = [level for level in range(len(numbers["mult"])) if side / 2**level <= SMALL_GRID]
        return {**numbers, "attention": tuple(levels)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        levels = len(self.mult)
        if any(level >= levels for level in self.attention):
            raise ValueError(
                f"`attention`: expected resolutions 0 to {levels - 1}, got {max(self.attention)}"
            )
        if self.width % self.groups:
            raise ValueError(
                f"`width`: expected a multiple of {self.groups}, the groups of the normalisation, got"
                f" {self.width}"
            )
        for level in {*self.attention, levels - 1}:
            if (self.width * self.mult[level]) % self.heads:
                raise ValueError(
                    f"`heads`: expected a divisor of the {self.width * self.mult[level]} channels of"
                    f" resolution {level}, got {self.heads}"
                )
        return self

    @property
    def activations(self) -> int:
        return self.width * math.prod(self.grid)


class MLPConfig(DenoiserConfig):
    """Residual MLP denoiser of vectors (L,), and of grids (C, H, W) flattened to a vector."""

    network = "latentdiff.nn.mlp:MLPDenoiser"
    about = "residual MLP for vectors and for grids as one vector"
    difference = "it is an MLP on vectors, UNet2DModel a convolutional network on grids"
    vectors = True
    steps = 6000
    batch = 512
    peak_lr: ClassVar[PeakLR] = {"small": 2e-3, "base": 2e-3, "large": 2e-3}
    presets: ClassVar[Presets] = {
        "small": {"width": 320, "depth": 4, "expand": 2, "time_dim": 128},
        "base": {"width": 1024, "depth": 6, "expand": 2, "time_dim": 256},
        "large": {"width": 2048, "depth": 8, "expand": 2, "time_dim": 512},
    }

    kind: Literal["mlp"] = "mlp"
    shape: Annotated[
        tuple[Annotated[int, Field(ge=1, le=65_536)], ...],
        Field(
            strict=False,
            min_length=1,
            max_length=3,
            description="size of the vector: L, or C, H and W of a grid",
        ),
    ]
    width: LineWidth = Field(default=512, description="units of the residual stream")
    depth: int = Field(default=4, ge=1, le=64, description="residual blocks")
    expand: int = Field(default=2, ge=1, le=8, description="hidden units of a block, in widths")
    time_dim: Width = Field(default=128, description="size of the time and label embedding")
    text: TextOption = None
    guided: Guided = False

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shape) == 2 or math.prod(self.shape) > MOST_NUMBERS:
            raise ValueError(
                f"`shape`: expected L or C x H x W, at most {MOST_NUMBERS} numbers, got {cross(*self.shape)}"
            )
        return self

    @property
    def activations(self) -> int:
        return 4 * self.width


class CNNConfig(DenoiserConfig):
    """Plain convolutional denoiser of pixels and spatial latents (C, H, W): one resolution, no skips."""

    network = "latentdiff.nn.cnn:CNNDenoiser"
    about = "five plain convolutions"
    difference = "it has one resolution and no skip connections, UNet2DModel has both"
    presets: ClassVar[Presets] = {
        "small": {"width": 16, "time_dim": 64},
        "base": {"width": 32, "time_dim": 128},
        "large": {"width": 64, "time_dim": 256},
    }

    kind: Literal["cnn"] = "cnn"
    shape: GridShape
    channels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=1024)], ...],
        Field(
            strict=False,
            min_length=1,
            max_length=32,
            description="channels after each convolution but the last",
        ),
    ] = (16, 32, 32, 16)
    kernels: Annotated[
        tuple[Annotated[int, Field(ge=1, le=15)], ...],
        Field(
            strict=False,
            min_length=2,
            max_length=33,
            description="odd side of the kernel of each convolution",
        ),
    ] = (7, 7, 7, 3, 3)
    time_dim: Width = Field(default=64, description="size of the time and label embedding")

    @classmethod
    def completed(cls, preset: str, given: Numbers) -> Numbers:
        """``width`` w stands for the channels w, 2 w, 2 w, w where ``channels`` are not given."""
        numbers = dict(super().completed(preset, given))
        width = numbers.pop("width")
        return {"channels": (width, 2 * width, 2 * width, width), **numbers}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.kernels) != len(self.channels) + 1:
            raise ValueError(
                f"`kernels`: expected {len(self.channels) + 1} for {len(self.channels)} inner widths,"
                f" got {len(self.kernels)}"
            )
        if even := [side for side in self.kernels if side % 2 == 0]:
            raise ValueError(f"`kernels`: expected odd sides, got {even[0]}")
        return self

    @property
    def activations(self) -> int:
        return max(self.channels) * math.prod(self.shape[1:])


class CourseUNetConfig(DenoiserConfig):
    """Textbook UNet of three resolutions for images like 28 x 28; fully connected time and class blocks."""

    network = "latentdiff.nn.course_unet:CourseUNetDenoiser"
    about = "textbook UNet with one-hot class and fully connected time blocks"
    difference = "its middle is one vector for the whole image, that of UNet2DModel a feature map"
    presets: ClassVar[Presets] = {"small": {"width": 64}, "base": {"width": 128}, "large": {"width": 256}}

    kind: Literal["course-unet"] = "course-unet"
    shape: GridShape
    width: Width = Field(
        default=64, description="channels at the two upper resolutions, half of the lowest one's"
    )
    levels: int = Field(
        default=1000, ge=1, le=100_000, description="timesteps of the process; it sees t / levels"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(side % 4 or side > MAX_SIDE for side in self.shape[1:]):
            raise ValueError(
                f"`shape`: expected sides divisible by 4, at most {MAX_SIDE}, got {cross(*self.shape[1:])}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the lowest resolution."""
        return self.shape[1] // 4, self.shape[2] // 4

    @property
    def activations(self) -> int:
        return self.width * math.prod(self.shape[1:])


class ConvNeXtConfig(PyramidConfig):
    """UNet of ConvNeXt blocks for pixels and spatial latents (C, H, W)."""

    network = "latentdiff.nn.convnext:ConvNeXtDenoiser"
    about = "UNet of ConvNeXt blocks"
    difference = "its blocks begin with a depthwise convolution, those of UNet2DModel with a norm"
    presets: ClassVar[Presets] = {
        "small": {"width": 32, "mult": (1, 2, 4), "depth": 1, "expand": 2},
        "base": {"width": 64, "mult": (1, 2, 4), "depth": 2, "expand": 2},
        "large": {"width": 128, "mult": (1, 2, 4), "depth": 2, "expand": 4},
    }

    kind: Literal["convnext"] = "convnext"
    width: Width = Field(default=32, description="channels at the full resolution, after the patches")
    depth: int = Field(default=1, ge=1, le=8, description="blocks at each resolution, down and up")
    expand: int = Field(default=2, ge=1, le=8, description="channels inside a block, in those of its output")

    @property
    def activations(self) -> int:
        return self.width * math.prod(self.grid)


class DiTConfig(PatchedConfig):
    """Diffusion transformer for spatial latents and pixels (C, H, W) (Peebles and Xie 2023)."""

    network = "latentdiff.nn.dit:DiTDenoiser"
    about = "diffusion transformer over patches for spatial latents and pixels"
    difference = "it is a transformer over patches, UNet2DModel a convolutional network"
    words = True
    peak_lr: ClassVar[PeakLR] = {"small": 1e-3, "base": 5e-4, "large": 2e-4}
    presets: ClassVar[Presets] = {
        "small": {"width": 128, "depth": 6, "heads": 4},
        "base": {"width": 256, "depth": 8, "heads": 4},
        "large": {"width": 512, "depth": 12, "heads": 8},
    }

    kind: Literal["dit"] = "dit"
    width: Width = Field(default=128, description="size of a patch's token")
    depth: int = Field(default=6, ge=1, le=64, description="transformer blocks")
    heads: int = Field(default=4, ge=1, le=64, description="attention heads")
    expand: int = Field(default=4, ge=1, le=8, description="hidden units of a block, in widths")
    text: TextOption = None
    guided: Guided = False

    @classmethod
    def completed(cls, preset: str, given: Numbers) -> Numbers:
        """A patch has 2 pixels a side, 4 above 16 pixels a side, or fewer where those do not divide them."""
        shape = given["shape"]
        patch = math.gcd(2 if is_small(shape) else 4, *shape[1:])
        return {"patch": patch, **super().completed(preset, given)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"`heads`: expected a divisor of the width {self.width}, got {self.heads}")
        if math.prod(self.grid) > MOST_PATCHES:
            raise ValueError(
                f"`patch`: expected one that leaves at most {MOST_PATCHES} patches, got {self.patch}, which"
                f" leaves {math.prod(self.grid)}"
            )
        return self

    @property
    def activations(self) -> int:
        return max(3, self.expand) * self.width * math.prod(self.grid)


# without --network, the first that takes the shape
DENOISERS: tuple[type[DenoiserConfig], ...] = (
    UNetConfig,
    MLPConfig,
    CNNConfig,
    CourseUNetConfig,
    ConvNeXtConfig,
    DiTConfig,
)
KINDS: dict[str, type[DenoiserConfig]] = {
    str(config.model_fields["kind"].default): config for config in DENOISERS
}
NETWORKS: tuple[type[NetworkConfig], ...] = (VAEConfig, *DENOISERS)
CONFIGS = {config.class_name(): config for config in NETWORKS}  # by the names of classes in files


def kinds_with(name: str) -> list[str]:
    """The kinds of denoisers whose configurations have a field."""
    return [kind for kind, config in KINDS.items() if name in config.model_fields]


def network_config(
    kind: str | None, preset: str, shape: tuple[int, ...], *, levels: int, **numbers: Any
) -> DenoiserConfig:
    """Denoiser of a kind (None: the first that takes the shape) for what has ``shape`` and a process of
    ``levels`` timesteps; numbers other than None override those of the preset.

    InputError for a kind that does not take the shape or a number.
    """
    if kind is None:
        kind = next(name for name, config in KINDS.items() if config.takes(shape))
    if kind not in KINDS:
        raise InputError(f"`network`: expected one of {', '.join(KINDS)}, got {kind!r}")
    config = KINDS[kind]
    if not config.takes(shape):
        others = " or ".join(name for name, other in KINDS.items() if other.takes(shape))
        if len(shape) == 1:
            raise InputError(f"`network`: expected {others} for a vector of {shape[0]}, got {kind}")
        raise InputError(
            f"`network`: a {kind} needs sides of {LEAST_SIDE} or more, got {cross(*shape)};"
            f" {others} takes any"
        )
    for name in ("depth", "patch", "text"):
        if numbers.get(name) is not None and kind not in kinds_with(name):
            takers, found = ", ".join(kinds_with(name)), "one" if name == "text" else numbers[name]
            raise InputError(f"`{name}`: expected none for a {kind}, only for {takers}, got {found}")
    if kind in kinds_with("levels"):
        numbers["levels"] = levels
    return config.of_preset(preset, shape=shape, **numbers)
