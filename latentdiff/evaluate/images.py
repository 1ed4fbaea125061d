"""Scores of images: of a set against a reference (distances of features, manifolds, classes), of pairs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate import metric_table
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.interval_score import (
    ROOM,
    Resampling,
    Score,
    Scores,
    cramped,
    frechet_score,
    share_score,
)
from latentdiff.evaluate.metric_table import NEIGHBORS, FeatureSets, ImagePairs, MetricScores
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import Features, PerceptualNetwork, extract

HISTOGRAM_CLASSES = 100  # networks of more classes, as ImageNet's, get no histogram


@dataclass(frozen=True)
class ClassScore(Scores):
    """The ``n`` images of a class: the share classified as it, the Frechet distance to its ``real`` ones.

    ``fd`` is None where a side has fewer images than a covariance of these features needs (dimension + 1).
    """

    label: int
    n: int
    real: int
    accuracy: Score
    fd: Score | None


def class_table(
    features: Features, labels: Tensor | None, reference: Reference, resampling: Resampling
) -> tuple[ClassScore, ...]:
    """A line for each class of ``labels`` int64 [N]; () without labels or for a network without classes."""
    if labels is None or features.predictions is None:
        return ()
    if int(labels.min()) < 0 or int(labels.max()) >= reference.network.classes:
        found = f"{int(labels.min())}..{int(labels.max())}"
        raise InputError(
            f"expected labels in 0..{reference.network.classes - 1}, the classes of the network, got {found}"
        )
    table = []
    for label in labels.unique().tolist():
        mine = labels == label
        real = None if reference.labels is None else reference.features.values[reference.labels == label]
        values, count = features.values[mine], 0 if real is None else len(real)
        enough = real is not None and min(len(values), count) > reference.network.dim
        fd = frechet_score(values, real, resampling) if enough and real is not None else None
        accuracy = share_score(features.predictions[mine] == label, resampling)
        table.append(ClassScore(label, len(values), count, accuracy, fd))
    return tuple(table)


def histogram_of(predictions: Tensor, classes: int) -> tuple[int, ...] | None:
    """Images by predicted class; None where the network has more than 100 classes."""
    if classes > HISTOGRAM_CLASSES:
        return None
    return tuple(torch.bincount(predictions, minlength=classes).tolist())


FEW = 5_000  # images below which Frechet distances are mostly bias
UNEQUAL = 1.5  # times as many images on one side as on the other, above which manifolds are warned about


@dataclass(frozen=True)
class SetInfo(Scores):
    """The ``name`` of a set of images and their number."""

    name: str
    n: int


@dataclass(frozen=True)
class NetworkInfo(Scores):
    """A feature network: ``name``, SHA-256 of its weights, dimension of its features."""

    name: str
    sha256: str
    dim: int


@dataclass(frozen=True, kw_only=True)
class SampleScores(MetricScores):
    """``n`` images against a ``reference``, in the ``features`` of a network.

    ``scores`` has ``metric_table.SET_METRICS``: ``fd``: Frechet distance; ``kd``: kernel distance (unbiased,
    not times 1000); ``precision``, ``recall``, ``density``, ``coverage``: k-NN manifolds with k = 3;
    ``accuracy``: share of images that the network classifies as their label; ``confident``: share of images
    whose class has a probability above 0.8; ``sharpness``: mean gradient of the pixels over that of the
    reference. ``histogram``: images by predicted class; ``per_class``: for
    labeled images. What does not apply is None or empty.
    """

    reference: SetInfo
    features: NetworkInfo
    histogram: tuple[int, ...] | None = None
    per_class: tuple[ClassScore, ...] = ()


def score_images(
    images: Tensor,
    reference: Reference,
    *,
    labels: Tensor | None = None,
    resampling: Resampling | None = None,
    batch: int = 500,
    progress: Progress | None = None,
) -> SampleScores:
    """Score images uint8 [N, C, H, W] against ``reference`` by its network; ``labels`` int64 [N]: the class,
    as the network numbers them, that each should show.
    """
    features = extract(reference.network, images, batch=batch, progress=progress)
    return score_features(features, reference, labels=labels, resampling=resampling)


def score_features(
    features: Features,
    reference: Reference,
    *,
    labels: Tensor | None = None,
    resampling: Resampling | None = None,
) -> SampleScores:
    """As :func:`score_images`, for features extracted before by the network of ``reference``.

    InputError for another's.
    """
    base = reference.features
    if (features.network, features.sha256) != (base.network, base.sha256):
        raise InputError(
            f"expected features of {base.network}, those of the reference, got {features.network}"
        )
    n = len(features.values)
    if min(n, len(reference)) <= NEIGHBORS:
        raise InputError(f"expected more than {NEIGHBORS} images on each side, got {n} and {len(reference)}")
    if labels is not None and len(labels) != n:
        raise InputError(f"expected one label for each of {n} images, got {len(labels)}")
    chosen = resampling or Resampling()
    sets = FeatureSets(features, base, labels, chosen)
    predictions = features.predictions
    return SampleScores(
        n=n,
        scores=metric_table.measured(metric_table.SET_METRICS, sets),
        reference=SetInfo(reference.name, len(reference)),
        features=NetworkInfo(features.network, features.sha256, features.values.shape[1]),
        histogram=None if predictions is None else histogram_of(predictions, reference.network.classes),
        per_class=class_table(features, labels, reference, chosen),
    )


def size_warnings(scores: SampleScores) -> tuple[str, ...]:
    """Warnings where either side is so small that the Frechet distance is mostly the bias of its size, and
    where the sides are so unequal that precision and recall depend on the sizes; else ().
    """
    n, m = scores.n, scores.reference.n
    found = frechet_warnings(n, m, scores.features.name, scores.features.dim)
    if max(n, m) > UNEQUAL * min(n, m):
        line = (
            f"{n} images against {m}: balls around fewer images are larger, so that precision, recall and"
            " coverage lean; compare only equal numbers"
        )
        return (*found, line)
    return found


def frechet_warnings(n: int, m: int, features: str, dim: int) -> tuple[str, ...]:
    """A warning where ``n`` images against ``m`` are too few for a Frechet distance of ``dim`` features of
    the network ``features``; else ().
    """
    if cramped(n, m, dim):
        why = (
            f"too few for the Frechet distance of the {dim} features of {features}, which is mostly bias and"
            f" has no interval below {math.ceil(ROOM * dim)} on a side; the kernel distance has no such bias"
        )
    elif min(n, m) < FEW:
        why = f"few for the Frechet distance, which is mostly bias below {FEW} on a side"
    else:
        return ()
    return (f"{n} images against {m} are {why}; compare only equal numbers",)


@dataclass(frozen=True, kw_only=True)
class PairScores(MetricScores):
    """Means over ``n`` pairs: ``scores`` has ``metric_table.PAIR_METRICS``: ``psnr`` in dB, ``ssim``,
    ``rmse`` of pixels in [0, 1], ``perceptual`` by the network that it names, None without one.

    ``identical`` pairs have an infinite PSNR: its mean is that of the others, where there are any.
    """

    identical: int = 0

    def as_dict(self) -> dict[str, Any]:
        values = super().as_dict()
        return {name: value for name, value in values.items() if value is not None or name not in self.scores}


def score_pairs(
    a: Tensor,
    b: Tensor,
    *,
    perceptual: PerceptualNetwork | None = None,
    resampling: Resampling | None = None,
    batch: int = 500,
    progress: Progress | None = None,
) -> PairScores:
    """Compare a[k] with b[k]: images [N, C, H, W], uint8 or float in [0, 1].

    InputError where the shapes differ.
    """
    if a.shape != b.shape:
        raise InputError(
            f"pairs need as many images of one shape on both sides, got {list(a.shape)} and {list(b.shape)}"
        )
    if not len(a):
        raise InputError("pairs need at least one image on each side, got none")
    pairs = ImagePairs(a, b, resampling or Resampling(), perceptual, batch, progress)
    scores = metric_table.measured(metric_table.PAIR_METRICS, pairs)
    return PairScores(n=len(a), scores=scores, identical=int(pairs.same.sum()))
