"""A student of few calls: how it draws, and the guidance that its network takes as an input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.denoiser import Network
from latentdiff.errors import InputError
from latentdiff.files.untrusted import checked
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint

Scale = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]


class Student(BaseModel):
    """``calls`` of the network make an image, by deterministic DDIM over as many steps from the level
    ``start`` (None: the highest); ``guidance_low`` and ``guidance_high``: the scales that it has learned (1
    and 1: none); ``teacher``: the name of its teacher.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    calls: int = Field(ge=1, le=1000)
    start: int | None = Field(default=None, ge=1)
    guidance_low: Scale = 1.0
    guidance_high: Scale = 1.0
    teacher: str = Field(default="", max_length=1000)

    def settled(self, settings: Sampling) -> Sampling:
        """The settings with the student's number of steps; InputError for others than it has learned."""
        fixed = ("sampler", "eta", "spacing", "negative_prompt", "guidance_low", "guidance_high")
        usual = Sampling()
        given = {name: getattr(settings, name) for name in (*fixed, "guidance_rescale")}
        plain = {name: getattr(usual, name) for name in given}
        given |= {"steps": self.calls if settings.steps is None else settings.steps, "eta": settings.eta or 0}
        plain |= {"steps": self.calls, "eta": 0}
        for name, value in given.items():
            if value != plain[name]:
                raise InputError(
                    f"`{name}`: this model is a student that draws by ddim in {self.calls} steps, expected"
                    f" {plain[name]}, got {value}; leave it out, or take its teacher"
                )
        w = settings.guidance
        if w not in (None, 0, 1) and not self.guidance_low <= w <= self.guidance_high:
            raise InputError(
                f"`guidance`: this student has learned {self.guidance_low:g} to {self.guidance_high:g}, got"
                f" {w:g}"
            )
        return settings.model_copy(update={"steps": self.calls})

    def guided(self, network: Network, scale: float) -> Network:
        """The network at a guidance scale, in one call instead of two."""

        def call(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            scales: Any = torch.full_like(t, 1.0 if scale == 0 else scale, dtype=torch.float32)
            return network(x, t, labels, guidance=scales)  # type: ignore[call-arg]

        return call


def student_of(checkpoint: Checkpoint, index: Mapping[str, Any]) -> Student | None:
    """How the student of a checkpoint draws; None of a model that is none. InputError for wrong entries."""
    if index.get("student") is None:
        return None
    where = f"{checkpoint.folder}/{INDEX}"
    found: Student = checked(Student, index["student"], where, "student as its calls and guidance")
    return found
