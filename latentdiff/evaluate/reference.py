"""Reference images with their features, to measure others against."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from latentdiff.data import ImageSet
from latentdiff.evaluate.chunks import Progress
from latentdiff.metrics.features import FeatureNetwork, Features, extract
from latentdiff.metrics.features.cache import FeatureCache
from latentdiff.metrics.frechet import Moments, moments


@dataclass(frozen=True, eq=False)
class Reference:
    """Images uint8 [N, C, H, W] and their features by ``network``.

    ``labels`` int64 [N]: their classes as the network numbers them, ``data_labels``: as their data set does;
    None where it has none.
    """

    name: str
    images: Tensor
    labels: Tensor | None
    features: Features
    network: FeatureNetwork
    data_labels: Tensor | None = None

    @classmethod
    def from_images(
        cls,
        images: Tensor,
        network: FeatureNetwork,
        *,
        labels: Tensor | None = None,
        data_labels: Tensor | None = None,
        name: str = "",
        batch: int = 500,
        cache: FeatureCache | None = None,
        progress: Progress | None = None,
    ) -> Reference:
        """Extract the features of ``images``, or read them from the ``cache``, where they are stored then."""
        found = None if cache is None else cache.load(network, images)
        if found is None:
            found = extract(network, images, batch=batch, progress=progress)
            if cache is not None:
                cache.save(network, images, found)
        return cls(name, images, labels, found, network, data_labels)

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def moments(self) -> Moments:
        """Mean and covariance of the features."""
        return moments(self.features.values)

    def take(self, indices: Tensor) -> Reference:
        """The images at ``indices`` int64 [K] (or where a mask [N] is true), in that order."""
        labels, own = (None if found is None else found[indices] for found in (self.labels, self.data_labels))
        features = self.features[indices]
        return Reference(self.name, self.images[indices], labels, features, self.network, own)


def random_subset(n: int, most: int, *, seed: int) -> Tensor:
    """``most`` of n indices, or all of them, int64 in ascending order; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed % 2**63)
    return torch.randperm(n, generator=generator)[:most].sort().values


def at_most(images: ImageSet, n: int, *, seed: int) -> ImageSet:
    """``n`` of the images as :func:`random_subset` chooses them, or all of them."""
    if len(images.images) <= n:
        return images
    chosen = random_subset(len(images.images), n, seed=seed)
    labels = None if images.labels is None else images.labels[chosen]
    return replace(images, images=images.images[chosen], labels=labels)
