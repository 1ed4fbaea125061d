"""What is chosen for a training from its latents, its images and its budget."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset, Split, to_float
from latentdiff.nn import VAEConfig, build, default_latent
from latentdiff.pipeline.codec import Codec, IdentityCodec, LatentStatistics, VAECodec
from latentdiff.train.choices import (
    reconstruction_psnr,
    resolved,
    training_size,
    usual_augmentation,
    usual_eta,
    usual_guidance,
)
from latentdiff.train.latents import ImageLatents, latents_of, normalized_for


def codec(latent: tuple[int, ...] = (2, 8, 8), side: int = 32) -> VAECodec:
    sides = (side, side) if len(latent) == 1 else (4 * latent[1], 4 * latent[2])
    config = VAEConfig(image=(3, *sides), latent=latent, width=8, hidden=16)
    channels = latent[0]
    return VAECodec(build(config, seed=1), LatentStatistics(torch.zeros(channels), torch.ones(channels)))


@pytest.mark.parametrize(
    ("size", "minutes", "expected"),
    [
        ((28, 28), 60, (28, 28)),
        ((64, 64), 60, (64, 64)),
        ((64, 128), 60, (64, 128)),
        ((33, 47), 60, (32, 48)),
        ((90, 90), 60, (88, 88)),
        ((96, 128), 60, (56, 72)),
        ((67, 101), 60, (64, 104)),
        ((256, 256), 60, (64, 64)),
        ((3024, 4032), 60, (56, 72)),
        ((20, 4000), 60, (8, 904)),
        ((3, 5), 60, (8, 8)),
        ((28, 28), 120, (28, 28)),
        ((96, 128), 120, (96, 128)),
        ((256, 256), 120, (128, 128)),
        ((3024, 4032), 120, (112, 144)),
        ((130, 100), 120, (128, 96)),
        ((176, 176), 120, (176, 176)),
        ((182, 182), 120, (128, 128)),
        ((56, 140), 120, (56, 144)),
    ],
)
def test_size_of_a_training(size: tuple[int, int], minutes: float, expected: tuple[int, int]) -> None:
    """A grid fits it, it is left alone where it was chosen before, and two hours allow more of it."""
    found = training_size(*size, minutes)
    assert found == expected
    assert len(default_latent((3, *found))) == 3
    assert training_size(*found, minutes) == found


def images(n: int = 30) -> Split:
    generator = torch.Generator().manual_seed(0)
    return Split(torch.randint(0, 256, (n, 3, 32, 32), generator=generator).to(torch.uint8))


@pytest.mark.parametrize(
    ("source", "options", "prediction", "network"),
    [
        (codec(), {"minutes": 30}, "x0", "mlp"),
        (codec((8, 8, 8)), {"minutes": 3}, "x0", "mlp"),
        (codec((8, 8, 8)), {"minutes": 30}, "x0", "unet"),
        (codec((8, 8, 8)), {"steps": 30}, "x0", "unet"),
        (codec((40, 2, 16)), {"steps": 30}, "x0", "mlp"),  # no UNet takes it
        (codec((8,)), {"minutes": 30}, "v", "auto"),
        (IdentityCodec((3, 16, 16)), {"minutes": 30, "pixel": True}, "v", "auto"),
        (codec(), {"minutes": 30, "prediction": "eps", "network": "dit"}, "eps", "dit"),
        (codec(), {"minutes": 30, "text": True}, "x0", "auto"),
    ],
)
def test_network_and_prediction_follow_latents_and_minutes(
    source: Codec, options: dict[str, Any], prediction: str, network: str
) -> None:
    found = resolved(TrainDenoiser(**options), source)
    assert (found.prediction, found.network) == (prediction, network)
    assert resolved(found, source) == found  # what was chosen is not chosen again


def test_given_numbers_stay() -> None:
    found = resolved(TrainDenoiser(minutes=30, width=48, batch=16, lr=1e-4), codec())
    assert (found.width, found.batch, found.lr) == (48, 16, 1e-4)


def test_latents_are_normalized_for_the_images() -> None:
    source = replace(codec(), statistics=LatentStatistics(torch.full((2,), 3.0), torch.full((2,), 0.1)))
    fitted = normalized_for(source, images(), torch.device("cpu"))
    with torch.no_grad():
        x = to_float(images().images)
        noise = torch.randn(30, 2, 8, 8, generator=torch.Generator().manual_seed(2))
        z = fitted.encode(x, noise=noise)
    assert z.mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=0.05)
    assert z.std((0, 2, 3)).tolist() == pytest.approx([1, 1], abs=0.05)


def test_the_psnr_is_that_of_the_reconstructions() -> None:
    split, source = images(), codec()
    with torch.no_grad():
        x = to_float(split.images)
        copies = source.vae.decode(source.vae.encode(x).mode())
    mse = ((copies - x) / 2).double().square().flatten(1).mean(1)
    assert reconstruction_psnr(source, split) == pytest.approx(float((-10 * mse.log10()).mean()), rel=1e-4)


@pytest.mark.parametrize(
    ("source", "classes", "options", "expected"),
    [
        (codec(), True, {}, 4.0),
        (codec(), False, {}, 1.0),
        (codec((8,)), True, {}, 1.0),
        (IdentityCodec((3, 16, 16)), True, {}, 1.0),
        (codec(), True, {"guidance": 2}, 2.0),
    ],
)
def test_guidance_that_is_kept(
    source: Codec, classes: bool, options: dict[str, Any], expected: float
) -> None:
    assert usual_guidance(TrainDenoiser(**options), source, classes=classes) == expected


@pytest.mark.parametrize(
    ("source", "classes", "options", "expected"),
    [
        (codec(), True, {}, 1.0),
        (codec(), False, {}, 0.0),
        (codec((8,)), True, {}, 0.0),
        (IdentityCodec((3, 16, 16)), True, {}, 0.0),
        (codec(), True, {"eta": 0.5}, 0.5),
        (codec(), True, {"eta": 0}, 0.0),
    ],
)
def test_eta_that_is_kept(source: Codec, classes: bool, options: dict[str, Any], expected: float) -> None:
    assert usual_eta(TrainDenoiser(**options), source, classes=classes) == expected


@pytest.mark.parametrize(
    ("shape", "images", "minutes", "expected"),
    [
        ((3, 64, 64), 3000, 20, {"flip": True}),
        ((3, 64, 64), 1000, 20, {"flip": True}),
        ((3, 64, 64), 999, 20, {"flip": True, "random_shift": 4}),
        ((3, 128, 96), 300, 20, {"flip": True, "random_shift": 6}),
        ((3, 1152, 1200), 500, 20, {"flip": True, "random_shift": 64}),
        ((3, 64, 64), 3000, 4, {"flip": True}),  # by the MLP, which is fast
        ((3, 64, 64), 480, 1, {"flip": True, "random_shift": 4}),
        ((3, 64, 64), 3000, 1, {}),  # few epochs
        ((3, 64, 64), 12_000, 20, {}),
        ((3, 256, 256), 3000, 4, {}),  # too large for the MLP
        ((3, 64, 64), 100_000, 20, {}),
        ((3, 32, 32), 3000, 20, {}),  # no photos
        ((1, 64, 64), 3000, 20, {}),
    ],
)
def test_few_photos_are_mirrored_and_shifted(
    shape: tuple[int, ...], images: int, minutes: float, expected: dict[str, int]
) -> None:
    assert usual_augmentation(shape, images, minutes) == expected


def test_latents_that_are_kept_hold_no_graph() -> None:
    """A hint of the loop encodes them first, outside of any step: with gradients that was gigabytes."""
    data = Dataset("images", images(), images(4), images(4))
    made = latents_of(TrainDenoiser(), data, codec(), torch.device("cpu"))
    assert isinstance(made, ImageLatents)
    with torch.enable_grad():
        kept = made._encoded(0)
    assert not kept.mean.requires_grad and not kept.logvar.requires_grad and len(kept.mean) == 30
