"""Scores of the samples of a study by a feature network, and its class predictions for single images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Cell, IntervalCell, Paragraph, Table
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, Split, to_uint8
from latentdiff.errors import InputError
from latentdiff.evaluate import (
    Reference,
    Resampling,
    SampleScores,
    draw_samples,
    metric_table,
    random_subset,
    score_features,
)
from latentdiff.evaluate.interval_score import Score
from latentdiff.metrics.features import FeatureNetwork, Features, default_features, extract, feature_network
from latentdiff.metrics.names import frechet_name
from latentdiff.pipeline.pipeline import Pipeline

MOST = 10_000  # real images to compare with
FEW = 5000


@dataclass(frozen=True, eq=False)
class SampleScorer:
    """Scores against the training images ``reference``; ``real``, of no training, are a perfect score."""

    reference: Reference
    real: Split
    resampling: Resampling
    classes: tuple[str, ...]

    @classmethod
    def of(cls, context: StudyContext, *, data: Dataset | None = None, resamples: int) -> SampleScorer:
        """A scorer of samples like the images of ``data`` (default: the data of the study)."""
        data = data or context.data
        own = data.channels == context.data.channels  # resized digits are still digits
        like = context.data if own else data
        name = default_features(like.shape, like.classes)
        network = feature_network((context.features if own else None) or name, device=context.device)
        train = random_split(data.train, MOST, seed=context.seed)
        reference = Reference.from_images(
            train.images, network, labels=train.labels, name=f"{data.name} training images"
        )
        real = data.test if data.val is data.test else concatenated(data.val, data.test)
        return cls(reference, real, Resampling(resamples, seed=context.seed), data.classes or ())

    @property
    def network(self) -> FeatureNetwork:
        return self.reference.network

    def score(self, images: Tensor, labels: Tensor | None = None) -> SampleScores:
        """Scores of images uint8 [N, C, H, W]; ``labels`` count where the network has the same classes."""
        return self.score_features(extract(self.network, images), labels)

    def score_features(self, features: Features, labels: Tensor | None = None) -> SampleScores:
        """The same for features extracted before by the network of the scorer."""
        network_classes = self.network.class_names or self.classes
        known = (
            labels if self.classes == network_classes and len(self.classes) == self.network.classes else None
        )
        return score_features(features, self.reference, labels=known, resampling=self.resampling)

    def real_baseline(self, n: int) -> SampleScores:
        """Scores of ``n`` real images (or all) that are not in the reference."""
        chosen = random_split(self.real, n, seed=self.resampling.seed)
        return self.score(chosen.images, chosen.labels)

    def sample(self, pipeline: Pipeline, n: int, sampling: Sampling) -> tuple[Tensor, SampleScores]:
        """``n`` samples uint8 from the seed of the study, and their scores."""
        images = draw_uint8(pipeline, n, seed=self.resampling.seed, sampling=sampling)
        return images, self.score(images, pipeline.class_labels(n))

    def caveats(self, n: int) -> Paragraph:
        """How the figures were made, and their limits."""
        real = min(n, len(self.real))
        text = (
            f"Fréchet distance (FD) and kernel distance (KD) compare {n:,} samples with"
            f" {len(self.reference):,} training images in the features of the network “{self.network.name}”;"
            " precision and recall use the 3 nearest neighbours there. The row “real images” holds the same"
            f" figures for {real:,} images that no training saw: better than that cannot be measured here. "
        )
        labels = self.reference.labels
        counts = [0] if labels is None else labels.bincount(minlength=len(self.classes)).tolist()
        if len(self.classes) > 1 and max(counts) > 1.1 * min(counts):
            text += (
                "Samples of a conditional model are equally many of each class, real images are not: that"
                " alone is a distance, and the same for all rows of samples. "
            )
        if min(n, real) < FEW:
            text += (
                f"With fewer than {FEW:,} images an FD is biased upwards, so compare rows of one table with"
                " each other and never with figures from elsewhere; the bootstrap estimates the bias, and KD"
                " has none (both can fall below 0 by chance). "
            )
        return Paragraph(
            text + f"Below figures, small: {self.resampling.level:.0%} bootstrap intervals.", "warning"
        )


@dataclass(frozen=True, eq=False)
class ClassReader:
    """Predicts classes with a feature network that has those of the data and took no part in training."""

    network: FeatureNetwork

    @classmethod
    def of(cls, context: StudyContext) -> ClassReader | None:
        """The network for the data of the study; None if no network has their classes."""
        data = context.data
        name = context.features or default_features(data.shape, data.classes)
        try:
            network = feature_network(name, device=context.device)
        except InputError:
            return None
        known = network.class_names is not None and network.class_names == data.classes
        return cls(network) if known else None

    @classmethod
    def of_ten_classes(cls, context: StudyContext, study: str) -> tuple[ClassReader, tuple[str, ...]]:
        """The reader and the classes; InputError for fewer than ten classes, or classes no network has."""
        data = context.data
        if not data.classes or len(data.classes) < 10:
            raise InputError(f"{data.name}: {study} is a study of ten classes, found {data.num_classes}")
        reader = cls.of(context)
        if reader is None:
            raise InputError(f"{data.name}: {study} needs a feature network that knows its classes")
        return reader, data.classes

    def classes(self, images: Tensor) -> Tensor:
        """The predicted class of each image [n, C, H, W] in [-1, 1], int64 [n]."""
        predictions = extract(self.network, to_uint8(images)).predictions
        assert predictions is not None
        return predictions

    def accuracy(self, images: Tensor, labels: Tensor | int) -> float:
        """The share of images whose predicted class is their label."""
        return float((self.classes(images) == labels).float().mean())


def concatenated(*splits: Split) -> Split:
    """The images of several splits, with labels where all of them have some."""
    labels = [split.labels for split in splits if split.labels is not None]
    images = torch.cat([split.images for split in splits])
    return Split(images, torch.cat(labels) if len(labels) == len(splits) else None)


def random_split(split: Split, n: int, *, seed: int) -> Split:
    """``n`` images of a split, or all where it has no more, chosen at random: data may be sorted by class."""
    chosen = random_subset(len(split), n, seed=seed)
    return Split(split.images[chosen], None if split.labels is None else split.labels[chosen])


def score_cell(score: Score | None, *, times: float = 1.0) -> IntervalCell | None:
    """A score as a cell of a table."""
    if score is None:
        return None
    low, high = (None if end is None else end * times for end in (score.low, score.high))
    return IntervalCell(score.value * times, low, high)


def score_table(
    name: str,
    heads: tuple[str, ...],
    rows: Iterable[tuple[tuple[Cell, ...], SampleScores]],
    baseline: SampleScores,
    caption: str,
) -> Table:
    """Accuracy and metrics of samples behind the cells under ``heads``; the last row: real images."""
    real = (f"real images ({baseline.n:,})", *[None] * (len(heads) - 1))
    lines = tuple(
        (*cells, score_cell(each.accuracy), *metric_cells(each).values())
        for cells, each in (*rows, (real, baseline))
    )
    return Table(name, (*heads, "class accuracy", *metric_cells(baseline)), lines, caption)


def draw_uint8(pipeline: Pipeline, n: int, *, seed: int, sampling: Sampling) -> Tensor:
    """``n`` samples uint8, of a conditional model all classes in turn."""
    return draw_samples(pipeline, sampling, n, labels=pipeline.class_labels(n), seed=seed)


def metric_cells(scores: SampleScores) -> dict[str, Cell]:
    """Heads and cells of the metrics of the table that have a column in studies."""
    cells: dict[str, Cell] = {}
    for metric in metric_table.SET_METRICS:
        if metric.in_studies:
            score, factor = scores.scores[metric.name], "" if metric.factor == 1 else f" × {metric.factor:g}"
            title = metric.title(scores.features.name) + factor
            cells[title] = score_cell(score, times=metric.factor)
            if metric.biased:
                cells[title], cells[f"{title}, bias removed"] = distance(score)
    return cells


def distances(scores: SampleScores) -> tuple[str, str]:
    """The heads of the cells of :func:`distance`."""
    fd = frechet_name(scores.features.name)
    return fd, f"{fd}, bias removed"


def distance(fd: Score | None) -> tuple[Cell, Cell]:
    """A Fréchet distance as measured, and without the bias of few images, which the interval is of."""
    if fd is None:
        return (None, None)
    return (fd.value, None if fd.corrected is None else IntervalCell(fd.corrected, fd.low, fd.high))


def class_grid(classes: int) -> tuple[int, int]:
    """(images, columns) of a grid of samples whose classes come in turn: a column a class, else 8 by 8."""
    return (6 * classes, classes) if 4 < classes <= 12 else (64, 8)
