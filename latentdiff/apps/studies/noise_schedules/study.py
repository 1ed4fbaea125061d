"""Study `noise-schedule-study`: one small network under four schedules, and why its test loss does not say
which samples best.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, draw_uint8
from latentdiff.apps.studies.kit.training import Trained, pipeline_of
from latentdiff.apps.studies.noise_schedules import page
from latentdiff.apps.studies.noise_schedules.results import (
    PROCESSES,
    EpochImages,
    NoiseProcess,
    NoiseScheduleSettings,
    ProcessResults,
)
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.restoration.resplit import pooled
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset
from latentdiff.evaluate import Reconstruction, loss_by_level, reconstruct_from, score_reconstruction
from latentdiff.pipeline.pipeline import Pipeline

TRAINING_SHARE = 0.8
SHOWN = 12  # samples and reconstructions in a row
LEVELS = (10, 4, 2)  # reconstructions start at T / 10, T / 4 and T / 2


def study(context: StudyContext, settings: NoiseScheduleSettings) -> Report:
    data = pooled(context.load(settings.side), share=TRAINING_SHARE, seed=context.seed)
    scorer = SampleScorer.of(context, data=data, resamples=settings.resamples)
    found = []
    for process in PROCESSES:
        with context.part(f"training: {process.name}"):
            name, options = f"{process.kind}-{process.T}", _options(settings, process)
            trained, marks = presets.train_epochs(
                context, name, settings.epochs, options, vae=None, data=data
            )
        with context.part("samples, reconstructions and losses"):
            found.append(_evaluate(context, settings, process, trained, marks, data, scorer))
    return page.report(context, found, scorer, data, lr=settings.lr, ema=settings.ema)


def _options(settings: NoiseScheduleSettings, process: NoiseProcess) -> dict[str, Any]:
    """The small CNN on pixels in [-0.5, 0.5], trained by plain Adam."""
    network = {"pixel": True, "pixel_scale": 0.5, "network": "cnn", "width": settings.width, "labels": False}
    noise = {
        "prediction": "eps",
        "schedule": process.kind,
        "T": process.T,
        "beta_start": process.beta,
        "time_sampling": "uniform",
    }
    adam = {"lr": settings.lr, "weight_decay": 0.0, "warmup": 0, "clip_grad": 1e6, "ema": settings.ema}
    return {**network, **noise, **adam, "batch": settings.batch}


def _evaluate(
    context: StudyContext,
    settings: NoiseScheduleSettings,
    process: NoiseProcess,
    trained: Trained,
    marks: Mapping[int, int],
    data: Dataset,
    scorer: SampleScorer,
) -> ProcessResults:
    sampling = Sampling(
        sampler="ddpm", steps=None if settings.steps is None else min(settings.steps, process.T)
    )
    shown, epoch_images = data.test.images[:SHOWN], {}
    for epoch, mark in marks.items():
        pipeline = pipeline_of(context, trained, mark)
        epoch_images[epoch] = EpochImages(
            draw_uint8(pipeline, SHOWN, seed=context.seed, sampling=sampling),
            _back(context, pipeline, shown, sampling),
        )
    tested = data.test.images[: settings.tested]
    back = _back(context, pipeline, tested, sampling)
    samples = draw_uint8(pipeline, settings.samples, seed=context.seed, sampling=sampling)
    return ProcessResults(
        process=process,
        trained=trained,
        marks=marks,
        pipeline=pipeline,
        epoch_images=epoch_images,
        samples=samples,
        scores=scorer.score(samples),
        back=tuple(score_reconstruction(tested, made, resampling=scorer.resampling) for made in back),
        by_level=loss_by_level(pipeline, tested, levels=settings.levels, seed=context.seed),
    )


def _back(
    context: StudyContext, pipeline: Pipeline, images: Tensor, sampling: Sampling
) -> tuple[Reconstruction, ...]:
    """Images noised to the three levels and brought back by the sampler."""
    T = pipeline.schedule.T
    return tuple(
        reconstruct_from(pipeline, images, max(1, T // share), settings=sampling, seed=context.seed)
        for share in LEVELS
    )


FULL = NoiseScheduleSettings(
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
STUDY = Study(quick=NoiseScheduleSettings(), full=FULL, run=study)
