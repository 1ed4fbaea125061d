"""FusedDDIMScheduler and FusedDDPMScheduler against the stock classes of diffusers, over the whole grid of
their options.
"""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

diffusers = pytest.importorskip("diffusers")

from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, UNet2DModel  # noqa: E402

from latentdiff import ops  # noqa: E402
from latentdiff.ops import constants  # noqa: E402
from latentdiff.pipeline.diffusers import FusedDDIMScheduler, FusedDDPMScheduler  # noqa: E402

SHAPE = (2, 3, 4, 4)
# Largest difference, as a share of the largest number. diffusers computes its coefficients in float32: 1 -
# alpha-bar loses digits, 1 / alpha reaches 157, and
# what is left for the direction with eta = 1 near T is the root of a difference (4.3e-5; 99% are within
# 4e-6). The stock class rounds
# half-precision at every operation: it is compared in float64 with ours, which rounds once.
CLOSE = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 1.6e-2, torch.float16: 2e-3}
HALF = (torch.bfloat16, torch.float16)
KINDS = ("epsilon", "sample", "v_prediction")
PAIRS = [
    pytest.param((DDIMScheduler, FusedDDIMScheduler), id="ddim"),
    pytest.param((DDPMScheduler, FusedDDPMScheduler), id="ddpm"),
]
SPACINGS = ("leading", "trailing", "linspace")
SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
CLIPS: tuple[dict[str, Any], ...] = (
    {"clip_sample": False},
    {"clip_sample": True, "clip_sample_range": 0.7},
    {"clip_sample": False, "thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 2.0},
)


def normal(seed: int, dtype: torch.dtype, *, channels: int = SHAPE[1]) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((SHAPE[0], channels, *SHAPE[2:]), generator=generator, dtype=torch.float64).to(dtype)


def assert_same(found: Tensor, wanted: Tensor, dtype: torch.dtype, what: object) -> None:
    """Equal but for rounding, wherever the stock class gives a number (it takes the root of what rounding
    made negative).
    """
    assert found.dtype == dtype and found.shape == wanted.shape, what
    a, b = found.double(), wanted.double()
    finite = b.abs() <= torch.finfo(dtype).max  # not NaN either
    if finite.any():
        scale = max(1.0, float(b[finite].abs().max()))
        assert float((a - b)[finite].abs().max()) <= CLOSE[dtype] * scale, what


def places(timesteps: Tensor) -> list[Tensor]:
    """The first, one in the middle and the last."""
    return [timesteps[k] for k in sorted({0, len(timesteps) // 2, len(timesteps) - 1})]


class Counted:
    """Counts calls of a function."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.calls += 1
        return self.function(*arguments, **named)


@pytest.fixture
def same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same normals whatever the type: those that generators give differ with it."""

    def drawn(shape: Any, dtype: torch.dtype, **_: Any) -> Tensor:
        return normal(99, torch.bfloat16).to(dtype)

    for module in ("diffusers.schedulers.scheduling_dd{}m", "latentdiff.pipeline.diffusers.fused_dd{}m"):
        for letter in "ip":
            monkeypatch.setattr(module.format(letter) + ".randn_tensor", drawn)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """How often the fused step was used."""
    counted = Counted(ops.step_x0)
    monkeypatch.setattr(ops, "step_x0", counted)
    yield counted


def compared(
    stock: Any, fused: Any, dtype: torch.dtype, options: dict[str, Any], *, channels: int = SHAPE[1]
) -> int:
    """Steps of both from the same samples, outputs and generators; returns how many tensors were compared."""
    done = 0
    for k, t in enumerate(places(stock.timesteps)):
        x, out = normal(k, dtype), normal(10 + k, dtype, channels=channels)
        wide = torch.float64 if dtype in HALF else dtype
        if dtype in HALF and stock.alphas_cumprod[t] == 0 and stock.config.prediction_type == "epsilon":
            continue  # left to the stock class
        answers = [stock.step(out.to(wide), t, x.to(wide), **options), fused.step(out, t, x, **options)]
        for name in ("prev_sample", "pred_original_sample"):
            assert_same(
                getattr(answers[1], name), getattr(answers[0], name), dtype, (stock.config, options, t, name)
            )
            done += 1
    return done


DTYPES = [
    pytest.param(dtype, marks=() if dtype == torch.float32 else pytest.mark.slow, id=str(dtype))
    for dtype in CLOSE
]


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_ddim_is_that_of_diffusers(kind: str, dtype: torch.dtype, kernels: Counted) -> None:
    compared_in_all = 0
    for spacing, schedule, zero_snr, clip, steps, one in itertools.product(
        SPACINGS, SCHEDULES, (False, True), CLIPS, (1, 7, 50), (True, False)
    ):
        values = {"prediction_type": kind, "timestep_spacing": spacing, "beta_schedule": schedule}
        values |= {"rescale_betas_zero_snr": zero_snr, "set_alpha_to_one": one, **clip}
        if spacing == "leading":
            values["steps_offset"] = int(one)
        stock, fused = DDIMScheduler(**values), FusedDDIMScheduler(**values)
        stock.set_timesteps(steps)
        fused.set_timesteps(steps)
        for eta, clipped in ((0.0, False), (0.0, True), (0.6, False), (1.0, True)):
            options = {"eta": eta, "use_clipped_model_output": clipped}
            compared_in_all += compared(stock, fused, dtype, options)
    assert compared_in_all >= 5000
    # a level without signal read through epsilon is left to the stock class, all else is not
    assert kernels.calls >= (0.6 if kind == "epsilon" else 1) * compared_in_all / 2


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "variance",
    [
        "fixed_small",
        "learned_range",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("fixed_small_log", "fixed_large", "fixed_large_log", "learned")
        ),
    ],
)
def test_ddpm_is_that_of_diffusers(variance: str, kind: str, dtype: torch.dtype, kernels: Counted) -> None:
    compared_in_all, learned = 0, variance.startswith("learned")
    if variance == "fixed_large_log" and dtype in HALF:
        pytest.skip("left to the stock class")
    for spacing, schedule, zero_snr, clip, steps in itertools.product(
        SPACINGS, (*SCHEDULES, "sigmoid"), (False, True), CLIPS, (None, 1, 7, 50)
    ):
        values = {"prediction_type": kind, "timestep_spacing": spacing, "beta_schedule": schedule}
        values |= {"rescale_betas_zero_snr": zero_snr, "variance_type": variance, **clip}
        stock, fused = DDPMScheduler(**values), FusedDDPMScheduler(**values)
        if steps is not None:
            stock.set_timesteps(steps)
            fused.set_timesteps(steps)
        compared_in_all += compared(stock, fused, dtype, {}, channels=6 if learned else 3)
    assert compared_in_all >= 1200
    if variance == "fixed_large_log":
        assert kernels.calls == 0  # NaN in the stock class
    else:
        assert kernels.calls >= (0.6 if kind == "epsilon" else 1) * compared_in_all / 2


@pytest.mark.usefixtures("same_noise")
def test_custom_timesteps_are_followed() -> None:
    stock, fused = DDPMScheduler(), FusedDDPMScheduler()
    for scheduler in (stock, fused):
        scheduler.set_timesteps(timesteps=[900, 500, 499, 3])
    assert compared(stock, fused, torch.float32, {}) == 6
    fused.set_timesteps(10)  # what was kept for the old timesteps is not used for the new ones
    stock.set_timesteps(10)
    assert compared(stock, fused, torch.float32, {}) == 6


@pytest.mark.usefixtures("same_noise")
def test_the_step_before_depends_on_the_number_of_steps() -> None:
    stock, fused = DDIMScheduler(), FusedDDIMScheduler()
    for steps in (10, 20, 10, 50):
        stock.set_timesteps(steps)
        fused.set_timesteps(steps)
        assert compared(stock, fused, torch.float32, {"eta": 1.0}) == 6


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("dtype", CLOSE, ids=str)
def test_noising_is_that_of_diffusers(pair: tuple[Any, Any], dtype: torch.dtype) -> None:
    for schedule, zero_snr in itertools.product(SCHEDULES, (False, True)):
        stock, fused = (each(beta_schedule=schedule, rescale_betas_zero_snr=zero_snr) for each in pair)
        x, z = normal(1, dtype), normal(2, dtype)
        for timesteps in (
            torch.tensor([0, 999]),
            torch.tensor([500, 20]),
            torch.tensor([7]),
            torch.tensor(30),
        ):
            for name in ("add_noise", "get_velocity"):
                wide = torch.float64 if dtype in HALF else dtype
                found = getattr(fused, name)(x, z, timesteps)
                wanted = getattr(stock, name)(x.to(wide), z.to(wide), timesteps)
                assert_same(found, wanted, dtype, (schedule, zero_snr, timesteps, name))


def test_given_noise_is_used_and_generators_are_drawn_from_as_in_the_stock_class() -> None:
    stock, fused = DDIMScheduler(), FusedDDIMScheduler()
    stock.set_timesteps(5)
    fused.set_timesteps(5)
    x, out, z = (normal(seed, torch.float32) for seed in range(3))
    answers = [each.step(out, 600, x, eta=1.0, variance_noise=z).prev_sample for each in (stock, fused)]
    assert_same(answers[1], answers[0], torch.float32, "noise")
    with pytest.raises(ValueError, match="Cannot pass both generator and variance_noise"):
        fused.step(out, 600, x, eta=1.0, variance_noise=z, generator=torch.Generator())
    for classes, options in (
        ((DDIMScheduler, FusedDDIMScheduler), {"eta": 0.5}),
        ((DDPMScheduler, FusedDDPMScheduler), {}),
    ):
        states = []
        for cls in classes:
            scheduler, generator = cls(), torch.Generator().manual_seed(0)
            scheduler.set_timesteps(5)
            for t in scheduler.timesteps:
                scheduler.step(out, t, x, generator=generator, **options)
            states.append(generator.get_state())
        assert torch.equal(*states)


def test_what_is_wrong_gets_the_error_of_the_stock_class() -> None:
    x = normal(0, torch.float32)
    with pytest.raises(ValueError, match="Number of inference steps is 'None'"):
        FusedDDIMScheduler().step(x, 5, x)
    for cls in (FusedDDIMScheduler, FusedDDPMScheduler):
        scheduler = cls(prediction_type="velocity")
        scheduler.set_timesteps(5)
        with pytest.raises(ValueError, match="prediction_type given as velocity must be one of"):
            scheduler.step(x, 0, x)


def test_tensors_that_the_kernels_do_not_take_go_to_the_stock_class(kernels: Counted) -> None:
    stock, fused = DDIMScheduler(), FusedDDIMScheduler()
    stock.set_timesteps(5)
    fused.set_timesteps(5)
    x, out = normal(0, torch.float32), normal(1, torch.float16)
    a, b = (each.step(out, 600, x).prev_sample for each in (stock, fused))
    assert a.dtype == b.dtype and torch.equal(a, b) and kernels.calls == 0


@pytest.mark.usefixtures("same_noise")
@pytest.mark.parametrize("pair", PAIRS)
def test_a_changed_scheduler_computes_anew(pair: tuple[Any, Any]) -> None:
    stock, fused = (cls() for cls in pair)
    for scheduler in (stock, fused):
        scheduler.set_timesteps(5)
    assert compared(stock, fused, torch.float32, {}) == 6
    for scheduler in (stock, fused):
        scheduler.register_to_config(prediction_type="v_prediction")
    assert compared(stock, fused, torch.float32, {}) == 6
    for scheduler in (stock, fused):
        scheduler.alphas_cumprod = scheduler.alphas_cumprod * 0.9
    assert compared(stock, fused, torch.float32, {}) == 6


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("betas", [(0.1, 2.0), (0.5, 1.5), (0.0, 0.02)])
def test_betas_that_make_no_sense_give_what_the_stock_class_gives(
    pair: tuple[Any, Any], betas: tuple[float, float]
) -> None:
    x, out, found = normal(0, torch.float32), normal(1, torch.float32), []
    for cls in pair:
        scheduler = cls(beta_start=betas[0], beta_end=betas[1], num_train_timesteps=20)
        scheduler.set_timesteps(4)
        generators = [torch.Generator().manual_seed(0) for _ in scheduler.timesteps]
        found.append(
            [
                scheduler.step(out, t, x, generator=g).prev_sample
                for t, g in zip(scheduler.timesteps, generators, strict=True)
            ]
        )
    for stock, fused in zip(*found, strict=True):
        assert_same(fused, stock, torch.float32, betas)


# Loops of diffusers' own tests, by the numbers that stand there (tests/schedulers/test_scheduler_ddim.py and
# test_scheduler_ddpm.py)
DDIM_SUMS = (
    ({}, 172.0067),
    ({"prediction_type": "v_prediction"}, 52.5302),
    ({"set_alpha_to_one": True, "beta_start": 0.01}, 149.8295),
    ({"set_alpha_to_one": False, "beta_start": 0.01}, 149.0784),
)


def ramp() -> Tensor:
    """Numbers from 0 to 1 in a batch of four."""
    return (torch.arange(768).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)


@pytest.mark.parametrize(("options", "total"), DDIM_SUMS)
def test_a_loop_of_ddim_ends_at_the_sum_that_diffusers_expects(options: dict[str, Any], total: float) -> None:
    scheduler, x = FusedDDIMScheduler(**options), ramp()
    scheduler.set_timesteps(10)
    for t in scheduler.timesteps:
        x = scheduler.step(x * t / (t + 1), t, x, 0.0).prev_sample
    assert float(x.abs().sum()) == pytest.approx(total, abs=1e-2)


@pytest.mark.parametrize(("kind", "total"), [("epsilon", 258.9606), ("v_prediction", 202.0296)])
def test_a_loop_of_ddpm_ends_at_the_sum_that_diffusers_expects(kind: str, total: float) -> None:
    scheduler, x, generator = FusedDDPMScheduler(prediction_type=kind), ramp(), torch.manual_seed(0)
    for t in reversed(range(1000)):
        x = scheduler.step(x * t / (t + 1), t, x, generator=generator).prev_sample
    assert float(x.abs().sum()) == pytest.approx(total, abs=1e-2)


def test_a_loop_of_ddpm_from_noise_ends_at_the_sum_that_diffusers_expects() -> None:
    """Its quotients are rounded to float32: without that the sum is 387.9677."""
    scheduler, generator = FusedDDPMScheduler(), torch.manual_seed(0)
    noise = (torch.arange(768).flip(-1).reshape(3, 8, 8, 4) / 768).permute(3, 0, 1, 2)
    x = scheduler.add_noise(ramp(), noise, torch.tensor([1]))
    for t in (1, 0):
        x = scheduler.step(x * t / (t + 1), t, x, generator=generator).prev_sample
    assert float(x.abs().sum()) == pytest.approx(387.9466, abs=1e-2)


@pytest.mark.parametrize("seed", range(5))
def test_few_steps_with_much_noise_lose_no_digits(seed: int) -> None:
    """Where the stock class is off by up to 3e-4: the step in float32 is the step in float64."""
    x, out, noise = (normal(3 * seed + k, torch.float32) for k in range(3))
    found = []
    for dtype in (torch.float32, torch.float64):
        scheduler = FusedDDIMScheduler(
            beta_start=0.01,
            beta_end=0.2,
            timestep_spacing="trailing",
            prediction_type="sample",
            thresholding=True,
            set_alpha_to_one=False,
        )
        scheduler.set_timesteps(3)
        moved = scheduler.step(
            out.to(dtype), 666, x.to(dtype), eta=1.0, variance_noise=noise.to(dtype)
        ).prev_sample
        found.append(moved.double())
    torch.testing.assert_close(found[0], found[1], rtol=0, atol=1e-6)


def test_tables_that_are_changed_in_place_are_read_again() -> None:
    x, out, found = normal(0, torch.float32), normal(1, torch.float32), []
    for cls in (DDIMScheduler, FusedDDIMScheduler):
        scheduler = cls()
        scheduler.set_timesteps(4)
        scheduler.step(out, 500, x)
        scheduler.alphas_cumprod[:] *= 0.9
        found.append(scheduler.step(out, 500, x).prev_sample)
    assert_same(found[1], found[0], torch.float32, "changed")


@pytest.mark.parametrize("eta", [1.5, float("nan"), float("inf")])
def test_an_eta_that_makes_no_sense_gives_what_the_stock_class_gives(eta: float) -> None:
    x, out, found = normal(0, torch.float32), normal(1, torch.float32), []
    for cls in (DDIMScheduler, FusedDDIMScheduler):
        scheduler = cls()
        scheduler.set_timesteps(4)
        found.append(scheduler.step(out, 500, x, eta=eta, generator=torch.manual_seed(0)).prev_sample)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=0, equal_nan=True)


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or what it raises, to be compared with another one's."""
    try:
        found = call()
    except Exception as error:
        return type(error).__name__, str(error)
    return found if isinstance(found, Tensor) else found.prev_sample


def assert_same_outcome(
    pair: tuple[Any, Any], call: Callable[[Any], Any], what: object, **options: Any
) -> None:
    """A call of schedulers of both classes ends alike, errors included."""
    found = []
    for cls in pair:
        scheduler = cls(**options)
        scheduler.set_timesteps(10)
        torch.manual_seed(0)
        found.append(outcome(partial(call, scheduler)))
    if isinstance(found[0], Tensor):
        torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5, equal_nan=True, msg=str(what))
    else:
        assert found[0] == found[1], what


