"""How the diffusion process is defined: the noise schedule, the prediction type and the kind of variance."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from latentdiff.config.base import Config

ScheduleKind = Literal["linear", "scaled_linear", "cosine", "sigmoid", "constant"]
Prediction = Literal["eps", "v", "x0", "score"]
Variance = Literal["fixed", "learned"]
Spacing = Literal["trailing", "leading", "linspace", "quadratic"]

NEEDS_SIGNAL = ("eps", "score")  # predictions from which x_0 cannot be read where alpha = 0


class ScheduleConfig(Config):
    """A discrete variance-preserving schedule of levels 0 (clean) to T (noise)."""

    kind: ScheduleKind = Field("cosine", description="shape of the noise schedule")
    T: int = Field(1000, ge=1, le=100_000, description="number of noise levels")
    beta_start: float | None = Field(
        None, gt=0, lt=1, description="first beta of linear and scaled_linear, the beta of constant (default: by kind)"
    )
    beta_end: float | None = Field(
        None, gt=0, lt=1, description="last beta of linear and scaled_linear (default: by kind)"
    )
    zero_terminal_snr: bool = Field(False, description="rescale so that level T is pure noise (Lin et al. 2024)")

    @model_validator(mode="after")
    def _betas_fit_the_kind(self) -> Self:
        if self.beta_start is not None and self.kind in ("cosine", "sigmoid"):
            raise ValueError(f"beta_start is not used by the {self.kind} schedule")
        if self.beta_end is not None and self.kind in ("cosine", "sigmoid", "constant"):
            raise ValueError(f"beta_end is not used by the {self.kind} schedule")
        if self.beta_start is not None and self.beta_end is not None and self.beta_start > self.beta_end:
            raise ValueError(f"beta_start must not exceed beta_end, got {self.beta_start} > {self.beta_end}")
        if self.zero_terminal_snr and self.T < 2:
            raise ValueError(f"zero_terminal_snr needs T of at least 2, got {self.T}")
        return self


class DiffusionConfig(Config):
    """What a trained denoiser means: stored as ``scheduler/scheduler_config.json`` beside its weights."""

    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    prediction: Prediction = Field("v", description="what the network returns")
    variance: Variance = Field("fixed", description="learned: the network also returns the range of Nichol & Dhariwal")
    clip: float | None = Field(None, gt=0, description="x_0 estimates are clipped to [-clip, clip]; pixel models only")

    @model_validator(mode="after")
    def _has_a_signal(self) -> Self:
        if self.schedule.zero_terminal_snr and self.prediction in NEEDS_SIGNAL:
            raise ValueError(
                f"prediction '{self.prediction}' cannot be used with zero terminal SNR (--zero-snr): at level T alpha is 0, "
                f"so x_0 cannot be read from x_T and {self.prediction}; use v or x0"
            )
        return self
