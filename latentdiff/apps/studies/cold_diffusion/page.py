"""The tables, figures and words of study `cold-diffusion`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from latentdiff.apps.studies.cold_diffusion.results import ColdDiffusionSettings, ModelResults, ModelRunner
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, against_input, difference
from latentdiff.apps.studies.kit.scoring import distance, distances
from latentdiff.apps.studies.report.blocks import (
    Cell,
    IntervalCell,
    Paragraph,
    Picture,
    Report,
    Section,
    Table,
)
from latentdiff.config.cold import DegradationConfig
from latentdiff.diffusion.cold.degradation import make_degradation
from latentdiff.evaluate import SampleScores

SHOWN = 10


def report(
    context: StudyContext, settings: ColdDiffusionSettings, runner: ModelRunner, models: list[ModelResults]
) -> Report:
    floor = runner.scorer.floor(settings.samples)
    return Report(
        tuple(_findings(models, runner.metrics.distance)),
        (
            Section(
                "How images are lost",
                (
                    Paragraph(ABOUT.format(T=settings.T, w=settings.width)),
                    _degraded(context, settings, runner.images),
                ),
            ),
            Section("Losses", (_losses(context, models),)),
            Section("Restored test images", tuple(_restored(context, runner, models))),
            Section(
                "New images",
                (
                    Paragraph(NEW.format(left=_left(models))),
                    *(_through(context, model) for model in models),
                    runner.scorer.words(settings.samples),
                ),
            ),
            Section("Compared", (_table(runner.metrics, models, floor),)),
        ),
    )


ABOUT = (
    "Cold diffusion (Bansal et al. 2022) puts a deterministic degradation in the place of noise: here"
    " repeated Gaussian blur with a kernel of 11 pixels, its variance growing over {T} levels. A network (a"
    " UNet of ConvNeXt blocks, {w} channels, conditioned on the level in every block) predicts the clean"
    " image in one step. Naive sampling degrades the estimate to the next level, x_s = D(x_0, s); improved"
    " sampling corrects the current image, x_s = x_t − D(x_0, t) + D(x_0, s). The same network on noise"
    " (cosine schedule, T = 1000) is the comparison."
)
NEW = (
    "Samples start from intensities of 7 x 7 cells, drawn from a normal distribution fitted to the training"
    " images and blurred to level T; a little noise (σ = 0.002) breaks their symmetry. The published start is"
    " flat, of the mean intensity of an image (the last row). The standard deviation of the pixels of a test"
    " image at level T is {left}. The smaller it is, the closer a flat start is to the training inputs."
)


def _left(models: list[ModelResults]) -> str:
    """The mean deviation within degraded images, for the kinds without noise."""
    found = {
        model.name: float(model.degraded.flatten(1).std(1).mean())
        for model in models
        if model.name != "noise"
    }
    return ", ".join(f"{value:.2g} ({name})" for name, value in found.items())


def _degraded(context: StudyContext, settings: ColdDiffusionSettings, images: Tensor) -> Picture:
    shape, rows = context.data.shape, []
    levels = [round(settings.T * share) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    for name, config in (
        ("blur", DegradationConfig(T=settings.T, variance=settings.variance)),
        ("longer blur", DegradationConfig(T=settings.T, variance=settings.long)),
        ("pixelate", DegradationConfig(degradation="pixelate", T=settings.T)),
        ("fade", DegradationConfig(degradation="fade", T=settings.T)),
    ):
        degrade = make_degradation(config, shape)
        rows.append((name, torch.cat([degrade(images[3:4], level) for level in levels])))
    return context.rows(
        "degradations",
        rows,
        "The degradations of this package, from level 0 to T.",
        columns=[f"t = {level}" for level in levels],
    )


def _losses(context: StudyContext, models: list[ModelResults]) -> Picture:
    panels = []
    for model in models:
        what = "squared" if model.name == "noise" else "absolute"
        panels.append(model.trained.loss_panel(model.name, max(model.marks), f"mean {what} error of x_0"))
    caption = "Errors of the restored image over the epochs, by different measures for blur and noise."
    return context.plot("losses", panels, caption)


def _restored(context: StudyContext, runner: ModelRunner, models: list[ModelResults]) -> Iterator[Picture]:
    for model in models:
        rows = [("original", runner.images[:SHOWN]), ("degraded", model.degraded[:SHOWN].clamp(-1, 1))]
        rows += [(method.name, method.images[:SHOWN]) for method in model.methods]
        yield context.rows(f"restored-{model.name.replace(' ', '-')}", rows, f"Restored from {model.name}.")


def _through(context: StudyContext, model: ModelResults) -> Picture:
    rows = [(f"epoch {epoch}", images[:SHOWN]) for epoch, images in model.samples.items()]
    if model.flat is not None:
        rows.append(("flat start", model.flat[0][:SHOWN]))
    return context.rows(
        f"new-{model.name.replace(' ', '-')}",
        rows,
        f"New images out of {model.name}, after each of these epochs.",
    )


def _table(metrics: PairedMetrics, models: list[ModelResults], floor: SampleScores) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for model in models:
        rows.append((f"{model.name}: degraded", None, *metrics.cells([model.input]), None, None, None))
        for method in model.methods:
            kept = None if method.kept is None else IntervalCell(method.kept)
            rows.append(
                (
                    f"{model.name}: {method.name}",
                    model.loss,
                    *metrics.cells([method.pairs]),
                    *distance(method.scores.fd),
                    kept,
                )
            )
        rows.append(
            (
                f"{model.name}: new images",
                model.loss,
                *[None] * len(metrics.columns),
                *distance(model.scores.fd),
                None,
            )
        )
        if model.flat is not None:
            fd = distance(model.flat[1].fd)
            rows.append(
                (
                    f"{model.name}: new images, flat start",
                    model.loss,
                    *[None] * len(metrics.columns),
                    *fd,
                    None,
                )
            )
    rows.append(
        (f"real images ({floor.n:,})", None, *[None] * len(metrics.columns), *distance(floor.fd), None)
    )
    columns = ("", "validation loss", *metrics.columns, *distances(floor), "class kept")
    return Table(
        "compared",
        columns,
        tuple(rows),
        "Restored test images against their originals and as a set, and new images as a set. Losses are of"
        " different distances (L1 of x_0 out of blur, squared error of the noise's network) and do not"
        " compare across kinds.",
    )


def _findings(models: list[ModelResults], distance: str) -> Iterator[str]:
    for model in models:
        scores = {"degraded": [model.input], **{method.name: [method.pairs] for method in model.methods}}
        yield against_input(f"Restored from {model.name}", scores, "degraded", "psnr", "PSNR", unit=" dB")
        yield against_input(f"Restored from {model.name}", scores, "degraded", "distance", distance)
        fd = {method.name: method.scores.fd for method in model.methods if method.scores.fd is not None}
        yield comparison.ordered(f"FD of what is restored from {model.name}", fd)
    blur = {method.name: method for method in models[0].methods}
    one, improved = blur["one step"], blur["improved sampling"]
    off = difference([improved.pairs], [one.pairs], "rmse")
    yield (
        f"Out of blur, improved sampling against one step: FD {_apart(improved.scores, one.scores)}, RMSE"
        f" {off.text()}. Published is a smaller FD with a larger error."
    )
    made = {f"out of {model.name}": model.scores.fd for model in models if model.scores.fd is not None}
    yield comparison.ordered("FD of new images", made)
    yield from (
        f"Out of {model.name}, a flat start against one of cells: FD {_apart(model.flat[1], model.scores)}."
        for model in models
        if model.flat is not None
    )


def _apart(a: SampleScores, b: SampleScores) -> str:
    """How much larger the Fréchet distance of a is."""
    assert a.fd is not None and b.fd is not None
    return comparison.unpaired(a.fd, b.fd).text()
