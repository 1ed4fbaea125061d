"""The perceptual term of a loss, and whether images are the digits that its network in the package knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from latentdiff.data.types import ImageSplit
from latentdiff.metrics.features import PerceptualNetwork, default_features, extract, feature_network

MOST_CHECKED = 200  # images that decide whether ten classes are digits


class PerceptualTerm(NamedTuple):
    """A perceptual distance in a loss, and its weight."""

    weight: float
    network: PerceptualNetwork


def are_digits(images: ImageSplit, shape: Sequence[int], classes: Sequence[str] | None) -> bool:
    """Whether images of ``shape`` are digits: the classifier agrees with the labels on most of them.

    Without labels those of the shape and the number of classes of digits are.
    """
    if default_features(shape, classes) != "mnist":
        return False
    if images.labels is None:
        return True
    chosen = torch.linspace(0, len(images) - 1, min(len(images), MOST_CHECKED)).long()
    found = extract(feature_network("mnist"), images.images[chosen]).predictions
    assert found is not None
    return bool((found == images.labels[chosen]).double().mean() > 0.5)
