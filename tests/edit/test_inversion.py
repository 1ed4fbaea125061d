"""Inversion of images by DDIM: what comes back, from which level, and that no batch changes it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.edit import (
    add_noise,
    first_level,
    from_noise,
    inversion,
    invert,
    one_step,
    relative_error,
)
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.pipeline import Pipeline

SHAPE = (1, 8, 8)
FEW = Sampling(steps=5)
IMAGES = Key.of(1, 3).normal(SHAPE).clamp(-2, 2) / 2


class Off(torch.nn.Module):
    """A network that predicts x_0 as x_t / alpha_t, off by ``error`` everywhere: it sees no noise but its own
    error.
    """

    def __init__(self, like: Pipeline, error: float) -> None:
        super().__init__()
        self.like, self.error = like, torch.nn.Parameter(torch.tensor(error))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        alpha = self.like.schedule.alpha.to(x.device)[t.long()]
        return x / alpha.view(-1, *[1] * (x.ndim - 1)).to(x.dtype) + self.error


@pytest.fixture
def off(pixels: Pipeline) -> Iterator[Pipeline]:
    diffusion = pixels.diffusion.model_copy(update={"prediction": "x0", "clip": None})
    yield replace(pixels, diffusion=diffusion, network=Off(pixels, 0.2))


def test_inversion_and_back(pixels: Pipeline, vector: Pipeline) -> None:
    for pipeline in (pixels, vector):
        few, many = Sampling(steps=5), Sampling(steps=20)
        best = pipeline.reconstruct(IMAGES)
        errors = [
            float(
                relative_error(
                    from_noise(pipeline, invert(pipeline, IMAGES, settings=s), settings=s).images, best
                ).mean()
            )
            for s in (few, many)
        ]
        assert errors[1] < errors[0]


def test_an_inversion_drawn_as_another_class_is_an_edit(vector: Pipeline) -> None:
    noise = invert(vector, IMAGES, settings=FEW, label=0)
    same, other = (from_noise(vector, noise, settings=FEW, label=label).images for label in (0, 2))
    assert float((same - other).abs().max()) > 0.01


def test_an_inversion_starts_where_the_network_sees_no_more_noise_than_there_is(off: Pipeline) -> None:
    settings = Sampling(steps=20)
    alpha, sigma = off.schedule.alpha, off.schedule.sigma
    wanted = next(t for t in range(1, off.schedule.T) if 0.2 * alpha[t] <= inversion.EXCESS * sigma[t])
    assert wanted > 1, "or this tests nothing"
    assert first_level(off, IMAGES, settings=settings) == wanted
    off.network.error.data.fill_(float(sigma[1]))
    assert first_level(off, IMAGES, settings=settings) == 0, "right at level 1, where level 0 is looked at"
    off.network.error.data.fill_(100.0)
    assert first_level(off, IMAGES, settings=settings) == 0, "wrong at every level: as the images are"


def test_more_images_leave_the_level_of_the_first(off: Pipeline) -> None:
    many = Key.of(5, 2 * inversion.PROBED).normal(SHAPE).clamp(-2, 2) / 2
    few = many[: inversion.PROBED]
    assert first_level(off, many, settings=FEW) == first_level(off, few, settings=FEW)


def test_an_inversion_from_a_level_comes_back_to_the_estimate_there(pixels: Pipeline) -> None:
    """The last move of the drawing is the estimate at the level that the images were noised to; the rest of
    the way falls with the steps.
    """
    start, errors = 4, []
    wanted = one_step(pixels, add_noise(pixels, IMAGES, start, seed=7), start)
    for steps in (4, 16):
        settings = Sampling(steps=steps)
        noise = invert(pixels, IMAGES, start=start, settings=settings, seed=7)
        back = from_noise(pixels, noise, start=start, settings=settings).images
        errors.append(float(relative_error(back, wanted).mean()))
    assert errors[1] < errors[0] / 2


def test_an_inversion_from_a_level_draws_its_noise_by_the_seed(
    pixels: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = invert(pixels, IMAGES, start=4, settings=FEW, seed=7)
    assert not torch.equal(noise, invert(pixels, IMAGES, start=4, settings=FEW, seed=8))
    torch.testing.assert_close(
        noise[1:], invert(pixels, IMAGES[1:], start=4, settings=FEW, seed=8), rtol=0, atol=2e-4
    )
    monkeypatch.setattr("latentdiff.pipeline.pipeline.batch_that_fits", lambda network, device: 1)
    torch.testing.assert_close(
        noise, invert(pixels, IMAGES, start=4, settings=FEW, seed=7), rtol=0, atol=2e-4
    )


@pytest.mark.parametrize("start", [-1, 20])
def test_an_inversion_starts_below_noise(pixels: Pipeline, start: int) -> None:
    with pytest.raises(InputError, match=f"`start` must lie in 0..19, got {start}"):
        invert(pixels, IMAGES, start=start)
