"""Memorization: distances of samples to the nearest training image beside those of test images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate.examples import CLOSEST, Strips
from latentdiff.evaluate.interval_score import IF_KNOWN, Resampling, Score, Scores, share_score
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import Features
from latentdiff.metrics.neighbors import nearest

QUANTILE = 0.01  # of the test images' distances: closer samples are suspicious
MANY = 5  # times that share of the samples: more than chance
LEAST = 100  # test images whose 1% quantile is more than the distance of one of them


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
    With ``mirrored`` copies a training image counts as its mirror image, too, where that is nearer.
    """

    n: int
    test_n: int
    train_n: int
    features: Closeness
    pixels: Closeness
    identical: int
    mirrored: bool = False
    quantile: float = QUANTILE
    examples: tuple[Strips, ...] = field(default=(), repr=False, compare=False)

    @property
    def copies(self) -> str | None:
        """What speaks for copies, in words; None where nothing does."""
        closer = self.features.share_closer_than_test_quantile
        least = closer.value if closer.low is None else closer.low
        found = []
        if self.identical:
            found.append(f"{self.identical} of {self.n} samples have the pixels of a training image")
        if least > MANY * self.quantile:
            found.append(
                f"{closer.value:.0%} of the samples are closer to a training image than"
                f" {1 - self.quantile:.0%} of the test images are"
            )
        return " and ".join(found) or None

    @property
    def verdict(self) -> str:
        """One sentence on whether samples are copies."""
        if self.copies is not None:
            return f"{self.copies}: copies, or nearly; neighbors.png shows the closest ten"
        if self.test_n < LEAST:
            return f"{self.test_n} test images are too few to tell; neighbors.png shows the closest ten"
        return "no sign of copies: as few samples as test images are that close to a training image"


@dataclass(frozen=True, eq=False)
class Neighbors:
    """Distances float64 [n] to, and indices int64 [n] of, the nearest training images in both spaces.

    ``feature_mirrored``, ``pixel_mirrored`` bool [n]: where the mirror image is nearer than the image; None
    where mirror images were not looked up.
    """

    network: str
    train_n: int
    feature_distance: Tensor
    feature_index: Tensor
    pixel_distance: Tensor
    pixel_index: Tensor
    feature_mirrored: Tensor | None = None
    pixel_mirrored: Tensor | None = None


def find_neighbors(
    images: Tensor, features: Features, train: Reference, *, mirrored: Features | None = None
) -> Neighbors:
    """The nearest training image of each of the images uint8 [n, C, H, W].

    ``mirrored``: features of the images mirrored left to right. With them the mirror image of a training
    image counts as well: that of the image is compared with the training image, which is the same in pixels
    and nearly so in features. InputError for training images of another shape.
    """
    if images.shape[1:] != train.images.shape[1:]:
        found = f"{list(images.shape[1:])} and {list(train.images.shape[1:])}"
        raise InputError(f"neighbors are looked up among images of one shape, got {found}")
    by_feature = _nearest_of_both(
        features.values, None if mirrored is None else mirrored.values, train.features.values
    )
    turned = None if mirrored is None else images.flip(3).flatten(1)
    by_pixel = _nearest_of_both(images.flatten(1), turned, train.images.flatten(1))  # widened block by block
    rms = by_pixel.distance / 255 / images[0].numel() ** 0.5
    return Neighbors(
        features.network,
        len(train),
        by_feature.distance,
        by_feature.row,
        rms,
        by_pixel.row,
        by_feature.mirrored,
        by_pixel.mirrored,
    )


class _Nearest(NamedTuple):
    """Distances float64 [n], indices int64 [n] and, with mirrored queries, where those were nearer."""

    distance: Tensor
    row: Tensor
    mirrored: Tensor | None


def _nearest_of_both(queries: Tensor, mirrored: Tensor | None, base: Tensor) -> _Nearest:
    """The nearest row of ``base`` to each query or, where that is nearer, to the ``mirrored`` query."""
    distance, index = (found[:, 0] for found in nearest(queries, base))
    if mirrored is None:
        return _Nearest(distance, index, None)
    other, other_index = (found[:, 0] for found in nearest(mirrored, base))
    nearer = other < distance
    return _Nearest(torch.where(nearer, other, distance), torch.where(nearer, other_index, index), nearer)


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
        mirrored=mine.pixel_mirrored is not None,
    )


def neighbor_examples(samples: Tensor, train: Tensor, mine: Neighbors, test: Neighbors) -> tuple[Strips, ...]:
    """Samples uint8 [n, C, H, W] above their nearest training images and distances: the ten with the smallest
    ones, closest first, and the first samples. Images are shown mirrored where their mirror image is nearer.
    """
    typical, real = float(mine.feature_distance.median()), float(test.feature_distance.median())
    rows = {
        "the samples closest to a training image": mine.feature_distance.argsort(stable=True)[:CLOSEST],
        "the first samples": torch.arange(min(len(mine.feature_distance), CLOSEST)),
    }
    measure = f"distance of features; median of samples {typical:.3g}, of test images {real:.3g}"
    return tuple(
        Strips(
            f"{title} ({measure})",
            (
                ("sample", samples[chosen]),
                ("nearest in\nfeatures", _as_found(train, mine.feature_index, mine.feature_mirrored, chosen)),
                ("nearest in\npixels", _as_found(train, mine.pixel_index, mine.pixel_mirrored, chosen)),
            ),
            tuple(_caption(mine, k) for k in chosen.tolist()),
        )
        for title, chosen in rows.items()
    )


def _as_found(train: Tensor, index: Tensor, mirrored: Tensor | None, rows: Tensor) -> Tensor:
    """The training images of some rows, mirrored where their mirror image was found."""
    found = train[index[rows]]
    return found if mirrored is None else torch.where(mirrored[rows, None, None, None], found.flip(3), found)


def _caption(mine: Neighbors, row: int) -> str:
    turned = mine.feature_mirrored is not None and bool(mine.feature_mirrored[row])
    return f"{float(mine.feature_distance[row]):.3g}" + ("\nmirrored" if turned else "")


def _closeness(mine: Tensor, test: Tensor, resampling: Resampling, network: str | None = None) -> Closeness:
    quantile = float(test.quantile(QUANTILE))
    return Closeness(
        median=float(mine.median()),
        test_median=float(test.median()),
        test_quantile=quantile,
        share_closer_than_test_quantile=share_score(mine < quantile, resampling),
        network=network,
    )
