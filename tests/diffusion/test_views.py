"""Views undo themselves and keep lengths; bands add up to the image; mixes of equal parts are plain."""

import math

import pytest
import torch
from torch import Tensor

from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.illusions.compose import anagram, anagram_of_latents, hybrid, hybrid_of_latents
from latentdiff.diffusion.illusions.views import (
    NAMES,
    View,
    brightness_and_colour,
    check_orthogonal,
    frequencies,
    patches,
    view,
)
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import ddim
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.diffusion.solvers import repaint_schedule, with_renoising
from latentdiff.errors import InputError
from latentdiff.ops.random import Key

SHAPE = (3, 8, 8)
IMAGES = Key.of(3, 2).normal(SHAPE)
SCHEDULE = make_schedule(ScheduleConfig(kind="cosine", T=50))


def network(shift: float, *, clip: float | None = None) -> Denoiser:
    """A denoiser whose estimates depend on position, so that views matter."""
    place = torch.linspace(-1, 1, 64).view(8, 8)

    def denoise(x: torch.Tensor, t: int) -> Estimate:
        alpha, sigma = SCHEDULE.at(t)
        return Estimate(x, t, 1 / alpha, (torch.tanh(x + shift * place),), (-sigma / alpha,), clip=clip)

    return denoise


def drawn(denoise: Denoiser, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    key = Key.of(0, 2)
    return run(denoise, start(key, shape), SCHEDULE.levels(10), ddim(SCHEDULE), key)


@pytest.mark.parametrize("name", NAMES)
def test_a_view_is_orthogonal_and_back_undoes_it(name: str) -> None:
    seen = view(name)
    check_orthogonal(seen, SHAPE)
    assert torch.equal(seen.back(seen(IMAGES)), IMAGES)
    assert (name == "identity") == torch.equal(seen(IMAGES), IMAGES)


def test_where_the_pixels_go() -> None:
    image = torch.arange(4.0).view(1, 1, 2, 2)
    expected = {
        "flip": [2, 3, 0, 1],
        "mirror": [1, 0, 3, 2],
        "rotate180": [3, 2, 1, 0],
        "rotate90": [1, 3, 0, 2],  # counter-clockwise
        "rotate270": [2, 0, 3, 1],
        "negative": [0, -1, -2, -3],
    }
    for name, pixels in expected.items():
        assert view(name)(image).flatten().tolist() == pixels, name


def test_patches_move_whole() -> None:
    moved = patches(4, seed=1)(IMAGES)
    blocks = {tuple(IMAGES[0, 0, y : y + 4, x : x + 4].flatten().tolist()) for y in (0, 4) for x in (0, 4)}
    assert {
        tuple(moved[0, 0, y : y + 4, x : x + 4].flatten().tolist()) for y in (0, 4) for x in (0, 4)
    } == blocks


@pytest.mark.parametrize(
    "bad",
    [
        View("brighter", lambda x: 1.1 * x, lambda x: x / 1.1),
        View("blur", lambda x: (x + x.roll(1, -1)) / 2, lambda x: x),
        View("lost", lambda x: x.flip(-1), lambda x: x),
        View("smaller", lambda x: x[..., ::2], lambda x: x),
    ],
)
def test_other_maps_are_refused(bad: View) -> None:
    with pytest.raises(InputError, match=f"view {bad.name}: expected"):
        check_orthogonal(bad, SHAPE)


def test_what_a_view_cannot_do() -> None:
    with pytest.raises(InputError, match="square image, got 8x6"):
        view("rotate90")(torch.zeros(1, 1, 8, 6))
    with pytest.raises(InputError, match="a side that divides 8 and 8 pixels, got 3"):
        patches(3)(IMAGES)
    with pytest.raises(InputError, match="orthogonal maps only"):
        view("zoom")


@pytest.mark.parametrize("sigmas", [(2.0,), (3.0, 1.0), (4.0, 2.0, 0.5)])
def test_bands_add_up_to_the_image(sigmas: tuple[float, ...]) -> None:
    bands = frequencies(SHAPE, sigmas)
    assert len(bands) == len(sigmas) + 1
    torch.testing.assert_close(sum(band(IMAGES) for band in bands), IMAGES, rtol=0, atol=1e-6)
    rough = [
        float((band(IMAGES).diff(dim=-1)).square().mean() / band(IMAGES).square().mean()) for band in bands
    ]
    assert rough == sorted(rough), "from low to high"


def test_colour_and_brightness_add_up() -> None:
    grey, colour = brightness_and_colour(SHAPE)
    torch.testing.assert_close(grey(IMAGES) + colour(IMAGES), IMAGES)
    assert colour(IMAGES).mean(1).abs().max() < 1e-6
    with pytest.raises(InputError, match="3 channels, got 1"):
        brightness_and_colour((1, 8, 8))
    for sigmas in ((), (0.0,), (1.0, 2.0)):
        with pytest.raises(InputError, match="falling sigmas"):
            frequencies(SHAPE, sigmas)


@pytest.mark.parametrize("clip", [None, 1.0])
def test_an_anagram_of_identity_views_is_plain_sampling_bit_for_bit(clip: float | None) -> None:
    denoise = network(0.7, clip=clip)
    plain = drawn(denoise)
    for parts in (1, 2, 3):
        assert torch.equal(drawn(anagram([(denoise, view("identity"))] * parts)), plain)


@pytest.mark.parametrize("name", NAMES)
def test_an_anagram_of_one_view_is_plain_sampling_of_the_view(name: str) -> None:
    """Noise seen through a view is noise: V^-1 of the sample that starts from V x_T."""
    seen, denoise, key = view(name), network(0.7, clip=1.0), Key.of(0, 2)
    x = start(key, SHAPE)
    ours = run(anagram([(denoise, seen)]), x, SCHEDULE.levels(10), ddim(SCHEDULE), key)
    plain = run(denoise, seen(x), SCHEDULE.levels(10), ddim(SCHEDULE), key)
    torch.testing.assert_close(seen(ours), plain, rtol=1e-5, atol=1e-5)


def test_an_anagram_is_the_weighted_mean_of_the_estimates() -> None:
    a, b, flip = network(0.5), network(-1.0), view("flip")
    x = start(Key.of(0, 2), SHAPE)
    mixed = anagram([(a, view("identity")), (b, flip)], weights=[3, 1])(x, 20).x0()
    torch.testing.assert_close(
        mixed, 0.75 * a(x, 20).x0() + 0.25 * flip.back(b(flip(x), 20).x0()), rtol=1e-5, atol=1e-5
    )


def test_refinement_leads_to_the_product_of_the_parts() -> None:
    """Two Gaussians whose scores are averaged: the geometric mean has their mean precision.

    Plain sampling misses it, going back up and down finds it.
    """
    schedule, n = make_schedule(ScheduleConfig(kind="cosine", T=200)), 2000
    variance, mean = (
        torch.tensor([1.0, 0.1], dtype=torch.float64),
        torch.tensor([1.0, 0.0], dtype=torch.float64),
    )

    def exact(x: Tensor, t: int) -> Estimate:
        alpha, sigma = schedule.at(t)
        gain = alpha * variance / (alpha**2 * variance + sigma**2)
        return Estimate.from_x0(x, t, x0=mean + gain * (x - alpha * mean))

    swap = View("swap", lambda x: x.flip(-1), lambda x: x.flip(-1))
    mixed, key = anagram([(exact, view("identity")), (exact, swap)]), Key.of(0, n)
    precision = (1 / variance + 1 / variance.flip(0)) / 2
    wanted = (mean / variance + (mean / variance).flip(0)) / 2 / precision
    off = []
    for times in (1, 4, 11):
        levels = repaint_schedule(schedule.levels(50), length=1, times=times)
        end = run(
            mixed,
            start(key, (2,), dtype=torch.float64),
            levels,
            with_renoising(ddim(schedule), schedule),
            key,
        )
        off.append((float((end.mean(0) - wanted).norm()), float((end.var(0) - 1 / precision).norm())))
    means, variances = zip(*off, strict=True)
    assert means[0] > 2 * means[1] > 2 * means[2] and means[2] < 0.06
    assert variances[0] > 2 * variances[1] and variances[2] < variances[1] < 0.1


def test_a_hybrid_of_one_denoiser_is_plain_sampling() -> None:
    for clip in (None, 1.0):
        denoise = network(0.4, clip=clip)
        for bands in (
            frequencies(SHAPE, (2.0,)),
            frequencies(SHAPE, (3.0, 1.0)),
            brightness_and_colour(SHAPE),
        ):
            mixed = hybrid([(denoise, band) for band in bands])
            x = start(Key.of(0, 2), SHAPE)
            one = denoise(x, 20).x0()
            torch.testing.assert_close(mixed(x, 20).x0(), one, rtol=0, atol=1e-6 * float(one.abs().max()))
            plain = drawn(denoise)
            torch.testing.assert_close(drawn(mixed), plain, rtol=0, atol=5e-6 * float(plain.abs().max()))


def test_a_hybrid_takes_its_bands_from_its_parts() -> None:
    a, b = network(0.5), network(-1.0)
    low, high = frequencies(SHAPE, (2.0,))
    x = start(Key.of(0, 2), SHAPE)
    mixed = hybrid([(a, low), (b, high)])(x, 20).x0()
    torch.testing.assert_close(mixed, low(a(x, 20).x0()) + high(b(x, 20).x0()), rtol=1e-5, atol=1e-5)


def test_weights_of_a_hybrid_are_gains_of_its_bands() -> None:
    a, b = network(0.5), network(-1.0)
    low, high = frequencies(SHAPE, (2.0,))
    x = start(Key.of(0, 2), SHAPE)
    parts = [(a, low), (b, high)]
    mixed = hybrid(parts, weights=[3, 1])(x, 20).x0()
    torch.testing.assert_close(
        mixed, 1.5 * low(a(x, 20).x0()) + 0.5 * high(b(x, 20).x0()), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(hybrid(parts, weights=[2, 2])(x, 20).x0(), hybrid(parts)(x, 20).x0())


# latents, whose images are what views and bands are of


def test_latents_that_are_the_image_make_the_same_anagram_and_hybrid() -> None:
    """The twin: with a codec that does nothing, and noise that each part sees through its view."""
    a, b, key, flip = network(0.5), network(-1.0), Key.of(0, 2), view("flip")
    parts = [(a, view("identity")), (b, flip)]
    x = start(key, SHAPE)
    ours = anagram_of_latents(parts, encode=same, decode=same, weights=[3, 1])
    assert ours.noises == (0, 1)
    plain = run(anagram(parts, weights=[3, 1]), x, SCHEDULE.levels(10), ddim(SCHEDULE), key)
    ends = run(ours, torch.cat([x, flip(x)]), SCHEDULE.levels(10), ddim(SCHEDULE), key.repeat(2))
    torch.testing.assert_close(ours.picture(ends), plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ends, torch.cat([plain, flip(plain)]), rtol=1e-4, atol=1e-4)

    bands = list(zip((a, b), frequencies(SHAPE, (2.0,)), strict=True))
    ours = hybrid_of_latents(bands, encode=same, decode=same, weights=[3, 1])
    assert ours.noises == (0, 0)
    plain = run(hybrid(bands, weights=[3, 1]), x, SCHEDULE.levels(10), ddim(SCHEDULE), key)
    ends = run(ours, x.repeat(2, 1, 1, 1), SCHEDULE.levels(10), ddim(SCHEDULE), key.repeat(2))
    torch.testing.assert_close(ends.split(2)[0], ends.split(2)[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.picture(ends), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))


def test_parts_of_other_noise_end_as_one_picture() -> None:
    """An orthogonal codec, which commutes with no view: whatever the parts start from, their images end as
    views of one picture.
    """
    size = math.prod(SHAPE)
    turn = torch.linalg.qr(Key.of(7, size).normal((size,), dtype=torch.float64)).Q.float()

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return (latents.flatten(1) @ turn).view(-1, *SHAPE)

    def encode(images: torch.Tensor) -> torch.Tensor:
        return (images.flatten(1) @ turn.T).view(-1, *SHAPE)

    quarter, key = view("rotate90"), Key.of(0, 2)
    parts = [(network(0.5), view("identity")), (network(-1.0), quarter)]
    ours = anagram_of_latents(parts, encode=encode, decode=decode)
    x = torch.cat([start(key, SHAPE, visit=noise) for noise in ours.noises])
    assert not torch.equal(*x.split(2))
    ends = run(ours, x, SCHEDULE.levels(10), ddim(SCHEDULE), key.repeat(2))
    upright, turned = (decode(part) for part in ends.split(2))
    torch.testing.assert_close(turned, quarter(upright), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.picture(ends), upright, rtol=1e-3, atol=1e-3)


def test_an_autoencoders_own_error_is_not_learned_in() -> None:
    """One part alone is plain sampling to the bit, however bad its codec is."""
    denoise = network(0.7)
    ours = anagram_of_latents([(denoise, view("identity"))], encode=lambda x: 3 * x + 1, decode=torch.tanh)
    assert torch.equal(drawn(ours), drawn(denoise))


def same(x: torch.Tensor) -> torch.Tensor:
    return x


def test_mixes_refuse_what_does_not_fit() -> None:
    one = (network(0.1), view("identity"))
    for weights in ([1.0, 2.0], [-1.0], [0.0], [float("nan")]):
        with pytest.raises(ValueError, match="weights"):
            anagram([one], weights=weights)
        with pytest.raises(ValueError, match="hybrid: expected 1 weights"):
            hybrid([(one[0], frequencies(SHAPE, (2.0,))[0])], weights=weights)
    with pytest.raises(ValueError, match="one or more"):
        anagram([])
    with pytest.raises(ValueError, match="hybrid: expected one or more"):
        hybrid([])
    with pytest.raises(ValueError, match="one process"):
        anagram([one, (network(0.1, clip=1.0), view("flip"))])(IMAGES, 5)
