"""Study `class-guidance`: class-conditional networks, and what guidance does to quality and diversity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, draw_uint8, score_table
from latentdiff.apps.studies.kit.training import Trained, pipeline_of
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError
from latentdiff.evaluate import SampleScores
from latentdiff.evaluate.interval_score import Score
from latentdiff.metrics.features import Features, extract
from latentdiff.metrics.names import frechet_name
from latentdiff.pipeline.pipeline import Pipeline


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
class GuidanceSettings:
    """``scales`` are for all levels of the UNet, ``intervals`` (shares of T) at the scale ``limited``."""

    unet: UNetSettings = field(default_factory=UNetSettings)
    scales: tuple[float, ...] = (0.0, 1.0, 2.0, 4.0, 8.0)
    limited: float = 4.0
    intervals: tuple[tuple[float, float], ...] = ((0.0, 0.5), (0.5, 1.0), (0.25, 0.75))
    samples: int = 250
    steps: int = 20
    resamples: int = 100


class ScoredSamples(NamedTuple):
    """Samples, their scores, and the mean distance of two of one class over that of real images."""

    images: Tensor
    scores: SampleScores
    diversity: float


class TrainingResults(NamedTuple):
    """A training: what it gave at each epoch, and its losses."""

    trained: Trained
    marks: Mapping[int, int]
    found: Mapping[int, ScoredSamples]


@dataclass(frozen=True, eq=False)
class GuidanceResults:
    """Everything that the page shows."""

    unet: TrainingResults
    scales: Mapping[float, ScoredSamples]
    intervals: Mapping[tuple[float, float], ScoredSamples]
    baseline: SampleScores
    classes: tuple[str, ...]


def study(context: StudyContext, settings: GuidanceSettings) -> Report:
    if context.data.classes is None or context.data.train.labels is None:
        raise InputError(f"{context.data.name}: class-guidance needs images with labels, found none")
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    guided = GuidanceScorer(context, scorer, settings.samples)
    unet = _unet(context, settings, guided)
    pipeline, steps = pipeline_of(context, unet.trained), settings.steps
    with context.part("guidance scales"):
        scales = {w: guided.sample(pipeline, Sampling(steps=steps, guidance=w)) for w in settings.scales}
    intervals = {}
    with context.part("guidance intervals"):
        for low, high in ((0.0, 1.0), *settings.intervals):
            within = Sampling(steps=steps, guidance=settings.limited, guidance_low=low, guidance_high=high)
            intervals[low, high] = guided.sample(pipeline, within)
    baseline = scorer.real_baseline(settings.samples)
    found = GuidanceResults(unet, scales, intervals, baseline, context.data.classes)
    return _report(context, settings, found, scorer)


class GuidanceScorer:
    """Draws ``n`` samples of all classes in turn, always from the same noise, and scores them."""

    def __init__(self, context: StudyContext, scorer: SampleScorer, n: int) -> None:
        self.scorer, self.n, self.seed = scorer, n, context.seed
        real = scorer.reference
        assert real.labels is not None
        self._real = within_classes(real.features.values, real.labels)

    def sample(self, pipeline: Pipeline, sampling: Sampling) -> ScoredSamples:
        """Samples and their scores; without guidance there are no classes to be accurate or diverse in."""
        labels = pipeline.class_labels(self.n)
        assert labels is not None
        images = draw_uint8(pipeline, self.n, seed=self.seed, sampling=sampling)
        features: Features = extract(self.scorer.network, images)
        if not sampling.guidance:
            return ScoredSamples(images, self.scorer.score_features(features, None), math.nan)
        diversity = within_classes(features.values, labels) / self._real
        return ScoredSamples(images, self.scorer.score_features(features, labels), diversity)


def within_classes(values: Tensor, labels: Tensor, *, most: int = 500) -> float:
    """Mean Euclidean distance of two rows [N, D] of one class, over the classes that have two; else NaN."""
    same = [values[labels == label][:most] for label in labels.unique()]
    means = [float(torch.pdist(rows).mean()) for rows in same if len(rows) > 1]
    return sum(means) / len(means) if means else math.nan


def _unet(context: StudyContext, settings: GuidanceSettings, guided: GuidanceScorer) -> TrainingResults:
    plan = settings.unet
    encoder = None
    if plan.vae is not None:
        with context.part("VAE"):
            encoder = presets.train_vae(context, "vae", plan.vae)
    values: dict[str, object] = {"width": plan.width, "batch": plan.batch, "lr": plan.lr}
    values |= {"prediction": plan.prediction, "pixel": encoder is None}
    with context.part("UNet: training"):
        trained, marks = presets.train_epochs(context, "unet", plan.epochs, values, vae=encoder)
    with context.part("UNet: samples"):
        drawing = Sampling(steps=settings.steps)
        found = {
            epoch: guided.sample(pipeline_of(context, trained, mark), drawing)
            for epoch, mark in marks.items()
        }
    return TrainingResults(trained, marks, found)


def _report(
    context: StudyContext,
    settings: GuidanceSettings,
    found: GuidanceResults,
    scorer: SampleScorer,
) -> Report:
    unet = settings.unet
    where = "pixels" if unet.vae is None else f"{unet.vae.latent} latents of a VAE"
    scales = {f"w = {w:g}": samples for w, samples in found.scales.items()}
    intervals = {_interval(ends): samples for ends, samples in found.intervals.items()}
    unguided = {"none (w = 1)": found.scales[1.0]} if 1.0 in found.scales else {}

    def rows(name: str, named: Mapping[str, ScoredSamples], caption: str) -> Picture:
        """A row of samples for each setting: each class once or, of few classes, twice."""
        classes = found.classes if len(found.classes) > 8 else 2 * found.classes
        n = min(12, len(classes), *(len(samples.images) for samples in named.values()))
        images = [(title, samples.images[:n]) for title, samples in named.items()]
        return context.rows(name, images, caption, columns=classes[:n])

    def table(name: str, head: str, named: Mapping[str, ScoredSamples], caption: str) -> Table:
        cells = [((title,), samples) for title, samples in named.items()]
        return _table(name, (head,), cells, found, caption)

    epochs = "One sample of each class after each of these epochs, from the same noise."
    rising = "The UNet after its last epoch, with rising guidance at all levels."
    limited = "Guidance limited to an interval of noise levels."
    return Report(
        _findings(settings, found),
        Section(
            "A class-conditional UNet through training",
            UNET.format(where=where, steps=settings.steps),
            rows("unet-epochs", _by_epoch(found.unet), epochs),
            scorer.caveats(settings.samples),
            _epochs(found),
            _losses(context, settings, found),
        ),
        Section(
            "The guidance scale",
            SCALES,
            rows("scales", scales, "The same noise with rising guidance; w = 0 is unconditional."),
            _scale_curves(context, found),
            table("scales", "guidance", scales, rising),
        ),
        Section(
            "Guidance in an interval",
            INTERVALS.format(w=settings.limited),
            rows("intervals", intervals, "The same noise, guided at some levels only."),
            table("intervals", "guided at", intervals | unguided, limited),
        ),
    )


UNET = (
    "The UNet of this package on {where}, conditioned on the class, with 10% of the labels dropped for"
    " classifier-free guidance. Samples by DDIM with {steps} steps, without guidance (w = 1). Each column is"
    " one class, the noise is the same."
)
SCALES = (
    "Guidance takes w times the conditional estimate and 1 − w times the unconditional one: w = 0 ignores the"
    " class, 1 is the conditional model, larger values extrapolate. Accuracy is the share of samples whose"
    " predicted class is the condition; diversity is the mean feature distance of two samples of one class,"
    " relative to real images."
)
INTERVALS = (
    "Guidance can be limited to some noise levels (Kynkäänniemi et al. 2024): here w = {w:g} acts only where"
    " t/T lies in the interval, and w = 1 elsewhere. t/T near 1 is noise, near 0"
    " the finished image."
)


def _by_epoch(epochs: TrainingResults) -> dict[str, ScoredSamples]:
    return {f"epoch {epoch}": samples for epoch, samples in epochs.found.items()}


def _epochs(found: GuidanceResults) -> Table:
    epochs = found.unet
    rows: list[tuple[tuple[Cell, ...], ScoredSamples]] = [
        ((f"epoch {epoch}", mark, epochs.trained.at("val_loss", mark)), epochs.found[epoch])
        for epoch, mark in epochs.marks.items()
    ]
    caption = f"Samples after each epoch; training took {epochs.trained.seconds:.0f} s in all."
    return _table("unet-epochs", ("", "optimizer steps", "validation loss"), rows, found, caption)


def _table(
    name: str,
    heads: tuple[str, ...],
    rows: Sequence[tuple[tuple[Cell, ...], ScoredSamples]],
    found: GuidanceResults,
    caption: str,
) -> Table:
    """The scores of samples with their diversity; the last row is that of real images."""
    table = score_table(name, heads, [(cells, each.scores) for cells, each in rows], found.baseline, caption)
    diversity = [None if math.isnan(each.diversity) else each.diversity for _, each in rows]
    at = len(heads) + 1
    lines = zip(table.rows, (*diversity, 1.0), strict=True)
    columns = (*table.columns[:at], "diversity", *table.columns[at:])
    return Table(name, columns, tuple((*line[:at], cell, *line[at:]) for line, cell in lines), caption)


def _losses(context: StudyContext, settings: GuidanceSettings, found: GuidanceResults) -> Picture:
    epochs = found.unet
    what = f"mean squared error of {settings.unet.prediction}"
    panel = epochs.trained.loss_panel("UNet", max(epochs.marks), what)
    return context.plot("losses", [panel], "Training and validation loss.")


def _scale_curves(context: StudyContext, found: GuidanceResults) -> Picture:
    scales, scored = list(found.scales), list(found.scales.values())
    seen = [each.scores.accuracy or Score(math.nan) for each in scored]
    accurate = [score.value for score in seen]
    low = [score.value if score.low is None else score.low for score in seen]
    high = [score.value if score.high is None else score.high for score in seen]
    accuracy = Curve("samples", scales, accurate, "marked", low=low, high=high)
    fd = Curve("samples", scales, [each.scores.fd.value for each in scored], "marked")
    real = found.baseline.recall.value or math.nan
    recall = [each.scores.recall.value / real for each in scored]
    diversity = [
        Curve("distance within a class", scales, [each.diversity for each in scored], "marked"),
        Curve("recall", scales, recall, "marked"),
    ]
    x, baseline = "guidance scale w", found.baseline
    levels = _level(baseline.accuracy), _level(baseline.fd), (("as real images", 1.0),)
    panels = [
        Panel("accuracy", x, "share of the conditioned class", [accuracy], levels=levels[0]),
        Panel("quality", x, frechet_name(baseline.features.name), [fd], log_y=True, levels=levels[1]),
        Panel("diversity", x, "relative to real images", diversity, levels=levels[2]),
    ]
    caption = (
        "Accuracy, quality and diversity against the guidance scale. The band is a bootstrap interval, the"
        " dotted line real images."
    )
    return context.plot("guidance", panels, caption)


def _level(score: Score | None) -> tuple[tuple[str, float], ...]:
    return () if score is None else (("real images", score.value),)


def _interval(ends: tuple[float, float]) -> str:
    return "all levels" if ends == (0.0, 1.0) else f"t/T from {ends[0]:g} to {ends[1]:g}"


def _accuracy(scored: ScoredSamples) -> str:
    """The accuracy as text; empty if the network has other classes."""
    return "" if scored.scores.accuracy is None else f"; class accuracy {scored.scores.accuracy.value:.1%}"


def _findings(settings: GuidanceSettings, found: GuidanceResults) -> Iterator[str]:
    epochs = found.unet.found
    first, last = (epochs[epoch] for epoch in (min(epochs), max(epochs)))
    yield (
        f"The UNet, without guidance: FD {first.scores.fd.value:.3g}{_accuracy(first)} after epoch"
        f" {min(epochs)}, FD {last.scores.fd.value:.3g}{_accuracy(last)} after epoch {max(epochs)}."
    )
    scales, top = found.scales, max(found.scales)
    yield comparison.ordered(
        "FD by guidance scale", {f"w = {w:g}": scored.scores.fd for w, scored in scales.items()}
    )
    accuracies = {f"w = {w:g}": scored.scores.accuracy for w, scored in scales.items() if w}
    known = {name: accuracy for name, accuracy in accuracies.items() if accuracy}
    if known:
        what = "Class accuracy by guidance scale"
        yield comparison.ordered(what, known, smaller=False, times=100, unit="%")
    if top > 0:
        yield (
            f"At w = {top:g} diversity within a class is {scales[top].diversity:.2f} of that of real images"
            f" and recall {scales[top].scores.recall.value:.2f}."
        )
    every = found.intervals[0.0, 1.0]
    parts = {ends: scored for ends, scored in found.intervals.items() if ends != (0.0, 1.0)}
    if parts:
        fd = {
            _interval(ends): comparison.unpaired(scored.scores.fd, every.scores.fd, comparisons=len(parts))
            for ends, scored in parts.items()
        }
        base = (
            f"all levels (FD {every.scores.fd.value:.3g}{_accuracy(every)}; diversity {every.diversity:.2f})"
        )
        yield comparison.against(f"FD with w = {settings.limited:g} in an interval only", base, fd)


FULL = GuidanceSettings(
    unet=UNetSettings(vae=VAEPreset("4x7x7", steps=2000), width=64, epochs=(1, 5, 15, 60)),
    intervals=((0.0, 0.25), (0.0, 0.5), (0.25, 0.75), (0.5, 1.0), (0.75, 1.0)),
    scales=(0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0),
    samples=2000,
    steps=50,
    resamples=200,
)
STUDY = Study(quick=GuidanceSettings(), full=FULL, run=study)
