"""How a degraded image is restored: the solver and its numbers."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from latentdiff.config.base import Config
from latentdiff.config.sampling import Sampling

Solver = Literal["sdedit", "replacement", "repaint", "ald", "dps", "psld", "diffpir"]
OF: dict[str, tuple[Solver, ...]] = {  # which solvers an option belongs to
    "strength": ("sdedit",),
    "jump_length": ("repaint",),
    "jumps": ("repaint",),
    "anneal": ("ald",),
    "zeta": ("dps", "psld"),
    "step_size": ("dps",),
    "glue": ("psld",),
    "trust": ("diffpir",),
    "share": ("diffpir",),
}


class Restoration(Config):
    """A solver for y = A x + noise, and its numbers; what does not apply to the solver must be left at its
    default.
    """

    solver: Solver = Field(
        "diffpir",
        description=(
            "sdedit (noise the input and denoise), replacement and repaint (inpainting only), ald (ScoreALD),"
            " dps, psld (for latents) or diffpir (fast)"
        ),
    )
    strength: float = Field(0.5, ge=0, le=1, description="sdedit: how far the input is noised")
    jump_length: int = Field(10, ge=1, le=1000, description="repaint: moves of a jump back")
    jumps: int = Field(5, ge=1, le=100, description="repaint: passes over each stretch")
    anneal: float = Field(
        0.5,
        ge=0,
        le=1000,
        description=(
            "ald: gamma_t as a share of sigma_t / alpha_t; smaller follows the measurement more closely"
        ),
    )
    zeta: float = Field(1.0, ge=0, le=1000, description="dps, psld: size of the step along the gradient")
    step_size: Literal["residual", "gradient"] = Field(
        "residual",
        description="dps: divide the gradient by the norm of the residual (as published) or by its own",
    )
    glue: float = Field(
        0.1, ge=0, le=1000, description="psld: weight of the term that keeps latents codes of images"
    )
    trust: float = Field(
        0.5, gt=0, le=1e6, description="diffpir: lambda, trust in the model against the measurement"
    )
    share: float = Field(0.3, ge=0, le=1, description="diffpir: zeta, the share of fresh noise in every step")

    def unused(self, settings: Sampling) -> str:
        """What the settings say of moves although the solver makes its own; "" if nothing."""
        if self.solver != "diffpir":
            return ""
        if settings.sampler != "ddim":
            return f"sampler {settings.sampler}"
        return f"eta {settings.eta:g}" if settings.eta else ""

    @model_validator(mode="after")
    def _applies(self) -> Self:
        for name, solvers in OF.items():
            value, default = getattr(self, name), type(self).model_fields[name].default
            if value != default and self.solver not in solvers:
                raise ValueError(
                    f"{name} is an option of {' and '.join(solvers)}, got {value} with {self.solver}"
                )
        return self


class Inpainting(Restoration):
    """Restoration of what a mask hides, where DPS is ahead of DiffPIR (docs/editing.md)."""

    solver: Solver = Field(
        "dps",
        description=(
            "sdedit (noise the input and denoise), replacement, repaint, ald (ScoreALD), dps, psld (for"
            " latents) or diffpir (fast)"
        ),
    )
