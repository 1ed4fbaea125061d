"""How a cold diffusion degrades images: the kind of degradation and how much of it a level adds."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from latentdiff.config.base import Config, setting

DegradationKind = Literal["blur", "pixelate", "fade"]


class DegradationConfig(Config):
    """A deterministic degradation of levels 0 (clean) to T; stored beside the weights trained to undo it."""

    option_group: ClassVar[str] = "Diffusion"

    degradation: DegradationKind = setting(
        "blur",
        "degradation: blur, pixelate or fade; repeated Gaussian blur, ever larger blocks, or a mask that"
        " grows from the middle",
    )
    T: int = setting(100, "number of levels", ge=1, le=10_000)
    kernel: int = setting(
        11,
        "odd side of the blur's kernel in pixels",
        ge=3,
        le=255,
        flag="blur-kernel",
        was="kernel",
        advanced=True,
    )
    variance: float = setting(
        0.3,
        "variance in pixels^2 of the blur of level 1; level t adds it grown",
        gt=0,
        le=1000,
        flag="blur-variance",
        was="variance",
        advanced=True,
    )
    growth: float = setting(
        0.02,
        "relative growth of the blur's variance from level to level; 0.02 is 2%",
        ge=0,
        le=1,
        flag="blur-growth",
        was="growth",
        advanced=True,
    )

    @model_validator(mode="after")
    def _is_odd(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError(f"`kernel` must be odd, got {self.kernel}")
        return self
