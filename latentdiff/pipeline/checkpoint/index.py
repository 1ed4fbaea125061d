"""The model index of a checkpoint: its components by library and class, and what they have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, Strict

from latentdiff.errors import InputError
from latentdiff.files.untrusted import checked
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint

Side = Annotated[int, Strict(), Field(gt=0)]
Eta = Annotated[float, Strict(), Field(ge=0, le=1, allow_inf_nan=False)]
Guidance = Annotated[float, Strict(), Field(ge=0, le=100, allow_inf_nan=False)]


def model_index(*, vae: bool, denoiser: str | None) -> dict[str, Any]:
    """The component table of model_index.json, in the form Hugging Face users know."""
    index: dict[str, Any] = {
        "_class_name": "AutoencoderPipeline" if denoiser is None else "DiffusionPipeline",
        "vae": ["latentdiff", "AutoencoderKL"] if vae else [None, None],
    }
    if denoiser is not None:
        index |= {"denoiser": ["latentdiff", denoiser], "scheduler": ["latentdiff", "Schedule"]}
    return index


def holds_vae_alone(index: Mapping[str, Any]) -> bool:
    """Whether a model index is that of a trained VAE without a denoiser on it."""
    return "denoiser" not in index and index.get("vae") not in (None, [None, None])


def of_diffusers(index: Mapping[str, Any], component: str) -> bool:
    """Whether a component of a model index is diffusers'."""
    entry = index.get(component)
    return isinstance(entry, list) and entry[:1] == ["diffusers"]


def has_vae(checkpoint: Checkpoint, index: Mapping[str, Any]) -> bool:
    """Whether a model works in a VAE's latent space; InputError where its index does not say."""
    entry = index.get("vae")
    if not isinstance(entry, list) or len(entry) != 2:
        raise InputError(
            f"{checkpoint.folder}/{INDEX}: expected vae as [library, class] or [null, null], found"
            f" {entry!r:.60}"
        )
    return entry != [None, None]


def image_shape(checkpoint: Checkpoint, index: Mapping[str, Any]) -> tuple[int, ...]:
    """The shape of the images of a model."""
    where, what = f"{checkpoint.folder}/{INDEX}", "image as [channels, height, width]"
    found: tuple[int, ...] = checked(tuple[Side, Side, Side], index.get("image"), where, what)
    return found


def class_names(checkpoint: Checkpoint, index: Mapping[str, Any], expected: int) -> tuple[str, ...]:
    """The names of the ``expected`` classes, one for each label that the denoiser knows."""
    names = index.get("classes") or []
    if not isinstance(names, list) or len(names) != expected:
        raise InputError(
            f"{checkpoint.folder}/{INDEX}: expected the names of {expected} classes, found {names!r:.80}"
        )
    return tuple(str(name) for name in names)


def class_counts(checkpoint: Checkpoint, index: Mapping[str, Any], classes: int) -> tuple[int, ...]:
    """How many training images each class had; () of a checkpoint that does not say."""
    counts = index.get("class_counts")
    if counts is None:
        return ()
    if (
        not isinstance(counts, list)
        or len(counts) != classes
        or not all(type(count) is int and 0 <= count < 2**53 for count in counts)
        or not any(counts)
    ):
        what = f"class_counts as {classes} whole numbers of 0 or more, not all 0"
        raise InputError(f"{checkpoint.folder}/{INDEX}: expected {what}, found {counts!r:.80}")
    return tuple(counts)


def eta(checkpoint: Checkpoint, index: Mapping[str, Any]) -> float:
    """The noise of DDIM of a model's samples where none is given; 0 of a checkpoint that does not say."""
    where, what = f"{checkpoint.folder}/{INDEX}", "eta as a number from 0 to 1"
    found: float = checked(Eta, index.get("eta", 0.0), where, what)
    return found


def guidance(checkpoint: Checkpoint, index: Mapping[str, Any]) -> float:
    """The guidance of a model's samples where none is given; 1 of a checkpoint that does not say."""
    where, what = f"{checkpoint.folder}/{INDEX}", "guidance as a number from 0 to 100"
    found: float = checked(Guidance, index.get("guidance", 1.0), where, what)
    return found
