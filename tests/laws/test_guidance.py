"""Classifier-free guidance: w = 0 is unconditional, w = 1 conditional, and everything between and beyond is
linear.
"""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from latentdiff.config.diffusion import Prediction
from latentdiff.diffusion.denoiser import Denoiser, denoiser, timestep
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.guidance import Condition, guided
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import Direction, SamplerStep, ddim, ddpm, dpmpp2m
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

SCHEDULE = make_schedule("scaled_linear")
LABELS = torch.tensor([0, 1, 2, 0])
NULL = 3
MEANS = torch.tensor([-2.0, 0.5, 3.0, 0.25], dtype=torch.float64)  # of each class, then of the null class
KEY = Key.of(0, 4)
STEPS: dict[str, Callable[[Schedule], SamplerStep]] = {"ddim": ddim, "ddpm": ddpm, "dpm++": dpmpp2m}


def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """The eps of N(mean of the class, 1): linear in the mean, so that guidance moves the mean."""
    mean = MEANS[torch.full((len(x),), NULL) if labels is None else labels].view(-1, 1)
    alpha, sigma = SCHEDULE.alpha[t.long() + 1].view(-1, 1), SCHEDULE.sigma[t.long() + 1].view(-1, 1)
    return (sigma * (x.double() - alpha * mean)).to(x.dtype)


def conditional(w: float) -> Denoiser:
    return denoiser(network, SCHEDULE, prediction="eps", condition=Condition(LABELS, NULL, w))


def end(denoise: Denoiser, name: str) -> Tensor:
    x = start(KEY, (5,), dtype=torch.float64)
    return run(denoise, x, SCHEDULE.levels(8), STEPS[name](SCHEDULE), KEY)


@pytest.mark.parametrize("name", STEPS)
def test_scale_zero_is_the_unconditional_model(name: str) -> None:
    unconditional = end(denoiser(network, SCHEDULE, prediction="eps"), name)
    assert torch.equal(end(conditional(0.0), name), unconditional)
    nearly = end(conditional(1e-9), name)  # through the guided pair instead of the short cut
    torch.testing.assert_close(nearly, unconditional, rtol=0, atol=1e-7)


@pytest.mark.parametrize("name", STEPS)
def test_scale_one_is_the_conditional_model(name: str) -> None:
    plain = end(denoiser(lambda x, t, _: network(x, t, LABELS), SCHEDULE, prediction="eps"), name)
    assert torch.equal(end(conditional(1.0), name), plain)
    nearly = end(conditional(1 + 1e-9), name)
    torch.testing.assert_close(nearly, plain, rtol=0, atol=1e-7)
    assert not torch.allclose(plain, end(conditional(0.0), name), atol=0.1)


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("w", [0.3, 2.0, 7.5])
def test_guidance_is_linear_in_its_scale(name: str, w: float) -> None:
    """The classes have one covariance, so the whole trajectory is linear in w, too."""
    conditioned, unconditioned = end(conditional(1.0), name), end(conditional(0.0), name)
    torch.testing.assert_close(
        end(conditional(w), name), w * conditioned + (1 - w) * unconditioned, rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "score"])
def test_guided_estimates_mix_x0(prediction: Prediction) -> None:
    x = start(KEY, (5,), dtype=torch.float64)
    cond, uncond = [
        denoiser(network, SCHEDULE, prediction=prediction, condition=Condition(LABELS, NULL, w))(x, 300)
        for w in (1.0, 0.0)
    ]
    for w in (0.0, 1.0, 3.0):
        mixed = guided(cond, uncond, w)
        assert len(mixed.outputs) == 2
        expected = w * cond.x0() + (1 - w) * uncond.x0()
        torch.testing.assert_close(mixed.x0(), expected, rtol=1e-10, atol=1e-10)


