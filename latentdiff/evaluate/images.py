"""Scores of a set of images against a reference: distances of their features, manifolds, classes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate import metric_table
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.classes import ClassScore, class_table, histogram_of
from latentdiff.evaluate.interval_score import ROOM, Resampling, Scores, cramped
from latentdiff.evaluate.metric_table import NEIGHBORS, FeatureSets, MetricScores
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import Features, extract

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
    whose class has a probability above 0.8. ``histogram``: images by predicted class; ``per_class``: for
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
            f"a Frechet distance of the {dim} features of {features} has no interval below"
            f" {math.ceil(ROOM * dim)} on a side, and is mostly bias"
        )
    elif min(n, m) < FEW:
        why = f"with fewer than {FEW} on a side the Frechet distance is mostly bias"
    else:
        return ()
    return (f"{n} images against {m}: {why}; compare only equal numbers",)
