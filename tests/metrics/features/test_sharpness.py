"""Sharpness: mean gradients of images, and their ratio with its interval."""

import pytest
import torch
from torch.nn import functional as F

from latentdiff.errors import InputError
from latentdiff.metrics.features.sharpness import CHUNK, gradients
from latentdiff.metrics.interval import bootstrap_ratio


def noise(n: int, side: int = 8, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, channels, side, side), generator=generator, dtype=torch.uint8)


def test_gradients_are_mean_differences_of_neighbors() -> None:
    images = noise(CHUNK + 3)
    x = images.double() / 255
    along, across = (x[..., 1:] - x[..., :-1]).abs(), (x[..., 1:, :] - x[..., :-1, :]).abs()
    expected = (along.mean((1, 2, 3)) + across.mean((1, 2, 3))) / 2
    torch.testing.assert_close(gradients(images), expected, rtol=1e-12, atol=0)
    stripes = torch.zeros(1, 1, 6, 6, dtype=torch.uint8)
    stripes[..., ::2] = 255
    assert gradients(stripes).tolist() == [0.5] == gradients(stripes.mT).tolist()
    assert gradients(torch.full((2, 1, 4, 4), 9, dtype=torch.uint8)).tolist() == [0, 0]
    assert gradients(noise(2, side=1)).tolist() == [0, 0]
    with pytest.raises(InputError):
        gradients(images.float())


def test_blur_takes_sharpness() -> None:
    images = noise(20)
    blurred = F.avg_pool2d(images.float(), 3, 1, 1).to(torch.uint8)
    assert float(gradients(blurred).mean()) < 0.5 * float(gradients(images).mean())


def test_the_interval_of_a_ratio_holds_the_true_one_as_often_as_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    held = 0
    for seed in range(200):
        x = 2 + torch.rand(60, generator=generator, dtype=torch.float64)
        y = 4 + 2 * torch.rand(40, generator=generator, dtype=torch.float64)
        found = bootstrap_ratio(x, y, resamples=200, seed=seed)
        assert found.low < found.estimate < found.high
        held += found.low <= 0.5 <= found.high
    assert 0.88 * 200 <= held <= 0.99 * 200
    assert bootstrap_ratio(x, 2 * x, resamples=20).estimate == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "base"),
    [(torch.ones(0), torch.ones(2)), (torch.ones(2), torch.zeros(2)), (torch.ones(2, 2), torch.ones(2))],
)
def test_a_ratio_needs_something_to_divide(values: torch.Tensor, base: torch.Tensor) -> None:
    with pytest.raises(InputError):
        bootstrap_ratio(values, base)
