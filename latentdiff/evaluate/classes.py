"""Classes of samples and of real images, by a linear classifier that is fitted to the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff.evaluate.interval_score import Resampling, Score, Scores, share_score
from latentdiff.evaluate.reference import Reference, random_subset
from latentdiff.metrics.classifier import LinearClassifier, fit_classifier
from latentdiff.metrics.features import Features
from latentdiff.metrics.features.cache import FeatureCache
from latentdiff.metrics.interval import ratio_interval

MOST_FITTED = 20_000  # training images of a fit: 200 MB of 1280 features
LEAST_PER_CLASS = 2


@dataclass(frozen=True)
class ClassShare(Scores):
    """One class: of the ``n`` samples that should show it, and of its ``real_n`` real images, the share that
    the classifier assigns to it; ``relative``: the former over the latter.

    ``predicted`` and ``real_predicted``: how many of all images it assigns to the class. A share is None
    where there are no such images.
    """

    label: int
    name: str
    n: int
    accuracy: Score | None
    real_n: int
    real_accuracy: Score | None
    relative: Score | None
    predicted: int
    real_predicted: int


@dataclass(frozen=True)
class ClassAgreement(Scores):
    """Classes of ``n`` samples and ``real_n`` real images that took no part in the fit, by a linear
    classifier of the features of ``network``, fitted to ``train_n`` training images.

    ``accuracy``: share of samples assigned to the class that was requested, None for samples without
    classes; ``real_accuracy``: that of real images and their labels; ``relative``: the former over the
    latter, 1 where samples are classified as well as photos. ``held_out``: the real images are those of the
    fit, each by the fit to the others.
    """

    network: str
    train_n: int
    n: int
    real_n: int
    accuracy: Score | None
    real_accuracy: Score
    relative: Score | None
    by_class: tuple[ClassShare, ...]
    held_out: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes."""
        return tuple(each.name for each in self.by_class)


def class_classifier(
    train: Reference, classes: Sequence[str], *, cache: FeatureCache | None = None
) -> LinearClassifier | None:
    """The classifier of the training images by their own labels, from the ``cache`` where it has it.

    Of more than 20,000 images a random part is taken. None without labels, or where fewer than two classes
    have two images.
    """
    labels, number = train.data_labels, len(classes)
    if labels is None or int((torch.bincount(labels, minlength=number) >= LEAST_PER_CLASS).sum()) < 2:
        return None
    if len(train) > MOST_FITTED:
        train = train.take(random_subset(len(train), MOST_FITTED, seed=0))
        assert train.data_labels is not None
        labels = train.data_labels
    found = None if cache is None else cache.load_classifier(train.network, train.images, labels, number)
    if found is None:
        found = fit_classifier(train.features.values, labels, number)
        if cache is not None:
            cache.save_classifier(train.network, train.images, labels, number, found)
    return found


def score_classes(
    classifier: LinearClassifier,
    samples: Features,
    labels: Tensor | None,
    real: Features,
    real_labels: Tensor,
    classes: Sequence[str],
    *,
    resampling: Resampling | None = None,
) -> ClassAgreement:
    """Compare the classes of samples with those of real images.

    ``labels`` int64 [n]: the class that each sample should show, or None; ``real_labels`` int64 [m].
    """
    guess, real_guess = classifier.predict(samples.values), classifier.predict(real.values)
    return agreement_of(
        guess,
        labels,
        real_guess,
        real_labels,
        classes,
        network=samples.network,
        train_n=len(classifier.held_out),
        resampling=resampling,
    )


def score_set_classes(
    samples: Features,
    labels: Tensor | None,
    reference: Reference,
    classes: Sequence[str],
    *,
    cache: FeatureCache | None = None,
    resampling: Resampling | None = None,
) -> ClassAgreement | None:
    """Compare the classes of images with those of a ``reference`` that the classifier is fitted to, each of
    whose images is measured by the fit to the others; None where there is no classifier.

    ``labels`` int64 [n] in the numbering of ``classes``, those of the reference, or None.
    """
    if len(reference) > MOST_FITTED:
        reference = reference.take(random_subset(len(reference), MOST_FITTED, seed=0))
    classifier = class_classifier(reference, classes, cache=cache)
    if classifier is None or reference.data_labels is None:
        return None
    found = agreement_of(
        classifier.predict(samples.values),
        labels,
        classifier.held_out,
        reference.data_labels,
        classes,
        network=samples.network,
        train_n=len(reference),
        resampling=resampling,
    )
    return replace(found, held_out=True)


def agreement_of(
    guess: Tensor,
    labels: Tensor | None,
    real_guess: Tensor,
    real_labels: Tensor,
    classes: Sequence[str],
    *,
    network: str,
    train_n: int,
    resampling: Resampling | None = None,
) -> ClassAgreement:
    """The table of predicted classes ``guess`` int64 [n] and ``real_guess`` [m] beside the true ones."""
    chosen = resampling or Resampling()
    hits = None if labels is None else guess == labels
    real_hits = real_guess == real_labels
    rows = []
    for label, name in enumerate(classes):
        mine = None if hits is None or labels is None else hits[labels == label]
        theirs = real_hits[real_labels == label]
        rows.append(
            ClassShare(
                label=label,
                name=name,
                n=0 if mine is None else len(mine),
                accuracy=_share(mine, chosen),
                real_n=len(theirs),
                real_accuracy=_share(theirs, chosen),
                relative=_relative(mine, theirs, chosen),
                predicted=int((guess == label).sum()),
                real_predicted=int((real_guess == label).sum()),
            )
        )
    return ClassAgreement(
        network=network,
        train_n=train_n,
        n=len(guess),
        real_n=len(real_guess),
        accuracy=_share(hits, chosen),
        real_accuracy=share_score(real_hits, chosen),
        relative=_relative(hits, real_hits, chosen),
        by_class=tuple(rows),
    )


def _share(hits: Tensor | None, resampling: Resampling) -> Score | None:
    return None if hits is None or not len(hits) else share_score(hits, resampling)


def _relative(mine: Tensor | None, theirs: Tensor, resampling: Resampling) -> Score | None:
    """The share of ``mine`` over that of ``theirs``; None where either has no image, or ``theirs`` no hit."""
    if mine is None or not len(mine) or not bool(theirs.any()):
        return None
    if not resampling.count:
        return Score(float(mine.double().mean() / theirs.double().mean()))
    return Score.of(ratio_interval(mine, theirs, level=resampling.level))
