"""Features and perceptual distances: fixed chunks, preparation of pixels, the classifier that the package
brings.
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from latentdiff.data import data_root, load_dataset
from latentdiff.data.catalog import find_mnist
from latentdiff.errors import InputError
from latentdiff.metrics.features import (
    CHUNK,
    FeatureNetwork,
    PerceptualNetwork,
    extract,
    feature_network,
    perceptual_distance,
    perceptual_network,
)
from latentdiff.metrics.features.mnist import CHANNELS, DIM, DigitNetwork
from latentdiff.metrics.features.perceptual import maps_distance
from latentdiff.metrics.features.pixels import grey, resized, resized_like_tensorflow1, rgb
from latentdiff.metrics.names import (
    NAMES,
    NEEDS_WEIGHTS,
    PERCEPTUAL_NAMES,
    frechet_name,
    kernel_name,
    perceptual_name,
)

CPU = torch.device("cpu")


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def watched(run: Callable[[Tensor], tuple[Tensor, Tensor]], chunk: int = CHUNK) -> FeatureNetwork:
    return FeatureNetwork("watched", "0" * 64, 2, 3, CPU, run, chunk)


def neighborly(images: Tensor) -> tuple[Tensor, Tensor]:
    """Features that depend on everything in the chunk: its size, and the sum over all of its images."""
    total = images.float().sum().expand(len(images))
    size = torch.full((len(images),), float(len(images)))
    return torch.stack([total, size], 1), torch.zeros(len(images), 3)


@pytest.mark.parametrize("n", [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
def test_an_image_always_sees_the_same_chunk(n: int) -> None:
    images = noise(n, 1, 8, 8)
    first, *others = [extract(watched(neighborly), images, batch=batch).values for batch in (1, 7, 60, 500)]
    assert all(torch.equal(first, other) for other in others)
    assert set(first[:, 1].tolist()) == {CHUNK}
    whole = n // CHUNK * CHUNK
    if whole < n:  # the last chunk repeats its last image
        padded = torch.cat([images[whole:], images[-1:].expand(CHUNK - n + whole, -1, -1, -1)])
        assert first[-1, 0] == padded.float().sum()


@pytest.mark.parametrize("network", ["mnist", "efficientnet-lite0"])
def test_features_do_not_depend_on_the_batch(network: str) -> None:
    if network != "mnist":
        pytest.importorskip("efficientnet_lite_pytorch")
    chosen, maps = feature_network(network), perceptual_network(network)
    if network != "mnist":  # the chunk's size is no matter here, and a small one is quick
        chosen, maps = replace(chosen, chunk=2), replace(maps, chunk=2)
    images = noise(131 if network == "mnist" else 3, 1, 28, 28)
    first, *others = [extract(chosen, images, batch=batch) for batch in (1, 7, 500)]
    for other in others:
        assert torch.equal(first.values, other.values)
        assert first.predictions is not None and other.predictions is not None
        assert torch.equal(first.predictions, other.predictions)
    distances = [perceptual_distance(maps, images, images.roll(1, 0), batch=batch) for batch in (1, 7, 500)]
    assert torch.equal(distances[0], distances[1]) and torch.equal(distances[0], distances[2])


def test_large_images_come_in_smaller_chunks() -> None:
    seen: list[int] = []

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(images))
        return neighborly(images)

    extract(watched(run), noise(5, 3, 600, 600))
    assert seen == [2, 2, 2]


def test_what_extract_returns() -> None:
    network = feature_network("mnist")
    calls: list[tuple[int, int]] = []
    features = extract(
        network, noise(60, 1, 28, 28), progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(50, 60), (60, 60)]
    assert features.values.dtype == torch.float64 and features.values.shape == (60, network.dim)
    assert (features.network, features.sha256) == ("mnist", network.sha256)
    assert features.predictions is not None and features.confidence is not None
    assert features.predictions.dtype == torch.int64 and int(features.predictions.max()) < network.classes
    assert features.confidence.dtype == torch.float64
    assert float(features.confidence.min()) >= 0.1 and float(features.confidence.max()) <= 1
    assert not features.values.requires_grad


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 28, 28),
        noise(2, 28, 28),
        noise(2, 2, 28, 28),
        noise(0, 1, 28, 28),
        noise(2, 1, 0, 28),
    ],
)
def test_other_images_are_refused_in_one_line(images: Tensor) -> None:
    with pytest.raises(InputError, match="expected uint8 images") as caught:
        extract(watched(neighborly), images)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="expected uint8 images"):
        perceptual_distance(perceptual_network("mnist"), images, images)


def test_bad_batches_pairs_and_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="batch of at least 1"):
        extract(watched(neighborly), noise(2, 1, 8, 8), batch=0)
    with pytest.raises(InputError, match="of one shape, found"):
        perceptual_distance(perceptual_network("mnist"), noise(2, 1, 8, 8), noise(3, 1, 8, 8))
    with pytest.raises(InputError, match="expected finite features"):
        extract(
            watched(lambda x: (torch.full((len(x), 2), torch.nan), torch.zeros(len(x), 3))), noise(2, 1, 8, 8)
        )


def test_names() -> None:
    assert set(NEEDS_WEIGHTS) <= set(NAMES) | set(PERCEPTUAL_NAMES)
    assert (frechet_name("mnist"), kernel_name("mnist")) == ("FD (mnist)", "KD (mnist)")
    assert (frechet_name("inception"), kernel_name("inception")) == ("FID", "KID")
    assert frechet_name("inception (weights 1a2b)") == "FD (inception (weights 1a2b))"
    assert perceptual_name("lpips-alex") == "LPIPS (alex)"
    assert perceptual_name("mnist") == "perceptual distance (mnist)"
    assert perceptual_name("lpips-vgg (weights 1a2b)") == "perceptual distance (lpips-vgg (weights 1a2b))"


def test_the_names_need_no_torch() -> None:
    code = "import sys; from latentdiff.metrics.names import NAMES; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("find", [feature_network, perceptual_network])
def test_unknown_names_and_unwanted_weights(find: Callable[..., object], tmp_path: object) -> None:
    with pytest.raises(InputError, match=r"expected a feature network of mnist, .*, found 'resnet'"):
        find("resnet")
    with pytest.raises(InputError, match="mnist brings its own weights"):
        find("mnist", weights=tmp_path)


# pixels


@pytest.mark.parametrize(("side", "mode"), [(28, "bilinear"), (224, "bicubic")])
@pytest.mark.parametrize("size", [(64, 64), (20, 45), (300, 31)])
def test_resizing_is_pillows(side: int, mode: str, size: tuple[int, int]) -> None:
    x = noise(1, 1, *size).float()
    resample = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[mode]
    expected = np.asarray(Image.fromarray(x[0, 0].numpy()).resize((side, side), resample))
    assert np.abs(resized(x, side, mode)[0, 0].numpy() - expected).max() < 1e-2


def test_grey_is_pillows_luma_and_rgb_repeats_it() -> None:
    images = noise(3, 3, 9, 7)
    for image, ours in zip(images, grey(images), strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert np.abs(ours[0].numpy() * 255 - expected).max() < 0.51  # Pillow rounds
    assert torch.equal(grey(images[:, :1]), images[:, :1].float() / 255)
    assert torch.equal(rgb(images[:, :1])[:, 2], images[:, 0].float())


@pytest.mark.parametrize("size", [(5, 8), (28, 28), (299, 40), (400, 301)])
def test_tensorflows_resizing_against_its_definition(size: tuple[int, int]) -> None:
    x = noise(1, 1, *size).float()
    side = 37
    expected = np.empty((side, side))
    pixels = x[0, 0].double().numpy()
    for i in range(side):
        for j in range(side):
            y, z = i * size[0] / side, j * size[1] / side
            (top, left), (v, h) = (int(y), int(z)), (y % 1, z % 1)
            below, right = min(top + 1, size[0] - 1), min(left + 1, size[1] - 1)
            upper = (1 - h) * pixels[top, left] + h * pixels[top, right]
            lower = (1 - h) * pixels[below, left] + h * pixels[below, right]
            expected[i, j] = (1 - v) * upper + v * lower
    assert np.abs(resized_like_tensorflow1(x, side)[0, 0].numpy() - expected).max() < 1e-2


# the perceptual distance


def plain(channels: tuple[int, ...]) -> PerceptualNetwork:
    """Maps made of the pixels themselves."""

    def maps(images: Tensor) -> list[Tensor]:
        return [images.float().repeat(1, count, 1, 1) for count in channels]

    return PerceptualNetwork("plain", "", CPU, maps, tuple(torch.rand(c) for c in channels))


def test_the_distance_against_its_formula() -> None:
    g = torch.Generator().manual_seed(1)
    shapes = [(3, 4, 5, 6), (3, 2, 3, 3)]
    a, b = ([torch.randn(shape, generator=g) for shape in shapes] for _ in range(2))
    weights = [torch.rand(shape[1], generator=g) for shape in shapes]
    expected = np.zeros(3)
    for ours, theirs, w in zip(a, b, weights, strict=True):
        n, _, height, width = ours.shape
        for k in range(n):
            for i in range(height):
                for j in range(width):
                    u, v = ours[k, :, i, j].double().numpy(), theirs[k, :, i, j].double().numpy()
                    difference = u / np.linalg.norm(u) - v / np.linalg.norm(v)
                    expected[k] += (w.double().numpy() * difference**2).sum() / (height * width)
    assert np.allclose(maps_distance(a, b, weights).numpy(), expected, rtol=1e-8)


@pytest.mark.parametrize("network", ["mnist", "efficientnet-lite0"])
def test_laws_of_the_perceptual_distance(network: str) -> None:
    if network != "mnist":
        pytest.importorskip("efficientnet_lite_pytorch")
    chosen = perceptual_network(network)
    digits = load_dataset("mnist5k").test.images[:4]
    a, b = digits, digits.roll(1, 0)
    nearly = (a.float() * 0.95).byte()
    assert chosen.name == network
    assert torch.equal(perceptual_distance(chosen, a, a), torch.zeros(4, dtype=torch.float64))
    far = perceptual_distance(chosen, a, b)
    assert torch.allclose(far, perceptual_distance(chosen, b, a), rtol=1e-12)
    assert far.dtype == torch.float64 and bool((far > 4 * perceptual_distance(chosen, a, nearly)).all())
    assert float(far.max()) <= 4  # two unit vectors are at most 2 apart


def test_maps_and_weights_agree() -> None:
    chosen = perceptual_network("mnist")
    maps = chosen.maps(noise(2, 3, 28, 28))
    assert (
        tuple(found.shape[1] for found in maps) == CHANNELS == tuple(len(weight) for weight in chosen.weights)
    )
    assert sum(float(weight.mean()) for weight in chosen.weights) == pytest.approx(1)
    scaled = replace(chosen, maps=lambda images: [3 * found for found in chosen.maps(images)])
    a, b = noise(4, 1, 28, 28), noise(4, 1, 28, 28, seed=1)
    assert torch.allclose(perceptual_distance(chosen, a, b), perceptual_distance(scaled, a, b), rtol=1e-6)


# the classifier in the package


def test_the_files_in_the_package_agree() -> None:
    folder = files("latentdiff.metrics.features")
    content = folder.joinpath("mnist.safetensors").read_bytes()
    about = json.loads(folder.joinpath("mnist.json").read_bytes())
    assert len(content) == about["bytes"] <= 600 * 1024
    assert hashlib.sha256(content).hexdigest() == about["sha256"] == feature_network("mnist").sha256
    assert about["test_accuracy"] >= 0.993 and about["images"]["test"] == 10_000
    assert about["parameters"] == sum(value.numel() for value in DigitNetwork().parameters())


def test_it_knows_digits_of_any_size_and_colour() -> None:
    split = load_dataset("mnist5k").test
    assert split.labels is not None
    network = feature_network("mnist")
    for images, at_least in (
        (split.images, 0.99),
        (split.images.expand(-1, 3, -1, -1), 0.99),
        (split.images.repeat_interleave(2, 2).repeat_interleave(2, 3), 0.99),  # 56 x 56
        (resized(split.images.float(), 20, "bilinear").byte(), 0.97),
    ):
        predictions = extract(network, images).predictions
        assert predictions is not None
        assert float((predictions == split.labels).double().mean()) >= at_least


def test_its_features_are_well_behaved() -> None:
    """Bounded, none dead, none saturated, and more alive dimensions than the classes alone would need."""
    values = extract(feature_network("mnist"), load_dataset("mnist5k").train.images).values
    assert values.shape[1] == DIM and float(values.abs().max()) < 1
    assert float(values.std(0).min()) > 0.3
    assert float((values.abs() > 0.99).double().mean()) == 0
    assert int((torch.linalg.eigvalsh(values.T.cov()) > 0.05).sum()) > 20


@pytest.mark.slow
def test_its_accuracy_is_what_its_recipe_says() -> None:
    if find_mnist(data_root(None)) is None:
        pytest.skip("the full MNIST is not in the data root")
    split = load_dataset("mnist").test
    about = json.loads(files("latentdiff.metrics.features").joinpath("mnist.json").read_bytes())
    predictions = extract(feature_network("mnist"), split.images).predictions
    assert predictions is not None and split.labels is not None
    assert round(float((predictions == split.labels).double().mean()), 4) == about["test_accuracy"]
