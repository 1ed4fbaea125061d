"""Predicted classes of images: accuracy and distances class by class, and a histogram."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.evaluate.interval_score import Resampling, Score, Scores, frechet_score, share_score
from latentdiff.evaluate.reference import Reference
from latentdiff.metrics.features import FeatureNetwork, Features

HISTOGRAM_CLASSES = 100  # networks of more classes, as ImageNet's, get no histogram


@dataclass(frozen=True)
class ClassScore(Scores):
    """The ``n`` images of one class: the share classified as it, and the Frechet distance to the ``real``
    ones of that class.

    ``fd`` is None where either side has fewer images than a covariance of these features needs (their
    dimension + 1).
    """

    label: int
    n: int
    real: int
    accuracy: Score
    fd: Score | None


def network_labels(network: FeatureNetwork, labels: Tensor | None, names: Sequence[str]) -> Tensor | None:
    """Labels int64 [N] of the classes ``names`` in the numbering of a network; None where its
    classes are others.

    By name where the network's classes have names, so that folders 3 and 7 are digits 3 and 7; else numbers
    are as they are where there are as many classes.
    """
    if labels is None or len(names) < 1:
        return None
    if not network.class_names:
        return labels if len(names) == network.classes > 1 else None
    if not set(names) <= set(network.class_names):
        return None
    return torch.tensor([network.class_names.index(name) for name in names], dtype=torch.int64)[labels]


def class_table(
    features: Features, labels: Tensor | None, reference: Reference, resampling: Resampling
) -> tuple[ClassScore, ...]:
    """One line for each class among ``labels`` int64 [N]; () without labels or for a network that does not
    classify.
    """
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
