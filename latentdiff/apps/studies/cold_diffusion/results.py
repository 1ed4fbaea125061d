"""Settings and results of the study of cold diffusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit.classifier import ClassReader
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores
from latentdiff.apps.studies.kit.presets import fitting
from latentdiff.apps.studies.kit.scoring import SampleScorer
from latentdiff.apps.studies.kit.training import (
    Trained,
    cold_of,
    epoch_marks,
    pipeline_of,
    train_cold,
    train_denoiser,
)
from latentdiff.config.sampling import Sampling
from latentdiff.config.training import TrainCold, TrainDenoiser
from latentdiff.data import to_uint8
from latentdiff.edit import iterated, noisy, one_step
from latentdiff.evaluate import SampleScores

SHOWN = 10


@dataclass(frozen=True)
class ColdDiffusionSettings:
    """Both networks are ConvNeXt UNets of ``width`` channels on patches; ``long`` is the variance of level 1
    of the longer blur.
    """

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
    """A trained model: its log and marks, what it restores from the ``input``, and what it generates by
    epoch.

    ``flat``: what it generates at the end from flat starts.
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
        self.scorer, self.metrics, self.reader = (
            SampleScorer.of(context, resamples=settings.resamples),
            PairedMetrics.of(context),
            ClassReader.of(context),
        )
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
