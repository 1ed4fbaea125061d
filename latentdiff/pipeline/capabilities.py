"""Capabilities of a model, read from its checkpoint's configurations alone, and what a command needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from latentdiff.nn import DENOISERS
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint
from latentdiff.pipeline.checkpoint.index import of_diffusers
from latentdiff.pipeline.checkpoint.pretrained import Shipped, shipped_for

WORDS = {config.class_name() for config in DENOISERS if config.words}
Kind = Literal["text", "classes", "condition", "words", "grid", "latents", "levels"]


class Need(NamedTuple):
    """A capability that a command needs, and the ``option`` that requires it.

    ``instead``: an option that does without it; "": the command does without ``option``; None: it cannot.
    """

    kind: Kind
    option: str
    instead: str | None = ""


@dataclass(frozen=True)
class Capabilities:
    """``words``: cross-attention to single words of a prompt; ``grid``: pixels or spatial latents.

    ``levels``: all noise levels, of which a student has learned few.
    """

    conditioning: Literal["text", "classes", "none"]
    words: bool
    grid: bool
    latents: bool
    levels: bool = True

    def has(self, kind: Kind) -> bool:
        """Whether the model offers a capability."""
        if kind == "condition":
            return self.conditioning != "none"
        if kind in ("text", "classes"):
            return self.conditioning == kind
        return bool(getattr(self, kind))

    def lacking(self, needs: Sequence[Need]) -> Need | None:
        """The first need that the model does not meet; None where it meets all."""
        return next((need for need in needs if not self.has(need.kind)), None)

    def against(self, kind: Kind) -> str:
        """Why the model lacks a capability, as the end of a sentence that begins with its name."""
        known = {
            "text": "is conditioned on prompts",
            "classes": "is conditioned on classes",
            "none": "is unconditional",
        }
        no = "" if self.conditioning == "none" else f", not on {'prompts' if kind == 'text' else 'classes'}"
        return {
            "text": f"{known[self.conditioning]}{no}",
            "classes": f"{known[self.conditioning]}{no}",
            "condition": known[self.conditioning],
            "words": "takes a prompt as a whole, without attention to its words",
            "grid": "works on vector latents, which have no places",
            "latents": "is a pixel model, it has no VAE",
            "levels": "is a student, which has learned few noise levels",
        }[kind]

    def instead(self, need: Need) -> str:
        """What the command can be given with this model instead, as a remedy begins; "" if nothing."""
        if need.instead is None:
            return ""
        takes = {"text": "--prompt", "classes": "--label", "none": ""}[self.conditioning]
        if need.option.startswith(("--label", "--prompt")) and takes and not need.instead:
            return f"use {takes}, "
        return f"use {need.instead}, " if need.instead else f"leave {need.option.split()[0]} out, "


def capabilities_of(checkpoint: Checkpoint) -> Capabilities | None:
    """The capabilities of a checkpoint's denoiser; None without one. InputError for damaged files."""
    index = checkpoint.json(INDEX)
    if "denoiser" not in index:
        return None
    foreign = of_diffusers(index, "denoiser")  # a UNet2DModel, whose configuration has other words
    config: Mapping[str, Any] = {} if foreign else checkpoint.json("denoiser/config.json")
    text, shape = isinstance(config.get("text"), dict), config.get("shape")
    return Capabilities(
        conditioning="text" if text else "classes" if index.get("classes") else "none",
        words=text and config.get("_class_name") in WORDS,
        grid=foreign or (isinstance(shape, list) and len(shape) == 3),
        latents=index.get("vae") not in (None, [None, None]),
        levels=index.get("student") is None,
    )


def shipped_that(
    needs: Sequence[Need], *, pixels: bool = False, fits: Callable[[Shipped], bool] | None = None
) -> Shipped | None:
    """The model of the package that meets the needs and ``fits`` takes; one of ``pixels`` where that works
    best.
    """
    kinds = {need.kind for need in needs}
    text = "text" in kinds
    return shipped_for(
        "text" if text else "classes",
        pixels=not text and "latents" not in kinds and (pixels or "grid" in kinds),
        fits=fits,
    )


def way_out(needs: Sequence[Need]) -> str:
    """How to come to a model that meets the needs: one of the package, or a training."""
    kinds = {need.kind for need in needs}
    options = {"text": " --text", "words": " --network unet", "grid": " --pixel"}
    trained = "latentdiff train-denoiser" + "".join(
        option for kind, option in options.items() if kind in kinds
    )
    model = shipped_that(needs)
    by_name = "" if model is None else f"take --run {model.name}, a model of the package, "
    return f"{by_name}or train one with `{trained}`"