TIMESTEPS = [
    *(500, 500.0, 3.7, "5", True, 1000, -1, -1001),
    *(np.int64(500), np.int32(500), np.uint8(50), np.float64(500)),
    *(torch.tensor([500]), torch.tensor([500, 500]), torch.tensor(True)),
    *(
        torch.tensor(50).to(dtype)
        for dtype in (torch.uint8, torch.int8, torch.int32, torch.int64, torch.float32)
    ),
]


@pytest.mark.parametrize("timestep", TIMESTEPS, ids=repr)
@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.filterwarnings("ignore")
def test_timesteps_of_any_type_end_as_in_the_stock_class(pair: tuple[Any, Any], timestep: Any) -> None:
    x, out = normal(0, torch.float32), normal(1, torch.float32)
    assert_same_outcome(pair, lambda scheduler: scheduler.step(out, timestep, x), timestep)
    levels = timestep if isinstance(timestep, str) else torch.as_tensor(timestep)
    several = levels if isinstance(timestep, str) else torch.stack([levels, levels])
    assert_same_outcome(pair, lambda scheduler: scheduler.add_noise(x, out, levels), levels)
    assert_same_outcome(pair, lambda scheduler: scheduler.get_velocity(x, out, several), several)


@pytest.mark.parametrize("bound", [0, -0.5, float("nan"), float("inf"), 0.3, 2, True, None, "1"], ids=repr)
@pytest.mark.parametrize("pair", PAIRS)
def test_any_range_of_clipping_does_what_it_does_in_the_stock_class(
    pair: tuple[Any, Any], bound: Any
) -> None:
    x, out = normal(0, torch.float32), normal(1, torch.float32)
    for thresholding in (False, True):
        options = {"clip_sample_range": bound, "thresholding": thresholding}
        assert_same_outcome(pair, lambda scheduler: scheduler.step(out, 500, x), bound, **options)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_infinities_end_as_in_the_stock_class(pair: tuple[Any, Any], kind: str) -> None:
    """What the stock class clips away is clipped away, and what it does not read makes nothing NaN, gradients
    included.
    """
    wild = torch.tensor([float("inf"), -float("inf"), float("nan"), 1e38, 0.5], dtype=torch.float64)
    a, b = (each.reshape(1, 1, 5, 5) for each in torch.meshgrid(wild, wild, indexing="ij"))
    for clip, index in itertools.product(CLIPS, (0, 4, 9)):
        runs = (
            ({"eta": 0.0}, {"eta": 1.0}, {"use_clipped_model_output": True})
            if pair[0] is DDIMScheduler
            else ({},)
        )
        for options in runs:
            found = []
            for cls in pair:
                scheduler = cls(prediction_type=kind, **clip)
                scheduler.set_timesteps(10)
                x, out = a.clone().requires_grad_(), b.clone().requires_grad_()
                generator = torch.Generator().manual_seed(0)
                moved = scheduler.step(out, scheduler.timesteps[index], x, generator=generator, **options)
                grads = torch.autograd.grad(moved.prev_sample.sum() + moved.pred_original_sample.sum(), (x, out), materialize_grads=True)  # fmt: skip
                found.append((moved.prev_sample, moved.pred_original_sample, *grads))
            for stock, fused in zip(*found, strict=True):
                told = ~stock.isnan()  # the stock class has more of them: it multiplies by computed zeros
                torch.testing.assert_close(
                    fused[told], stock[told], rtol=1e-4, atol=1e-4, msg=f"{clip} {index} {options}"
                )
    for name in ("add_noise", "get_velocity"):
        stock, fused = (
            getattr(cls(rescale_betas_zero_snr=True), name)(a, b, torch.tensor([500])) for cls in pair
        )
        torch.testing.assert_close(fused, stock, rtol=1e-6, atol=1e-6, equal_nan=True)


