"""How a cold diffusion degrades images: the kind of degradation and how much of it a level adds."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from latentdiff.config.base import Config

DegradationKind = Literal["blur", "pixelate", "fade"]


class DegradationConfig(Config):
    """A deterministic degradation of levels 0 (clean) to T; stored beside the weights of what was trained to
    undo it.
    """

    degradation: DegradationKind = Field(
        "blur",
        description=(
            "blur (repeated Gaussian blur), pixelate (ever larger blocks) or fade (a grey mask grows from the"
            " middle)"
        ),
    )
    T: int = Field(100, ge=1, le=10_000, description="number of levels")
    kernel: int = Field(11, ge=3, le=255, description="odd side of the blur's kernel in pixels")
    variance: float = Field(
        0.3,
        gt=0,
        le=1000,
        description="variance in pixels^2 that the blur of level 1 adds; level t adds it grown",
    )
    growth: float = Field(
        0.02, ge=0, le=1, description="how much more variance each level adds than the one before: 0.02 is 2%"
    )

    @model_validator(mode="after")
    def _is_odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {self.kernel}")
        return self
