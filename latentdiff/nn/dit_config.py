"""Configuration and presets of the diffusion transformer. Imports no torch."""

import math
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.nn.base_config import Numbers, PatchedConfig, PeakLR, Presets, is_small
from latentdiff.nn.fields import Width
from latentdiff.nn.text_config import TextOption

MOST_PATCHES = 4096  # attention compares each with each


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

    @classmethod
    def completed(cls, preset: str, given: Numbers) -> Numbers:
        """A patch has 2 pixels a side, 4 above 16 pixels a side, or fewer where those do not divide them."""
        shape = given["shape"]
        patch = math.gcd(2 if is_small(shape) else 4, *shape[1:])
        return {"patch": patch, **super().completed(preset, given)}

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"heads: expected a divisor of the width {self.width}, got {self.heads}")
        if math.prod(self.grid) > MOST_PATCHES:
            raise ValueError(
                f"patch: expected one that leaves at most {MOST_PATCHES} patches, got {self.patch}, which"
                f" leaves {math.prod(self.grid)}"
            )
        return self

    @property
    def activations(self) -> int:
        return max(3, self.expand) * self.width * math.prod(self.grid)