def test_the_guided_pair_is_one_call_of_the_network() -> None:
    calls: list[tuple[int, list[int] | None]] = []

    def counting(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        calls.append((len(x), None if labels is None else labels.tolist()))
        assert t.tolist() == [timestep(300)] * len(x) == [299] * len(x)
        return network(x, t, labels)

    x = start(KEY, (5,), dtype=torch.float64)
    for w in (0.0, 1.0, 2.0):
        denoiser(counting, SCHEDULE, prediction="eps", condition=Condition(LABELS, NULL, w))(x, 300)
    assert calls == [(4, [3, 3, 3, 3]), (4, [0, 1, 2, 0]), (8, [0, 1, 2, 0, 3, 3, 3, 3])]


def test_the_clip_applies_to_the_guided_estimate() -> None:
    x = start(KEY, (5,), dtype=torch.float64)
    condition = Condition(LABELS, NULL, 4.0)
    free = denoiser(network, SCHEDULE, prediction="eps", condition=condition)(x, 300).x0()
    clipped = denoiser(network, SCHEDULE, prediction="eps", condition=condition, clip=1.0)(x, 300).x0()
    assert free.abs().max() > 1
    torch.testing.assert_close(clipped, free.clamp(-1, 1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("clip", [None, 0.9])
def test_more_outputs_than_one_operation_takes_are_mixed_first(clip: float | None) -> None:
    """Six outputs give what their sum gives, through x0() and through a move."""
    x = start(KEY, (5,), dtype=torch.float64)
    outs = tuple(Key(KEY.seeds, i).normal((5,), dtype=torch.float64) for i in range(6))
    q = (0.5, -1.0, 0.25, 2.0, -0.75, 1.5)
    many = Estimate(x, 300, 0.8, outs, q, clip)
    raw = 0.8 * x + sum(weight * out for weight, out in zip(q, outs, strict=True))
    total = raw if clip is None else raw.clamp(-clip, clip)
    torch.testing.assert_close(many.x0(), total, rtol=0, atol=1e-12)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = SCHEDULE.at(300), SCHEDULE.at(200)
    directions: tuple[tuple[Direction, Tensor], ...] = (("clipped", total), ("unclipped", raw))
    for direction, x0 in directions:
        moved, _ = ddim(SCHEDULE, direction=direction)(lambda x, t: many, x, 300, 200, KEY, None)
        expected = alpha_s * total + sigma_s / sigma_t * (x - alpha_t * x0)
        torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)


def test_the_range_output_is_split_off_and_that_of_the_condition_is_used() -> None:
    """With guidance the variance is the conditional network's (the first half of the batch)."""

    def twice(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert labels is not None
        spread = labels.to(x.dtype).view(-1, 1).expand_as(x)
        return torch.cat([network(x, t, labels), spread], 1)

    x = start(KEY, (5,), dtype=torch.float64)
    condition = Condition(LABELS, NULL, 2.0)
    estimate = denoiser(twice, SCHEDULE, prediction="eps", condition=condition, learned_variance=True)(x, 300)
    assert estimate.variance_range is not None
    assert torch.equal(estimate.variance_range, LABELS.double().view(-1, 1).expand(4, 5))
    assert all(out.shape == x.shape for out in estimate.outputs)
    plain = denoiser(network, SCHEDULE, prediction="eps", condition=condition)(x, 300)
    torch.testing.assert_close(estimate.x0(), plain.x0())


def limited(w: float, low: float, high: float) -> Denoiser:
    return denoiser(network, SCHEDULE, prediction="eps", condition=Condition(LABELS, NULL, w, low, high))


@pytest.mark.parametrize("t", [1, 250, 251, 500, 700, 701, 1000])
def test_an_interval_guides_inside_and_is_plainly_conditional_outside(t: int) -> None:
    x = start(KEY, (5,), dtype=torch.float64)
    found = limited(3.0, 0.2505, 0.7)(x, t)
    expected = conditional(3.0 if 251 <= t <= 700 else 1.0)(x, t)
    assert len(found.outputs) == len(expected.outputs) == (2 if 251 <= t <= 700 else 1)
    assert torch.equal(found.x0(), expected.x0())


def test_the_whole_interval_is_plain_guidance_and_an_empty_one_is_none() -> None:
    assert torch.equal(end(limited(3.0, 0.0, 1.0), "ddim"), end(conditional(3.0), "ddim"))
    assert torch.equal(end(limited(3.0, 0.0001, 0.0002), "ddim"), end(conditional(1.0), "ddim"))


def varied(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """An output whose deviation depends on the class."""
    factor = 1.0 if labels is None else 1 + labels.to(x.dtype).square().view(-1, 1) / 4
    return factor * torch.tanh(x)


def rescaling(w: float, phi: float, prediction: Prediction, labels: Tensor = LABELS) -> Denoiser:
    return denoiser(
        varied, SCHEDULE, prediction=prediction, condition=Condition(labels, NULL, w, rescale=phi)
    )


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "score"])
@pytest.mark.parametrize("phi", [0.25, 1.0])
def test_rescaled_guidance_is_that_of_diffusers(prediction: Prediction, phi: float) -> None:
    from diffusers.guiders.guider_utils import rescale_noise_cfg

    x, w = start(KEY, (5,), dtype=torch.float64), 4.0
    cond, null = varied(x, x, LABELS), varied(x, x, torch.full_like(LABELS, NULL))
    expected = rescale_noise_cfg(null + w * (cond - null), cond, phi)
    found = rescaling(w, phi, prediction)(x, 300)
    known = denoiser(lambda x, t, _: expected, SCHEDULE, prediction=prediction)(x, 300)
    torch.testing.assert_close(found.x0(), known.x0(), rtol=1e-12, atol=1e-12)
    assert not torch.allclose(found.x0(), rescaling(w, 0.0, prediction)(x, 300).x0(), atol=1e-3)


def test_rescaling_is_off_at_zero_and_of_each_image_alone() -> None:
    x = start(KEY, (5,), dtype=torch.float64)
    plain = denoiser(varied, SCHEDULE, prediction="v", condition=Condition(LABELS, NULL, 4.0))(x, 300)
    assert torch.equal(rescaling(4.0, 0.0, "v")(x, 300).x0(), plain.x0())
    alone = torch.cat([rescaling(4.0, 0.7, "v", LABELS[k : k + 1])(x[k : k + 1], 300).x0() for k in range(4)])
    torch.testing.assert_close(rescaling(4.0, 0.7, "v")(x, 300).x0(), alone, rtol=1e-12, atol=1e-12)
    outside = Condition(
        LABELS, NULL, 4.0, 0.5, 1.0, rescale=0.7
    )  # level 300 of 1000 is below: plainly conditional
    found = denoiser(varied, SCHEDULE, prediction="v", condition=outside)(x, 300)
    assert torch.equal(found.x0(), rescaling(1.0, 0.0, "v")(x, 300).x0())
