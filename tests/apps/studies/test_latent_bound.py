"""The bound of a VAE: its terms against their definitions."""

import math

import pytest
import torch
from torch.distributions import Normal

from latentdiff.apps.studies.sampling.latent_bound import DRAWS, LatentBound, bound_of
from latentdiff.data import to_float
from latentdiff.nn import VAE, VAEConfig


def test_the_distortion_is_that_of_the_gaussian_that_fits_best() -> None:
    off = torch.randn(7, 30, generator=torch.Generator().manual_seed(0)).double() * 0.2
    error = float(off.square().mean())
    found = LatentBound(3.0, error, 30)

    def nats(deviation: float) -> float:
        return float(-Normal(0.0, deviation).log_prob(off).sum(1).mean())

    assert found.distortion == pytest.approx(nats(math.sqrt(error)), rel=1e-6)
    assert all(found.distortion < nats(math.sqrt(error) * factor) for factor in (0.9, 1.1))


def test_pixels_without_a_model_cost_about_eight_bits() -> None:
    uniform = LatentBound(0.0, 1 / 12, 100)  # the variance of [0, 1]
    assert 8 < uniform.bits < 8.3
    assert LatentBound(100 * math.log(2), 1 / 12, 100).bits == pytest.approx(uniform.bits + 1)
    assert LatentBound(0.0, 1 / 48, 100).bits == pytest.approx(uniform.bits - 1)  # half of the deviation


def test_it_is_measured_from_draws_of_the_posterior() -> None:
    torch.manual_seed(0)
    vae = VAE(VAEConfig(image=(1, 8, 8), latent=(3,), width=8, depth=0))
    images = torch.randint(0, 256, (130, 1, 8, 8), generator=torch.Generator().manual_seed(1)).byte()
    found, again, other = (bound_of(vae, images, seed) for seed in (0, 0, 1))
    assert found == again and found.error != other.error and found.rate == other.rate
    with torch.no_grad():
        posterior = vae.encode(to_float(images))
        mode = ((vae.decode(posterior.mode()) - to_float(images)) / 2).square().mean()
    assert found.rate == pytest.approx(float(posterior.kl().mean()), rel=1e-5)
    assert found.pixels == 64 and DRAWS > 1
    assert found.error == pytest.approx(float(mode), rel=0.2)  # near the posterior's mode
