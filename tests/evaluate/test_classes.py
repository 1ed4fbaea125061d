"""Classes by a classifier fitted on the fly, mirrored copies, and real images that are embedded once."""

from pathlib import Path

import pytest
import torch
from quarters import bright, network, noise
from torch import Tensor

from latentdiff import evaluate
from latentdiff.apps.cli.measure.scores import _agreement as agreement_table
from latentdiff.data import ImageSet
from latentdiff.evaluate import FeatureCache, MetricNetworks, Reference, Resampling
from latentdiff.evaluate.classes import agreement_of
from latentdiff.evaluate.neighbors import neighbor_examples
from latentdiff.metrics.features import FeatureNetwork, extract

CPU, QUICK = torch.device("cpu"), Resampling(40)
NAMES = ("north", "east", "south", "west")
LABELS = torch.arange(120) % 4


class Counting:
    """Quarters of an image as features, without classes of their own; counts the images."""

    def __init__(self) -> None:
        self.seen = 0
        plain = network("quarters", 9)

        def run(images: Tensor) -> tuple[Tensor, Tensor]:
            self.seen += len(images)
            return plain.run(images)

        self.network = FeatureNetwork("quarters", "1" * 64, 4, 9, CPU, run, chunk=1)


def real(labels: Tensor, *, seed: int) -> Reference:
    return Reference.from_images(bright(labels, seed=seed), network("quarters", 9), data_labels=labels)


def agreement(guess_of: Tensor, wanted: Tensor | None) -> evaluate.ClassAgreement:
    """The agreement of samples that show the classes ``guess_of`` with ``wanted``."""
    train, test = real(LABELS, seed=1), real(LABELS[:80], seed=2)
    classifier = evaluate.class_classifier(train, NAMES)
    assert classifier is not None and test.data_labels is not None
    samples = extract(network("quarters", 9), bright(guess_of, seed=3))
    sides = test.features, test.data_labels
    return evaluate.score_classes(classifier, samples, wanted, *sides, NAMES, resampling=QUICK)


def test_samples_that_show_their_classes_agree_and_shuffled_ones_do_not() -> None:
    labels = torch.arange(40) % 4
    good, wrong = agreement(labels, labels), agreement(labels, (labels + 1) % 4)
    assert good.accuracy is not None and wrong.accuracy is not None and good.relative is not None
    assert good.real_accuracy.value == good.accuracy.value == good.relative.value == 1
    assert good.accuracy.low is not None and 0.85 < good.accuracy.low < 1 and wrong.accuracy.value == 0
    assert [row.name for row in good.by_class] == list(NAMES) == list(good.names)
    assert [(row.n, row.real_n, row.predicted, row.real_predicted) for row in good.by_class] == [
        (10, 20, 10, 20)
    ] * 4
    shuffled = labels[torch.randperm(40, generator=torch.Generator().manual_seed(0))]
    chance = agreement(shuffled, labels).accuracy
    assert chance is not None and abs(chance.value - 0.25) < 0.25


def test_samples_without_classes_still_show_which_are_missing() -> None:
    found = agreement(torch.zeros(20, dtype=torch.int64), None)
    assert found.accuracy is None and found.relative is None
    assert [row.predicted for row in found.by_class] == [20, 0, 0, 0]
    rows = agreement_table(found)
    assert rows.row_count == 5 and "20" not in rows.columns[1]._cells and "fitted to 120" in str(rows.title)


def test_sets_are_compared_by_the_fit_to_the_reference_without_the_image() -> None:
    reference = real(LABELS, seed=1)
    samples = extract(network("quarters", 9), bright(LABELS[:40], seed=3))
    found = evaluate.score_set_classes(samples, LABELS[:40], reference, NAMES, resampling=QUICK)
    assert found is not None and found.accuracy is not None and found.held_out
    assert found.accuracy.value == found.real_accuracy.value == 1 and found.train_n == found.real_n == 120
    assert "each of which is measured by the fit to the others" in str(agreement_table(found).title)
    plain = Reference.from_images(bright(LABELS), network("quarters", 9))
    assert evaluate.score_set_classes(samples, None, plain, NAMES) is None


