"""Scores of images, pairs, VAEs, samples and neighbors, by networks and models whose answers are known."""

import json
import math
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from quarters import bright, network, noise
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

import latentdiff as ld
from latentdiff import evaluate
from latentdiff.apps.cli.measure.scores import sets_tables
from latentdiff.apps.studies.kit.scoring import metric_cells
from latentdiff.apps.studies.report.blocks import IntervalCell
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError
from latentdiff.evaluate import Reference, Resampling, metric_table
from latentdiff.evaluate.chunks import chunks
from latentdiff.evaluate.interval_score import frechet_score
from latentdiff.evaluate.reconstruct import default_levels
from latentdiff.metrics.features import default_features, extract
from latentdiff.metrics.frechet import frechet, moments
from latentdiff.metrics.mmd import kernel_distance
from latentdiff.metrics.neighbors import precision_recall

CPU = torch.device("cpu")
QUICK = Resampling(40)


def test_every_figure_of_a_set_is_the_metric_of_its_features() -> None:
    real, fake = noise(60, seed=1), noise(50, seed=2, low=30)
    reference = Reference.from_images(real, network(), name="real")
    found = evaluate.score_images(fake, reference, resampling=QUICK)
    x, y = (extract(network(), images).values for images in (fake, real))
    manifold = precision_recall(y, x, k=3)
    assert found.fd.value == pytest.approx(frechet(moments(x), moments(y)), rel=1e-12)
    assert found.kd.value == pytest.approx(kernel_distance(x, y), rel=1e-9)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(found, name).value == pytest.approx(getattr(manifold, name))
    assert (found.n, found.reference.n, found.reference.name) == (50, 60, "real")
    assert found.features.name == "corners" and found.features.dim == 4
    for score in (found.fd, found.kd, found.precision, found.recall, found.density, found.coverage):
        assert score.low is not None and score.high is not None and score.low < score.high
    assert found.fd.low < found.fd.corrected < found.fd.high
    json.dumps(found.as_dict(), allow_nan=False)


