"""Study `course-unets`: the time-conditional and the class-conditional UNet of a first course."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, score_table
from latentdiff.apps.studies.kit.training import Trained, pipeline_of
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError
from latentdiff.evaluate import SampleScores
from latentdiff.metrics.names import frechet_name

SHOWN = 10


@dataclass(frozen=True)
class CourseUNetsSettings:
    """The course's recipe: linear betas in T levels, eps, pixels in [0, 1], one-hot class.

    ``ema``: decay of the weights' average, in the place of the course's falling learning rate, as every epoch
    is a whole training here. ``steps``: of DDPM (None: every level). ``samples`` are drawn after each epoch.
    """

    T: int = 300
    width: int = 16
    batch: int = 32
    lr: float = 1e-3
    ema: float = 0.99
    epochs: tuple[int, ...] = (1, 5, 10, 15)
    guidance: float = 5.0
    steps: int | None = 40
    samples: int = 100
    resamples: int = 100


class EpochSamples(NamedTuple):
    """Samples uint8 and their scores."""

    images: Tensor
    scores: SampleScores


class CourseResults(NamedTuple):
    """A trained UNet, and what it draws after each epoch."""

    trained: Trained
    marks: Mapping[int, int]
    by_epoch: Mapping[int, EpochSamples]


def study(context: StudyContext, settings: CourseUNetsSettings) -> Report:
    if context.data.classes is None or context.data.train.labels is None:
        raise InputError(f"{context.data.name}: course-unets needs images with labels, found none")
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    time_only = _train(context, settings, "time", labels=False)
    by_class = _train(context, settings, "class", labels=True)
    drawn: dict[str, Mapping[int, EpochSamples]] = {}
    for name, (trained, marks), guidance in (
        ("time", time_only, 1.0),
        ("class", by_class, 1.0),
        ("guided", by_class, settings.guidance),
    ):
        with context.part(f"{name}: samples"):
            sampling = Sampling(sampler="ddpm", steps=settings.steps, guidance=guidance)
            drawn[name] = {
                epoch: EpochSamples(
                    *scorer.sample(
                        pipeline_of(context, trained, mark),
                        settings.samples,
                        sampling,
                    )
                )
                for epoch, mark in marks.items()
            }
    found = {
        "time": CourseResults(*time_only, drawn["time"]),
        "class": CourseResults(*by_class, drawn["class"]),
        "guided": CourseResults(*by_class, drawn["guided"]),
    }
    return _report(context, settings, found, scorer)


def _train(
    context: StudyContext, settings: CourseUNetsSettings, name: str, *, labels: bool
) -> tuple[Trained, dict[int, int]]:
    values = {
        "network": "course-unet",
        "labels": labels,
        "width": settings.width,
        "batch": settings.batch,
        "lr": settings.lr,
        "ema": settings.ema,
        "pixel": True,
        "pixel_scale": 0.5,
        "pixel_shift": 0.5,
        "prediction": "eps",
        "schedule": "linear",
        "T": settings.T,
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "time_sampling": "uniform",
        "weight_decay": 0.0,
        "channels_last": False,  # faster for few channels
    }
    with context.part(f"{name}: training"):
        return presets.train_epochs(context, name, settings.epochs, values, vae=None)


def _report(
    context: StudyContext,
    settings: CourseUNetsSettings,
    found: Mapping[str, CourseResults],
    scorer: SampleScorer,
) -> Report:
    pipeline = pipeline_of(context, found["time"].trained)
    signal = float(pipeline.schedule.alpha[-1] ** 2)
    baseline = scorer.real_baseline(settings.samples)
    recipe = RECIPE.format(settings=settings, signal=signal, steps=settings.steps or settings.T)
    guided = GUIDED.format(w=settings.guidance)
    classes = context.data.classes
    assert classes is not None
    return Report(
        _findings(settings, found, baseline),
        Section("The recipe", recipe, _curves(context, settings, found, baseline)),
        Section(
            "Conditioned on the time",
            TIME_ONLY,
            _rows(context, "time", found["time"], "Samples after each of these epochs, from the same noise."),
            scorer.caveats(settings.samples),
            _table("time", found["time"], baseline),
        ),
        Section(
            "Conditioned on the time and the class",
            BY_CLASS,
            _rows(context, "class", found["class"], "Without guidance: a class a column.", classes),
            _table("class", found["class"], baseline),
        ),
        Section(
            f"Guided with w = {settings.guidance:g}",
            guided,
            _rows(context, "guided", found["guided"], "The same noise and classes, guided.", classes),
            _table("guided", found["guided"], baseline),
        ),
    )


RECIPE = (
    "The recipe of a first course on diffusion (Berkeley CS180, project 5, part B): a UNet of"
    " {settings.width} channels with two halvings and one average over the image, conditioned through"
    " fully connected blocks that shift (time) and scale (one-hot class) the way up. It predicts ε with"
    " Adam at {settings.lr:g} in batches of {settings.batch}; betas rise linearly from 0.0001 to 0.02 in T"
    " = {settings.T} levels. These leave ᾱ_T = {signal:.2g} of the signal, but sampling starts from noise"
    " alone. Pixels therefore lie in [0, 1], where black is 0: in [−1, 1] the last level shows how dark"
    " the background is, pure noise does not, and all samples get grey backgrounds. Samples by DDPM in"
    " {steps} steps, with averaged weights (decay {settings.ema:g})."
)
TIME_ONLY = (
    "The network knows how noisy an image is and nothing about what it shows. What it draws is a digit only"
    " if its strokes agree over the whole image, which a few epochs do not teach."
)
BY_CLASS = (
    "The one-hot class scales the way up; it is left out for 10% of the training images, so that the same"
    " network also predicts without it. Class accuracy: the share of samples whose predicted class is the"
    " condition."
)
GUIDED = (
    "Classifier-free guidance takes {w:g} times the conditional estimate of ε and {w:g} − 1 times the"
    " unconditional one away: digits become plain early, and less varied."
)


def _rows(
    context: StudyContext,
    name: str,
    results: CourseResults,
    caption: str,
    columns: tuple[str, ...] = (),
) -> Picture:
    n = min(SHOWN, len(columns) or SHOWN)
    rows = [(f"epoch {epoch}", drawn.images[:n]) for epoch, drawn in results.by_epoch.items()]
    return context.rows(f"{name}-epochs", rows, caption, columns=columns[:n])


def _table(name: str, results: CourseResults, baseline: SampleScores) -> Table:
    trained = results.trained
    rows: list[tuple[tuple[Cell, ...], SampleScores]] = [
        ((f"epoch {epoch}", mark, trained.at("val_loss", mark)), results.by_epoch[epoch].scores)
        for epoch, mark in results.marks.items()
    ]
    caption = f"Scores of {baseline.n:,} samples each; the training took {trained.seconds:.0f} s in all."
    return score_table(name, ("", "optimizer steps", "validation loss"), rows, baseline, caption)


def _curves(
    context: StudyContext,
    settings: CourseUNetsSettings,
    found: Mapping[str, CourseResults],
    baseline: SampleScores,
) -> Picture:
    names = {"time": "time only", "class": "class", "guided": f"class, w = {settings.guidance:g}"}
    losses, quality = [], []
    for k, (name, label) in enumerate(names.items()):
        results = found[name]
        if name != "guided":
            losses.append(results.trained.loss_curve("val_loss", label, max(settings.epochs)))
        fd = [drawn.scores.fd.value for drawn in results.by_epoch.values()]
        quality.append(Curve(label, list(results.by_epoch), fd, "marked", color=k))
    y, real = frechet_name(baseline.features.name), (("real images", baseline.fd.value),)
    panels = [
        Panel("validation loss", "epoch", "mean squared error of ε", losses, log_y=True),
        Panel("quality of samples", "epoch", y, quality, log_y=True, levels=real),
    ]
    caption = "Validation loss of both networks, and the Fréchet distance of what they draw."
    return context.plot("curves", panels, caption)


def _findings(
    settings: CourseUNetsSettings, found: Mapping[str, CourseResults], baseline: SampleScores
) -> Iterator[str]:
    first, last = min(settings.epochs), max(settings.epochs)
    titles = {
        "time": "Conditioned on the time alone",
        "class": "With the class",
        "guided": f"With the class and w = {settings.guidance:g}",
    }
    for name, title in titles.items():
        begin, end = (found[name].by_epoch[epoch].scores for epoch in (first, last))
        yield (
            f"{title}: FD {begin.fd.value:.3g}{_accuracy(begin)} after epoch {first},"
            f" {end.fd.value:.3g}{_accuracy(end)} after epoch {last}."
        )
    fd = {title.lower(): found[name].by_epoch[last].scores.fd for name, title in titles.items()}
    yield comparison.ordered(f"FD after epoch {last}", fd)
    yield f"Real images: FD {baseline.fd.value:.3g}{_accuracy(baseline)}."


def _accuracy(scores: SampleScores) -> str:
    return "" if scores.accuracy is None else f" and class accuracy {scores.accuracy.value:.1%}"


FULL = CourseUNetsSettings(width=32, ema=0.995, steps=None, samples=500, resamples=200)
STUDY = Study(quick=CourseUNetsSettings(), full=FULL, run=study)