def test_a_class_that_real_images_never_show_has_no_ratio() -> None:
    guess, labels = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2])
    found = agreement_of(guess, labels, guess, labels, NAMES[:3], network="n", train_n=3, resampling=QUICK)
    assert [row.relative is None for row in found.by_class] == [False, False, True]
    plain = agreement_of(
        guess, labels, guess, labels, NAMES[:3], network="n", train_n=3, resampling=Resampling(0)
    )
    assert plain.relative is not None and plain.relative.value == 1 and plain.relative.low is None


def test_there_is_no_classifier_without_classes_of_two_images(tmp_path: Path) -> None:
    assert (
        evaluate.class_classifier(Reference.from_images(noise(9, seed=1), network("quarters", 9)), NAMES)
        is None
    )
    alone = torch.tensor([0, 0, 0, 1])
    assert evaluate.class_classifier(real(alone, seed=1), NAMES) is None
    cache = FeatureCache(tmp_path, pytest.fail)
    first, again = (evaluate.class_classifier(real(LABELS, seed=1), NAMES, cache=cache) for _ in range(2))
    assert first is not None and again is not None and torch.equal(first.weight, again.weight)
    assert len(list(tmp_path.glob("*.safetensors"))) == 1


def test_real_images_are_embedded_once_with_and_without_a_cache(tmp_path: Path) -> None:
    images = ImageSet("photos", bright(LABELS), LABELS, NAMES)
    settings = evaluate.EvaluationSettings(n=50)
    counting = Counting()
    networks = MetricNetworks(lambda: counting.network)
    whole = networks.reference(images, settings)
    part = networks.some_of(images, settings)
    assert networks.reference(images, settings) is whole and counting.seen == 120
    chosen = evaluate.random_subset(120, 50, seed=0)
    assert torch.equal(part.images, images.images[chosen]) and part.data_labels is not None
    assert torch.equal(part.features.values, whole.features.values[chosen])
    assert torch.equal(part.data_labels, LABELS[chosen]) and part.labels is None
    fresh = Counting()
    few = MetricNetworks(lambda: fresh.network).some_of(images, settings)
    assert fresh.seen == 50 and torch.equal(few.features.values, part.features.values)
    for _ in range(2):
        cached = MetricNetworks(lambda: fresh.network, cache=FeatureCache(tmp_path, pytest.fail))
        cached.mirrored(images.images, settings, name="photos", real=True)
    assert fresh.seen == 50 + 120


def test_mirrored_copies_are_found_and_shown() -> None:
    train, fresh = Reference.from_images(noise(60, seed=1), network("quarters", 9)), noise(20, seed=2)
    copies = train.images[20:40].flip(3).contiguous()
    copies[::2] = train.images[20:40:2]  # every other one is not mirrored
    found = {}
    for name, images in (("copies", copies), ("fresh", fresh)):
        turned = extract(network("quarters", 9), images.flip(3))
        found[name] = evaluate.find_neighbors(
            images, extract(network("quarters", 9), images), train, mirrored=turned
        )
    mine, plain = (
        found["copies"],
        evaluate.find_neighbors(copies, extract(network("quarters", 9), copies), train),
    )
    assert mine.pixel_index.tolist() == mine.feature_index.tolist() == list(range(20, 40))
    assert mine.pixel_mirrored is not None and mine.feature_mirrored is not None
    assert mine.pixel_mirrored.tolist() == mine.feature_mirrored.tolist() == [False, True] * 10
    scores = evaluate.score_neighbors(mine, found["fresh"], resampling=QUICK)
    assert scores.identical == 20 and scores.mirrored and float(mine.pixel_distance.max()) == 0
    unturned = evaluate.score_neighbors(plain, found["fresh"], resampling=QUICK)
    assert unturned.identical == 10 and not unturned.mirrored
    assert bool(
        (
            found["fresh"].pixel_distance
            <= evaluate.find_neighbors(fresh, extract(network("quarters", 9), fresh), train).pixel_distance
        ).all()
    )
    closest, first = neighbor_examples(copies, train.images, mine, found["fresh"])
    for strips in (closest, first):
        shown = dict(strips.strips)
        assert len(shown["sample"]) == len(strips.captions) == 10
        assert torch.equal(shown["sample"], shown["nearest in\npixels"])
        assert torch.equal(shown["sample"], shown["nearest in\nfeatures"])
    assert first.captions == ("0", "0\nmirrored") * 5
    assert f"of test images {float(found['fresh'].feature_distance.median()):.3g}" in closest.title
