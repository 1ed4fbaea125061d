"""The tables, figures and words of study `class-guidance`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from latentdiff.apps.studies.class_guidance.results import Epochs, Numbers, Results, Scored
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, columns, measured, row
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.metrics.features.names import frechet_name


def report(lab: StudyContext, numbers: Numbers, found: Results, judge: SampleScorer) -> Report:
    warning = judge.words(numbers.samples)
    course, unet = numbers.course, numbers.unet
    where = "pixels" if unet.vae is None else f"{unet.vae.latent} latents of a VAE"
    space = Words(
        f"The UNet of this package on {where}, told the class; 10% of the labels are dropped, so that it also"
        f" learns to do without. Samples by DDIM with {numbers.steps} steps, plainly conditional (w = 1)."
        " Each column is one class, the noise is the same."
    )
    recipe = Words(
        f"The recipe of a first course: linear betas from 0.0001 to 0.02 in T = {course.T} levels, which"
        f" leave ᾱ_T = {found.course.signal:.2g}, a UNet of {course.width} channels whose way up is scaled by"
        " the one-hot class and shifted by the time through fully connected blocks, ε-prediction, Adam."
        f" Samples by DDPM in {course.steps or course.T} steps; the last row guides with w ="
        f" {course.guidance:g}."
    )
    sections = (
        Section(
            "A class-conditional UNet through training",
            (
                space,
                _rows(lab, "unet", found, found.unet, {}),
                warning,
                _epochs("unet", found.unet, found, {}),
            ),
        ),
        Section(
            "The course's recipe",
            (
                recipe,
                _rows(
                    lab,
                    "course",
                    found,
                    found.course.epochs,
                    {f"w = {course.guidance:g}": found.course.guided},
                ),
                _epochs(
                    "course",
                    found.course.epochs,
                    found,
                    {f"with w = {course.guidance:g}": found.course.guided},
                ),
                _losses(lab, found),
            ),
        ),
        Section(
            "The guidance scale",
            (Words(SCALES), _scale_rows(lab, found), _scale_curves(lab, found), _scale_table(found)),
        ),
        Section(
            "Guidance in an interval",
            (Words(INTERVALS.format(w=numbers.limited)), _interval_rows(lab, found), _interval_table(found)),
        ),
    )
    return Report(tuple(_findings(numbers, found)), sections)


SCALES = (
    "Guidance takes w times the conditional estimate and 1 − w times the unconditional one: w = 0 ignores the"
    " class, 1 is plainly conditional, more exaggerates what distinguishes the class. Accuracy is how often"
    " the classifier sees the class asked for; diversity is the mean distance in features of two samples of"
    " one class, over the same of real images (1: as varied as real ones)."
)
INTERVALS = (
    "Guidance can be limited to some noise levels (Kynkäänniemi et al. 2024): here w = {w:g} acts only where"
    " t/T lies in the interval, and the sample is plainly conditional elsewhere. t/T near 1 is noise, near 0"
    " the finished image."
)


def _numbers(scored: Scored) -> tuple[Cell, ...]:
    diversity = None if math.isnan(scored.diversity) else scored.diversity
    return (measured(scored.scores.accuracy), diversity, *row(scored.scores))


def _real(found: Results, *empty: None) -> tuple[Cell, ...]:
    floor = found.floor
    return (f"real images ({floor.n:,})", *empty, measured(floor.accuracy), 1.0, *row(floor))


def _shown(found: Results, scored: Scored) -> int:
    """Images in a row: each class once or, of few classes, twice."""
    return min(
        len(scored.images), len(found.classes) if len(found.classes) > 8 else 2 * len(found.classes), 12
    )


def _labels(found: Results, scored: Scored) -> list[str]:
    return [found.classes[k % len(found.classes)] for k in range(_shown(found, scored))]


def _rows(
    lab: StudyContext, name: str, found: Results, epochs: Epochs, more: Mapping[str, Scored]
) -> Picture:
    named = {f"epoch {epoch}": scored for epoch, scored in epochs.found.items()} | dict(more)
    first = next(iter(named.values()))
    rows = [(title, scored.images[: _shown(found, scored)]) for title, scored in named.items()]
    return lab.rows(
        f"{name}-epochs",
        rows,
        "One sample of each class after each of these epochs, from the same noise.",
        columns=_labels(found, first),
        about={"seed": lab.seed},
    )


def _epochs(name: str, epochs: Epochs, found: Results, more: Mapping[str, Scored]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"epoch {epoch}",
            epochs.marks[epoch],
            epochs.trained.at("val_loss", epochs.marks[epoch]),
            *_numbers(scored),
        )
        for epoch, scored in epochs.found.items()
    ]
    rows += [(title, None, None, *_numbers(scored)) for title, scored in more.items()]
    rows.append(_real(found, None, None))
    caption = f"Samples after each epoch; training took {epochs.trained.seconds:.0f} s in all."
    return Table(
        f"{name}-epochs", ("", "optimizer steps", "validation loss", *_columns(found)), tuple(rows), caption
    )


def _losses(lab: StudyContext, found: Results) -> Picture:
    panels = []
    for title, what, epochs in (("UNet", "v", found.unet), ("course's recipe", "ε", found.course.epochs)):
        an_epoch = epochs.trained.marks[-1] / max(epochs.marks)
        curves = []
        for name, label in (("loss", "training"), ("val_loss", "validation")):
            steps, values = epochs.trained.curve(name)
            curves.append(
                Curve(
                    label, [step / an_epoch for step in steps], values, "thin" if name == "loss" else "marked"
                )
            )
        panels.append(Panel(title, "epoch", f"mean squared error of {what}", curves, log_y=True))
    return lab.plot(
        "losses",
        panels,
        "Losses of both trainings. They predict different things in different spaces: do not compare across"
        " the panels.",
    )


def _scale_rows(lab: StudyContext, found: Results) -> Picture:
    rows = [(f"w = {w:g}", scored.images[: _shown(found, scored)]) for w, scored in found.scales.items()]
    first = next(iter(found.scales.values()))
    return lab.rows(
        "scales",
        rows,
        "The same noise with rising guidance; with w = 0 the class is not asked for.",
        columns=_labels(found, first),
        about={"seed": lab.seed},
    )


def _scale_curves(lab: StudyContext, found: Results) -> Picture:
    scales = list(found.scales)
    scored = list(found.scales.values())
    seen = [each.scores.accuracy for each in scored]
    accuracy = [score.value if score is not None else float("nan") for score in seen]
    low = [
        score.low if score is not None and score.low is not None else value
        for score, value in zip(seen, accuracy, strict=True)
    ]
    high = [
        score.high if score is not None and score.high is not None else value
        for score, value in zip(seen, accuracy, strict=True)
    ]
    panels = [
        Panel(
            "accuracy",
            "guidance scale w",
            "share of the class asked for",
            [Curve("samples", scales, accuracy, "marked", low=low, high=high)],
            levels=_level(found.floor.accuracy),
        ),
        Panel(
            "quality",
            "guidance scale w",
            frechet_name(found.floor.features.name),
            [Curve("samples", scales, [each.scores.fd.value for each in scored], "marked")],
            log_y=True,
            levels=_level(found.floor.fd),
        ),
        Panel(
            "diversity",
            "guidance scale w",
            "relative to real images",
            [
                Curve("distance within a class", scales, [each.diversity for each in scored], "marked"),
                Curve("recall", scales, [each.scores.recall.value for each in scored], "marked"),
            ],
            levels=(("as real images", 1.0),),
        ),
    ]
    return lab.plot(
        "guidance",
        panels,
        "Accuracy, quality and diversity against the guidance scale. The band is a bootstrap interval, the"
        " dotted line real images.",
    )


def _level(score: object) -> tuple[tuple[str, float], ...]:
    value = getattr(score, "value", None)
    return () if value is None else (("real images", float(value)),)


def _columns(found: Results) -> tuple[str, ...]:
    return ("class accuracy", "diversity", *columns(found.floor))


def _scale_table(found: Results) -> Table:
    rows: list[tuple[Cell, ...]] = [(f"w = {w:g}", *_numbers(scored)) for w, scored in found.scales.items()]
    rows.append(_real(found))
    return Table(
        "scales",
        ("guidance", *_columns(found)),
        tuple(rows),
        "The UNet of this package after its last epoch, with rising guidance over all levels.",
    )


def _interval_rows(lab: StudyContext, found: Results) -> Picture:
    rows = [
        (_interval(ends), scored.images[: _shown(found, scored)]) for ends, scored in found.intervals.items()
    ]
    first = next(iter(found.intervals.values()))
    return lab.rows(
        "intervals",
        rows,
        "The same noise, guided at some levels only.",
        columns=_labels(found, first),
        about={"seed": lab.seed},
    )


def _interval(ends: tuple[float, float]) -> str:
    return "all levels" if ends == (0.0, 1.0) else f"t/T from {ends[0]:g} to {ends[1]:g}"


def _interval_table(found: Results) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (_interval(ends), *_numbers(scored)) for ends, scored in found.intervals.items()
    ]
    if 1.0 in found.scales:
        rows.append(("none (w = 1)", *_numbers(found.scales[1.0])))
    rows.append(_real(found))
    return Table(
        "intervals",
        ("guided at", *_columns(found)),
        tuple(rows),
        "Guidance limited to an interval of noise levels.",
    )


def _accuracy(scored: Scored) -> str:
    """In words, empty where the judge does not tell the classes apart."""
    return "" if scored.scores.accuracy is None else f"; class accuracy {scored.scores.accuracy.value:.1%}"


def _findings(numbers: Numbers, found: Results) -> Iterator[str]:
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
    seen = {
        f"w = {w:g}": scored.scores.accuracy for w, scored in scales.items() if w and scored.scores.accuracy
    }
    if seen:
        known = {name: score for name, score in seen.items() if score is not None}
        yield comparison.ordered(
            "Class accuracy by guidance scale", known, smaller=False, times=100, unit="%"
        )
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
        yield comparison.against(f"FD with w = {numbers.limited:g} in an interval only", base, fd)
