"""Settings and results of the study of noise schedules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.training import Trained
from latentdiff.apps.studies.process.noise_measures import at_equal_noise, log_snr
from latentdiff.config.diffusion import ScheduleKind
from latentdiff.evaluate import LevelLoss, Reconstruction, ReconstructionScores, SampleScores
from latentdiff.pipeline.pipeline import Pipeline


class NoiseProcess(NamedTuple):
    """A schedule under test; None leaves the betas to the kind."""

    name: str
    kind: ScheduleKind
    T: int
    beta: float | None = None


PROCESSES = (
    NoiseProcess("constant 0.001 (T = 2000)", "constant", 2000, 0.001),
    NoiseProcess("constant 0.1 (T = 200)", "constant", 200, 0.1),
    NoiseProcess("linear (T = 1000)", "linear", 1000),
    NoiseProcess("cosine (T = 1000)", "cosine", 1000),
)


@dataclass(frozen=True)
class NoiseScheduleSettings:
    """``side``: images are resized to it (None: as they are).

    ``ema``: decay of the weights' average (0: off). ``steps``: of DDPM (None: every level).
    """

    side: int | None = 14
    epochs: tuple[int, ...] = (1, 3, 6)
    batch: int = 32
    lr: float = 5e-3  # few steps want large ones
    ema: float = 0.99
    width: int | None = None
    samples: int = 500
    steps: int | None = 64
    tested: int = 250
    levels: int = 40
    resamples: int = 100


class EpochImages(NamedTuple):
    """What a network gives at an epoch: samples, and test images brought back from each of the three
    levels.
    """

    samples: Tensor
    back: tuple[Reconstruction, ...]


@dataclass(frozen=True, eq=False)
class ProcessResults:
    """Everything about one process; ``epoch_images`` by epoch, the figures at the last one."""

    process: NoiseProcess
    trained: Trained
    marks: Mapping[int, int]
    pipeline: Pipeline
    epoch_images: Mapping[int, EpochImages]
    samples: Tensor
    scores: SampleScores
    back: tuple[ReconstructionScores, ...]
    by_level: LevelLoss

    @property
    def test_loss(self) -> float:
        """The loss on the held-out images at the end, as the training measures it."""
        return self.trained.at("val_loss", self.trained.marks[-1])

    @property
    def train_loss(self) -> float:
        return self.trained.at("loss", self.trained.marks[-1])

    @property
    def signal(self) -> float:
        """alpha-bar at the last level."""
        return float(self.pipeline.schedule.alpha[-1] ** 2)

    def measured_at(self, power: float) -> list[float]:
        """The log-SNRs of the levels at which the test error was measured."""
        at: list[float] = log_snr(self.pipeline.schedule, power)[
            torch.tensor(self.by_level.levels) - 1
        ].tolist()
        return at

    def at_equal_noise(self, power: float, span: tuple[float, float]) -> float:
        """The test error of eps over noise levels that are the same for every process."""
        return at_equal_noise(self.measured_at(power), self.by_level.eps, span)
