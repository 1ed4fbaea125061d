"""How samples are drawn: the options of `latentdiff sample` and of Pipeline.sample."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple, Self

from pydantic import model_validator

from latentdiff.config.base import Config, setting
from latentdiff.config.diffusion import Spacing

Sampler = Literal["ddim", "ddpm", "dpm++", "heun"]


class SamplerInfo(NamedTuple):
    """A row of :data:`SAMPLERS`: the help text, the default number of steps (None: every level), the settings
    that apply to the sampler alone, and the network evaluations of a move.
    """

    help: str
    steps: int | None
    settings: tuple[str, ...] = ()
    evaluations: int = 1


SAMPLERS: dict[Sampler, SamplerInfo] = {  # the functions: latentdiff.diffusion.samplers
    "ddim": SamplerInfo("deterministic at eta 0", 50, ("eta",)),
    "ddpm": SamplerInfo("ancestral", None, ("variance",)),
    "dpm++": SamplerInfo("DPM-Solver++(2M), good with 10 to 25 steps", 20),
    "heun": SamplerInfo("second order, two evaluations a step", 18, evaluations=2),
}
SAMPLER_HELP = (
    ", ".join(SAMPLERS) + "; " + ", ".join(f"{name} ({row.help})" for name, row in SAMPLERS.items())
)
DEFAULT_STEPS = ", ".join(f"{name} {row.steps or 'every level'}" for name, row in SAMPLERS.items())
"""The default number of steps of each sampler, for help texts."""


class Sampling(Config):
    """A sampler and its settings; what does not apply to the sampler must be left at its default."""

    option_group: ClassVar[str] = "Sampling"

    sampler: Sampler = setting("ddim", f"sampler: {SAMPLER_HELP}")
    steps: int | None = setting(None, f"number of steps (default: {DEFAULT_STEPS})", ge=1, le=100_000)
    spacing: Spacing = setting("trailing", "timestep spacing: which levels the steps visit", advanced=True)
    eta: float | None = setting(
        None,
        "noise of ddim; 0 is deterministic, 1 draws as much as ddpm (default: the model's own, 0 where it"
        " names none)",
        ge=0,
        le=1,
        advanced=True,
    )
    variance: Literal["small", "large", "learned"] | None = setting(
        None, "variance of ddpm's noise (default: learned if the model learned it, else small)", advanced=True
    )
    guidance: float | None = setting(
        None,
        "classifier-free guidance; 0 ignores the condition, 1 is plain conditional, more exaggerates it"
        " (default: the model's own, 1 where it names none)",
        ge=0,
        le=100,
    )
    negative_prompt: str = setting(
        "", "text that guidance leads away from (default: the empty text)", max_length=2000, advanced=True
    )
    guidance_low: float = setting(
        0.0,
        "guide only at levels t with t/T of this or more; below, plain conditional",
        ge=0,
        le=1,
        advanced=True,
    )
    guidance_high: float = setting(
        1.0,
        "guide only at levels t with t/T of this or less; above, plain conditional",
        ge=0,
        le=1,
        advanced=True,
    )
    guidance_rescale: float = setting(
        0.0,
        "rescale guided outputs to the deviation of the conditional ones; 0 off, 1 full: prevents"
        " overexposure at high guidance (Lin et al. 2024)",
        ge=0,
        le=1,
        advanced=True,
    )
    compile: bool = setting(
        False,
        "compile the network first; 10 seconds to 2 minutes on a CPU (with a C++ compiler), seconds for a"
        " CUDA graph, once for each batch size; the same images to 1e-4, a trajectory is not compiled",
        advanced=True,
    )

    @model_validator(mode="after")
    def _applies(self) -> Self:
        for name in ("eta", "variance"):
            value, owners = (
                getattr(self, name),
                [key for key, row in SAMPLERS.items() if name in row.settings],
            )
            if value and self.sampler not in owners:
                raise ValueError(
                    f"`{name}` is an option of the {' and '.join(owners)} sampler, got {value} with"
                    f" `sampler` {self.sampler}"
                )
        if self.guidance_low > self.guidance_high:
            raise ValueError(
                f"`guidance_low` must not exceed `guidance_high`, got {self.guidance_low:g} >"
                f" {self.guidance_high:g}"
            )
        if self.guidance in (None, 1) and (self.guidance_low, self.guidance_high) != (0, 1):
            raise ValueError(
                "`guidance_low` and `guidance_high` have no effect at guidance 1; set `guidance` as well"
            )
        if self.guidance in (None, 1) and self.negative_prompt:
            raise ValueError("`negative_prompt` has no effect at guidance 1; set `guidance` as well")
        if not self.exaggerates and self.guidance_rescale:
            found = "none" if self.guidance is None else f"{self.guidance:g}"
            raise ValueError(f"`guidance_rescale` corrects a `guidance` other than 0 and 1, got {found}")
        return self

    @property
    def exaggerates(self) -> bool:
        """Whether a guidance is named that needs a condition: one other than 0 and 1."""
        return self.guidance not in (None, 0, 1)

    @property
    def interval(self) -> tuple[float, float]:
        """The noise levels, as shares of T, at which guidance acts."""
        return self.guidance_low, self.guidance_high

    def count(self, T: int) -> int:
        """The number of steps on a schedule of T levels."""
        return self.steps or min(T, SAMPLERS[self.sampler].steps or T)
