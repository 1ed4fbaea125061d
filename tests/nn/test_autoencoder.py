"""The autoencoder's upsampling and padding: exact against the naive form, flat images stay flat."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from latentdiff.nn import VAE, VAEConfig, build
from latentdiff.nn.autoencoder import Upsample, grow
from latentdiff.nn.layers import Conv2d, replicated

CONFIGS = [
    VAEConfig(image=(3, 32, 32), latent=(4, 8, 8), width=16, depth=1, upsampling="checkerboard-free"),
    VAEConfig(image=(3, 32, 64), latent=(4, 4, 8), width=8, depth=2, upsampling="checkerboard-free"),
    VAEConfig(image=(1, 24, 24), latent=(4, 12, 12), width=8, depth=0, upsampling="checkerboard-free"),
    VAEConfig(image=(3, 16, 16), latent=(4, 16, 16), width=8, depth=1, upsampling="checkerboard-free"),
    VAEConfig(image=(3, 32, 32), latent=(4, 8, 8), width=16, detail=2, upsampling="checkerboard-free"),
]


def drawn(config: VAEConfig) -> VAE:
    """A VAE with weights drawn anew, those that start at zero too."""
    torch.manual_seed(0)
    vae = VAE(config).double()
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return vae


def test_upsample_adds_a_phase_at_a_time() -> None:
    """Against sums over taps pixel by pixel, with kernels whose phases have one sum."""
    torch.manual_seed(0)
    layer, x = Upsample(3, 2).double(), torch.randn(1, 3, 4, 5, dtype=torch.float64)
    weight = layer.weight.detach().clone()
    sums = torch.stack([weight[:, :, i::2, j::2].sum((2, 3)) for i in (0, 1) for j in (0, 1)])
    for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 0), (1, 1)]):
        weight[:, :, i::2, j::2] += ((sums.mean(0) - sums[k]) / 4)[:, :, None, None]
    expected = torch.zeros(1, 2, 8, 10, dtype=torch.float64) + layer.bias.detach().view(1, 2, 1, 1)
    for row, column, a, b in itertools.product(range(-1, 5), range(-1, 6), range(4), range(4)):
        y, z = 2 * row + a - 1, 2 * column + b - 1
        if 0 <= y < 8 and 0 <= z < 10:
            pixel = x[0, :, min(max(row, 0), 3), min(max(column, 0), 4)]
            expected[0, :, y, z] += pixel @ weight[:, :, a, b]
    torch.testing.assert_close(layer(x).detach(), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.latent} {config.detail}")
def test_a_flat_image_stays_flat(config: VAEConfig) -> None:
    """Neither a weave of the upsampling nor a frame of the padding, whatever the weights."""
    vae, colour = drawn(config), torch.linspace(-0.9, 0.8, config.image[0], dtype=torch.float64)
    flat = colour.view(1, -1, 1, 1).expand(1, *config.image)
    with torch.no_grad():
        latent = vae.encoder(flat).chunk(2, dim=1)[0]
        image = vae.decoder(latent)
    for found in (latent, image):
        assert float((found - found[..., :1, :1]).abs().max()) < 1e-9 * float(found.abs().max())


def test_zero_padding_draws_a_frame() -> None:
    """The measure of the test above notices what it is for."""
    vae = drawn(CONFIGS[0].model_copy(update={"upsampling": "transposed"}))
    with torch.no_grad():
        latent = vae.encoder(torch.full((1, 3, 32, 32), 0.5, dtype=torch.float64)).chunk(2, dim=1)[0]
        image = vae.decoder(latent)
    assert float((image - image[..., 16:17, 16:17]).abs().max()) > 0.01 * float(image.abs().max())


@pytest.mark.parametrize("shape", [(3, 1, 1), (4, 2, 1)])
def test_replicated_edges_keep_bfloat16(shape: tuple[int, int, int]) -> None:
    """Autocast would pad in float32: the same values, for conversions there and back."""
    torch.manual_seed(0)
    layer = Conv2d(5, 3, *shape, padding_mode="replicate")
    x = torch.randn(2, 5, 8, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert replicated(x).dtype == torch.bfloat16
        found = layer(x)
    padded = F.pad(x.float(), (1, 1, 1, 1), mode="replicate").bfloat16()
    weight, bias = layer.weight.bfloat16(), layer.bias.bfloat16()
    assert torch.equal(found, F.conv2d(padded, weight, bias, layer.stride))


def test_files_without_the_field_mean_transposed_convolutions() -> None:
    config = VAEConfig.model_validate({"image": [3, 32, 32], "latent": [4, 8, 8]})
    assert config.upsampling == "transposed"


def test_the_weights_of_a_grid_take_images_of_other_sizes() -> None:
    config = CONFIGS[0]
    other = config.at((3, 48, 16))
    assert other is not None and other.latent == (4, 12, 4) and other.upsampling == config.upsampling
    vae = VAE(other)
    vae.load_state_dict(VAE(config).state_dict())
    assert vae.decode(vae.encode(torch.zeros(1, 3, 48, 16)).mode()).shape == (1, 3, 48, 16)
    assert config.at((3, 30, 32)) is None and config.at((1, 32, 32)) is None
    assert VAEConfig(image=(3, 32, 32), latent=(8,)).at((3, 64, 64)) is None


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: f"{config.latent} {config.detail}")
@pytest.mark.parametrize("more", [{"depth": 1}, {"detail": 2}, {"depth": 2, "detail": 1}], ids=str)
def test_a_grown_vae_computes_the_same(config: VAEConfig, more: dict[str, int]) -> None:
    """Added blocks start as the identity, wherever they are put."""
    larger = config.model_copy(update={name: getattr(config, name) + count for name, count in more.items()})
    source, grown = drawn(config), build(larger, seed=1).double()
    grow(grown, source)
    x = torch.rand(2, *config.image, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.no_grad():
        mean = source.encode(x).mean
        assert torch.equal(grown.encode(x).mean, mean)
        assert torch.equal(grown.decode(mean), source.decode(mean))
    assert len(grown.state_dict()) > len(source.state_dict())


@pytest.mark.parametrize("other", [{"width": 24}, {"depth": 0}, {"latent": (8, 8, 8)}], ids=str)
def test_a_vae_grows_in_blocks_alone(other: dict[str, object]) -> None:
    config = CONFIGS[0]
    with pytest.raises(ValueError, match="larger depth or detail"):
        grow(VAE(VAEConfig.model_validate(config.model_dump() | other)), VAE(config))
