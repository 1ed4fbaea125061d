"""Study `class-guidance`: class-conditional networks on digits, and what guidance does to accuracy, quality
and diversity.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from latentdiff.apps.studies.class_guidance import page
from latentdiff.apps.studies.class_guidance.results import (
    Course,
    CourseNumbers,
    Epochs,
    Numbers,
    Results,
    Scored,
    UNetNumbers,
)
from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, drawn, labels_of, sampling
from latentdiff.apps.studies.kit.training import Trained, epochs_in_steps, pipeline_of, train_denoiser
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainDenoiser
from latentdiff.errors import InputError
from latentdiff.metrics.features import Features, extract
from latentdiff.pipeline.pipeline import Pipeline


def study(lab: StudyContext, numbers: Numbers) -> Report:
    if lab.data.classes is None or lab.data.train.labels is None:
        raise InputError(f"{lab.data.name}: class-guidance needs images with labels, found none")
    judge = SampleScorer.of(lab, resamples=numbers.resamples)
    eye = Eye(lab, judge, numbers.samples)
    unet = _unet(lab, numbers, eye)
    course = _course(lab, numbers, eye)
    pipeline = pipeline_of(lab, unet.trained)
    with lab.part("guidance scales"):
        scales = {w: eye.look(pipeline, sampling(steps=numbers.steps, guidance=w)) for w in numbers.scales}
    with lab.part("guidance intervals"):
        intervals = {
            ends: eye.look(pipeline, _within(numbers, ends)) for ends in ((0.0, 1.0), *numbers.intervals)
        }
    floor = judge.floor(numbers.samples)
    found = Results(unet, course, scales, intervals, floor, lab.data.classes)
    return page.report(lab, numbers, found, judge)


def _within(numbers: Numbers, ends: tuple[float, float]) -> Sampling:
    return sampling(
        steps=numbers.steps, guidance=numbers.limited, guidance_low=ends[0], guidance_high=ends[1]
    )


class Eye:
    """Draws samples of all classes in turn from the same noise, and scores them; ``n`` of each setting."""

    def __init__(self, lab: StudyContext, judge: SampleScorer, n: int) -> None:
        self.judge, self.n, self.seed = judge, n, lab.seed
        real = judge.reference
        assert real.labels is not None
        self._real = within_classes(real.features.values, real.labels)

    def look(self, pipeline: Pipeline, settings: Sampling) -> Scored:
        labels = labels_of(pipeline, self.n)
        assert labels is not None
        images = drawn(pipeline, self.n, seed=self.seed, settings=settings, labels=labels)
        features: Features = extract(self.judge.network, images)
        if (
            not settings.guidance
        ):  # nobody asked for classes: there is nothing to be right about or alike within
            return Scored(images, self.judge.score_features(features, None), float("nan"))
        diversity = within_classes(features.values, labels) / self._real
        return Scored(images, self.judge.score_features(features, labels), diversity)


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


def _unet(lab: StudyContext, numbers: Numbers, eye: Eye) -> Epochs:
    plan = numbers.unet
    encoder = None
    if plan.vae is not None:
        with lab.part("VAE"):
            encoder = presets.vae(lab, "vae", plan.vae)
    values: dict[str, object] = {"width": plan.width, "batch": plan.batch, "lr": plan.lr}
    values |= {"prediction": plan.prediction, "pixel": encoder is None}
    return _through(lab, "unet", values, plan.epochs, encoder, eye, sampling(steps=numbers.steps))


def _course(lab: StudyContext, numbers: Numbers, eye: Eye) -> Course:
    plan = numbers.course
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
        "channels_last": False,  # faster for so few channels
    }
    ddpm = sampling(sampler="ddpm", steps=plan.steps)
    epochs = _through(lab, "course", values, plan.epochs, None, eye, ddpm)
    pipeline = pipeline_of(lab, epochs.trained)
    with lab.part("course: guided samples"):
        guided = eye.look(pipeline, sampling(sampler="ddpm", steps=plan.steps, guidance=plan.guidance))
    return Course(epochs, guided, float(pipeline.schedule.alpha[-1] ** 2))


def _through(
    lab: StudyContext,
    name: str,
    values: Mapping[str, object],
    epochs: tuple[int, ...],
    encoder: Trained | None,
    eye: Eye,
    settings: Sampling,
) -> Epochs:
    """Train and look at the epochs; the learning rate is constant, so that each is a whole training."""
    size, batch = len(lab.data.train), int(str(values["batch"]))
    marks = {epoch: epochs_in_steps(epoch, size=size, batch=batch) for epoch in epochs}
    common = {
        "data": lab.data.name,
        "decay": "constant",
        "time_sampling": (
            "stratified"
        ),  # as in validation, so that the two losses are means over the same levels
        "validate_every": epochs_in_steps(1, size=size, batch=batch),
        "seed": lab.seed,
        "device": str(lab.device),
    }
    options = TrainDenoiser.model_validate({**common, **values})
    with lab.part(f"{name}: training"):
        trained = train_denoiser(lab, name, options, vae=encoder, marks=tuple(marks.values()))
    with lab.part(f"{name}: samples"):
        found = {epoch: eye.look(pipeline_of(lab, trained, mark), settings) for epoch, mark in marks.items()}
    return Epochs(trained, marks, found)


FULL = Numbers(
    unet=UNetNumbers(vae=None, prediction="v", width=64, batch=128, lr=5e-4),
    course=CourseNumbers(width=64, batch=128, epochs=(1, 5, 10, 15), steps=None),
    intervals=((0.0, 0.25), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (0.75, 1.0)),
    scales=(0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0),
    samples=5000,
    steps=50,
    resamples=200,
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
