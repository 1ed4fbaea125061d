"""Configuration and presets of the MLP denoiser. Imports no torch."""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.nn.base_config import DenoiserConfig, PeakLR, Presets
from latentdiff.nn.fields import LineWidth, Width, cross
from latentdiff.nn.text_config import TextOption

MOST_NUMBERS = 65_536  # that an MLP sees at once


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

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.shape) == 2 or math.prod(self.shape) > MOST_NUMBERS:
            raise ValueError(
                f"shape: expected L or C x H x W, at most {MOST_NUMBERS} numbers, got {cross(*self.shape)}"
            )
        return self

    @property
    def activations(self) -> int:
        return 4 * self.width