ETAS = (0.3, 0.8, 1.0, 0.3, 0.0, 0.8)


@pytest.mark.usefixtures("same_noise")
def test_every_eta_has_its_own_move() -> None:
    """Also a tensor that is changed in place."""
    stock, fused, changing = DDIMScheduler(), FusedDDIMScheduler(), torch.zeros(())
    for scheduler in (stock, fused):
        scheduler.set_timesteps(10)
    for eta in ETAS:
        for given in (eta, changing.fill_(eta), np.float32(eta)):
            assert compared(stock, fused, torch.float32, {"eta": given}) == 6
    slope = torch.tensor(0.5, requires_grad=True)
    x = normal(0, torch.float32)
    found = [
        torch.autograd.grad(each.step(x, 500, x, eta=slope).prev_sample.sum(), slope)
        for each in (stock, fused)
    ]
    torch.testing.assert_close(found[1], found[0])


@pytest.mark.parametrize("pair", PAIRS)
def test_every_sample_may_have_a_generator_of_its_own(pair: tuple[Any, Any]) -> None:
    x, out = normal(0, torch.float32), normal(1, torch.float32)
    options = {"eta": 1.0} if pair[0] is DDIMScheduler else {}
    found = []
    for cls in pair:
        scheduler, generators = cls(), [torch.Generator().manual_seed(seed) for seed in (5, 6)]
        scheduler.set_timesteps(5)
        moved = [
            scheduler.step(out, t, x, generator=generators, **options).prev_sample
            for t in scheduler.timesteps
        ]
        found.append((moved, [generator.get_state() for generator in generators]))
    for stock, fused in zip(found[0][0], found[1][0], strict=True):
        assert_same(fused, stock, torch.float32, "generators")
    assert all(map(torch.equal, found[0][1], found[1][1]))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_copy_reads_tables_that_were_changed(pair: tuple[Any, Any], copied: Callable[[Any], Any]) -> None:
    """A change in place counts up a tensor's version, and a copy's begins anew: at a number that was read
    before.
    """
    x, out = normal(0, torch.float32), normal(1, torch.float32)
    for changes in range(4):
        found = []
        for cls in pair:
            scheduler = cls()
            scheduler.set_timesteps(10)
            for _ in range(changes):
                scheduler.alphas_cumprod.mul_(1.0)
                scheduler.timesteps.mul_(1)
            scheduler.step(out, 500, x, generator=torch.manual_seed(0))
            scheduler.alphas_cumprod.mul_(0.9)
            scheduler.timesteps[5:] = torch.tensor([390, 300, 200, 100, 1])
            found.append(copied(scheduler).step(out, 500, x, generator=torch.manual_seed(0)).prev_sample)
        assert_same(found[1], found[0], torch.float32, changes)


