"""Settings and results of the study of cold diffusion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit.classifier import ClassReader
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, Pairs
from latentdiff.apps.studies.kit.presets import fitting
from latentdiff.apps.studies.kit.scoring import SampleScorer
from latentdiff.apps.studies.kit.training import (
    Trained,
    cold_of,
    epochs_in_steps,
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
class Numbers:
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


class Variant(NamedTuple):
    """A way to come from degraded test images to clean ones: the pairs, the share that keeps its class and
    the images.
    """

    name: str
    images: Tensor
    pairs: Pairs
    kept: float | None
    scores: SampleScores


class Kind(NamedTuple):
    """A trained model: its log and marks, what it restores from the ``input``, and what it generates by
    epoch.

    ``flat``: what it generates at the end from flat starts.
    """

    name: str
    trained: Trained
    marks: Mapping[int, int]
    ways: tuple[Variant, ...]
    made: Mapping[int, Tensor]
    scores: SampleScores
    degraded: Tensor
    input: Pairs
    loss: float
    flat: tuple[Tensor, SampleScores] | None = None


class Fixtures:
    """Trains and looks at the models."""

    def __init__(self, lab: StudyContext, numbers: Numbers, images: Tensor, labels: Tensor | None) -> None:
        self.lab, self.numbers, self.images, self.labels = lab, numbers, images, labels
        self.judge, self.eye, self.reader = (
            SampleScorer.of(lab, resamples=numbers.resamples),
            PairedMetrics.of(lab),
            ClassReader.of(lab),
        )
        size = len(lab.data.train)
        self.marks = {
            epoch: epochs_in_steps(epoch, size=size, batch=numbers.batch) for epoch in numbers.epochs
        }

    def _options(self) -> dict[str, Any]:
        numbers, lab = self.numbers, self.lab
        values = {
            "width": numbers.width,
            "patch": fitting(numbers.patch, lab.data),
            "batch": numbers.batch,
            "lr": numbers.lr,
            "decay": "constant",
            "ema": 0.995,
        }
        about = {"data": lab.data.name, "seed": lab.seed, "device": str(lab.device)}
        return {**values, **about, "validate_every": max(1, self.marks[min(self.marks)])}

    def cold(self, name: str, variance: float) -> Kind:
        numbers, lab = self.numbers, self.lab
        options = TrainCold.model_validate({**self._options(), "T": numbers.T, "variance": variance})
        with lab.part(f"training: {name}"):
            trained = train_cold(lab, name.replace(" ", "-"), options, marks=tuple(self.marks.values()))
        with lab.part(f"images: {name}"):
            model = cold_of(lab, trained)
            degraded = model.degradation(self.images.to(lab.device), numbers.T)
            ways = [
                self._way("one step", model.one_step(degraded, numbers.T)),
                self._way("naive sampling", model.restore(degraded, numbers.T, improved=False).images),
                self._way("improved sampling", model.restore(degraded, numbers.T).images),
            ]
            made = {}
            for epoch, mark in self.marks.items():
                n = numbers.samples if epoch == max(self.marks) else SHOWN
                made[epoch] = cold_of(lab, trained, mark).sample(n, seed=lab.seed).images
            flat = model.sample(numbers.samples, seed=lab.seed, start="flat").images
        scores = self.judge.score(to_uint8(made[max(made)]))
        return Kind(
            name,
            trained,
            self.marks,
            tuple(ways),
            made,
            scores,
            degraded.cpu(),
            self.eye.pairs(degraded.cpu().clamp(-1, 1), self.images),
            trained.at("val_loss", max(self.marks.values())),
            (flat, self.judge.score(to_uint8(flat))),
        )

    def noise(self) -> Kind:
        numbers, lab = self.numbers, self.lab
        process = {
            "pixel": True,
            "network": "convnext",
            "labels": False,
            "prediction": "x0",
            "schedule": "cosine",
            "T": numbers.noise_levels,
        }
        options = TrainDenoiser.model_validate({**self._options(), **process})
        with lab.part("training: noise"):
            trained = train_denoiser(lab, "noise", options, vae=None, marks=tuple(self.marks.values()))
        with lab.part("images: noise"):
            pipeline, t = pipeline_of(lab, trained), numbers.noise_level
            settings = Sampling(steps=numbers.steps, eta=1.0)
            x = noisy(pipeline, self.images, t, seed=lab.seed)
            ways = [
                self._way("one step", one_step(pipeline, x, t)),
                self._way("step by step", iterated(pipeline, x, t, settings=settings, seed=lab.seed).images),
            ]
            made = {}
            for epoch, mark in self.marks.items():
                n = numbers.samples if epoch == max(self.marks) else SHOWN
                made[epoch] = pipeline_of(lab, trained, mark).sample(
                    n, steps=numbers.steps, eta=1.0, seed=lab.seed
                )
        scores = self.judge.score(to_uint8(made[max(made)]))
        return Kind(
            "noise",
            trained,
            self.marks,
            tuple(ways),
            made,
            scores,
            pipeline.decode(x),
            self.eye.pairs(pipeline.decode(x), self.images),
            trained.at("val_loss", max(self.marks.values())),
        )

    def _way(self, name: str, images: Tensor) -> Variant:
        kept = None if self.reader is None or self.labels is None else self.reader.share(images, self.labels)
        return Variant(
            name, images, self.eye.pairs(images, self.images), kept, self.judge.score(to_uint8(images))
        )
