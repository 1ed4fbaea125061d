"""Configuration and presets of the plain CNN denoiser. Imports no torch."""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.nn.base_config import DenoiserConfig, Numbers, Presets
from latentdiff.nn.fields import GridShape, Width


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
                f"kernels: expected {len(self.channels) + 1} for {len(self.channels)} inner widths,"
                f" got {len(self.kernels)}"
            )
        if even := [side for side in self.kernels if side % 2 == 0]:
            raise ValueError(f"kernels: expected odd sides, got {even[0]}")
        return self

    @property
    def activations(self) -> int:
        return max(self.channels) * math.prod(self.shape[1:])
