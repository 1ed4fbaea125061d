"""Memorization: distances of samples to the nearest training image beside those of test images."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate.examples import Strips
from latentdiff.evaluate.interval_score import IF_KNOWN, Resampling, Score, Scores, share_score
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import Features
from latentdiff.metrics.neighbors import nearest

QUANTILE = 0.01  # of the test images' distances: closer samples are suspicious


@dataclass(frozen=True)
class Closeness(Scores):
    """Distances to the nearest training image: medians, and the share below the test images' 1% quantile.

    For images that are as new as the test images the share is about 1%.
    """

    median: float
    test_median: float
    test_quantile: float
    share_closer_than_test_quantile: Score
    network: str | None = field(default=None, metadata=IF_KNOWN)


@dataclass(frozen=True)
class NeighborScores(Scores):
    """``n`` samples and ``test_n`` test images against ``train_n`` training images.

    ``features``: Euclidean distances in the features of a network; ``pixels``: root mean squared
    differences of pixels in [0, 1]. ``identical`` counts samples whose pixels are those of a training image.
    """

    n: int
    test_n: int
    train_n: int
    features: Closeness
    pixels: Closeness
    identical: int
    quantile: float = QUANTILE
    examples: tuple[Strips, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Distances float64 [n] to, and indices int64 [n] of, the nearest training images in both spaces."""

    network: str
    train_n: int
    feature_distance: Tensor
    feature_index: Tensor
    pixel_distance: Tensor
    pixel_index: Tensor


def find_neighbors(images: Tensor, features: Features, train: Reference) -> Neighbors:
    """The nearest training image of each of the images uint8 [n, C, H, W].

    InputError for training images of another shape.
    """
    if images.shape[1:] != train.images.shape[1:]:
        found = f"{list(images.shape[1:])} and {list(train.images.shape[1:])}"
        raise InputError(f"neighbors are looked up among images of one shape, got {found}")
    by_feature, feature_index = nearest(features.values, train.features.values)
    by_pixel, pixel_index = nearest(images.flatten(1), train.images.flatten(1))  # widened block by block
    rms = by_pixel[:, 0] / 255 / images[0].numel() ** 0.5
    return Neighbors(
        features.network, len(train), by_feature[:, 0], feature_index[:, 0], rms, pixel_index[:, 0]
    )


def score_neighbors(
    mine: Neighbors, test: Neighbors, *, resampling: Resampling | None = None
) -> NeighborScores:
    """Compare the neighbors of samples with those of test images."""
    chosen = resampling or Resampling()
    return NeighborScores(
        n=len(mine.pixel_distance),
        test_n=len(test.pixel_distance),
        train_n=mine.train_n,
        features=_closeness(mine.feature_distance, test.feature_distance, chosen, mine.network),
        pixels=_closeness(mine.pixel_distance, test.pixel_distance, chosen),
        identical=int((mine.pixel_distance == 0).sum()),
    )


def _closeness(mine: Tensor, test: Tensor, resampling: Resampling, network: str | None = None) -> Closeness:
    quantile = float(test.quantile(QUANTILE))
    return Closeness(
        median=float(mine.median()),
        test_median=float(test.median()),
        test_quantile=quantile,
        share_closer_than_test_quantile=share_score(mine < quantile, resampling),
        network=network,
    )
