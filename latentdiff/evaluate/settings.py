"""Settings of an evaluation, its feature networks, and the display of its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.data import ImageSet
from latentdiff.data.classes import ClassBalance
from latentdiff.diffusion.losses import Weighting
from latentdiff.evaluate.interval_score import Resampling
from latentdiff.evaluate.reference import Reference, at_most, random_subset
from latentdiff.metrics.features import FeatureNetwork, Features, PerceptualNetwork
from latentdiff.metrics.features.cache import FeatureCache, image_hash
from latentdiff.metrics.features.network import network_labels
from latentdiff.parallel.processes import ALONE, Ranks


class ProgressBar(Protocol):
    """Shows the progress of one stage."""

    def update(self, done: int, total: int) -> None: ...


ProgressStage = Callable[[str], AbstractContextManager[ProgressBar]]
"""Called with the name of a stage; the context ends with it."""


class _NoBar:
    def update(self, done: int, total: int) -> None:
        """Show nothing."""


@contextmanager
def no_progress(title: str) -> Iterator[ProgressBar]:
    """A stage that shows no progress."""
    yield _NoBar()


@dataclass(frozen=True)
class EvaluationSettings:
    """The extent of an evaluation.

    ``n`` samples (and at most as many images for the VAE) by ``sampling`` from ``seed`` on, ``neighbors`` of
    them looked up; ``images`` of the ``split`` for the denoiser and its reconstructions; ``class_balance`` of
    the samples (None: that of the training data where the model records it, else equal); ``dtype`` that their
    network computes in (None: that of the pipeline); ``ranks``: the processes that share the samples, of
    which the first measures.
    """

    n: int = 10_000
    class_balance: ClassBalance | None = None
    sampling: Sampling = field(default_factory=lambda: Sampling.model_validate({}))
    split: str = "test"
    images: int = 500
    neighbors: int = 1000
    weighting: Weighting = "uniform"
    seed: int = 0
    resampling: Resampling = field(default_factory=Resampling)
    batch: int = 500
    dtype: torch.dtype | None = None
    stage: ProgressStage = no_progress
    ranks: Ranks = ALONE


@dataclass(frozen=True, eq=False)
class MetricNetworks:
    """The networks of distances, each loaded on first use, and the cache for the features of real images."""

    load: Callable[[], FeatureNetwork]
    load_perceptual: Callable[[], PerceptualNetwork | None] = lambda: None
    cache: FeatureCache | None = None
    _references: dict[tuple[str, str], Reference] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def network(self) -> FeatureNetwork:
        """The network whose features distances compare."""
        return self.load()

    @cached_property
    def perceptual(self) -> PerceptualNetwork | None:
        """The network of the perceptual distance, or None."""
        return self.load_perceptual()

    def reference(self, images: ImageSet, settings: EvaluationSettings) -> Reference:
        """The images with their features, each of which is computed once by these networks.

        They come from the cache where it has them.
        """
        key = (images.name, image_hash(images.images))
        if (known := self._references.get(key)) is not None:
            return known
        with settings.stage(f"features of {images.name}") as bar:
            found = Reference.from_images(
                images.images,
                self.network,
                labels=network_labels(self.network, images.labels, images.classes),
                data_labels=images.labels,
                name=images.name,
                batch=settings.batch,
                cache=self.cache,
                progress=bar.update,
            )
        self._references[key] = found
        return found

    def some_of(self, images: ImageSet, settings: EvaluationSettings) -> Reference:
        """At most as many of the images as there are samples; of those that are known already, their part."""
        known = self._references.get((images.name, image_hash(images.images)))
        if known is None or len(known) <= settings.n:
            return self.reference(at_most(images, settings.n, seed=settings.seed), settings)
        return known.take(random_subset(len(known), settings.n, seed=settings.seed))

    def mirrored(self, images: Tensor, settings: EvaluationSettings, *, name: str, real: bool) -> Features:
        """The features of the images uint8 [N, C, H, W] mirrored left to right; those of real ones are
        cached.
        """
        with settings.stage(f"features of mirrored {name}") as bar:
            made = Reference.from_images(
                images.flip(3).contiguous(),
                self.network,
                batch=settings.batch,
                cache=self.cache if real else None,
                progress=bar.update,
            )
        return made.features

    def network_labels(self, labels: Tensor | None, classes: tuple[str, ...]) -> Tensor | None:
        """Labels int64 [N] of ``classes`` in the network's numbering; None where its classes are others."""
        return network_labels(self.network, labels, classes)
