"""How the diffusion process is defined: the noise schedule, the prediction type and the kind of variance."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from latentdiff.config.base import Config, setting

ScheduleKind = Literal["linear", "scaled_linear", "cosine", "sigmoid", "constant", "rectified-flow"]
Prediction = Literal["eps", "v", "x0", "score", "flow"]
Variance = Literal["fixed", "learned"]
Spacing = Literal["trailing", "leading", "linspace", "quadratic", "karras"]

NEEDS_SIGNAL = ("eps", "score")  # predictions from which x_0 cannot be read where alpha = 0


class ScheduleInfo(NamedTuple):
    """A row of :data:`SCHEDULES`: the options that a kind takes, and whether its level T is pure noise."""

    takes: tuple[str, ...] = ()
    pure_noise: bool = False


SCHEDULES: dict[str, ScheduleInfo] = {  # the functions: latentdiff.diffusion.schedule
    "linear": ScheduleInfo(("beta_start", "beta_end")),
    "scaled_linear": ScheduleInfo(("beta_start", "beta_end")),
    "cosine": ScheduleInfo(),
    "sigmoid": ScheduleInfo(),
    "constant": ScheduleInfo(("beta_start",)),
    "rectified-flow": ScheduleInfo(pure_noise=True),
    "betas": ScheduleInfo(),  # those given
}


class _Sparse(Config):
    """A configuration whose file leaves out rare fields at their defaults."""

    @model_serializer(mode="wrap")
    def _without_unused(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = written(self)
        unused = {name for name in self._rare if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in values.items() if name not in unused}

    @property
    def _rare(self) -> tuple[str, ...]:
        """Fields that are written only where they differ from their default."""
        raise NotImplementedError


class ScheduleConfig(_Sparse):
    """A discrete noise schedule of levels 0 (clean) to T (noise)."""

    kind: ScheduleKind | Literal["betas"] = setting(
        "cosine", "shape of the noise schedule; betas: those given"
    )
    T: int = setting(1000, "number of noise levels", ge=1, le=100_000, group="Diffusion")
    beta_start: float | None = setting(
        None,
        "first beta of linear/scaled_linear; the beta of constant (default: by kind)",
        gt=0,
        lt=1,
        group="Diffusion",
    )
    beta_end: float | None = setting(
        None, "last beta of linear/scaled_linear (default: by kind)", gt=0, lt=1, group="Diffusion"
    )
    betas: tuple[Annotated[float, Field(gt=0, lt=1)], ...] | None = setting(
        None, "beta_1 to beta_T of a model imported with a table of betas"
    )
    zero_terminal_snr: bool = setting(
        False,
        "rescale so that level T is pure noise; zero terminal SNR (Lin et al. 2024)",
        group="Diffusion",
        flag="zero-snr",
    )

    @property
    def _rare(self) -> tuple[str, ...]:
        return ("betas",)

    @model_validator(mode="after")
    def _betas_fit_the_kind(self) -> Self:
        if (self.kind == "betas") != (self.betas is not None):
            raise ValueError(f"`betas` belong to the `kind` betas and to no other, got {self.kind}")
        if self.betas is not None and len(self.betas) != self.T:
            raise ValueError(f"`betas` must be as many as the levels, {self.T}, got {len(self.betas)}")
        for name in ("beta_start", "beta_end"):
            if getattr(self, name) is not None and name not in SCHEDULES[self.kind].takes:
                raise ValueError(f"`{name}` is not used by the {self.kind} schedule")
        if self.beta_start is not None and self.beta_end is not None and self.beta_start > self.beta_end:
            raise ValueError(
                f"`beta_start` must not exceed `beta_end`, got {self.beta_start} > {self.beta_end}"
            )
        if self.zero_terminal_snr and self.T < 2:
            raise ValueError(f"`zero_terminal_snr` needs `T` of at least 2, got {self.T}")
        return self

    @property
    def pure_noise(self) -> bool:
        """Whether alpha is 0 at level T."""
        return self.zero_terminal_snr or SCHEDULES[self.kind].pure_noise


class DiffusionConfig(_Sparse):
    """What a trained denoiser means: stored as ``scheduler/scheduler_config.json`` beside its weights."""

    schedule: ScheduleConfig = Field(default_factory=ScheduleConfig)
    prediction: Prediction = setting("v", "what the network returns")
    sigma_data: float = setting(
        0.0,
        "of x0 networks: x_0 = c_skip x_t + c_out out with EDM's coefficients for data of this deviation; 0:"
        " the network returns x_0 itself",
        ge=0,
        le=100,
    )
    variance: Variance = setting("fixed", "learned: the network also returns the range of Nichol & Dhariwal")
    clip: float | None = setting(None, "x_0 estimates are clipped to [-clip, clip]; pixel models only", gt=0)
    noise: Literal["small", "large"] = setting("small", "default size of ddpm's noise")
    rules: Literal["own", "diffusers"] = setting(
        "own",
        "conventions of sampling; diffusers: ddim keeps the network's noise direction where x_0 is clipped,"
        " and every sampler starts at level T",
    )

    @property
    def _rare(self) -> tuple[str, ...]:
        return ("sigma_data", "noise", "rules")

    @model_validator(mode="after")
    def _is_preconditioned_x0(self) -> Self:
        if self.sigma_data and self.prediction != "x0":
            raise ValueError(
                f"`sigma_data` belongs to `prediction` x0, got {self.sigma_data:g} with {self.prediction}"
            )
        return self

    @model_validator(mode="after")
    def _has_a_signal(self) -> Self:
        if self.schedule.pure_noise and self.prediction in NEEDS_SIGNAL:
            zero = self.schedule.zero_terminal_snr
            what = "zero terminal SNR" if zero else f"the {self.schedule.kind} schedule"
            raise ValueError(
                f"`prediction` {self.prediction} cannot be used with {what}: at level T alpha is 0, so x_0"
                f" cannot be read from x_T and {self.prediction}; use v, x0 or flow"
            )
        return self
