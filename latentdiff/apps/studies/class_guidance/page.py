"""The tables, figures and words of study `class-guidance`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from latentdiff.apps.studies.class_guidance.results import (
    GuidanceResults,
    GuidanceSettings,
    ScoredSamples,
    TrainingResults,
)
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, columns, measured, row
from latentdiff.apps.studies.report.blocks import Cell, Paragraph, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.evaluate.interval_score import Score
from latentdiff.metrics.features.names import frechet_name


def report(
    context: StudyContext, settings: GuidanceSettings, found: GuidanceResults, scorer: SampleScorer
) -> Report:
    course, unet = settings.course, settings.unet
    where = "pixels" if unet.vae is None else f"{unet.vae.latent} latents of a VAE"
    space = Paragraph(
        f"The UNet of this package on {where}, conditioned on the class, with 10% of the labels dropped for"
        f" classifier-free guidance. Samples by DDIM with {settings.steps} steps, without guidance (w = 1)."
        " Each column is one class, the noise is the same."
    )
    recipe = Paragraph(
        f"The recipe of a first course: linear betas from 0.0001 to 0.02 in T = {course.T} levels, which"
        f" leave ᾱ_T = {found.course.signal:.2g}, a UNet of {course.width} channels whose way up is scaled by"
        " the one-hot class and shifted by the time through fully connected blocks, ε-prediction, Adam."
        f" Samples by DDPM in {course.steps or course.T} steps; the last row guides with w ="
        f" {course.guidance:g}."
    )
    guided = {f"w = {course.guidance:g}": found.course.guided}
    scales = {f"w = {w:g}": samples for w, samples in found.scales.items()}
    intervals = {_interval(ends): samples for ends, samples in found.intervals.items()}
    unguided = {"none (w = 1)": found.scales[1.0]} if 1.0 in found.scales else {}
    epochs = "One sample of each class after each of these epochs, from the same noise."
    sections = (
        Section(
            "A class-conditional UNet through training",
            (
                space,
                _rows(context, "unet-epochs", found, _by_epoch(found.unet), epochs),
                scorer.words(settings.samples),
                _epochs("unet-epochs", found.unet, found, {}),
            ),
        ),
        Section(
            "The course's recipe",
            (
                recipe,
                _rows(context, "course-epochs", found, _by_epoch(found.course.epochs) | guided, epochs),
                _epochs("course-epochs", found.course.epochs, found, guided),
                _losses(context, found),
            ),
        ),
        Section(
            "The guidance scale",
            (
                Paragraph(SCALES),
                _rows(
                    context,
                    "scales",
                    found,
                    scales,
                    "The same noise with rising guidance; w = 0 is unconditional.",
                ),
                _scale_curves(context, found),
                _table(
                    "scales",
                    "guidance",
                    found,
                    scales,
                    "The UNet after its last epoch, with rising guidance at all levels.",
                ),
            ),
        ),
        Section(
            "Guidance in an interval",
            (
                Paragraph(INTERVALS.format(w=settings.limited)),
                _rows(context, "intervals", found, intervals, "The same noise, guided at some levels only."),
                _table(
                    "intervals",
                    "guided at",
                    found,
                    intervals | unguided,
                    "Guidance limited to an interval of noise levels.",
                ),
            ),
        ),
    )
    return Report(tuple(_findings(settings, found)), sections)


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


def _numbers(scored: ScoredSamples) -> tuple[Cell, ...]:
    diversity = None if math.isnan(scored.diversity) else scored.diversity
    return (measured(scored.scores.accuracy), diversity, *row(scored.scores))


def _real(found: GuidanceResults, *empty: None) -> tuple[Cell, ...]:
    floor = found.floor
    return (f"real images ({floor.n:,})", *empty, measured(floor.accuracy), 1.0, *row(floor))


def _by_epoch(epochs: TrainingResults) -> dict[str, ScoredSamples]:
    return {f"epoch {epoch}": samples for epoch, samples in epochs.found.items()}


def _rows(
    context: StudyContext,
    name: str,
    found: GuidanceResults,
    named: Mapping[str, ScoredSamples],
    caption: str,
) -> Picture:
    """A row of samples for each setting: each class once or, of few classes, twice."""
    classes = found.classes if len(found.classes) > 8 else 2 * found.classes
    n = min(12, len(classes), *(len(samples.images) for samples in named.values()))
    rows = [(title, samples.images[:n]) for title, samples in named.items()]
    return context.rows(name, rows, caption, columns=classes[:n])


def _epochs(
    name: str, epochs: TrainingResults, found: GuidanceResults, more: Mapping[str, ScoredSamples]
) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for epoch, samples in epochs.found.items():
        mark = epochs.marks[epoch]
        rows.append((f"epoch {epoch}", mark, epochs.trained.at("val_loss", mark), *_numbers(samples)))
    rows += [(f"with {title}", None, None, *_numbers(samples)) for title, samples in more.items()]
    rows.append(_real(found, None, None))
    caption = f"Samples after each epoch; training took {epochs.trained.seconds:.0f} s in all."
    return Table(name, ("", "optimizer steps", "validation loss", *_columns(found)), tuple(rows), caption)


def _table(
    name: str, head: str, found: GuidanceResults, named: Mapping[str, ScoredSamples], caption: str
) -> Table:
    rows = [(title, *_numbers(samples)) for title, samples in named.items()]
    return Table(name, (head, *_columns(found)), (*rows, _real(found)), caption)


def _losses(context: StudyContext, found: GuidanceResults) -> Picture:
    panels = [
        epochs.trained.loss_panel(title, max(epochs.marks), f"mean squared error of {what}")
        for title, what, epochs in (("UNet", "v", found.unet), ("course's recipe", "ε", found.course.epochs))
    ]
    caption = "Losses of both trainings, of different predictions in different spaces: not comparable."
    return context.plot("losses", panels, caption)


def _scale_curves(context: StudyContext, found: GuidanceResults) -> Picture:
    scales, scored = list(found.scales), list(found.scales.values())
    nan = Score(math.nan)
    seen = [each.scores.accuracy or nan for each in scored]
    accuracy = Curve(
        "samples",
        scales,
        [score.value for score in seen],
        "marked",
        low=[score.value if score.low is None else score.low for score in seen],
        high=[score.value if score.high is None else score.high for score in seen],
    )
    fd = Curve("samples", scales, [each.scores.fd.value for each in scored], "marked")
    diversity = [
        Curve("distance within a class", scales, [each.diversity for each in scored], "marked"),
        Curve("recall", scales, [each.scores.recall.value for each in scored], "marked"),
    ]
    x, floor = "guidance scale w", found.floor
    real = _level(floor.accuracy), _level(floor.fd), (("as real images", 1.0),)
    panels = [
        Panel("accuracy", x, "share of the conditioned class", [accuracy], levels=real[0]),
        Panel("quality", x, frechet_name(floor.features.name), [fd], log_y=True, levels=real[1]),
        Panel("diversity", x, "relative to real images", diversity, levels=real[2]),
    ]
    caption = (
        "Accuracy, quality and diversity against the guidance scale. The band is a bootstrap interval, the"
        " dotted line real images."
    )
    return context.plot("guidance", panels, caption)


def _level(score: object) -> tuple[tuple[str, float], ...]:
    value = getattr(score, "value", None)
    return () if value is None else (("real images", float(value)),)


def _columns(found: GuidanceResults) -> tuple[str, ...]:
    return ("class accuracy", "diversity", *columns(found.floor))


def _interval(ends: tuple[float, float]) -> str:
    return "all levels" if ends == (0.0, 1.0) else f"t/T from {ends[0]:g} to {ends[1]:g}"


def _accuracy(scored: ScoredSamples) -> str:
    """The accuracy as text; empty if the network has other classes."""
    return "" if scored.scores.accuracy is None else f"; class accuracy {scored.scores.accuracy.value:.1%}"


def _findings(settings: GuidanceSettings, found: GuidanceResults) -> Iterator[str]:
    for name, epochs in (("The UNet", found.unet), ("The course's recipe", found.course.epochs)):
        first, last = (epochs.found[epoch] for epoch in (min(epochs.found), max(epochs.found)))
        yield (
            f"{name}, without guidance: FD {first.scores.fd.value:.3g}{_accuracy(first)} after epoch"
            f" {min(epochs.found)}, FD {last.scores.fd.value:.3g}{_accuracy(last)} after epoch"
            f" {max(epochs.found)}."
        )
    scales, top = found.scales, max(found.scales)
    yield comparison.ordered(
        "FD by guidance scale", {f"w = {w:g}": scored.scores.fd for w, scored in scales.items()}
    )
    known = {
        f"w = {w:g}": scored.scores.accuracy for w, scored in scales.items() if w and scored.scores.accuracy
    }
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
