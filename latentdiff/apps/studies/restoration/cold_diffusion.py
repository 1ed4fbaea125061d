"""Study `cold-diffusion`: images out of blur, beside images out of noise, by the same network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores, against_input, difference
from latentdiff.apps.studies.kit.presets import fitting
from latentdiff.apps.studies.kit.scoring import ClassReader, SampleScorer, distance, distances
from latentdiff.apps.studies.kit.training import (
    Trained,
    cold_of,
    epoch_marks,
    pipeline_of,
    train_cold,
    train_denoiser,
)
from latentdiff.apps.studies.report.blocks import Cell, IntervalCell, Picture, Report, Section, Table
from latentdiff.apps.studies.runner import Study
from latentdiff.config.cold import DegradationConfig
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainCold, TrainDenoiser
from latentdiff.data import to_uint8
from latentdiff.diffusion.cold.degradation import make_degradation
from latentdiff.edit import iterated, noisy, one_step
from latentdiff.evaluate import SampleScores

SHOWN = 10


@dataclass(frozen=True)
class ColdDiffusionSettings:
    """Both networks are ConvNeXt UNets of patches; ``long``: the variance of level 1 of the longer blur."""

    epochs: tuple[int, ...] = (1, 3, 8)
    batch: int = 64
    lr: float = 2e-3
    width: int = 32
    patch: int = 4
    T: int = 100
    variance: float = 0.3
    long: float = 1.0
    noise_levels: int = 1000
    noise_level: int = 600
    steps: int = 50
    samples: int = 250
    tested: int = 250
    resamples: int = 100


class RestoredImages(NamedTuple):
    """Test images restored by a method: scores against the originals, and the share that keeps its class."""

    name: str
    images: Tensor
    pairs: PairedScores
    kept: float | None
    scores: SampleScores


class ModelResults(NamedTuple):
    """A trained model: what it restores from the ``input``, and what it generates, by epoch or from flat
    starts at the end.
    """

    name: str
    trained: Trained
    marks: Mapping[int, int]
    methods: tuple[RestoredImages, ...]
    samples: Mapping[int, Tensor]
    scores: SampleScores
    degraded: Tensor
    input: PairedScores
    loss: float
    flat: tuple[Tensor, SampleScores] | None = None


class ModelRunner:
    """Trains the models, restores test images [n, C, H, W] and draws samples."""

    def __init__(
        self, context: StudyContext, settings: ColdDiffusionSettings, images: Tensor, labels: Tensor | None
    ) -> None:
        self.context, self.settings, self.images, self.labels = context, settings, images, labels
        self.scorer = SampleScorer.of(context, resamples=settings.resamples)
        self.metrics, self.reader = PairedMetrics.of(context), ClassReader.of(context)
        size = len(context.data.train)
        self.marks = epoch_marks(settings.epochs, size=size, batch=settings.batch)

    def _options(self) -> dict[str, Any]:
        settings, context = self.settings, self.context
        values = {
            "width": settings.width,
            "patch": fitting(settings.patch, context.data),
            "batch": settings.batch,
            "lr": settings.lr,
            "decay": "constant",
            "ema": 0.995,
        }
        about = {"data": context.data.name, "seed": context.seed, "device": str(context.device)}
        return {**values, **about, "validate_every": max(1, self.marks[min(self.marks)])}

    def cold(self, name: str, variance: float) -> ModelResults:
        settings, context = self.settings, self.context
        options = TrainCold.model_validate({**self._options(), "T": settings.T, "variance": variance})
        with context.part(f"training: {name}"):
            trained = train_cold(context, name.replace(" ", "-"), options, marks=tuple(self.marks.values()))
        with context.part(f"images: {name}"):
            model = cold_of(context, trained)
            degraded = model.degradation(self.images.to(context.device), settings.T)
            methods = [
                self._restored("one step", model.one_step(degraded, settings.T)),
                self._restored("naive sampling", model.restore(degraded, settings.T, improved=False).images),
                self._restored("improved sampling", model.restore(degraded, settings.T).images),
            ]
            samples = {}
            for epoch, mark in self.marks.items():
                made = cold_of(context, trained, mark).sample(self._count(epoch), seed=context.seed)
                samples[epoch] = made.images
            flat = model.sample(settings.samples, seed=context.seed, start="flat").images
        scored_flat = (flat, self.scorer.score(to_uint8(flat)))
        return self._results(name, trained, methods, samples, degraded.cpu(), scored_flat)

    def noise(self) -> ModelResults:
        settings, context = self.settings, self.context
        process = {
            "pixel": True,
            "network": "convnext",
            "labels": False,
            "prediction": "x0",
            "schedule": "cosine",
            "T": settings.noise_levels,
        }
        options = TrainDenoiser.model_validate({**self._options(), **process})
        with context.part("training: noise"):
            trained = train_denoiser(context, "noise", options, vae=None, marks=tuple(self.marks.values()))
        with context.part("images: noise"):
            pipeline, t = pipeline_of(context, trained), settings.noise_level
            sampling = Sampling(steps=settings.steps, eta=1.0)
            x = noisy(pipeline, self.images, t, seed=context.seed)
            methods = [
                self._restored("one step", one_step(pipeline, x, t)),
                self._restored(
                    "step by step", iterated(pipeline, x, t, settings=sampling, seed=context.seed).images
                ),
            ]
            samples = {}
            for epoch, mark in self.marks.items():
                samples[epoch] = pipeline_of(context, trained, mark).sample(
                    self._count(epoch), steps=settings.steps, eta=1.0, seed=context.seed
                )
        return self._results("noise", trained, methods, samples, pipeline.decode(x), None)

    def _count(self, epoch: int) -> int:
        """The number of samples: all of them after the last epoch, else a row."""
        return self.settings.samples if epoch == max(self.marks) else SHOWN

    def _results(
        self,
        name: str,
        trained: Trained,
        methods: Sequence[RestoredImages],
        samples: Mapping[int, Tensor],
        degraded: Tensor,
        flat: tuple[Tensor, SampleScores] | None,
    ) -> ModelResults:
        last = max(self.marks)
        return ModelResults(
            name=name,
            trained=trained,
            marks=self.marks,
            methods=tuple(methods),
            samples=samples,
            scores=self.scorer.score(to_uint8(samples[last])),
            degraded=degraded,
            input=self.metrics.pairs(degraded.clamp(-1, 1), self.images),
            loss=trained.at("val_loss", self.marks[last]),
            flat=flat,
        )

    def _restored(self, name: str, images: Tensor) -> RestoredImages:
        kept = None if self.reader is None or self.labels is None else self.reader.share(images, self.labels)
        return RestoredImages(
            name, images, self.metrics.pairs(images, self.images), kept, self.scorer.score(to_uint8(images))
        )


def study(context: StudyContext, settings: ColdDiffusionSettings) -> Report:
    runner = ModelRunner(context, settings, *context.test_images(settings.tested))
    models = [
        runner.cold("blur", settings.variance),
        runner.noise(),
        runner.cold("longer blur", settings.long),
    ]
    floor = runner.scorer.floor(settings.samples)
    return Report(
        _findings(models, runner.metrics.distance),
        Section(
            "How images are lost",
            ABOUT.format(T=settings.T, w=settings.width),
            _degraded(context, settings, runner.images),
        ),
        Section("Losses", _losses(context, models)),
        Section("Restored test images", *_restored(context, runner, models)),
        Section(
            "New images",
            NEW.format(left=_left(models)),
            *(_through(context, model) for model in models),
            runner.scorer.words(settings.samples),
        ),
        Section("Compared", _table(runner.metrics, models, floor)),
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

    def add(
        name: str,
        loss: float | None,
        pairs: PairedScores | None,
        scores: SampleScores | None,
        kept: float | None = None,
    ) -> None:
        cells = [None] * len(metrics.columns) if pairs is None else metrics.cells([pairs])
        fd = distance(None if scores is None else scores.fd)
        rows.append((name, loss, *cells, *fd, None if kept is None else IntervalCell(kept)))

    for model in models:
        add(f"{model.name}: degraded", None, model.input, None)
        for method in model.methods:
            add(f"{model.name}: {method.name}", model.loss, method.pairs, method.scores, method.kept)
        add(f"{model.name}: new images", model.loss, None, model.scores)
        if model.flat is not None:
            add(f"{model.name}: new images, flat start", model.loss, None, model.flat[1])
    add(f"real images ({floor.n:,})", None, None, floor)
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


FULL = ColdDiffusionSettings(
    epochs=(3, 5, 15, 45), patch=1, width=64, lr=1e-3, samples=5000, tested=1000, steps=250, resamples=200
)
STUDY = Study(quick=ColdDiffusionSettings(), full=FULL, run=study)
