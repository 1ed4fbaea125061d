"""Configuration and presets of the UNet of ConvNeXt blocks. Imports no torch."""

import math
from typing import ClassVar, Literal

from pydantic import Field

from latentdiff.nn.base_config import Presets, PyramidConfig
from latentdiff.nn.fields import Width


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
