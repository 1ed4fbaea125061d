"""Restoration: what degraded an image (operators), what restores it (solvers), and the options of each.

``OPERATORS`` and ``SOLVERS`` are the tables from which the command line builds its options, its help and its
errors. A row names the function that does the work, by its file in ``latentdiff.diffusion.operators`` or
``latentdiff.diffusion.solvers``, so that this file needs no torch.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, Self

from pydantic import model_validator

from latentdiff.config.base import Config, setting
from latentdiff.config.sampling import Sampling

ASSUMED_NOISE = 0.05  # of images that were degraded elsewhere: no operator fits them exactly


class BlurOptions(Config):
    """Gaussian blur."""

    blur_sigma: float = setting(1.5, "blur: standard deviation in pixels", ge=0.1, le=100)


class MotionOptions(Config):
    """Blur by a moving camera."""

    motion_length: float = setting(7.0, "motion: length of the path in pixels", ge=1, le=200)
    motion_angle: float = setting(
        45.0, "motion: direction in degrees; 0 to the right, 90 up", ge=-360, le=360
    )


class DownsampleOptions(Config):
    """Means of square blocks of pixels."""

    factor: int = setting(2, "downsample: pixels of a block along each side", ge=1, le=64)


class MaskOptions(Config):
    """An inpainting mask: made by rule, or read from a file."""

    mask: str = setting(
        "box",
        "missing pixels; box, half, random, or an image file: white is known and kept, black is filled in"
        " (diffusers and AUTOMATIC1111 fill in white: add --invert-mask)",
    )
    invert_mask: bool = setting(
        False, "exchange known and missing; fill in the white of a file, or all but a box"
    )
    box: str | None = setting(
        None,
        "missing box of --mask box; height x width in pixels and its corner from the top left, as 12x10 or"
        " 12x10+3+4 (default: half of each side, in the middle)",
    )
    side: Literal["top", "bottom", "left", "right"] = setting(
        "bottom", "missing half of --mask half", was="half"
    )
    missing: float = setting(0.5, "share of missing pixels of --mask random", ge=0, le=1)


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
    "downsample": OperatorInfo("linear:downsample", DownsampleOptions),
    "mask": OperatorInfo("mask:masked", MaskOptions),
    "noise": OperatorInfo("linear:identity"),
}


class MeasurementOptions(Config):
    """The noise of a measurement."""

    noise: float | None = setting(
        None,
        "standard deviation of the measurement noise; pixels lie in [-1, 1] (default: 0;"
        f" {ASSUMED_NOISE:g} with --already-degraded, as no operator fits such images exactly)",
        ge=0,
        le=10,
    )


class SDEditOptions(Config):
    """SDEdit (Meng et al. 2022)."""

    strength: float = setting(0.5, "SDEdit: noise level of the start as a share of T", ge=0, le=1)


class RePaintOptions(Config):
    """RePaint (Lugmayr et al. 2022)."""

    jump_length: int = setting(10, "RePaint: steps of a jump back", ge=1, le=1000, advanced=True)
    jumps: int = setting(5, "RePaint: passes over each stretch of steps", ge=1, le=100, advanced=True)


class ScoreALDOptions(Config):
    """ScoreALD (Jalal et al. 2021)."""

    anneal: float = setting(
        0.5,
        "ScoreALD: gamma_t as a share of sigma_t / alpha_t; smaller follows the measurement more closely",
        ge=0,
        le=1000,
        advanced=True,
    )


class GradientOptions(Config):
    """Solvers that descend along the gradient of the measurement error."""

    zeta: float = setting(1.0, "DPS and PSLD: size of the step along the gradient", ge=0, le=1000)


class DPSOptions(GradientOptions):
    """DPS (Chung et al. 2023)."""

    step_size: Literal["residual", "gradient"] = setting(
        "residual",
        "DPS: divide the gradient by the norm of the residual (as published) or by its own",
        advanced=True,
    )


class PSLDOptions(GradientOptions):
    """PSLD (Rout et al. 2023)."""

    psld_gamma: float = setting(
        0.1,
        "PSLD: weight of the term that keeps latents on encodings of images",
        ge=0,
        le=1000,
        was="glue",
        advanced=True,
    )


class DiffPIROptions(Config):
    """DiffPIR (Zhu et al. 2023)."""

    diffpir_lambda: float = setting(
        0.5,
        "DiffPIR: weight of the model against the measurement (lambda)",
        gt=0,
        le=1e6,
        was="trust",
        advanced=True,
    )
    diffpir_zeta: float = setting(
        0.3,
        "DiffPIR: share of fresh noise in every step, 0 is deterministic (zeta)",
        ge=0,
        le=1,
        was="share",
        advanced=True,
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

    solver: Solver = setting("diffpir", _solvers())

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
                    f"`{name}` is an option of {' and '.join(solvers)}, got {value} with"
                    f" `solver` {self.solver}"
                )
        return self


class Inpainting(Restoration):
    """Restoration of what a mask hides, where DPS is ahead of DiffPIR (docs/editing.md)."""

    solver: Solver = setting("dps", _solvers())
