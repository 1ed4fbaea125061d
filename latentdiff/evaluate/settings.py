"""What an evaluation of a model is asked for, by which networks it judges, and who watches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.data.classes import ClassBalance
from latentdiff.diffusion.losses import Weighting
from latentdiff.evaluate.cache import FeatureCache
from latentdiff.evaluate.classes import labels_as_seen
from latentdiff.evaluate.interval_score import Resampling
from latentdiff.evaluate.read import ImageSet
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import FeatureNetwork, PerceptualNetwork
from latentdiff.parallel.processes import ALONE, Ranks


class Bar(Protocol):
    """What shows how far a stage is."""

    def update(self, done: int, total: int) -> None: ...


Stage = Callable[[str], AbstractContextManager[Bar]]
"""Called with the name of a stage; the context ends with it."""


class _Silent:
    def update(self, done: int, total: int) -> None:
        """Say nothing."""


@contextmanager
def silent(title: str) -> Iterator[Bar]:
    """A stage that nobody watches."""
    yield _Silent()


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured: ``n`` samples (and images of the VAE, at most) by ``settings`` from ``seed`` on,
    ``neighbors`` of them looked up, and ``images`` of the ``split`` for what is slow (the denoiser and its
    reconstructions); ``class_balance`` of the samples (None: that of the training data where the model
    records it, else equal); ``out``: where the figures go; ``ranks``: the processes that share the samples,
    of which the first measures.
    """

    out: Path
    n: int = 10_000
    class_balance: ClassBalance | None = None
    settings: Sampling = field(default_factory=lambda: Sampling.model_validate({}))
    split: str = "test"
    images: int = 500
    neighbors: int = 1000
    weighting: Weighting = "uniform"
    seed: int = 0
    resampling: Resampling = field(default_factory=Resampling)
    batch: int = 500
    stage: Stage = silent
    ranks: Ranks = ALONE


@dataclass(frozen=True, eq=False)
class MetricNetworks:
    """By what: networks (loaded when a part asks for them), and where the features of real images are
    kept.
    """

    load: Callable[[], FeatureNetwork]
    load_perceptual: Callable[[], PerceptualNetwork | None] = lambda: None
    cache: FeatureCache | None = None

    @cached_property
    def network(self) -> FeatureNetwork:
        """The network whose features distances compare."""
        return self.load()

    @cached_property
    def perceptual(self) -> PerceptualNetwork | None:
        """The network of the perceptual distance, if there is to be one."""
        return self.load_perceptual()

    def reference(self, images: ImageSet, request: EvaluationSettings) -> Reference:
        """The images with their features, out of the cache where they are there."""
        with request.stage(f"features of {images.name}") as bar:
            return Reference.from_images(
                images.images,
                self.network,
                labels=labels_as_seen(self.network, images.labels, images.classes),
                name=images.name,
                batch=request.batch,
                cache=self.cache,
                progress=bar.update,
            )

    def known(self, labels: Tensor | None, classes: tuple[str, ...]) -> Tensor | None:
        """Labels int64 [N] of ``classes`` in the numbering of the network; None where it does not tell these
        apart.
        """
        return labels_as_seen(self.network, labels, classes)
