"""Study `noise-schedule-study`: one small network under four schedules, and why its test loss does not say
which samples best.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, drawn, sampling
from latentdiff.apps.studies.kit.training import Trained, epochs_in_steps, pipeline_of, train_denoiser
from latentdiff.apps.studies.noise_schedules import page
from latentdiff.apps.studies.noise_schedules.results import PROCESSES, Fixtures, Numbers, Process, Results
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.restoration.resplit import pooled
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset
from latentdiff.evaluate import (
    Reconstruction,
    loss_by_level,
    reconstruct_from,
    score_reconstruction,
)
from latentdiff.pipeline.pipeline import Pipeline

TRAINING_SHARE = 0.8
SHOWN = 12  # samples and reconstructions in a row
LEVELS = (10, 4, 2)  # reconstructions start at T / 10, T / 4 and T / 2


def study(lab: StudyContext, numbers: Numbers) -> Report:
    data = pooled(lab.load(numbers.side), share=TRAINING_SHARE, seed=lab.seed)
    judge = SampleScorer.of(lab, data=data, resamples=numbers.resamples)
    found = []
    for process in PROCESSES:
        with lab.part(f"training: {process.name}"):
            trained, marks = _train(lab, numbers, process, data)
        with lab.part("samples, reconstructions and losses"):
            found.append(_look(lab, numbers, process, trained, marks, data, judge))
    return page.report(lab, found, judge, data, lr=numbers.lr, ema=numbers.ema)


def _train(
    lab: StudyContext, numbers: Numbers, process: Process, data: Dataset
) -> tuple[Trained, dict[int, int]]:
    """The small CNN on pixels in [-0.5, 0.5] by plain Adam, and the optimizer steps of the epochs."""
    marks = {
        epoch: epochs_in_steps(epoch, size=len(data.train), batch=numbers.batch) for epoch in numbers.epochs
    }
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
    lab: StudyContext,
    numbers: Numbers,
    process: Process,
    trained: Trained,
    marks: Mapping[int, int],
    data: Dataset,
    judge: SampleScorer,
) -> Results:
    settings = sampling(
        sampler="ddpm", steps=None if numbers.steps is None else min(numbers.steps, process.T)
    )
    shown, looks = data.test.images[:SHOWN], {}
    for epoch, mark in marks.items():
        pipeline = pipeline_of(lab, trained, mark)
        looks[epoch] = Fixtures(
            drawn(pipeline, SHOWN, seed=lab.seed, settings=settings), _back(lab, pipeline, shown, settings)
        )
    tested = data.test.images[: numbers.tested]
    back = _back(lab, pipeline, tested, settings)
    samples = drawn(pipeline, numbers.samples, seed=lab.seed, settings=settings)
    return Results(
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


def _back(
    lab: StudyContext, pipeline: Pipeline, images: Tensor, settings: Sampling
) -> tuple[Reconstruction, ...]:
    """Images noised to the three levels and brought back by the sampler."""
    T = pipeline.schedule.T
    return tuple(
        reconstruct_from(pipeline, images, max(1, T // share), settings=settings, seed=lab.seed)
        for share in LEVELS
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
