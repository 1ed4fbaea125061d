"""The latent models that several studies train: their numbers, and the options made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.training import Trained, train_denoiser, train_vae
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.data import Dataset


@dataclass(frozen=True)
class VAENumbers:
    """A VAE: its latent, optimizer steps and images a step."""

    latent: str = "32"
    steps: int = 500
    batch: int = 128
    width: int | None = None


@dataclass(frozen=True)
class MLPNumbers:
    """A residual MLP on vector latents."""

    width: int = 256
    depth: int = 3
    steps: int = 1500
    batch: int = 256
    lr: float = 1e-3


@dataclass(frozen=True)
class PixelNumbers:
    """A class-conditional UNet of patches on pixels that predicts x_0."""

    width: int = 48
    patch: int = 4
    steps: int = 700
    batch: int = 128
    lr: float = 2e-3
    T: int = 1000


@dataclass(frozen=True)
class TextNumbers:
    """A network on a spatial latent that listens to captions."""

    vae: VAENumbers = field(default_factory=lambda: VAENumbers(latent="4x8x8", steps=400))
    network: str = "unet"
    prediction: str = "x0"
    width: int = 48
    steps: int = 450
    batch: int = 128
    lr: float = 3e-3


FULL_TEXTS = TextNumbers(vae=VAENumbers(latent="4x8x8", steps=3000), steps=40_000, lr=2e-3)


def vae(
    lab: StudyContext, name: str, numbers: VAENumbers, *, data: Dataset | None = None, **changed: Any
) -> Trained:
    """Train a VAE; ``changed`` are options that differ from the defaults.

    Without a perceptual term: the network of it judges the study, and must not have taken part in what it
    judges.
    """
    values = {
        "data": (data or lab.data).name,
        "latent": numbers.latent,
        "steps": numbers.steps,
        "batch": numbers.batch,
        "width": numbers.width,
        "perceptual": 0.0,
        "seed": lab.seed,
        "device": str(lab.device),
    }
    return train_vae(lab, name, TrainVAE.model_validate(values | changed), data=data)


def mlp(
    lab: StudyContext,
    name: str,
    encoder: Trained,
    numbers: MLPNumbers,
    *,
    data: Dataset | None = None,
    **changed: Any,
) -> Trained:
    """Train a denoiser on the vectors of a VAE."""
    return _denoiser(lab, name, numbers, data or lab.data, {"depth": numbers.depth} | changed, vae=encoder)


def pixels(
    lab: StudyContext, name: str, numbers: PixelNumbers, *, data: Dataset | None = None, **changed: Any
) -> Trained:
    """Train a denoiser on pixels; ``changed`` are options that differ.

    Patches that do not fit the images are halved.
    """
    data = data or lab.data
    patch = fitting(numbers.patch, data)
    own = {"pixel": True, "prediction": "x0", "patch": patch, "T": numbers.T}
    return _denoiser(lab, name, numbers, data, own | changed, vae=None)


def fitting(patch: int, data: Dataset) -> int:
    """A patch that divides the images into 4 x 4 or more, halved until it does."""
    while any(side % patch or side // patch < 4 for side in (data.height, data.width)) and patch > 1:
        patch //= 2
    return patch


def texts(lab: StudyContext, name: str, numbers: TextNumbers, *, data: Dataset) -> Trained:
    """Train a VAE on captioned images, and a denoiser that listens to their captions."""
    encoder = vae(lab, f"{name}-vae", numbers.vae, data=data)
    own = {"text": True, "network": numbers.network, "prediction": numbers.prediction}
    return _denoiser(lab, name, numbers, data, own, vae=encoder)


def _denoiser(
    lab: StudyContext,
    name: str,
    numbers: MLPNumbers | PixelNumbers | TextNumbers,
    data: Dataset,
    own: Mapping[str, Any],
    *,
    vae: Trained | None,
) -> Trained:
    """What all denoisers have, and the options that are a kind's ``own``."""
    values = {
        "data": data.name,
        "width": numbers.width,
        "steps": numbers.steps,
        "batch": numbers.batch,
        "lr": numbers.lr,
        "seed": lab.seed,
        "device": str(lab.device),
    }
    options = TrainDenoiser.model_validate(values | dict(own))
    assert options.steps is not None
    return train_denoiser(lab, name, options, vae=vae, marks=(options.steps,), data=data)
