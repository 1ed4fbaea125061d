"""Edits and restorations with a trained model: what is kept, what is refused, and that nothing depends on the
batch.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import latentdiff as ld
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.illusions.views import View, frequencies, view
from latentdiff.edit import (
    Recorder,
    add_noise,
    anagram,
    backprojection,
    blur,
    codec_error,
    denoise_iteratively,
    hybrid,
    latent_mask,
    level_at,
    level_of,
    measured,
    one_step,
    restore,
    sdedit,
)
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.pipeline import Pipeline

SHAPE = (1, 8, 8)
FEW = Sampling(steps=5)
IMAGES = Key.of(1, 3).normal(SHAPE).clamp(-2, 2) / 2
BOX = op.box(8, 8)
SOLVERS = ("sdedit", "replacement", "repaint", "ald", "dps", "diffpir")


def solver(name: str) -> Restoration:
    """The solver with numbers that suit five steps."""
    return Restoration.model_validate({"solver": name} | ({"jump_length": 2} if name == "repaint" else {}))


@pytest.fixture(scope="module")
def spatial(tiny_spatial_run: Path) -> Pipeline:
    return ld.load(tiny_spatial_run)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


def test_sdedit_at_level_0_returns_its_input(pixels: Pipeline, spatial: Pipeline) -> None:
    assert torch.equal(sdedit(pixels, IMAGES, 0).images, IMAGES)
    assert torch.equal(sdedit(spatial, IMAGES, 0).images, spatial.reconstruct(IMAGES))


def test_sdedit_at_full_strength_is_sampling_where_no_signal_is_left(
    tiny_folder: Path, cli: Callable
) -> None:
    done = cli(
        "train-denoiser --data tiny.npz --pixel --width 16 --T 20 --zero-snr --steps 2 --batch 8 --name zero",
        cwd=tiny_folder,
    )
    assert done.code == 0, done.err
    pipeline = ld.load(tiny_folder / "runs" / "zero")
    made = sdedit(pipeline, IMAGES, level_of(pipeline, 1.0), settings=FEW, label=1, seed=4)
    assert torch.equal(made.images, pipeline.sample(3, steps=5, label=1, seed=4))


def test_sdedit_moves_further_with_more_noise(pixels: Pipeline) -> None:
    away = [float((sdedit(pixels, IMAGES, t, settings=FEW).images - IMAGES).norm()) for t in (1, 8, 18)]
    assert away == sorted(away) and away[0] < 0.5 * away[2]


def test_sdedit_makes_exactly_the_steps_asked_for(pixels: Pipeline) -> None:
    counts = []
    for exact, t in ((True, 10), (True, 3), (False, 10)):
        moves: list[int] = []
        sdedit(
            pixels,
            IMAGES,
            t,
            settings=FEW,
            exact=exact,
            recorder=Recorder(progress=lambda done, total, moves=moves: moves.append(total)),
        )
        assert len(moves) == moves[0]
        counts.append(len(moves))
    assert counts == [
        5,
        3,
        3,
    ]  # no more than there are levels; levels 20, 16, 12, 8, 4: from 10 on to 8, 4, 0


def test_start_indices_are_places_in_the_samplers_levels(pixels: Pipeline) -> None:
    assert [level_at(pixels, FEW, k) for k in range(6)] == [20, 16, 12, 8, 4, 0]
    for bad in (-1, 6):
        with pytest.raises(InputError, match=r"`index` must lie in 0\.\.5"):
            level_at(pixels, FEW, bad)
    for bad in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match="strength"):
            level_of(pixels, bad)
    with pytest.raises(InputError, match=r"`t` must lie in 0..20, got 21"):
        sdedit(pixels, IMAGES, 21)


def test_images_must_be_of_the_models_shape_and_range(pixels: Pipeline) -> None:
    for bad in (IMAGES[:, :, :7], IMAGES[0], 3 * IMAGES, IMAGES / 0):
        with pytest.raises(InputError, match="expected images"):
            sdedit(pixels, bad, 5)


@pytest.mark.parametrize("name", SOLVERS)
def test_inpainting_keeps_known_pixels_exactly_and_fills_the_others(pixels: Pipeline, name: str) -> None:
    operator = op.masked(SHAPE, BOX)
    y = operator(IMAGES)
    made = restore(pixels, operator, y, how=solver(name), settings=FEW, mask=BOX, label=0)
    known = BOX.bool().expand_as(IMAGES)
    other = restore(
        pixels, operator, operator(IMAGES.flip(-1)), how=solver(name), settings=FEW, mask=BOX, label=0
    )
    assert float((made.images - other.images)[~known].abs().max()) > 1e-3, (
        "what is filled in follows what is known"
    )
    if name in (
        "replacement",
        "repaint",
    ):  # noise says that the end must not be pasted over: the loop itself keeps them
        loop = restore(pixels, operator, y, how=solver(name), settings=FEW, mask=BOX, label=0, sigma=1e-9)
        assert torch.equal(loop.images[known], IMAGES[known])
    assert torch.equal(made.images[known], IMAGES[known])
    assert not torch.equal(made.images, y)
    assert bool(torch.isfinite(made.images).all()) and float(made.images.abs().max()) <= 1


@pytest.mark.parametrize("name", SOLVERS)
def test_a_restoration_does_not_depend_on_its_batch(
    pixels: Pipeline, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator, how = op.masked(SHAPE, BOX), solver(name)
    together = restore(pixels, operator, operator(IMAGES), how=how, settings=FEW, mask=BOX, seed=3)
    alone = restore(pixels, operator, operator(IMAGES[1:2]), how=how, settings=FEW, mask=BOX, seed=4)
    close(together.images[1:2], alone.images)
    monkeypatch.setattr("latentdiff.pipeline.pipeline.batch_that_fits", lambda *_: 2)
    seen: list[tuple[int, int]] = []
    watch = Recorder(frames=3, progress=lambda done, total: seen.append((done, total)))
    split = restore(
        pixels, operator, operator(IMAGES), how=how, settings=FEW, mask=BOX, seed=3, recorder=watch
    )
    close(split.images, together.images)
    assert split.frames[0].estimate.shape == IMAGES.shape
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1)) and seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize("solver", ["dps", "diffpir", "ald"])
@pytest.mark.parametrize("name", ["blur", "motion", "downsample"])
def test_a_solver_explains_the_measurement_better_than_a_sample(
    pixels: Pipeline, solver: str, name: str
) -> None:
    operator = {
        "blur": op.gaussian_blur(SHAPE, sigma=1.0),
        "motion": op.motion_blur(SHAPE, length=4),
        "downsample": op.downsample(SHAPE, 2),
    }[name]
    y = measured(operator, IMAGES, sigma=0.05)
    made = restore(
        pixels, operator, y, how=Restoration(solver=solver), settings=Sampling(steps=20), sigma=0.05
    )  # type: ignore[arg-type]
    plain = pixels.sample(3, steps=20)
    assert float((operator(made.images) - y).norm()) < 0.8 * float((operator(plain) - y).norm())


@pytest.mark.parametrize("name", ["ald", "dps", "psld", "diffpir"])
def test_latent_models_restore_through_their_decoder(vector: Pipeline, spatial: Pipeline, name: str) -> None:
    operator = op.gaussian_blur(SHAPE, sigma=0.8)
    for pipeline in (vector, spatial):
        y, settings = operator(pipeline.sample(3, steps=20, seed=50)), Sampling(steps=20)
        made = restore(pipeline, operator, y, how=solver(name), settings=settings).images
        plain = pipeline.sample(3, steps=20)
        assert float((operator(made) - y).norm()) < 0.9 * float((operator(plain) - y).norm())
        alone = restore(pipeline, operator, y[1:2], how=solver(name), settings=settings, seed=1).images
        close(made[1:2], alone)


@pytest.mark.parametrize("name", ["replacement", "repaint"])
def test_spatial_latents_are_replaced_where_all_their_pixels_are_known(spatial: Pipeline, name: str) -> None:
    operator = op.masked(SHAPE, BOX)
    made = restore(spatial, operator, operator(IMAGES), how=solver(name), settings=FEW, mask=BOX)
    known = BOX.bool().expand_as(IMAGES)
    assert torch.equal(made.images[known], IMAGES[known])
    mask = torch.ones(8, 8)
    mask[0, 3] = 0
    assert latent_mask(spatial, mask).tolist() == [[1, 0, 1, 1], [1] * 4, [1] * 4, [1] * 4]


def test_what_a_solver_cannot_do_is_refused(pixels: Pipeline, vector: Pipeline) -> None:
    blur = op.gaussian_blur(SHAPE, sigma=1.0)
    y = blur(IMAGES)
    refused = [
        (lambda: restore(pixels, blur, y, how=Restoration(solver="psld")), "works on pixels; expected dps"),
        (lambda: restore(pixels, blur, y, how=Restoration(solver="repaint")), "expected a mask"),
        (
            lambda: restore(vector, blur, y, how=Restoration(solver="replacement"), mask=BOX),
            "vector latent has no places",
        ),
        (lambda: restore(pixels, op.identity((1, 9, 9)), y), "expected an operator on"),
        (lambda: restore(pixels, op.downsample(SHAPE, 2), y), r"expected measurements \['n', 1, 4, 4\]"),
        (lambda: measured(blur, IMAGES, sigma=-1.0), "`sigma` must be 0 or more"),
        (lambda: restore(pixels, blur, y / 0), "finite measurements"),
        (
            lambda: restore(pixels, blur, y, settings=Sampling(sampler="ddpm")),
            "replaces the sampler's steps, expected ddim without eta, got sampler ddpm",
        ),
    ]
    for call, words in refused:
        with pytest.raises(InputError, match=words) as found:
            call()
        assert "--" not in str(found.value), "a caller from Python has no flags"


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "dps", "strength": 0.3},
        {"solver": "diffpir", "zeta": 2.0},
        {"solver": "sdedit", "jumps": 3},
    ],
)
def test_numbers_of_another_solver_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="is an option of"):
        Restoration(**options)


def test_options_of_saved_pictures_are_read_by_their_old_names() -> None:
    old = {"solver": "diffpir", "trust": 0.7, "share": 0.1}
    assert Restoration.model_validate(old) == Restoration(diffpir_lambda=0.7, diffpir_zeta=0.1)
    assert Restoration.model_validate({"solver": "psld", "glue": 2.0}).options()["psld_gamma"] == 2.0


def test_a_measurement_is_the_operator_and_noise_of_its_seed() -> None:
    blur = op.gaussian_blur(SHAPE, sigma=1.0)
    assert torch.equal(measured(blur, IMAGES), blur(IMAGES))
    noisy_ = measured(blur, IMAGES, sigma=0.5, seed=7)
    torch.testing.assert_close(measured(blur, IMAGES[1:], sigma=0.5, seed=8), noisy_[1:])
    many = measured(op.identity(SHAPE), torch.zeros(200, *SHAPE), sigma=0.5)
    assert abs(float(many.std()) - 0.5) < 0.02


def test_the_backprojection_shows_a_measurement_as_an_image() -> None:
    small = op.downsample(SHAPE, 4)
    shown = backprojection(small, small(IMAGES))
    torch.testing.assert_close(small(shown), small(IMAGES))
    assert shown[0, 0, :4, :4].unique().numel() == 1
    blur = op.gaussian_blur(SHAPE, sigma=1.0)
    assert torch.equal(backprojection(blur, IMAGES), IMAGES)


def test_three_ways_to_denoise(pixels: Pipeline) -> None:
    flat = torch.zeros(2, *SHAPE)
    x = add_noise(pixels, flat, 10, seed=1)
    assert torch.equal(add_noise(pixels, flat, 0), flat)
    once, twice = (blur(pixels, x, 10, sigma=1.0, times=times) for times in (1, 2))
    assert float(twice.std()) < float(once.std()) < float(x.std())
    assert torch.equal(one_step(pixels, flat, 0), flat)
    alpha = pixels.schedule.at(10)[0]
    assert float((one_step(pixels, x, 10) - x / alpha).abs().max()) > 0
    made = denoise_iteratively(pixels, x, 10, settings=FEW, recorder=Recorder(frames=4))
    assert [frame.t for frame in made.frames] == [10, 8, 4, 0]
    assert torch.equal(made.frames[-1].noisy, made.images)
    with pytest.raises(InputError, match=r"`t` must lie in 0..20"):
        add_noise(pixels, flat, 21)


def test_an_anagram_of_identity_views_is_a_sample_bit_for_bit(pixels: Pipeline, vector: Pipeline) -> None:
    for pipeline in (pixels, vector):
        plain = pipeline.sample(3, steps=5, label=1, seed=2)
        parts = [(1, view("identity"))] * 2
        assert torch.equal(anagram(pipeline, parts, 3, settings=FEW, seed=2).images, plain)


def test_a_hybrid_of_one_class_is_a_sample(pixels: Pipeline) -> None:
    plain = pixels.sample(3, steps=5, label=1, seed=2)
    bands = frequencies(SHAPE, (2.0,))
    close(hybrid(pixels, [(1, band) for band in bands], 3, settings=FEW, seed=2).images, plain)


def test_illusions_want_orthogonal_views(pixels: Pipeline, vector: Pipeline, spatial: Pipeline) -> None:
    bright = View("brighter", lambda x: 1.5 * x, lambda x: x / 1.5)
    with pytest.raises(InputError, match="expected an orthogonal map"):
        anagram(pixels, [(0, view("identity")), (1, bright)], 2)
    assert codec_error(pixels, view("flip")) == 0 == codec_error(spatial, view("identity"))
    assert codec_error(spatial, view("negative")) > 0.05 and codec_error(vector, view("flip")) == math.inf
    with pytest.raises(InputError, match="expected an orthogonal map"):
        anagram(spatial, [(0, view("identity")), (1, bright)], 2)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_illusions_of_latents_depend_on_their_seeds_and_not_on_the_batch(
    vector: Pipeline, spatial: Pipeline, sampler: str
) -> None:
    for pipeline in (vector, spatial):
        settings = Sampling.model_validate({"steps": 5, "sampler": sampler})
        seen = [(0, view("identity")), (1, view("negative"))]
        bands = [(k, band) for k, band in enumerate(frequencies(SHAPE, (2.0,)))]
        for make, parts in ((anagram, seen), (hybrid, bands)):
            together = make(pipeline, parts, 3, settings=settings, seed=4, recorder=Recorder(frames=3))  # type: ignore[operator]
            assert together.images.shape == (3, *SHAPE) and float(together.images.std()) > 0
            assert [tuple(frame.noisy.shape) for frame in together.frames] == [(3, *SHAPE)] * 3
            alone = make(pipeline, parts, 1, settings=settings, seed=6)  # type: ignore[operator]
            close(alone.images, together.images[2:])
            assert not torch.equal(
                together.images, make(pipeline, parts[:1] * 2, 3, settings=settings, seed=4).images
            )  # type: ignore[operator]


def test_illusions_of_nothing_are_refused(vector: Pipeline, pixels: Pipeline) -> None:
    for pipeline in (vector, pixels):
        for make in (anagram, hybrid):
            with pytest.raises(InputError, match="expected one part or more"):
                make(pipeline, [], 2)  # type: ignore[operator]
        for n in (0, -1):
            with pytest.raises(InputError, match="images of 1 or more"):
                anagram(pipeline, [(0, view("identity"))], n)


def test_a_hybrid_of_one_class_of_latents_is_a_sample(vector: Pipeline) -> None:
    plain = vector.sample(3, steps=5, label=1, seed=2)
    made = hybrid(vector, [(1, band) for band in frequencies(SHAPE, (2.0,))], 3, settings=FEW, seed=2)
    close(made.images, plain)
