"""Configuration and presets of the course UNet. Imports no torch."""

import math
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.nn.base_config import DenoiserConfig, Presets
from latentdiff.nn.fields import GridShape, Width, cross

MAX_SIDE = 256  # its bottleneck has a weight for each pixel of the lowest resolution


class CourseUNetConfig(DenoiserConfig):
    """Textbook UNet of three resolutions for images like 28 x 28, conditioned on time and class by fully
    connected blocks.
    """

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
                f"shape: expected sides divisible by 4, at most {MAX_SIDE}, got {cross(*self.shape[1:])}"
            )
        return self

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the lowest resolution."""
        return self.shape[1] // 4, self.shape[2] // 4

    @property
    def activations(self) -> int:
        return self.width * math.prod(self.shape[1:])