def test_tables_of_inference_mode_are_read_anew() -> None:
    """They count no changes in place."""
    x, found = normal(0, torch.float32), []
    for cls in (DDPMScheduler, FusedDDPMScheduler):
        with torch.inference_mode():
            scheduler = cls()
            scheduler.set_timesteps(10)
            scheduler.step(x, 500, x, generator=torch.manual_seed(0))
            scheduler.alphas_cumprod.mul_(0.9)
            found.append(scheduler.step(x, 500, x, generator=torch.manual_seed(0)).prev_sample)
    assert_same(found[1], found[0], torch.float32, "inference")


@pytest.mark.parametrize("pair", PAIRS)
def test_coefficients_are_kept_where_constants_are(
    pair: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each stream by itself, never those of a tracer, and of no inference mode, after which gradients
    would fail.
    """
    used: list[Tensor] = []
    monkeypatch.setattr(ops, "step_x0", lambda *given, step_x0=ops.step_x0, **to: used.append(given[2]) or step_x0(*given, **to))  # fmt: skip
    x, scheduler = normal(0, torch.float32), pair[1]()
    scheduler.set_timesteps(10)
    with FakeTensorMode(allow_non_fake_inputs=True):
        scheduler.step(x, 0, x)
    torch.func.grad(lambda x: scheduler.step(x, 0, x).prev_sample.sum())(x)
    with torch.inference_mode():
        scheduler.step(x, 0, x)
    (grad,) = torch.autograd.grad(scheduler.step(x.requires_grad_(), 0, x).prev_sample.sum(), x)
    assert grad.isfinite().all() and used[-1] is used[-2] and not used[-1].is_inference()
    monkeypatch.setattr(constants, "_stream", lambda device: 77)
    scheduler.step(x, 0, x)
    assert used[-1] is not used[-2] and torch.equal(used[-1], used[-2])


@pytest.mark.parametrize("pair", PAIRS)
def test_a_table_that_moves_with_the_samples_is_not_read_back(pair: tuple[Any, Any]) -> None:
    """From a GPU that would wait, and end a capture; tensors without data cannot be read back at all."""
    scheduler, x = pair[1](), normal(0, torch.float32).to("meta")
    scheduler.set_timesteps(10)
    scheduler.add_noise(x, x, torch.tensor([5]))
    assert scheduler.alphas_cumprod.device.type == "meta"
    assert scheduler.step(x, 0, x).prev_sample.shape == SHAPE


@pytest.mark.parametrize("pair", PAIRS)
def test_a_step_compiles_as_that_of_the_stock_class(pair: tuple[Any, Any]) -> None:
    x, out, found = normal(0, torch.float32), normal(1, torch.float32), []
    for cls in pair:
        scheduler = cls()
        if pair[0] is DDIMScheduler:
            scheduler.set_timesteps(10)

        def both(x: Tensor, out: Tensor, scheduler: Any = scheduler) -> tuple[Tensor, ...]:
            moved = scheduler.step(out, 500, x, return_dict=False)
            return (
                *moved,
                scheduler.add_noise(x, out, torch.tensor([7])),
                scheduler.get_velocity(x, out, torch.tensor([7])),
            )

        torch.manual_seed(0)
        found.append(torch.compile(both, fullgraph=True, backend="eager")(x, out))
    for stock, fused in zip(*found, strict=True):
        assert_same(fused, stock, torch.float32, "compiled")


LEVEL = torch.tensor([500])


@pytest.mark.parametrize("pair", PAIRS)
def test_derivatives_of_every_mode_are_those_of_the_stock_class(pair: tuple[Any, Any]) -> None:
    x, out, v = (normal(seed, torch.float64) for seed in range(3))
    found: list[list[Tensor]] = [[], []]
    for cls, results in zip(pair, found, strict=True):
        scheduler = cls(prediction_type="v_prediction")
        scheduler.set_timesteps(10)

        def of(x: Tensor, out: Tensor, scheduler: Any = scheduler) -> Tensor:
            moved = scheduler.step(out, 0, x)
            noised = scheduler.add_noise(x * out, x, LEVEL) + scheduler.get_velocity(out, x, LEVEL)
            return moved.prev_sample * x + moved.pred_original_sample * out + noised

        results += torch.func.jvp(of, (x, out), (v, x))
        results += torch.func.vjp(of, x, out)[1](v)
        results.append(torch.func.jacrev(of)(x, out))
        results.append(torch.func.jvp(torch.func.vmap(of), (x[None], out[None]), (v[None], x[None]))[1])
        results.append(torch.func.vmap(of)(torch.stack([x, v]), torch.stack([out, x])))
        results.append(torch.func.jvp(torch.func.grad(lambda x: of(x, out).square().sum()), (x,), (v,))[1])
        with torch.autograd.forward_ad.dual_level():
            dual = of(torch.autograd.forward_ad.make_dual(x, v), out)
            results.append(torch.autograd.forward_ad.unpack_dual(dual).tangent)
    for stock, fused in zip(*found, strict=True):
        assert_same(fused, stock, torch.float64, "derivative")


def test_gradients_flow_as_in_the_stock_class() -> None:
    found = []
    for cls in (DDIMScheduler, FusedDDIMScheduler):
        scheduler = cls(prediction_type="v_prediction")
        scheduler.set_timesteps(5)
        x, out = normal(0, torch.float32).requires_grad_(), normal(1, torch.float32).requires_grad_()
        answer = scheduler.step(out, 600, x)
        (answer.prev_sample.square().sum() + answer.pred_original_sample.sum()).backward()
        assert x.grad is not None and out.grad is not None
        found.append((x.grad, out.grad))
    for ours, theirs in zip(found[1], found[0], strict=True):
        assert_same(ours, theirs, torch.float32, "gradient")


def tiny_unet() -> Any:
    torch.manual_seed(0)
    return UNet2DModel(
        sample_size=8,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )


@pytest.mark.parametrize(
    ("pipeline", "pair"),
    [
        (DDIMPipeline, (DDIMScheduler, FusedDDIMScheduler)),
        (DDPMPipeline, (DDPMScheduler, FusedDDPMScheduler)),
    ],
)
def test_a_pipeline_draws_the_same_images_with_them(
    pipeline: Any, pair: tuple[Any, Any], kernels: Counted
) -> None:
    """DDIMPipeline replaces the scheduler that it is given by a stock one: it is set afterwards, and the
    kernels did run.
    """
    unet, images, calls = tiny_unet(), [], []
    for cls in pair:
        pipe = pipeline(unet=unet, scheduler=pair[0]())
        pipe.scheduler = cls.from_config(pipe.scheduler.config)
        pipe.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(0)
        images.append(pipe(batch_size=2, num_inference_steps=8, generator=generator, output_type="np").images)
        calls.append(kernels.calls)
    assert calls == [0, 8]
    assert abs(images[0] - images[1]).max() < 2e-5 and images[0].std() > 0.05


@pytest.mark.parametrize("cls", [FusedDDIMScheduler, FusedDDPMScheduler])
def test_they_are_saved_loaded_copied_and_exchanged(cls: Any, tmp_path: Path) -> None:
    scheduler = cls(
        beta_schedule="scaled_linear", prediction_type="v_prediction", timestep_spacing="trailing"
    )
    scheduler.save_pretrained(tmp_path)
    again = cls.from_pretrained(tmp_path)
    assert type(again) is cls
    assert {k: v for k, v in again.config.items() if k[0] != "_"} == {
        k: v for k, v in scheduler.config.items() if k[0] != "_"
    }
    stock = cls.__mro__[2]
    assert stock in (DDIMScheduler, DDPMScheduler)
    other = stock.from_pretrained(tmp_path)  # who has no latentdiff reads it, too
    assert other.config.timestep_spacing == "trailing"
    assert set(scheduler.compatibles) >= set(other.compatibles) - {stock}
    assert (
        type(diffusers.EulerDiscreteScheduler.from_config(scheduler.config)).__name__
        == "EulerDiscreteScheduler"
    )
    x = normal(0, torch.float32)
    scheduler.set_timesteps(5)
    wanted = scheduler.step(
        x, scheduler.timesteps[1], x, generator=torch.Generator().manual_seed(0)
    ).prev_sample
    for copied in (copy.deepcopy(scheduler), pickle.loads(pickle.dumps(scheduler))):
        found = copied.step(x, copied.timesteps[1], x, generator=torch.Generator().manual_seed(0)).prev_sample
        assert torch.equal(found, wanted)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Pipelines that were saved with ours."""
    for pipeline, cls in ((DDIMPipeline, FusedDDIMScheduler), (DDPMPipeline, FusedDDPMScheduler)):
        pipe = pipeline(unet=tiny_unet(), scheduler=cls())
        pipe.scheduler = cls(prediction_type="v_prediction", clip_sample_range=2.0)
        pipe.save_pretrained(tmp_path / pipeline.__name__)
    return tmp_path


def test_files_name_the_stock_class_and_ours_reads_them(saved: Path, kernels: Counted) -> None:
    for name, cls in (("DDIM", FusedDDIMScheduler), ("DDPM", FusedDDPMScheduler)):
        folder = saved / f"{name}Pipeline"
        assert json.loads((folder / "model_index.json").read_text())["scheduler"] == [
            "diffusers",
            f"{name}Scheduler",
        ]
        texts = [path.read_text() for path in folder.rglob("*.json")]
        assert len(texts) == 3 and not any(word in text for word in ("latentdiff", "Fused") for text in texts)
        again = cls.from_pretrained(folder, subfolder="scheduler")
        assert (
            type(again) is cls
            and repr(again).startswith(cls.__qualname__)
            and again.config.clip_sample_range == 2
        )
    pipe = DDPMPipeline.from_pretrained(folder)
    assert type(pipe.scheduler) is DDPMScheduler and pipe.scheduler.config.prediction_type == "v_prediction"
    pipe = DDPMPipeline.from_pretrained(folder, scheduler=again)
    assert pipe.scheduler is again
    pipe.set_progress_bar_config(disable=True)
    pipe(batch_size=1, num_inference_steps=3, output_type="np")
    assert kernels.calls == 3


def test_a_subclass_is_saved_by_its_own_name() -> None:
    class Mine(FusedDDPMScheduler):
        """A scheduler of somebody else."""

    scheduler = Mine()
    assert (
        json.loads(scheduler.to_json_string())["_class_name"] == "Mine" and scheduler.__module__ == __name__
    )


def test_pipelines_that_name_our_classes_still_load(saved: Path) -> None:
    """As they were written before files named the stock class."""
    folder = saved / "DDPMPipeline"
    for path, old in (
        (
            folder / "model_index.json",
            {"scheduler": ["latentdiff.pipeline.diffusers.fused_ddpm", "FusedDDPMScheduler"]},
        ),
        (folder / "scheduler" / "scheduler_config.json", {"_class_name": "FusedDDPMScheduler"}),
    ):
        path.write_text(json.dumps(json.loads(path.read_text()) | old))
    assert type(DDPMPipeline.from_pretrained(folder).scheduler) is FusedDDPMScheduler
    assert type(DDPMScheduler.from_pretrained(folder, subfolder="scheduler")) is DDPMScheduler


@pytest.mark.slow
def test_whoever_has_no_latentdiff_loads_a_saved_pipeline(saved: Path) -> None:
    code = f"""
import sys
sys.modules["latentdiff"] = None
import diffusers
for name in ("DDIM", "DDPM"):
    folder = {str(saved)!r} + "/" + name + "Pipeline"
    stock = getattr(diffusers, name + "Scheduler")
    kind = diffusers.DiffusionPipeline if name == "DDPM" else diffusers.DDIMPipeline
    for options in ({{}}, {{"scheduler": stock(clip_sample_range=2.0, prediction_type="v_prediction")}}):
        pipe = kind.from_pretrained(folder, **options)
        assert type(pipe.scheduler) is stock and pipe.scheduler.config.clip_sample_range == 2
        pipe(batch_size=1, num_inference_steps=2, output_type="np")
print("drawn")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["drawn"], done.stderr[-3000:]
