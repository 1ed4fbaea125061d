"""Restoration: what degraded an image (operators), what restores it (solvers), and the options of each.

``OPERATORS`` and ``SOLVERS`` are the tables from which the command line builds its options, its help and its
errors. A row names the function that does the work, by its file in ``latentdiff.diffusion.operators`` or
``latentdiff.diffusion.solvers``, so that this file needs no torch.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from latentdiff.config.base import Config, option
from latentdiff.config.sampling import Sampling

ASSUMED_NOISE = 0.05  # of images that were degraded elsewhere: no operator fits them exactly


class BlurOptions(Config):
    """Gaussian blur."""

    blur_sigma: float = Field(1.5, ge=0.1, le=100, description="blur: standard deviation in pixels")


class MotionOptions(Config):
    """Blur by a moving camera."""

    motion_length: float = Field(7.0, ge=1, le=200, description="motion: length of the path in pixels")
    motion_angle: float = Field(
        45.0, ge=-360, le=360, description="motion: direction in degrees; 0 to the right, 90 up"
    )


class DownsampleOptions(Config):
    """Means of square blocks of pixels."""

    factor: int = Field(2, ge=1, le=64, description="downsample: pixels of a block along each side")


class MaskOptions(Config):
    """An inpainting mask: made by rule, or read from a file."""

    mask: str = Field(
        "box",
        description=(
            "missing pixels; box, half, random, or an image file: white is known and kept, black is filled"
            " in (diffusers and AUTOMATIC1111 fill in white: add --invert-mask)"
        ),
    )
    invert_mask: bool = Field(
        False,
        description="exchange known and missing; fill in the white of a file, or all but a box",
    )
    box: str | None = Field(
        None,
        description=(
            "missing box of --mask box; height x width in pixels and its corner from the top left, as 12x10"
            " or 12x10+3+4 (default: half of each side, in the middle)"
        ),
    )
    side: Literal["top", "bottom", "left", "right"] = Field(
        "bottom", description="missing half of --mask half", json_schema_extra=option(was="half")
    )
    missing: float = Field(0.5, ge=0, le=1, description="share of missing pixels of --mask random")


MASKS = {"box": "box", "half": "side", "random": "missing"}  # masks made by rule, and the option of each


class OperatorInfo(NamedTuple):
    """An operator: its ``function``, as "file:name" in latentdiff.diffusion.operators, and its options.

    The function takes the shape of an image and the options, without the operator's name in front
    (``blur_sigma`` is ``sigma``). That of ``mask`` takes a mask instead, which the caller makes or reads.
    """

    function: str
    options: type[Config] = Config


OPERATORS = {
    "blur": OperatorInfo("blur:gaussian_blur", BlurOptions),
    "motion": OperatorInfo("blur:motion_blur", MotionOptions),
    "downsample": OperatorInfo("resample:downsample", DownsampleOptions),
    "mask": OperatorInfo("mask:masked", MaskOptions),
    "noise": OperatorInfo("linear:identity"),
}


class MeasurementOptions(Config):
    """The noise of a measurement."""

    noise: float | None = Field(
        None,
        ge=0,
        le=10,
        description=(
            "standard deviation of the measurement noise; pixels lie in [-1, 1] (default: 0;"
            f" {ASSUMED_NOISE:g} with --already-degraded, as no operator fits such images exactly)"
        ),
    )


class SDEditOptions(Config):
    """SDEdit (Meng et al. 2022)."""

    strength: float = Field(0.5, ge=0, le=1, description="SDEdit: noise level of the start as a share of T")


class RePaintOptions(Config):
    """RePaint (Lugmayr et al. 2022)."""

    jump_length: int = Field(
        10,
        ge=1,
        le=1000,
        description="RePaint: steps of a jump back",
        json_schema_extra=option(advanced=True),
    )
    jumps: int = Field(
        5,
        ge=1,
        le=100,
        description="RePaint: passes over each stretch of steps",
        json_schema_extra=option(advanced=True),
    )


class ScoreALDOptions(Config):
    """ScoreALD (Jalal et al. 2021)."""

    anneal: float = Field(
        0.5,
        ge=0,
        le=1000,
        description=(
            "ScoreALD: gamma_t as a share of sigma_t / alpha_t; smaller follows the measurement more closely"
        ),
        json_schema_extra=option(advanced=True),
    )


class GradientOptions(Config):
    """Solvers that descend along the gradient of the measurement error."""

    zeta: float = Field(1.0, ge=0, le=1000, description="DPS and PSLD: size of the step along the gradient")


class DPSOptions(GradientOptions):
    """DPS (Chung et al. 2023)."""

    step_size: Literal["residual", "gradient"] = Field(
        "residual",
        description="DPS: divide the gradient by the norm of the residual (as published) or by its own",
        json_schema_extra=option(advanced=True),
    )


class PSLDOptions(GradientOptions):
    """PSLD (Rout et al. 2023)."""

    psld_gamma: float = Field(
        0.1,
        ge=0,
        le=1000,
        description="PSLD: weight of the term that keeps latents on encodings of images",
        json_schema_extra=option(was="glue", advanced=True),
    )


class DiffPIROptions(Config):
    """DiffPIR (Zhu et al. 2023)."""

    diffpir_lambda: float = Field(
        0.5,
        gt=0,
        le=1e6,
        description="DiffPIR: weight of the model against the measurement (lambda)",
        json_schema_extra=option(was="trust", advanced=True),
    )
    diffpir_zeta: float = Field(
        0.3,
        ge=0,
        le=1,
        description="DiffPIR: share of fresh noise in every step, 0 is deterministic (zeta)",
        json_schema_extra=option(was="share", advanced=True),
    )


Solver = Literal["sdedit", "replacement", "repaint", "ald", "dps", "psld", "diffpir"]


class SolverInfo(NamedTuple):
    """A solver: its ``function``, as "file:name" in latentdiff.diffusion.solvers, and its options.

    ``hint``: of the help text; ``needs``: a model on a grid (pixels or spatial latents), or one of latents;
    ``masks_only``: takes no operator but a mask; ``gradients``: differentiates through the network, which
    takes memory; ``own_step``: replaces the sampler's step.
    """

    function: str
    options: type[Config] = Config
    hint: str = ""
    needs: Literal["grid", "latents"] | None = None
    masks_only: bool = False
    gradients: bool = False
    own_step: bool = False


SOLVERS: dict[Solver, SolverInfo] = {
    "sdedit": SolverInfo("sdedit:sdedit_loop", SDEditOptions, "noises the input and denoises it"),
    "replacement": SolverInfo("repaint:replacement_loop", hint="masks only", needs="grid", masks_only=True),
    "repaint": SolverInfo(
        "repaint:repaint_loop", RePaintOptions, hint="masks only", needs="grid", masks_only=True
    ),
    "ald": SolverInfo("score_ald:score_ald_loop", ScoreALDOptions, "ScoreALD", gradients=True),
    "dps": SolverInfo("dps:dps_loop", DPSOptions, "many steps", gradients=True),
    "psld": SolverInfo("dps:psld_loop", PSLDOptions, "DPS for latents", needs="latents", gradients=True),
    "diffpir": SolverInfo("diffpir:diffpir_loop", DiffPIROptions, "few steps", own_step=True),
}


def _solvers() -> str:
    hints = ", ".join(f"{name} ({info.hint})" for name, info in SOLVERS.items())
    return f"solver: {', '.join(SOLVERS)}; {hints}"


class Restoration(SDEditOptions, RePaintOptions, ScoreALDOptions, DPSOptions, PSLDOptions, DiffPIROptions):
    """A solver for y = A x + noise and its options; those of other solvers must be left at their defaults."""

    solver: Solver = Field("diffpir", description=_solvers())

    def unused(self, settings: Sampling) -> str:
        """The sampler's setting that the solver ignores because it makes steps of its own; "" if none."""
        if not SOLVERS[self.solver].own_step:
            return ""
        if settings.sampler != "ddim":
            return f"sampler {settings.sampler}"
        return f"eta {settings.eta:g}" if settings.eta else ""

    def options(self) -> dict[str, Any]:
        """The options of the chosen solver by name."""
        return self.model_dump(include=set(SOLVERS[self.solver].options.model_fields))

    @model_validator(mode="after")
    def _applies(self) -> Self:
        for name, field in type(self).model_fields.items():
            solvers = [each for each, info in SOLVERS.items() if name in info.options.model_fields]
            value = getattr(self, name)
            if solvers and value != field.default and self.solver not in solvers:
                raise ValueError(
                    f"{name} is an option of {' and '.join(solvers)}, got {value} with {self.solver}"
                )
        return self


class Inpainting(Restoration):
    """Restoration of what a mask hides, where DPS is ahead of DiffPIR (docs/editing.md)."""

    solver: Solver = Field("dps", description=_solvers())
