"""Study `noise-schedule-study`: one small network under four schedules, and why its test loss does not say which samples best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.config.diffusion import ScheduleKind
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset
from latentdiff.evaluate import (
    LevelLoss,
    Reconstruction,
    ReconstructionScores,
    SampleScores,
    loss_by_level,
    reconstruct_from,
    score_reconstruction,
)
from latentdiff.pipeline import Pipeline
from latentdiff.study import schedule_pages
from latentdiff.study.judge import Judge, drawn, sampling
from latentdiff.study.lab import Lab
from latentdiff.study.make import Study
from latentdiff.study.noise_measures import at_equal_noise, log_snr
from latentdiff.study.pool import pooled
from latentdiff.study.report import Report
from latentdiff.study.training import Trained, epochs_in_steps, pipeline_of, train_denoiser

TRAINING_SHARE = 0.8
SHOWN = 12  # samples and reconstructions in a row
LEVELS = (10, 4, 2)  # reconstructions start at T / 10, T / 4 and T / 2


class Process(NamedTuple):
    """A schedule under test; None leaves the betas to the kind."""

    name: str
    kind: ScheduleKind
    T: int
    beta: float | None = None


PROCESSES = (
    Process("constant 0.001 (T = 2000)", "constant", 2000, 0.001),
    Process("constant 0.1 (T = 200)", "constant", 200, 0.1),
    Process("linear (T = 1000)", "linear", 1000),
    Process("cosine (T = 1000)", "cosine", 1000),
)


@dataclass(frozen=True)
class Numbers:
    """``side``: images are resized to it (None: as they are). ``ema``: decay of the weights' average (0: off). ``steps``: of DDPM (None: every level)."""

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


class Look(NamedTuple):
    """What a network gives at an epoch: samples, and test images brought back from each of the three levels."""

    samples: Tensor
    back: tuple[Reconstruction, ...]


@dataclass(frozen=True, eq=False)
class Found:
    """Everything about one process; ``looks`` by epoch, the figures at the last one."""

    process: Process
    trained: Trained
    marks: Mapping[int, int]
    pipeline: Pipeline
    looks: Mapping[int, Look]
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
        at: list[float] = log_snr(self.pipeline.schedule, power)[torch.tensor(self.by_level.levels) - 1].tolist()
        return at

    def at_equal_noise(self, power: float, span: tuple[float, float]) -> float:
        """The test error of eps over noise levels that are the same for every process."""
        return at_equal_noise(self.measured_at(power), self.by_level.eps, span)


def study(lab: Lab, numbers: Numbers) -> Report:
    data = pooled(lab.load(numbers.side), share=TRAINING_SHARE, seed=lab.seed)
    judge = Judge.of(lab, data=data, resamples=numbers.resamples)
    found = []
    for process in PROCESSES:
        with lab.part(f"training: {process.name}"):
            trained, marks = _train(lab, numbers, process, data)
        with lab.part("samples, reconstructions and losses"):
            found.append(_look(lab, numbers, process, trained, marks, data, judge))
    return schedule_pages.report(lab, found, judge, data, lr=numbers.lr, ema=numbers.ema)


def _train(lab: Lab, numbers: Numbers, process: Process, data: Dataset) -> tuple[Trained, dict[int, int]]:
    """The small CNN on pixels in [-0.5, 0.5] by plain Adam, and the optimizer steps of the epochs."""
    marks = {epoch: epochs_in_steps(epoch, size=len(data.train), batch=numbers.batch) for epoch in numbers.epochs}
    a_epoch = epochs_in_steps(1, size=len(data.train), batch=numbers.batch)
    options = TrainDenoiser.model_validate(
        {
            "data": data.name,
            "pixel": True,
            "pixel_scale": 0.5,
            "network": "cnn",
            "width": numbers.width,
            "labels": False,
            "prediction": "eps",
            "schedule": process.kind,
            "T": process.T,
            "beta_start": process.beta,
            "time_sampling": "uniform",
            "batch": numbers.batch,
            "lr": numbers.lr,
            "weight_decay": 0.0,  # AdamW without decay is Adam
            "warmup": 0,
            "decay": "constant",
            "clip_grad": 1e6,
            "ema": numbers.ema,
            "validate_every": a_epoch,
            "seed": lab.seed,
            "device": str(lab.device),
        }
    )
    name = f"{process.kind}-{process.T}"
    return train_denoiser(lab, name, options, vae=None, marks=tuple(marks.values()), data=data), marks


def _look(
    lab: Lab,
    numbers: Numbers,
    process: Process,
    trained: Trained,
    marks: Mapping[int, int],
    data: Dataset,
    judge: Judge,
) -> Found:
    settings = sampling(sampler="ddpm", steps=None if numbers.steps is None else min(numbers.steps, process.T))
    shown, looks = data.test.images[:SHOWN], {}
    for epoch, mark in marks.items():
        pipeline = pipeline_of(lab, trained, mark)
        looks[epoch] = Look(
            drawn(pipeline, SHOWN, seed=lab.seed, settings=settings), _back(lab, pipeline, shown, settings)
        )
    tested = data.test.images[: numbers.tested]
    back = _back(lab, pipeline, tested, settings)
    samples = drawn(pipeline, numbers.samples, seed=lab.seed, settings=settings)
    return Found(
        process=process,
        trained=trained,
        marks=marks,
        pipeline=pipeline,
        looks=looks,
        samples=samples,
        scores=judge.score(samples),
        back=tuple(score_reconstruction(tested, made, resampling=judge.resampling) for made in back),
        by_level=loss_by_level(pipeline, tested, levels=numbers.levels, seed=lab.seed),
    )


def _back(lab: Lab, pipeline: Pipeline, images: Tensor, settings: Sampling) -> tuple[Reconstruction, ...]:
    """Images noised to the three levels and brought back by the sampler."""
    T = pipeline.schedule.T
    return tuple(
        reconstruct_from(pipeline, images, max(1, T // share), settings=settings, seed=lab.seed) for share in LEVELS
    )


FULL = Numbers(
    side=None,
    epochs=(5, 15, 30, 45),
    batch=128,
    lr=2e-4,
    ema=0.0,
    samples=5000,
    steps=None,
    tested=1000,
    levels=100,
    resamples=200,
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
