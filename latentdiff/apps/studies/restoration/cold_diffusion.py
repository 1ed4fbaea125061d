"""Study `cold-diffusion`: images out of blur, beside images out of noise, by the same network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
from latentdiff.apps.studies.report.blocks import IntervalCell, Picture, Report, Section, Table
from latentdiff.apps.studies.runner import Study
from latentdiff.config.cold import DegradationConfig
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainCold, TrainDenoiser
from latentdiff.data import to_uint8
from latentdiff.diffusion.cold import make_degradation
from latentdiff.edit import add_noise, denoise_iteratively, one_step
from latentdiff.evaluate import SampleScores

SHOWN = 10


@dataclass(frozen=True)
class ColdDiffusionSettings:
    """Both networks are ConvNeXt UNets of patches; ``long``: the variance of level 1 of the longer blur."""

    epochs: tuple[int, ...] = (1, 5, 12)
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
    """A trained model: what it restores from the ``input`` and generates, by epoch or from flat starts."""

    name: str
    trained: Trained
    methods: tuple[RestoredImages, ...]
    samples: Mapping[int, Tensor]
    scores: SampleScores
    degraded: Tensor
    input: PairedScores
    loss: float
    flat: tuple[Tensor, SampleScores] | None


class ModelRunner:
    """Trains the models, restores test images [n, C, H, W] and draws samples."""

    def __init__(
        self, context: StudyContext, settings: ColdDiffusionSettings, images: Tensor, labels: Tensor | None
    ) -> None:
        self.context, self.settings, self.images, self.labels = context, settings, images, labels
        self.scorer = SampleScorer.of(context, resamples=settings.resamples)
        self.metrics, self.reader = PairedMetrics.of(context), ClassReader.of(context)
        self.marks = epoch_marks(settings.epochs, size=len(context.data.train), batch=settings.batch)
        self.options = {
            "width": settings.width,
            "patch": fitting(settings.patch, context.data),
            "batch": settings.batch,
            "lr": settings.lr,
            "decay": "constant",
            "ema": 0.995,
            "data": context.data.name,
            "seed": context.seed,
            "device": str(context.device),
            "validate_every": max(1, self.marks[min(self.marks)]),
        }

    def cold(self, name: str, variance: float) -> ModelResults:
        T, context, seed = self.settings.T, self.context, self.context.seed
        options = TrainCold.model_validate({**self.options, "T": T, "variance": variance})
        with context.part(f"training: {name}"):
            trained = train_cold(context, name.replace(" ", "-"), options, marks=tuple(self.marks.values()))
        with context.part(f"images: {name}"):
            model = cold_of(context, trained)
            degraded = model.degradation(self.images.to(context.device), T)
            methods = {
                "one step": model.one_step(degraded, T),
                "naive sampling": model.restore(degraded, T, improved=False).images,
                "improved sampling": model.restore(degraded, T).images,
            }
            samples = {
                epoch: cold_of(context, trained, mark).sample(self._count(epoch), seed=seed).images
                for epoch, mark in self.marks.items()
            }
            flat = model.sample(self.settings.samples, seed=seed, start="flat").images
        return self._results(name, trained, methods, samples, degraded.cpu(), flat)

    def noise(self) -> ModelResults:
        settings, context, seed = self.settings, self.context, self.context.seed
        process = {
            "pixel": True,
            "network": "convnext",
            "labels": False,
            "prediction": "x0",
            "schedule": "cosine",
            "T": settings.noise_levels,
        }
        options = TrainDenoiser.model_validate({**self.options, **process})
        with context.part("training: noise"):
            trained = train_denoiser(context, "noise", options, vae=None, marks=tuple(self.marks.values()))
        with context.part("images: noise"):
            pipeline, t = pipeline_of(context, trained), settings.noise_level
            sampling = Sampling(steps=settings.steps, eta=1.0)
            x = add_noise(pipeline, self.images, t, seed=seed)
            methods = {
                "one step": one_step(pipeline, x, t),
                "step by step": denoise_iteratively(pipeline, x, t, settings=sampling, seed=seed).images,
            }
            samples = {
                epoch: pipeline_of(context, trained, mark).sample(
                    self._count(epoch), steps=settings.steps, eta=1.0, seed=seed
                )
                for epoch, mark in self.marks.items()
            }
        return self._results("noise", trained, methods, samples, pipeline.decode(x), None)

    def _count(self, epoch: int) -> int:
        """The number of samples: all of them after the last epoch, else a row."""
        return self.settings.samples if epoch == max(self.marks) else SHOWN

    def _results(
        self,
        name: str,
        trained: Trained,
        methods: Mapping[str, Tensor],
        samples: Mapping[int, Tensor],
        degraded: Tensor,
        flat: Tensor | None,
    ) -> ModelResults:
        last = max(self.marks)
        return ModelResults(
            name=name,
            trained=trained,
            methods=tuple(self._restored(method, images) for method, images in methods.items()),
            samples=samples,
            scores=self.scorer.score(to_uint8(samples[last])),
            degraded=degraded,
            input=self.metrics.pairs(degraded.clamp(-1, 1), self.images),
            loss=trained.at("val_loss", self.marks[last]),
            flat=None if flat is None else (flat, self.scorer.score(to_uint8(flat))),
        )

    def _restored(self, name: str, images: Tensor) -> RestoredImages:
        kept = (
            None if self.reader is None or self.labels is None else self.reader.accuracy(images, self.labels)
        )
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
    baseline = runner.scorer.real_baseline(settings.samples)
    return Report(
        _findings(models, runner.metrics.distance, runner.images),
        Section("How images are lost", ABOUT.format(T=settings.T, w=settings.width), _degraded(runner)),
        Section("Losses", _losses(context, models, max(settings.epochs))),
        Section("Restored test images", *_restored(context, runner, models)),
        Section(
            "New images",
            NEW.format(left=_left(models)),
            *(_through(context, model) for model in models),
            runner.scorer.caveats(settings.samples),
        ),
        Section("Compared", _table(runner.metrics, models, baseline)),
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
    "Samples start from intensities of 7 x 7 cells, drawn from a mixture of normal distributions fitted"
    " to the training images and blurred to level T; a little noise (σ = 0.002) breaks their symmetry. The"
    " published start is flat, of the mean intensity of an image (the last row). The standard deviation of"
    " the pixels of a test image at level T is {left}. The smaller it is, the closer a flat start is to"
    " the training inputs."
)


def _left(models: list[ModelResults]) -> str:
    """The mean deviation within degraded images, for the kinds without noise."""
    found = {
        model.name: float(model.degraded.flatten(1).std(1).mean())
        for model in models
        if model.name != "noise"
    }
    return ", ".join(f"{value:.2g} ({name})" for name, value in found.items())


def _degraded(runner: ModelRunner) -> Picture:
    settings, context = runner.settings, runner.context
    T, rows = settings.T, []
    levels = [round(T * share) for share in (0, 0.1, 0.25, 0.5, 0.75, 1)]
    for name, config in (
        ("blur", DegradationConfig(T=T, variance=settings.variance)),
        ("longer blur", DegradationConfig(T=T, variance=settings.long)),
        ("pixelate", DegradationConfig(degradation="pixelate", T=T)),
        ("fade", DegradationConfig(degradation="fade", T=T)),
    ):
        degrade = make_degradation(config, context.data.shape)
        rows.append((name, torch.cat([degrade(runner.images[3:4], level) for level in levels])))
    caption, columns = "The degradations of this package, from level 0 to T.", [f"t = {t}" for t in levels]
    return context.rows("degradations", rows, caption, columns=columns)


def _losses(context: StudyContext, models: list[ModelResults], epochs: int) -> Picture:
    panels = []
    for model in models:
        what = "squared" if model.name == "noise" else "absolute"
        panels.append(model.trained.loss_panel(model.name, epochs, f"mean {what} error of x_0"))
    caption = "Errors of the restored image over the epochs, by different measures for blur and noise."
    return context.plot("losses", panels, caption)


def _restored(context: StudyContext, runner: ModelRunner, models: list[ModelResults]) -> Iterator[Picture]:
    for model in models:
        degraded = model.degraded.clamp(-1, 1)
        made = [("degraded", degraded), *((method.name, method.images) for method in model.methods)]
        notes = {name: runner.metrics.pairs(images, runner.images).notes for name, images in made}
        stages, text = [("original", runner.images), *made], f"Restored from {model.name}."
        legend = runner.metrics.legend
        yield context.stages(f"restored-{model.name}", stages, text, notes=notes, legend=legend)


def _through(context: StudyContext, model: ModelResults) -> Picture:
    rows = [(f"epoch {epoch}", images) for epoch, images in model.samples.items()]
    if model.flat is not None:
        rows.append(("flat start", model.flat[0]))
    caption = f"New images out of {model.name}, after each of these epochs."
    return context.rows(f"new-{model.name}", rows, caption, most=SHOWN)


def _table(metrics: PairedMetrics, models: list[ModelResults], baseline: SampleScores) -> Table:
    found: list[tuple[str, float | None, PairedScores | None, SampleScores | None, float | None]] = []
    for model in models:
        name, loss = model.name, model.loss
        found.append((f"{name}: degraded", None, model.input, None, None))
        found += [
            (f"{name}: {each.name}", loss, each.pairs, each.scores, each.kept) for each in model.methods
        ]
        found.append((f"{name}: new images", loss, None, model.scores, None))
        if model.flat is not None:
            found.append((f"{name}: new images, flat start", loss, None, model.flat[1], None))
    found.append((f"real images ({baseline.n:,})", None, None, baseline, None))
    rows = []
    for title, error, pairs, scores, kept in found:
        cells = [None] * len(metrics.columns) if pairs is None else metrics.cells([pairs])
        fd = distance(None if scores is None else scores.fd)
        rows.append((title, error, *cells, *fd, None if kept is None else IntervalCell(kept)))
    columns = ("", "validation loss", *metrics.columns, *distances(baseline), "class kept")
    return Table(
        "compared",
        columns,
        tuple(rows),
        "Restored test images against their originals and as a set, and new images as a set. Losses are of"
        " different distances (L1 of x_0 out of blur, squared error of the noise's network) and do not"
        " compare across kinds.",
    )


def _findings(models: list[ModelResults], distance: str, originals: Tensor) -> Iterator[str]:
    for model in models:
        scores = {"degraded": [model.input], **{method.name: [method.pairs] for method in model.methods}}
        yield against_input(f"Restored from {model.name}", scores, "degraded", "psnr", "PSNR", unit=" dB")
        yield against_input(f"Restored from {model.name}", scores, "degraded", "distance", distance)
        yield (
            f"Contrast of what is restored from {model.name} (the deviation of the pixels over that of the"
            f" originals; an empty image has 0%): {_contrast(model, originals)}."
        )
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


def _contrast(model: ModelResults, originals: Tensor) -> str:
    """The deviation of the pixels within restored images, by method, as a share of the originals'."""
    whole = float(originals.flatten(1).std(1).mean())
    found = {each.name: float(each.images.flatten(1).std(1).mean()) / whole for each in model.methods}
    return ", ".join(f"{name} {share:.0%}" for name, share in found.items())


def _apart(a: SampleScores, b: SampleScores) -> str:
    """How much larger the Fréchet distance of a is."""
    assert a.fd is not None and b.fd is not None
    return comparison.unpaired(a.fd, b.fd).text()


FULL = ColdDiffusionSettings(epochs=(3, 5, 15, 45), samples=1000, tested=500, steps=100, resamples=200)
STUDY = Study(quick=ColdDiffusionSettings(), full=FULL, run=study)
