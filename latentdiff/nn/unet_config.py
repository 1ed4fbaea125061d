"""Configuration and presets of the UNet denoiser. Imports no torch."""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.nn.base_config import SMALL_GRID, Numbers, Presets, PyramidConfig
from latentdiff.nn.fields import Width
from latentdiff.nn.text_config import TextOption


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

    @property
    def activations(self) -> int:
        return self.width * math.prod(self.grid)
