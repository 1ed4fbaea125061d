"""Which levels a sampler of a model visits: all, unless x_0 cannot be read out of what the network says
there.
"""

from typing import get_args

import pytest
import torch
from torch import Tensor

import latentdiff as ld
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import DEFAULT_STEPS, SAMPLERS, Sampler, Sampling
from latentdiff.diffusion.denoiser import denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import sample
from latentdiff.diffusion.samplers import MIN_ALPHA, make_sampler, max_level, with_defaults
from latentdiff.diffusion.samplers import SAMPLERS as STEPS
from latentdiff.errors import InputError


def process(
    prediction: str, *, kind: str = "cosine", clip: float | None = None, T: int = 1000
) -> DiffusionConfig:
    return DiffusionConfig.model_validate(
        {"prediction": prediction, "schedule": {"kind": kind, "T": T}, "clip": clip}
    )


def test_every_sampler_has_its_rows() -> None:
    """A sampler by its name, its facts (which need no torch) and its step."""
    assert tuple(SAMPLERS) == tuple(STEPS) == get_args(Sampler)
    assert {name for row in SAMPLERS.values() for name in row.settings} <= set(Sampling.model_fields)
    assert DEFAULT_STEPS == "ddim 50, ddpm every level, dpm++ 20, heun 18"
    for name, row in SAMPLERS.items():
        assert f"{name} ({row.help})" in str(Sampling.model_fields["sampler"].description)
        assert (
            Sampling(sampler=name).count(1000) == (row.steps or 1000) and Sampling(sampler=name).count(5) == 5
        )
        for setting, value in (("eta", 0.5), ("variance", "large")):
            if setting not in row.settings:
                with pytest.raises(ValueError, match=f"`{setting}` is an option of the .* with"):
                    Sampling.model_validate({"sampler": name, setting: value})


@pytest.mark.parametrize("kind", ["cosine", "rectified-flow"])
@pytest.mark.parametrize("sampler", get_args(Sampler))
def test_a_move_evaluates_the_network_as_often_as_its_row_says(sampler: Sampler, kind: str) -> None:
    """But for moves of first order: the last one and those from pure noise."""
    diffusion = process("flow", kind=kind)
    schedule = ld.make_schedule(diffusion.schedule)
    seen: list[int] = []

    def denoise(x: Tensor, t: int) -> Estimate:
        seen.append(t)
        return Estimate.from_x0(x, t, x0=0.5 * x)

    step, levels = make_sampler(Sampling(sampler=sampler, steps=6), diffusion, schedule)
    key = ld.Key.of(0, 2)
    states = list(sample(denoise, ld.start(key, (4,)), levels, step, key))
    assert [state.t for state in states] == levels[1:] and len(levels) == 7
    assert len(seen) == (6 if SAMPLERS[sampler].evaluations == 1 else 10)


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_noise_predictions_start_where_there_is_a_signal(prediction: str) -> None:
    diffusion = process(prediction)
    schedule = ld.make_schedule(diffusion.schedule)
    top = max_level(diffusion, schedule)
    assert schedule.at(top)[0] >= MIN_ALPHA > schedule.at(top + 1)[0] and 950 < top < 1000
    for sampler, steps in (("ddim", 50), ("dpm++", 20), ("ddpm", 10)):
        settings = Sampling.model_validate({"sampler": sampler, "steps": steps})
        levels = make_sampler(settings, diffusion, schedule)[1]
        assert levels == schedule.levels(steps, top=top) and levels[0] == top and len(levels) == steps + 1
    every = Sampling.model_validate({"sampler": "ddpm"})
    assert make_sampler(every, diffusion, schedule)[1] == list(range(top, -1, -1))
    assert with_defaults(every, diffusion, schedule).steps == top
    with pytest.raises(InputError, match="at most 1000"):
        make_sampler(Sampling.model_validate({"steps": 1001}), diffusion, schedule)


def test_everything_else_starts_from_noise() -> None:
    for diffusion in (
        process("v"),
        process("x0"),
        process("eps", clip=1.0),
        process("eps", kind="scaled_linear"),
        process("flow", kind="rectified-flow"),
    ):
        schedule = ld.make_schedule(diffusion.schedule)
        assert max_level(diffusion, schedule) == 1000
        assert make_sampler(Sampling.model_validate({}), diffusion, schedule)[1] == schedule.levels(50)
    with pytest.raises(
        InputError, match="`spacing` leading starts at level 981, where the rectified-flow schedule"
    ):
        make_sampler(Sampling(spacing="leading"), diffusion, schedule)
    assert max_level(process("eps", T=1), ld.make_schedule("cosine", T=1)) == 1


def test_a_network_that_is_a_hundredth_off_does_not_explode() -> None:
    """Data N(0, 1): eps is sigma x_t, here with an error as of a trained network.

    From T it grew to thousands.
    """
    diffusion = process("eps")
    schedule = ld.make_schedule(diffusion.schedule)
    key = ld.Key.of(0, 2000)
    wrong = 0.01 * torch.randn(1, 4, generator=torch.Generator().manual_seed(0))

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return schedule.sigma[t.long() + 1].float().view(-1, 1) * x + wrong

    for sampler in ("ddim", "dpm++"):
        step, levels = make_sampler(Sampling.model_validate({"sampler": sampler}), diffusion, schedule)
        x = ld.run(denoiser(network, schedule, prediction="eps"), ld.start(key, (4,)), levels, step, key)
        assert 0.9 < float(x.std(0).mean()) < 1.1 and float(x.mean(0).abs().max()) < 0.7
