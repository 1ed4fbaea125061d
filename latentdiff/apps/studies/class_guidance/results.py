"""Settings and results of the study of class guidance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit.presets import VAEPreset
from latentdiff.apps.studies.kit.training import Trained
from latentdiff.evaluate import SampleScores


@dataclass(frozen=True)
class UNetSettings:
    """The UNet of this package: on the latents of ``vae``, or on pixels where it is None."""

    vae: VAEPreset | None = field(default_factory=lambda: VAEPreset("4x7x7", steps=300))
    prediction: str = "x0"
    width: int = 32
    batch: int = 64
    lr: float = 2e-3
    epochs: tuple[int, ...] = (1, 5, 10, 15)


@dataclass(frozen=True)
class CourseSettings:
    """The course's recipe: linear betas from 0.0001 to 0.02 in T = 300 levels, eps, one-hot class, no
    averaged weights.
    """

    T: int = 300
    width: int = 16
    batch: int = 64
    lr: float = 1e-3
    epochs: tuple[int, ...] = (1, 3, 6)
    guidance: float = 5.0
    steps: int | None = 25


@dataclass(frozen=True)
class GuidanceSettings:
    """``scales`` are tried with the UNet over all levels, ``intervals`` (shares of T) at the scale
    ``limited``.
    """

    unet: UNetSettings = field(default_factory=UNetSettings)
    course: CourseSettings = field(default_factory=CourseSettings)
    scales: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    limited: float = 4.0
    intervals: tuple[tuple[float, float], ...] = ((0.0, 0.5), (0.5, 1.0), (0.25, 0.75))
    samples: int = 250
    steps: int = 20
    resamples: int = 100


class ScoredSamples(NamedTuple):
    """Samples of one setting: their scores, and the mean distance of two of one class over that of real
    images.
    """

    images: Tensor
    scores: SampleScores
    diversity: float


class TrainingResults(NamedTuple):
    """A training: what it gave at each epoch, and its losses."""

    trained: Trained
    marks: Mapping[int, int]
    found: Mapping[int, ScoredSamples]


class CourseResults(NamedTuple):
    """The course's recipe: through training without guidance, and at the end with the guidance that the
    course takes.
    """

    epochs: TrainingResults
    guided: ScoredSamples
    signal: float  # alpha-bar at the last level


@dataclass(frozen=True, eq=False)
class GuidanceResults:
    """Everything that the page shows."""

    unet: TrainingResults
    course: CourseResults
    scales: Mapping[float, ScoredSamples]
    intervals: Mapping[tuple[float, float], ScoredSamples]
    floor: SampleScores
    classes: tuple[str, ...]
