"""Which levels a sampler of a model visits: all, unless x_0 cannot be read out of what the network says
there.
"""

import pytest
import torch
from torch import Tensor

import latentdiff as ld
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.denoiser import denoiser
from latentdiff.diffusion.plan import MIN_ALPHA, max_level, plan, with_defaults
from latentdiff.errors import InputError


def process(
    prediction: str, *, kind: str = "cosine", clip: float | None = None, T: int = 1000
) -> DiffusionConfig:
    return DiffusionConfig.model_validate(
        {"prediction": prediction, "schedule": {"kind": kind, "T": T}, "clip": clip}
    )


@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_noise_predictions_start_where_there_is_a_signal(prediction: str) -> None:
    diffusion = process(prediction)
    schedule = ld.make_schedule(diffusion.schedule)
    top = max_level(diffusion, schedule)
    assert schedule.at(top)[0] >= MIN_ALPHA > schedule.at(top + 1)[0] and 950 < top < 1000
    for sampler, steps in (("ddim", 50), ("dpm++", 20), ("ddpm", 10)):
        settings = Sampling.model_validate({"sampler": sampler, "steps": steps})
        levels = plan(settings, diffusion, schedule)[1]
        assert levels == schedule.levels(steps, top=top) and levels[0] == top and len(levels) == steps + 1
    every = Sampling.model_validate({"sampler": "ddpm"})
    assert plan(every, diffusion, schedule)[1] == list(range(top, -1, -1))
    assert with_defaults(every, diffusion, schedule).steps == top
    with pytest.raises(InputError, match="at most 1000"):
        plan(Sampling.model_validate({"steps": 1001}), diffusion, schedule)


def test_everything_else_starts_from_noise() -> None:
    for diffusion in (
        process("v"),
        process("x0"),
        process("eps", clip=1.0),
        process("eps", kind="scaled_linear"),
    ):
        schedule = ld.make_schedule(diffusion.schedule)
        assert max_level(diffusion, schedule) == 1000
        assert plan(Sampling.model_validate({}), diffusion, schedule)[1] == schedule.levels(50)
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
        step, levels = plan(Sampling.model_validate({"sampler": sampler}), diffusion, schedule)
        x = ld.run(denoiser(network, schedule, prediction="eps"), ld.start(key, (4,)), levels, step, key)
        assert 0.9 < float(x.std(0).mean()) < 1.1 and float(x.mean(0).abs().max()) < 0.7
