"""Study `class-guidance`: class-conditional networks on digits, and what guidance does to accuracy, quality
and diversity.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentdiff.apps.studies.class_guidance import page
from latentdiff.apps.studies.class_guidance.results import (
    CourseResults,
    CourseSettings,
    GuidanceResults,
    GuidanceSettings,
    ScoredSamples,
    TrainingResults,
    UNetSettings,
)
from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, draw_uint8, labels_of
from latentdiff.apps.studies.kit.training import Trained, pipeline_of
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError
from latentdiff.metrics.features import Features, extract
from latentdiff.pipeline.pipeline import Pipeline


def study(context: StudyContext, settings: GuidanceSettings) -> Report:
    if context.data.classes is None or context.data.train.labels is None:
        raise InputError(f"{context.data.name}: class-guidance needs images with labels, found none")
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    guided = GuidanceScorer(context, scorer, settings.samples)
    unet = _unet(context, settings, guided)
    course = _course(context, settings, guided)
    pipeline = pipeline_of(context, unet.trained)
    with context.part("guidance scales"):
        scales = {
            w: guided.sample(pipeline, Sampling(steps=settings.steps, guidance=w)) for w in settings.scales
        }
    with context.part("guidance intervals"):
        intervals = {
            ends: guided.sample(pipeline, _within(settings, ends))
            for ends in ((0.0, 1.0), *settings.intervals)
        }
    floor = scorer.floor(settings.samples)
    found = GuidanceResults(unet, course, scales, intervals, floor, context.data.classes)
    return page.report(context, settings, found, scorer)


def _within(settings: GuidanceSettings, ends: tuple[float, float]) -> Sampling:
    return Sampling(
        steps=settings.steps, guidance=settings.limited, guidance_low=ends[0], guidance_high=ends[1]
    )


class GuidanceScorer:
    """Draws ``n`` samples of all classes in turn, always from the same noise, and scores them."""

    def __init__(self, context: StudyContext, scorer: SampleScorer, n: int) -> None:
        self.scorer, self.n, self.seed = scorer, n, context.seed
        real = scorer.reference
        assert real.labels is not None
        self._real = within_classes(real.features.values, real.labels)

    def sample(self, pipeline: Pipeline, sampling: Sampling) -> ScoredSamples:
        """Samples and their scores; without guidance there are no classes to be accurate or diverse in."""
        labels = labels_of(pipeline, self.n)
        assert labels is not None
        images = draw_uint8(pipeline, self.n, seed=self.seed, sampling=sampling, labels=labels)
        features: Features = extract(self.scorer.network, images)
        if not sampling.guidance:
            return ScoredSamples(images, self.scorer.score_features(features, None), float("nan"))
        diversity = within_classes(features.values, labels) / self._real
        return ScoredSamples(images, self.scorer.score_features(features, labels), diversity)


def within_classes(values: Tensor, labels: Tensor, *, most: int = 500) -> float:
    """Mean Euclidean distance between two rows [N, D] of one class, averaged over the classes that have two
    (NaN if none).
    """
    means = []
    for label in labels.unique():
        mine = values[labels == label][:most]
        if len(mine) > 1:
            means.append(float(torch.pdist(mine).mean()))
    return sum(means) / len(means) if means else float("nan")


def _unet(context: StudyContext, settings: GuidanceSettings, guided: GuidanceScorer) -> TrainingResults:
    plan = settings.unet
    encoder = None
    if plan.vae is not None:
        with context.part("VAE"):
            encoder = presets.vae(context, "vae", plan.vae)
    values: dict[str, object] = {"width": plan.width, "batch": plan.batch, "lr": plan.lr}
    values |= {"prediction": plan.prediction, "pixel": encoder is None}
    return _through(context, "unet", values, plan.epochs, encoder, guided, Sampling(steps=settings.steps))


def _course(context: StudyContext, settings: GuidanceSettings, guided: GuidanceScorer) -> CourseResults:
    plan = settings.course
    values = {
        "network": "course-unet",
        "width": plan.width,
        "batch": plan.batch,
        "lr": plan.lr,
        "pixel": True,
        "prediction": "eps",
        "schedule": "linear",
        "T": plan.T,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "time_sampling": "uniform",
        "weight_decay": 0.0,
        "ema": 0.0,
        "channels_last": False,  # faster for few channels
    }
    ddpm = Sampling(sampler="ddpm", steps=plan.steps)
    epochs = _through(context, "course", values, plan.epochs, None, guided, ddpm)
    pipeline = pipeline_of(context, epochs.trained)
    with context.part("course: guided samples"):
        samples = guided.sample(pipeline, Sampling(sampler="ddpm", steps=plan.steps, guidance=plan.guidance))
    return CourseResults(epochs, samples, float(pipeline.schedule.alpha[-1] ** 2))


def _through(
    context: StudyContext,
    name: str,
    values: Mapping[str, object],
    epochs: tuple[int, ...],
    encoder: Trained | None,
    scorer: GuidanceScorer,
    sampling: Sampling,
) -> TrainingResults:
    """Train a denoiser, and sample from it after each of ``epochs``."""
    with context.part(f"{name}: training"):
        trained, marks = presets.train_epochs(context, name, epochs, values, vae=encoder)
    with context.part(f"{name}: samples"):
        found = {
            epoch: scorer.sample(pipeline_of(context, trained, mark), sampling)
            for epoch, mark in marks.items()
        }
    return TrainingResults(trained, marks, found)


FULL = GuidanceSettings(
    unet=UNetSettings(vae=None, prediction="v", width=64, batch=128, lr=5e-4),
    course=CourseSettings(width=64, batch=128, epochs=(1, 5, 10, 15), steps=None),
    intervals=((0.0, 0.25), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (0.75, 1.0)),
    scales=(0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0),
    samples=5000,
    steps=50,
    resamples=200,
)
STUDY = Study(quick=GuidanceSettings(), full=FULL, run=study)
