"""The quick evaluation of a denoiser while it trains: the kernel distance and the classes of a few samples.

Its noise is that of the samples' seeds, as in the sample grid, so that the training does not change by it. A
kernel distance is unbiased however few the samples, where a Frechet distance would be mostly bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.data.types import ImageData
from latentdiff.errors import InputError
from latentdiff.metrics.classifier import LinearClassifier, fit_classifier
from latentdiff.metrics.features import FeatureNetwork, Features, default_features, extract, feature_network
from latentdiff.metrics.features.cache import FeatureCache, cache_folder
from latentdiff.metrics.features.network import network_labels
from latentdiff.metrics.mmd import kernel_distance
from latentdiff.metrics.names import FEATURE_SIZE, SIZED, kernel_name, sized_name

MOST_TRAIN = 2000  # training images that the classifier is fitted to
MOST_REAL = 1000  # validation images that samples are compared with
LOADING = 1.0  # seconds to load a feature network, about
SILENT = 60.0  # seconds of a training below which none is expected, and nothing said
TIMED = 16  # images whose features say how long those of the others take


class GridSamples(NamedTuple):
    """Samples uint8 [k, C, H, W] of the seeds 0..k-1, the ``seconds`` that drawing them took, and ``draw``,
    which makes those of other seeds: (first seed, number).
    """

    images: Tensor
    seconds: float
    draw: Callable[[int, int], Tensor]


class QuickScores(NamedTuple):
    """``values`` for the log and ``text`` for the terminal; {} and the reason where nothing was measured, ""
    where that was said before.
    """

    values: Mapping[str, float]
    text: str


NOTHING = QuickScores({}, "")


class _RealImages(NamedTuple):
    """Features of validation images, the classifier of the training images (None where the network knows the
    classes, or there are none) and its ``accuracy`` on the validation images.
    """

    features: Features
    classifier: LinearClassifier | None
    accuracy: float | None


class QuickEvaluation:
    """Measures ``n`` samples (2 or more) at a time against validation images of ``data``, in at most
    ``share`` of the time of the training.

    With ``by_class`` samples show the classes in turn. The feature network is loaded, and real images are
    measured, in the first call that has the time for it; their features are kept in the cache.
    """

    def __init__(
        self, data: ImageData, n: int, device: torch.device, *, share: float, by_class: bool
    ) -> None:
        self.n, self._data, self._device, self._share = n, data, device, share
        self._by_class = by_class and data.num_classes > 1
        self._network: FeatureNetwork | None = None
        self._real: _RealImages | None = None
        self._cost = 0.0  # seconds of the last one
        self._reason_given = False

    def measure(self, grid: GridSamples, *, planned: float, spent: float, last: bool) -> QuickScores:
        """Scores of the samples of the ``grid`` and of more where those are fewer than n.

        ``planned``: seconds of the whole training, ``spent``: those of earlier quick evaluations. Nothing is
        measured where that would take more time than there is: unless it is the ``last`` one, time for
        another one is kept.
        """
        begun = time.monotonic()
        seconds = (self._share * planned - spent) / (1 if last else 2)
        more = grid.seconds * max(0, self.n - len(grid.images)) / len(grid.images)
        expected = max(more, self._cost) + (LOADING if self._network is None else 0)
        if expected > seconds:
            return self._left_out(expected, seconds, planned)
        try:
            if self._network is None:
                self._network = _network(self._data, self._device)
            if self._real is None:
                expected += self._seconds_of_features(self._network, grid.images)
                if expected > seconds:
                    return self._left_out(expected, seconds, planned)
                self._real = _real_images(self._data, self._network, by_class=self._by_class)
        except InputError as error:  # the extra package is missing, or an image cannot be read
            self._cost = float("inf")
            return self._once(f"no quick evaluation: {error}")
        ready = time.monotonic()
        values = self._scores(self._network, self._real, grid)
        self._cost = time.monotonic() - ready
        values["quick_seconds"] = round(time.monotonic() - begun, 3)
        return QuickScores(values, self.describe(values))

    def describe(self, values: Mapping[str, float]) -> str:
        """The scores in a line for people, with the name of the feature network."""
        name = default_features(self._data.shape, self._data.classes)
        network = sized_name(name, FEATURE_SIZE) if name in SIZED else name
        text = f"{kernel_name(network)} x 1000 {1000 * values['quick_kd']:.4g}"
        if "quick_accuracy" in values:
            shares = values["quick_accuracy"], values["quick_real_accuracy"]
            text += ", class accuracy {:.0%} (real images {:.0%})".format(*shares)
        return f"{text}; {values['quick_samples']:.0f} samples in {values['quick_seconds']:.1f} s"

    def _scores(self, network: FeatureNetwork, real: _RealImages, grid: GridSamples) -> dict[str, float]:
        images = grid.images[: self.n]
        if len(images) < self.n:
            images = torch.cat([images, grid.draw(len(images), self.n - len(images))])
        found = extract(network, images)
        distance = kernel_distance(found.values, real.features.values)
        values = {"quick_samples": float(self.n), "quick_kd": distance}
        if real.accuracy is not None:
            wanted = torch.arange(self.n) % self._data.num_classes
            values["quick_accuracy"] = _accuracy(network, self._data, found, wanted, real.classifier)
            values["quick_real_accuracy"] = real.accuracy
        return values

    def _seconds_of_features(self, network: FeatureNetwork, images: Tensor) -> float:
        """The time that the features of samples and of real images take, had none been kept."""
        begun = time.monotonic()
        extract(network, images[:TIMED])
        rate = (time.monotonic() - begun) / min(TIMED, len(images))
        real = min(MOST_REAL, len(self._data.val)) + self._by_class * min(MOST_TRAIN, len(self._data.train))
        return rate * (self.n + real)

    def _left_out(self, expected: float, seconds: float, planned: float) -> QuickScores:
        if planned < SILENT:
            return NOTHING
        return self._once(
            f"quick evaluation left out: it takes {expected:.1f} s or more, and {max(seconds, 0):.1f} s of"
            " the training are left for it (`quick_share`); `latentdiff evaluate` measures the run"
        )

    def _once(self, text: str) -> QuickScores:
        given, self._reason_given = self._reason_given, True
        return NOTHING if given else QuickScores({}, text)


def _network(data: ImageData, device: torch.device) -> FeatureNetwork:
    name = default_features(data.shape, data.classes)
    return feature_network(name, side=FEATURE_SIZE if name in SIZED else None, device=device)


def _real_images(data: ImageData, network: FeatureNetwork, *, by_class: bool) -> _RealImages:
    """The features of validation images, and with ``by_class`` the classifier of training images."""
    try:
        cache = FeatureCache(cache_folder())
    except InputError:
        cache = None
    rows = _spread(len(data.val), MOST_REAL)
    real = _features(network, data.val.images[rows], cache)
    if not by_class or data.val.labels is None or data.train.labels is None:
        return _RealImages(real, None, None)
    labels, classifier = data.val.labels[rows], None
    if network_labels(network, labels, data.classes or ()) is None:
        chosen = _spread(len(data.train), MOST_TRAIN)
        wanted = data.train.labels[chosen]
        if len(wanted.unique()) < 2:
            return _RealImages(real, None, None)
        fitted = _features(network, data.train.images[chosen], cache)
        classifier = fit_classifier(fitted.values, wanted, data.num_classes)
    return _RealImages(real, classifier, _accuracy(network, data, real, labels, classifier))


def _accuracy(
    network: FeatureNetwork,
    data: ImageData,
    features: Features,
    labels: Tensor,
    classifier: LinearClassifier | None,
) -> float:
    """The share of images whose class is their label, by the classifier or by the network itself."""
    if classifier is not None:
        return float((classifier.predict(features.values) == labels).double().mean())
    known = network_labels(network, labels, data.classes or ())
    assert known is not None and features.predictions is not None
    return float((features.predictions == known).double().mean())


def _spread(n: int, most: int) -> Tensor:
    """``most`` of n indices, or all, spread evenly: data may be sorted."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


def _features(network: FeatureNetwork, images: Tensor, cache: FeatureCache | None) -> Features:
    """The features of the images, from the cache where it has them."""
    found = None if cache is None else cache.load(network, images)
    if found is None:
        found = extract(network, images)
        if cache is not None:
            cache.save(network, images, found)
    return found
