"""Settings and results of the study of latent sizes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit.presets import MLPPreset, VAEPreset
from latentdiff.apps.studies.kit.training import Trained
from latentdiff.apps.studies.latent_size.interpolation import InterpolationPaths
from latentdiff.evaluate import SampleScores, VAEScores
from latentdiff.nn import VAE


class VAEVariant(NamedTuple):
    """A VAE to compare: latent size and weight of the KL term; ``diffused``: a denoiser is trained on it."""

    latent: str
    beta: float
    diffused: bool

    @property
    def name(self) -> str:
        return f"latent {self.latent}, KL weight {self.beta:g}"


@dataclass(frozen=True)
class LatentSizeSettings:
    """``variants`` are (latent, KL weight, whether a denoiser is trained); paths have ``points`` between
    ``pairs`` of images,
    fewer where there are fewer test images."""

    variants: tuple[tuple[str, float, bool], ...] = (("8", 0.5, True), ("32", 0.5, True), ("32", 5.0, False))
    vae: VAEPreset = field(default_factory=lambda: VAEPreset(steps=400))
    denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=1000))
    pairs: int = 100
    points: int = 32
    samples: int = 500
    steps: int = 50
    resamples: int = 100


class VAEResults(NamedTuple):
    """What one variant gave."""

    trained: Trained
    vae: VAE
    scores: VAEScores
    copies: Tensor
    paths: InterpolationPaths


class DenoiserResults(NamedTuple):
    """What the denoiser on it gave."""

    trained: Trained
    loss: float
    images: Tensor
    scores: SampleScores
