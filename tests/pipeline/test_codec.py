"""Codecs: statistics of the latents, normalisation, encoding and decoding."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.nn import VAE, Posterior, VAEConfig, build
from latentdiff.ops.random import Key
from latentdiff.pipeline.checkpoint.folder import INDEX, open_checkpoint, writing
from latentdiff.pipeline.checkpoint.index import model_index
from latentdiff.pipeline.codec import IdentityCodec, LatentStatistics, StatisticsAccumulator, VAECodec
from latentdiff.pipeline.components import load_codec, load_vae, save_vae

LATENTS = [(3,), (2, 4, 4)]


def make_vae(latent: tuple[int, ...]) -> VAE:
    return build(VAEConfig(image=(1, 8, 8), latent=latent, width=8, depth=0, hidden=16), seed=2).eval()


def make_images(n: int) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(n)) * 2 - 1


@torch.no_grad()
def measure(vae: VAE, images: Tensor, *, chunk: int) -> LatentStatistics:
    accumulator = StatisticsAccumulator(vae.config.latent[0])
    for part in images.split(chunk):
        accumulator.add(vae.encode(part))
    return accumulator.result()


@pytest.mark.parametrize("shape", LATENTS)
def test_statistics_are_the_moments_of_the_sampled_latents(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    mean = (
        torch.randn(50, *shape, generator=generator) * 3 + 100
    )  # far from 0: a careless variance would cancel
    logvar = torch.randn(50, *shape, generator=generator)
    accumulator = StatisticsAccumulator(shape[0])
    for first in range(0, 50, 7):
        accumulator.add(Posterior(mean[first : first + 7], logvar[first : first + 7]))
    found = accumulator.result()
    for channel in range(shape[0]):
        m, v = mean[:, channel].double(), logvar[:, channel].double().exp()
        assert float(found.mean[channel]) == pytest.approx(float(m.mean()), rel=1e-6)
        expected = m.var(correction=0) + v.mean()  # law of total variance: Var(mean) + E[variance]
        assert float(found.std[channel]) == pytest.approx(math.sqrt(expected), rel=1e-6)


@pytest.mark.parametrize("shape", LATENTS)
def test_normalised_samples_have_mean_0_and_variance_1(shape: tuple[int, ...]) -> None:
    vae, images, draws = make_vae(shape), make_images(300), 40
    codec = VAECodec(vae, measure(vae, images, chunk=64))
    with torch.no_grad():
        posterior = vae.encode(images)
        z = torch.stack(
            [
                codec.normalized(posterior, noise=Key.of(300 * k, 300).at("posterior").normal(shape))
                for k in range(draws)
            ]
        )
    values = z.movedim(2, 0).flatten(1).double()  # [C, draws * images * positions]
    assert float(posterior.logvar.exp().mean()) > 0.1  # the posterior's own variance matters here
    # Means of k draws of an image stray by 1/sqrt(n) at most, variances by sqrt(2/n); five standard errors.
    n = values.shape[1]
    assert float(values.mean(1).abs().max()) < 5 / math.sqrt(n)
    assert float((values.var(1) - 1).abs().max()) < 5 * math.sqrt(2 / n)


@pytest.mark.parametrize("shape", LATENTS)
def test_encode_is_the_normalised_mode_or_a_sample(shape: tuple[int, ...]) -> None:
    vae, images = make_vae(shape), make_images(5)
    mean, std = torch.arange(1.0, shape[0] + 1), torch.arange(2.0, shape[0] + 2)
    codec = VAECodec(vae, LatentStatistics(mean, std))
    per_channel = (-1, *[1] * (len(shape) - 1))
    with torch.no_grad():
        posterior = vae.encode(images)
        first, second = codec.encode(images), codec.encode(images)
        noise = Key.of(0, 5).normal(shape)
        sampled = codec.encode(images, noise=noise)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, (posterior.mean - mean.view(per_channel)) / std.view(per_channel))
    expected = (posterior.mean + (posterior.logvar / 2).exp() * noise - mean.view(per_channel)) / std.view(
        per_channel
    )
    torch.testing.assert_close(sampled, expected)
    assert not torch.equal(sampled, first)


@pytest.mark.parametrize("shape", LATENTS)
def test_decode_undoes_the_normalisation(shape: tuple[int, ...]) -> None:
    vae, images = make_vae(shape), make_images(4)
    codec = VAECodec(vae, LatentStatistics(torch.full(shape[:1], 0.7), torch.full(shape[:1], 3.0)))
    with torch.no_grad():
        expected = vae.decode(vae.encode(images).mode())
        torch.testing.assert_close(codec.decode(codec.encode(images)), expected)
    assert codec.image_shape == (1, 8, 8) and codec.latent_shape == shape


def test_normalisation_and_its_inverse() -> None:
    statistics = LatentStatistics(torch.tensor([1.0, -2.0]), torch.tensor([0.5, 4.0]))
    vectors = torch.tensor([[1.0, -2.0], [1.5, 2.0]])
    assert torch.equal(statistics.normalize(vectors), torch.tensor([[0.0, 0.0], [1.0, 1.0]]))
    maps = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(statistics.denormalize(statistics.normalize(maps)), maps)
    assert torch.equal(statistics.normalize(maps)[:, 1], (maps[:, 1] + 2) / 4)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ([0.0], [0.0], "std must be positive"),
        ([0.0], [-1.0], "std must be positive"),
        ([0.0, 1.0], [1.0], "as many as the means"),
        ([math.nan], [1.0], "mean must be finite"),
        ([0.0], [math.inf], "std must be finite"),
        ([[0.0]], [[1.0]], "one a channel"),
    ],
)
def test_bad_statistics_are_refused(mean: list[float], std: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LatentStatistics(torch.tensor(mean), torch.tensor(std))


def _save(folder: Path, vae: VAE, statistics: LatentStatistics | None) -> None:
    with writing(folder) as writer:
        save_vae(writer, vae, statistics)
        writer.json(INDEX, {**model_index(vae=True, denoiser=None), "image": list(vae.config.image)})


def test_a_vae_without_statistics_is_refused_as_a_codec(tmp_path: Path) -> None:
    _save(tmp_path / "vae", make_vae((3,)), None)
    checkpoint = open_checkpoint(tmp_path / "vae")
    assert load_vae(checkpoint)[1] is None
    with pytest.raises(InputError, match=r"has no latent statistics .*--resume"):
        load_codec(checkpoint, checkpoint.json(INDEX))


def test_statistics_come_back_from_a_checkpoint_to_the_bit(tmp_path: Path) -> None:
    vae = make_vae((3,))
    statistics = measure(vae, make_images(20), chunk=20)
    _save(tmp_path / "vae", vae, statistics)
    checkpoint = open_checkpoint(tmp_path / "vae")
    codec = load_codec(checkpoint, checkpoint.json(INDEX))
    assert isinstance(codec, VAECodec)
    assert torch.equal(codec.statistics.mean, statistics.mean) and torch.equal(
        codec.statistics.std, statistics.std
    )
    with torch.no_grad():
        assert torch.equal(codec.encode(make_images(4)), VAECodec(vae, statistics).encode(make_images(4)))


@pytest.mark.parametrize("values", [[1.0, 2.0], "many", [1.0, "2", 3.0], None])
def test_malformed_statistics_in_a_file_are_refused(tmp_path: Path, values: object) -> None:
    vae = make_vae((3,))
    with writing(tmp_path / "vae") as writer:
        config = {"_class_name": "AutoencoderKL", **vae.config.model_dump(mode="json")}
        writer.json("vae/config.json", config | {"latents_mean": [0.0] * 3, "latents_std": values})
        writer.tensors("vae/diffusion_pytorch_model.safetensors", vae.state_dict())
    with pytest.raises(InputError, match="latents_std as a list of 3 finite numbers"):
        load_vae(open_checkpoint(tmp_path / "vae"))


@pytest.mark.parametrize("scale", [0.5, 3.0])
def test_scaled_pixels_are_in_the_range_asked_for_and_return(scale: float) -> None:
    codec, images = IdentityCodec((1, 8, 8), scale), make_images(3)
    latents = codec.encode(images)
    assert float(latents.abs().max()) <= scale and float(latents.abs().max()) > 0.95 * scale
    torch.testing.assert_close(latents, scale * images)
    torch.testing.assert_close(codec.decode(latents), images)
    assert codec.image_shape == codec.latent_shape == (1, 8, 8)
    assert codec.to(torch.device("cpu")) == codec


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_a_bad_pixel_scale_is_refused(scale: float) -> None:
    with pytest.raises(InputError, match="pixel scale must be a positive number, got"):
        IdentityCodec((1, 8, 8), scale)


@pytest.mark.parametrize("scale", [None, 1, 0.25])
def test_the_pixel_scale_comes_back_from_a_checkpoint(tmp_path: Path, scale: float | None) -> None:
    """Checkpoints that do not know it have images in [-1, 1]."""
    with writing(tmp_path / "model") as writer:
        known = {} if scale is None else {"pixel_scale": scale}
        writer.json(INDEX, {**model_index(vae=False, denoiser="CNNDenoiser"), "image": [1, 8, 8], **known})
    checkpoint = open_checkpoint(tmp_path / "model")
    assert load_codec(checkpoint, checkpoint.json(INDEX)) == IdentityCodec((1, 8, 8), scale or 1.0)


@pytest.mark.parametrize("scale", [0, -0.5, "0.5", True, None, [1], 1e300])
def test_a_malformed_pixel_scale_in_a_file_is_refused(tmp_path: Path, scale: object) -> None:
    with writing(tmp_path / "model") as writer:
        index = {**model_index(vae=False, denoiser="CNNDenoiser"), "image": [1, 8, 8], "pixel_scale": scale}
        writer.json(INDEX, index)
    checkpoint = open_checkpoint(tmp_path / "model")
    with pytest.raises(InputError, match="expected pixel_scale as a positive number, found"):
        load_codec(checkpoint, checkpoint.json(INDEX))


def test_the_identity_codec_is_the_identity() -> None:
    codec, images = IdentityCodec((1, 8, 8)), make_images(3)
    assert codec.encode(images) is images and codec.decode(images) is images
    assert codec.image_shape == codec.latent_shape == (1, 8, 8)
    with pytest.raises(ValueError, match="noise must be None"):
        codec.encode(images, noise=images)
