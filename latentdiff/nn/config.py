"""Configurations of the denoisers: every number with its range; and how those of all networks are read from
files. Imports no torch.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from latentdiff.errors import InputError, explain
from latentdiff.nn.fields import Classes, GridShape, LineWidth, Multipliers, Numbers, OutFactor, Width, cross
from latentdiff.nn.text_config import Listening, TextConfig, check_told
from latentdiff.nn.vae_config import VAEConfig

NetworkKind = Literal["mlp", "unet", "cnn", "course-unet", "convnext"]

MLP_MAX = 65_536  # numbers that an MLP sees at once
COURSE_MAX_SIDE = 256  # its bottleneck has a weight for each pixel of the lowest resolution


class MLPConfig(Numbers):
    """Residual MLP denoiser for vector latents [L], and for grids [C, H, W] that it sees as one vector."""

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
    num_classes: Classes = 0
    text: Listening = None
    out_factor: OutFactor = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_told(self.text, self.num_classes)
        if len(self.shape) == 2 or math.prod(self.shape) > MLP_MAX:
            raise ValueError(
                f"shape: expected L or C x H x W, at most {MLP_MAX} numbers, got {cross(*self.shape)}"
            )
        return self


class _Pyramid(Numbers):
    """What networks of several resolutions share: squares of ``patch`` pixels as channels, then a halving for
    each of ``mult``.
    """

    shape: GridShape
    patch: int = Field(
        default=1, ge=1, le=16, description="pixels a side that become channels of one, before all else"
    )
    mult: Multipliers = (1, 2, 4)

    @model_validator(mode="after")
    def _halves(self) -> Self:
        levels = len(self.mult)
        if any(side % self.patch for side in self.shape[1:]):
            raise ValueError(
                f"patch: expected a divisor of {cross(*self.shape[1:])} pixels, got {self.patch}"
            )
        if 2 ** (levels - 1) > min(self.grid):
            most, size = min(self.grid).bit_length(), cross(self.shape[0], *self.grid)
            raise ValueError(f"mult: {size} is too small for {levels} resolutions, expected at most {most}")
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width after the patches."""
        return self.shape[1] // self.patch, self.shape[2] // self.patch


class UNetConfig(_Pyramid):
    """UNet denoiser for spatial latents and pixels [C, H, W]."""

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
    num_classes: Classes = 0
    text: Listening = None
    out_factor: OutFactor = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        check_told(self.text, self.num_classes)
        levels = len(self.mult)
        if any(level >= levels for level in self.attention):
            raise ValueError(f"attention: expected resolutions 0 to {levels - 1}, got {max(self.attention)}")
        if self.width % self.groups:
            raise ValueError(
                f"width: expected a multiple of {self.groups}, the groups of the normalisation, got"
                f" {self.width}"
            )
        for level in {*self.attention, levels - 1}:
            if (self.width * self.mult[level]) % self.heads:
                raise ValueError(
                    f"heads: expected a divisor of the {self.width * self.mult[level]} channels of resolution"
                    f" {level}, got {self.heads}"
                )
        return self


class CNNConfig(Numbers):
    """Plain convolutional denoiser for pixels and spatial latents [C, H, W]: one resolution, no skips."""

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
    num_classes: Classes = 0
    out_factor: OutFactor = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.kernels) != len(self.channels) + 1:
            raise ValueError(
                f"kernels: expected {len(self.channels) + 1} for {len(self.channels)} inner widths,"
                f" got {len(self.kernels)}"
            )
        if even := [side for side in self.kernels if side % 2 == 0]:
            raise ValueError(f"kernels: expected odd sides, got {even[0]}")
        return self


class CourseUNetConfig(Numbers):
    """Textbook UNet of three resolutions for images like 28 x 28, told time and class by fully connected
    blocks.
    """

    kind: Literal["course-unet"] = "course-unet"
    shape: GridShape
    width: Width = Field(
        default=64, description="channels at the two upper resolutions, half of the lowest one's"
    )
    levels: int = Field(
        default=1000, ge=1, le=100_000, description="timesteps of the process; it sees t / levels"
    )
    num_classes: Classes = 0
    out_factor: OutFactor = 1

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if any(side % 4 or side > COURSE_MAX_SIDE for side in self.shape[1:]):
            raise ValueError(
                f"shape: expected sides divisible by 4, at most {COURSE_MAX_SIDE}, got"
                f" {cross(*self.shape[1:])}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the lowest resolution."""
        return self.shape[1] // 4, self.shape[2] // 4


class ConvNeXtConfig(_Pyramid):
    """UNet of ConvNeXt blocks for pixels and spatial latents [C, H, W]."""

    kind: Literal["convnext"] = "convnext"
    width: Width = Field(default=32, description="channels at the full resolution, after the patches")
    depth: int = Field(default=1, ge=1, le=8, description="blocks at each resolution, down and up")
    expand: int = Field(default=2, ge=1, le=8, description="channels inside a block, in those of its output")
    num_classes: Classes = 0
    out_factor: OutFactor = 1


class ForeignConfig(Numbers):
    """What must be known of a denoiser of another library; how it is built lies in that library's own
    configuration.
    """

    shape: GridShape
    width: int = Field(ge=1, description="channels at the full resolution")
    num_classes: Classes = 0


DenoiserConfig = MLPConfig | UNetConfig | CNNConfig | CourseUNetConfig | ConvNeXtConfig
NetConfig = VAEConfig | DenoiserConfig

CONFIGS: dict[str, type[NetConfig]] = {
    "AutoencoderKL": VAEConfig,
    "MLPDenoiser": MLPConfig,
    "UNetDenoiser": UNetConfig,
    "CNNDenoiser": CNNConfig,
    "CourseUNetDenoiser": CourseUNetConfig,
    "ConvNeXtDenoiser": ConvNeXtConfig,
}


def text_of(config: NetConfig | ForeignConfig) -> TextConfig | None:
    """What a network listens to; None for one of classes or of none."""
    return config.text if isinstance(config, UNetConfig | MLPConfig) else None


def read_config(name: str, text: str | bytes) -> NetConfig:
    """Configuration of the class that a file names (a key of CONFIGS) from its JSON. InputError, one line."""
    if name not in CONFIGS:
        raise InputError(f"class: expected one of {', '.join(CONFIGS)}, got {name!r}")
    try:
        return CONFIGS[name].model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{name}: {explain(error)}") from error


def class_name(config: NetConfig) -> str:
    """The name in CONFIGS that stands for a configuration in files."""
    return next(name for name, cls in CONFIGS.items() if type(config) is cls)