def test_a_new_metric_is_a_function_and_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON, the terminal and the pages of the studies have it, with no further change."""

    def mean_distance(x: Tensor, y: Tensor) -> Tensor:
        return (x - y.mean(0)).square().sum(1)

    row = metric_table.Metric(
        "far",
        "distance from the mean",
        lambda sets: sets.mean(mean_distance(sets.x, sets.y)),
        factor=100,
        note="lower is better",
        in_studies=True,
    )
    monkeypatch.setattr(metric_table, "SET_METRICS", (*metric_table.SET_METRICS, row))
    reference = Reference.from_images(noise(30, seed=1), network(), name="real")
    found = evaluate.score_images(noise(30, seed=2), reference, resampling=Resampling(0))
    value = float(
        mean_distance(extract(network(), noise(30, seed=2)).values, reference.features.values).mean()
    )
    assert found.far.value == pytest.approx(value) == found.as_dict()["far"]["value"]
    (shown,) = sets_tables(found, None, ())
    cells = [list(column.cells) for column in shown.columns]
    assert "distance from the mean (corners) x 100, lower is better" in cells[0]
    assert cells[1][-1] == f"{100 * value:.4g}"
    assert list(metric_cells(found).items())[-1] == (
        "distance from the mean × 100",
        IntervalCell(100 * found.far.value, None, None),
    )


def test_scores_are_measured_without_a_folder_and_drawn_afterwards(
    pipe: ld.Pipeline, tiny: ld.data.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = evaluate.EvaluationSettings(
        n=12, images=8, neighbors=6, sampling=Sampling(steps=3), resampling=Resampling(0)
    )
    scores = evaluate.evaluate_model(pipe, tiny, evaluate.MetricNetworks(network), settings)
    assert not list(tmp_path.iterdir())
    assert scores.samples is not None and scores.samples.as_dict().keys() == {
        *(field.name for field in fields(scores.samples) if field.compare),
        *scores.samples.scores,
    } - {"scores"}
    names = ("vae", "samples", "classes", "neighbors", "denoiser", "reconstruction")
    drawn = evaluate.save_figures(scores, tmp_path / "out")
    assert drawn == [tmp_path / "out" / f"{name}.png" for name in names]
    assert sorted(drawn) == sorted((tmp_path / "out").iterdir())
    only = evaluate.save_figures(evaluate.ModelScores(denoiser=scores.denoiser), tmp_path / "one")
    assert only == [tmp_path / "one" / "denoiser.png"]


def test_without_resampling_the_values_stay_and_the_intervals_go() -> None:
    reference = Reference.from_images(noise(30, seed=1), network())
    with_, without = (
        evaluate.score_images(noise(30, seed=2), reference, resampling=r) for r in (QUICK, Resampling(0))
    )
    assert without.fd == evaluate.Score(with_.fd.value)
    assert without.kd.value == pytest.approx(with_.kd.value) and without.precision.low is None


def test_accuracy_is_counted_by_class() -> None:
    labels = torch.arange(40) % 4
    shown = labels.clone()
    shown[[0, 4, 8]] = 1  # of the ten that should show class 0
    real = Reference.from_images(bright(labels, seed=5), network(), labels=labels)
    found = evaluate.score_images(bright(shown), real, labels=labels, resampling=QUICK)
    assert found.accuracy is not None and found.accuracy.value == pytest.approx(37 / 40)
    assert [each.accuracy.value for each in found.per_class] == pytest.approx([0.7, 1, 1, 1])
    assert [(each.label, each.n, each.real) for each in found.per_class] == [(k, 10, 10) for k in range(4)]
    assert found.histogram == (7, 13, 10, 10)
    assert found.confident is not None and found.confident.value == 1
    of_class = extract(network(), bright(shown)).values[labels == 2], real.features.values[labels == 2]
    fd = found.per_class[2].fd
    assert fd is not None and fd.value == pytest.approx(frechet(*map(moments, of_class)), abs=1e-12)


def test_a_class_of_few_images_has_no_distance() -> None:
    labels = torch.tensor([0] * 20 + [1] * 4)
    real = Reference.from_images(bright(torch.arange(40) % 4), network(), labels=torch.arange(40) % 4)
    found = evaluate.score_images(bright(labels), real, labels=labels, resampling=Resampling(0))
    assert found.per_class[0].fd is not None and found.per_class[1].fd is None


@pytest.mark.parametrize(
    ("n", "labels", "message"),
    [
        (3, None, "more than 3 images on each side, got 3 and 30"),
        (10, torch.zeros(9, dtype=torch.int64), "one label for each of 10 images, got 9"),
        (10, torch.full((10,), 4), r"labels in 0\.\.3, the classes of the network, got 4\.\.4"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(n: int, labels: Tensor | None, message: str) -> None:
    reference = Reference.from_images(noise(30, seed=1), network())
    with pytest.raises(InputError, match=message):
        evaluate.score_images(noise(n, seed=2), reference, labels=labels, resampling=Resampling(0))


def test_features_of_another_network_are_never_compared() -> None:
    reference = Reference.from_images(noise(30, seed=1), network())
    features = extract(network("others"), noise(30, seed=2))
    with pytest.raises(InputError, match="expected features of corners, those of the reference, got others"):
        evaluate.score_features(features, reference)


def test_a_distance_of_too_few_images_has_no_interval() -> None:
    """Of four features: 18 images are enough (docs/evaluation.md), 17 are not."""
    x, y = (
        torch.randn(18, 4, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in (1, 2)
    )
    for score in (frechet_score, partial(frechet_score, reference="paired")):
        enough, few = score(x, y, QUICK), score(x[:17], y[:17], QUICK)
        assert enough.low is not None and enough.corrected is not None and enough.resamples == 40
        assert few.low is None and few.high is None and few.corrected is None
        assert few.value == pytest.approx(frechet(moments(x[:17]), moments(y[:17])))


def sized(scores: evaluate.SampleScores, n: int, m: int) -> evaluate.SampleScores:
    return replace(scores, n=n, reference=replace(scores.reference, n=m))


@pytest.mark.parametrize(("mine", "real", "count"), [(4999, 5000, 1), (5000, 4999, 1), (5000, 5000, 0)])
def test_fewer_than_5000_images_are_warned_of(mine: int, real: int, count: int) -> None:
    reference = Reference.from_images(noise(10, seed=1), network())
    scores = evaluate.score_images(noise(10, seed=2), reference, resampling=Resampling(0))
    assert len(evaluate.size_warnings(sized(scores, mine, real))) == count


@pytest.mark.parametrize(
    ("mine", "real", "warned"), [(5000, 7500, False), (5000, 7501, True), (9000, 5000, True)]
)
def test_manifolds_of_unequal_sets_are_warned_of(mine: int, real: int, warned: bool) -> None:
    reference = Reference.from_images(noise(10, seed=1), network())
    scores = evaluate.score_images(noise(10, seed=2), reference, resampling=Resampling(0))
    found = evaluate.size_warnings(sized(scores, mine, real))
    assert len(found) == warned and all("precision" in line for line in found)


def test_pairs_agree_with_scikit_image_and_stay_pairs() -> None:
    a, b = noise(6, seed=1, side=20), noise(6, seed=2, low=100, side=20)
    found = evaluate.score_pairs(a, b, resampling=QUICK)
    sides = [(x[0].numpy(), y[0].numpy()) for x, y in zip(a, b, strict=True)]
    psnr = [peak_signal_noise_ratio(x, y, data_range=255) for x, y in sides]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    ssim = [structural_similarity(x, y, **options) for x, y in sides]
    rmse = [float(np.sqrt(((x / 255.0 - y / 255.0) ** 2).mean())) for x, y in sides]
    assert found.psnr.value == pytest.approx(np.mean(psnr), rel=1e-6)
    assert found.rmse.value == pytest.approx(np.mean(rmse), rel=1e-9)
    assert found.ssim.value == pytest.approx(np.mean(ssim), rel=1e-4)
    near = (a.int() + 3).clamp(0, 255).to(torch.uint8)
    assert evaluate.score_pairs(a, near, resampling=QUICK).rmse.value < 0.02
    assert evaluate.score_pairs(a, near.roll(1, 0), resampling=QUICK).rmse.value > 0.2


def test_identical_pairs_have_infinite_psnr_and_valid_json() -> None:
    a = noise(4, seed=1)
    found = evaluate.score_pairs(a, a.double() / 255, resampling=QUICK)
    assert math.isinf(found.psnr.value) and found.rmse.value == 0 and found.ssim.value == pytest.approx(1)
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["psnr"]["value"] is None


def test_a_distance_of_pairs_has_neither_bias_nor_spread_of_independent_sets() -> None:
    """y = 1.3 x + 0.2 in 8 dimensions: the distance is 8 (0.3^2 + 0.2^2), whatever x is drawn."""
    inside, widths = 0, {True: 0.0, False: 0.0}
    for seed in range(40):
        x = torch.randn(60, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        y = 1.3 * x + 0.2
        found = frechet_score(x, y, Resampling(40, 0.95, seed), reference="paired")
        assert found.low is not None and found.high is not None
        inside += found.low <= 8 * (0.3**2 + 0.2**2) <= found.high
        widths[True] += found.high - found.low
        apart = frechet_score(x, y, Resampling(40, 0.95, seed))
        assert apart.low is not None and apart.high is not None
        widths[False] += apart.high - apart.low
    assert inside >= 34
    assert widths[True] < 0.5 * widths[False]


@pytest.mark.parametrize("count", [0, 5])
def test_pairs_need_partners(count: int) -> None:
    with pytest.raises(InputError, match="pairs need"):
        evaluate.score_pairs(noise(count, seed=1), noise(0 if count == 0 else 4, seed=2))


def test_copies_of_training_images_are_found() -> None:
    train = Reference.from_images(noise(200, seed=1), network())
    test, fresh = noise(100, seed=2), noise(100, seed=3)
    copies = train.images[40:140].clone()
    copies[:50, :, 0, 0] ^= 1  # half of them are off by a pixel
    sides = {}
    for name, images in (("test", test), ("fresh", fresh), ("copies", copies)):
        sides[name] = evaluate.find_neighbors(images, extract(network(), images), train)
    copied = evaluate.score_neighbors(sides["copies"], sides["test"], resampling=QUICK)
    honest = evaluate.score_neighbors(sides["fresh"], sides["test"], resampling=QUICK)
    assert sides["copies"].pixel_index.tolist() == list(range(40, 140))
    assert copied.identical == 50 and honest.identical == 0
    assert copied.pixels.share_closer_than_test_quantile.value == 1
    assert copied.features.share_closer_than_test_quantile.value > 0.9
    closer = honest.pixels.share_closer_than_test_quantile
    assert closer.value < 0.1 and closer.low < 0.03
    assert copied.pixels.test_quantile > 0.25  # RMS of unrelated pixels
    assert copied.copies == copied.verdict.partition(":")[0] and "50 of 100 samples have" in copied.copies
    assert "100% of the samples are closer to a training image than 99%" in copied.verdict
    assert honest.copies is None and honest.verdict.startswith("no sign of copies")
    few = evaluate.find_neighbors(test[:20], extract(network(), test[:20]), train)
    assert "20 test images are too few" in evaluate.score_neighbors(few, few, resampling=QUICK).verdict
    squares = ((fresh[7].double() - train.images.double()) / 255).square().flatten(1).mean(1)
    assert float(sides["fresh"].pixel_distance[7]) == pytest.approx(float(squares.min().sqrt()), rel=1e-6)


def test_images_of_another_shape_have_no_neighbors() -> None:
    train = Reference.from_images(noise(8, seed=1), network())
    with pytest.raises(InputError, match="one shape"):
        evaluate.find_neighbors(noise(8, seed=2)[..., :4], train.features, train)


@pytest.mark.parametrize(
    ("shape", "classes", "name"),
    [
        ((1, 28, 28), tuple("0123456789"), "mnist"),
        ((1, 28, 28), (), "mnist"),
        ((1, 28, 28), ("coat", "shirt"), "efficientnet-lite0"),
        ((3, 28, 28), (), "efficientnet-lite0"),
        ((1, 32, 32), tuple("0123456789"), "efficientnet-lite0"),
    ],
)
def test_the_default_network_suits_the_images(
    shape: tuple[int, ...], classes: tuple[str, ...], name: str
) -> None:
    assert default_features(shape, classes) == name


def test_some_images_are_the_same_for_the_same_seed() -> None:
    first, again, other = (evaluate.random_subset(1000, 50, seed=seed).tolist() for seed in (1, 1, 2))
    assert first == again != other and len(set(first)) == 50 and first == sorted(first)
    assert evaluate.random_subset(5, 50, seed=0).tolist() == [0, 1, 2, 3, 4]


def test_chunks_depend_on_the_shape_alone() -> None:
    sizes = {
        shape: chunks(1000, shape)[0].stop
        for shape in ((1, 28, 28), (3, 64, 64), (3, 256, 256), (3, 2048, 2048))
    }
    assert list(sizes.values()) == [250, 250, 16, 1]
    assert [part.start for part in chunks(501, (1, 8, 8))] == [0, 250, 500]


@pytest.fixture(scope="module")
def pipe(tiny_denoiser_run: Path) -> ld.Pipeline:
    return ld.load(tiny_denoiser_run)


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> ld.data.Dataset:
    return ld.load_dataset(str(tiny_folder / "tiny.npz"))


def test_samples_are_those_of_their_seeds(pipe: ld.Pipeline) -> None:
    labels = pipe.class_labels(7)
    assert labels is not None and labels.tolist() == [0, 1, 2, 0, 1, 2, 0]
    settings = Sampling(steps=3, guidance=2.0)
    found = evaluate.draw_samples(pipe, settings, 7, labels=labels, seed=4)
    alone = pipe.sample(1, steps=3, guidance=2.0, label=1, seed=8)
    assert found.dtype == torch.uint8 and found.shape == (7, 1, 8, 8)
    assert (found[4:5].int() - ld.to_uint8(alone).int()).abs().max() <= 1
    assert torch.equal(found, evaluate.draw_samples(pipe, settings, 7, labels=labels, seed=4))
    rough = evaluate.draw_samples(pipe, settings, 7, labels=labels, seed=4, dtype=torch.bfloat16)
    assert 0 < (rough.int() - found.int()).abs().max() < 16
    for bad in ({"n": 0}, {"n": 2, "labels": labels}):
        with pytest.raises(InputError, match="images"):
            evaluate.draw_samples(pipe, settings, **bad)


def test_a_vae_is_scored_on_pairs_of_its_own(pipe: ld.Pipeline, tiny: ld.data.Dataset) -> None:
    vae = pipe.codec.vae
    reference = Reference.from_images(tiny.test.images, network())
    found = evaluate.score_vae(vae, tiny.test.images, reference=reference, resampling=QUICK)
    x = ld.to_float(tiny.test.images)
    with torch.no_grad():
        posterior = vae.encode(x)
        copies = vae.decode(posterior.mean)
    mse = ((copies - x).double() / 2).square().flatten(1).mean(1)
    assert found.psnr.value == pytest.approx(float((-10 * mse.log10()).mean()), rel=1e-5)
    assert found.kl_nats.value == pytest.approx(float(posterior.kl().double().mean()), rel=1e-6)
    active = int((posterior.mean.double().var(0, correction=0) > 0.01).sum())
    assert (found.active_units, found.latent_units, found.collapsed) == (active, 4, active == 0)
    rounded = ld.to_uint8(copies)
    wanted = frechet(moments(extract(network(), rounded).values), moments(reference.features.values))
    assert (
        found.fd is not None
        and found.fd.value == pytest.approx(wanted, abs=1e-9)
        and found.fd.features == "corners"
    )
    with pytest.raises(InputError, match="the VAE is for images"):
        evaluate.score_vae(vae, tiny.test.images[..., :4])


class Oracle(torch.nn.Module):
    """Knows the images: answers v from the true x_0."""

    def __init__(self, pipe: ld.Pipeline, x0: Tensor) -> None:
        super().__init__()
        self.pipe, self.x0 = pipe, x0

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        alpha, sigma = self.pipe.schedule.at(int(t[0]) + 1)
        return (alpha * x - self.x0) / sigma  # v = alpha eps - sigma x_0 with eps = (x - alpha x_0) / sigma


@pytest.mark.parametrize("t", [1, 10, 20])
def test_a_denoiser_that_knows_the_image_brings_it_back(
    pipe: ld.Pipeline, tiny: ld.data.Dataset, t: int
) -> None:
    images = tiny.test.images
    with torch.no_grad():
        x0 = pipe.codec.encode(ld.to_float(images))
    oracle = replace(pipe, network=Oracle(pipe, x0))
    made = evaluate.reconstruct_from(
        oracle, images, t, labels=tiny.test.labels, settings=Sampling(steps=5), seed=3
    )
    wanted = (pipe.reconstruct(ld.to_float(images)) + 1) / 2
    torch.testing.assert_close(made.one_step, wanted, atol=1e-4, rtol=0)
    torch.testing.assert_close(made.iterative, wanted, atol=1e-4, rtol=0)
    assert made.steps == {1: 1, 10: 3, 20: 5}[t]  # levels 20, 16, 12, 8, 4, 0: those below t, from t
    assert made.alpha_bar == pytest.approx(float(pipe.schedule.alpha[t]) ** 2)


def test_reconstructions_are_scored_with_their_originals(pipe: ld.Pipeline, tiny: ld.data.Dataset) -> None:
    images, labels = tiny.test.images, tiny.test.labels
    made = evaluate.reconstruct_from(pipe, images, 2, labels=labels, settings=Sampling(steps=4))
    found = evaluate.score_reconstruction(images, made, resampling=QUICK)
    direct = ((images.double() / 255 - made.one_step.double()).square().flatten(1).mean(1)).sqrt().mean()
    assert found.one_step.rmse.value == pytest.approx(float(direct), rel=1e-9)
    shuffled = replace(made, one_step=made.one_step.roll(1, 0), iterative=made.iterative.roll(1, 0))
    assert (
        evaluate.score_reconstruction(images, shuffled, resampling=QUICK).one_step.rmse.value
        > found.one_step.rmse.value
    )
    for t in (0, 21):
        with pytest.raises(InputError, match=r"expected a level in 1\.\.20"):
            evaluate.reconstruct_from(pipe, images, t, labels=labels)
    assert default_levels(1000) == (100, 250, 500) and default_levels(1) == (1,)


def test_labels_of_a_conditional_model_matter_and_of_others_are_ignored(
    pipe: ld.Pipeline, tiny_pixel_run: Path, tiny: ld.data.Dataset
) -> None:
    images, labels = tiny.test.images, tiny.test.labels
    with_, without = (
        evaluate.loss_by_level(pipe, images, labels=known, levels=3) for known in (labels, None)
    )
    assert with_ != without
    pixel = ld.load(tiny_pixel_run)
    assert evaluate.loss_by_level(pixel, images, labels=labels, levels=3) == evaluate.loss_by_level(
        pixel, images, levels=3
    )
    with pytest.raises(InputError, match="pixel models"):
        evaluate.bits_per_dimension(pipe, images)
