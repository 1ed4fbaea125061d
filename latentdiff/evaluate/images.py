"""How close a set of images is to a reference: distances of their features, manifolds, classes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress
from latentdiff.evaluate.classes import ClassScore, class_table, histogram_of
from latentdiff.evaluate.interval_score import (
    ROOM,
    Resampling,
    Score,
    cramped,
    frechet_score,
    kernel_score,
    mean_score,
    proportion_score,
    share_score,
)
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import Features, extract
from latentdiff.metrics.precision_recall import precision_recall

FEW = 5_000  # images below which Frechet distances are mostly bias
CONFIDENT = 0.8  # probability of the class above which an image counts as confident
UNEQUAL = 1.5  # times as many images on one side as on the other, above which manifolds are warned about
NEIGHBORS = 3  # of the manifolds of precision and recall


@dataclass(frozen=True)
class SampleScores:
    """``n`` images against ``reference_n`` of the reference, in the features of the network ``features``.

    ``fd``: Frechet distance; ``kd``: kernel distance (unbiased, not times 1000); ``precision``, ``recall``,
    ``density``, ``coverage``: k-NN manifolds with k = 3; ``accuracy``: share of images that the network takes
    for their label; ``confident``: share of images whose class it gives a probability above 0.8;
    ``histogram``: images by the class it sees; ``per_class``: for labeled images. What does not apply is None
    or empty.
    """

    n: int
    reference_n: int
    reference: str
    features: str
    features_sha256: str
    dim: int
    fd: Score
    kd: Score
    precision: Score
    recall: Score
    density: Score
    coverage: Score
    accuracy: Score | None = None
    confident: Score | None = None
    histogram: tuple[int, ...] | None = None
    per_class: tuple[ClassScore, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        names = ("fd", "kd", "precision", "recall", "density", "coverage", "accuracy", "confident")
        scores: dict[str, Score | None] = {name: getattr(self, name) for name in names}
        return {
            "n": self.n,
            "reference": {"name": self.reference, "n": self.reference_n},
            "features": {"name": self.features, "sha256": self.features_sha256, "dim": self.dim},
            **{name: None if score is None else score.as_dict() for name, score in scores.items()},
            "histogram": self.histogram,
            "per_class": [each.as_dict() for each in self.per_class],
        }


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
    as
    the network numbers them, that each should show."""
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
    manifold = precision_recall(base.values, features.values, k=NEIGHBORS)
    predictions, confidence = features.predictions, features.confidence
    return SampleScores(
        n=n,
        reference_n=len(reference),
        reference=reference.name,
        features=features.network,
        features_sha256=features.sha256,
        dim=features.values.shape[1],
        fd=frechet_score(features.values, base.values, chosen),
        kd=kernel_score(features.values, base.values, chosen),
        precision=proportion_score(manifold.precision, n, chosen),
        recall=proportion_score(manifold.recall, len(reference), chosen),
        density=mean_score(manifold.densities, chosen),
        coverage=proportion_score(manifold.coverage, len(reference), chosen),
        accuracy=(
            None if predictions is None or labels is None else share_score(predictions == labels, chosen)
        ),
        confident=None if confidence is None else share_score(confidence > CONFIDENT, chosen),
        histogram=None if predictions is None else histogram_of(predictions, reference.network.classes),
        per_class=class_table(features, labels, reference, chosen),
    )


def few_images(scores: SampleScores) -> tuple[str, ...]:
    """Warnings where either side is so small that the Frechet distance is mostly the bias of its size, and
    where the sides are so
    unequal that precision and recall tell of the sizes; else ()."""
    found = few(scores.n, scores.reference_n, scores.features, scores.dim)
    small, large = sorted((scores.n, scores.reference_n))
    if large > UNEQUAL * small:
        found += (
            (
                f"{scores.n} images against {scores.reference_n}: balls around fewer images are larger, so"
                " that precision, recall and coverage lean; compare only equal numbers"
            ),
        )
    return found


def few(n: int, reference_n: int, features: str, dim: int) -> tuple[str, ...]:
    """As :func:`few_images`, of the numbers alone."""
    counts = f"{n} images against {reference_n}"
    if cramped(n, reference_n, dim):
        least = math.ceil(ROOM * dim)
        return (
            (
                f"{counts}: a Frechet distance of the {dim} features of {features} has no interval below"
                f" {least} on a side, and is mostly bias; compare only equal numbers"
            ),
        )
    if min(n, reference_n) >= FEW:
        return ()
    return (
        (
            f"{counts}: with fewer than {FEW} on a side the Frechet distance is mostly bias; compare only"
            " equal numbers"
        ),
    )
