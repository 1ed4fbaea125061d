"""Law 2: a sample depends on its seed and not on its company; bit for bit where no matrix product is
involved.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.diffusion.denoiser import Denoiser, denoiser
from latentdiff.diffusion.guidance import Condition
from latentdiff.diffusion.loop import run, sample, start
from latentdiff.diffusion.samplers import SamplerStep, ddim, ddpm, dpmpp2m, heun
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.nn import build
from latentdiff.nn.networks import MLPConfig, UNetConfig
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline

STEPS: dict[str, Callable[[Schedule], SamplerStep]] = {
    "ddim": lambda schedule: ddim(schedule),
    "ddim eta 0.5": lambda schedule: ddim(schedule, eta=0.5),
    "ddim clipped": lambda schedule: ddim(schedule, eta=1.0, direction="unclipped"),
    "ddpm small": lambda schedule: ddpm(schedule),
    "ddpm large": lambda schedule: ddpm(schedule, variance="large"),
    "ddpm learned": lambda schedule: ddpm(schedule, variance="learned"),
    "dpm++": dpmpp2m,
    "heun": heun,
}
SHAPE = (3, 5, 5)  # 75 elements: no multiple of any vector width


def gaussian_network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
    """The v of N(mu, 0.25) under the cosine schedule, mu by label, and a range output: elementwise, without
    libm.

    Doubled channels, as a network with learned variance returns them.
    """
    bars = make_schedule("cosine").alpha.square().to(x.dtype)[t.long() + 1].view(-1, 1, 1, 1)
    alpha, sigma = bars.sqrt(), (1 - bars).sqrt()
    mu = torch.zeros(len(x), dtype=x.dtype) if labels is None else labels.to(x.dtype) / 4
    mu = mu.view(-1, 1, 1, 1)
    x0 = mu + alpha * 0.25 / (bars * 0.25 + 1 - bars) * (x - alpha * mu)
    v = (alpha * x - x0) / sigma
    return torch.cat([v, x / (1 + x * x)], 1)


def analytic(schedule: Schedule, labels: Tensor, *, w: float, clip: float | None) -> Denoiser:
    condition = Condition(labels, null=0, w=w)
    return denoiser(
        gaussian_network, schedule, prediction="v", condition=condition, clip=clip, learned_variance=True
    )


@pytest.mark.parametrize("w", [1.0, 2.5])
@pytest.mark.parametrize("clip", [None, 0.8])
@pytest.mark.parametrize("name", STEPS)
def test_analytic_trajectories_do_not_depend_on_the_batch(name: str, clip: float | None, w: float) -> None:
    """Every state of 8 samples equals, to the last bit, that of the samples alone, in parts and in another
    order.
    """
    schedule = make_schedule("cosine")
    step, levels = STEPS[name](schedule), schedule.levels(6)
    key, labels = Key.of(40, 8), torch.arange(8) % 4
    x = start(key, SHAPE)

    def states(index: Tensor) -> list[Tensor]:
        denoise = analytic(schedule, labels[index], w=w, clip=clip)
        return [state.x for state in sample(denoise, x[index], levels, step, key[index])]

    whole = states(torch.arange(8))
    for index in (
        torch.tensor([0]),
        torch.tensor([7]),
        torch.tensor([2, 3, 4]),
        torch.tensor([6, 1, 5, 0, 2]),
    ):
        for together, apart in zip(whole, states(index), strict=True):
            assert torch.equal(together[index], apart)


def test_the_starting_noise_is_one_seed_for_each_sample() -> None:
    whole = start(Key.of(5, 6), SHAPE)
    parts = torch.cat([start(Key.of(5 + k, 1), SHAPE) for k in range(6)])
    assert torch.equal(whole, parts)
    assert not torch.equal(whole[0], whole[1])


def test_every_move_draws_its_own_noise() -> None:
    """Streams are (purpose, level): x_T and the moves share none, and neighbouring levels differ."""
    key = Key.of(0, 2)
    assert torch.equal(start(key, (16,)), key.at("init").normal((16,)))
    draws = [start(key, (16,)), *(key.at("step", t).normal((16,)) for t in (3, 2, 1))]
    for one, other in pairwise(draws):
        assert not torch.equal(one, other)
    schedule = make_schedule("cosine", T=3)
    zeros = denoiser(lambda x, t, labels: torch.zeros_like(x), schedule, prediction="x0")
    states = list(sample(zeros, draws[0], schedule.levels(), ddim(schedule, eta=1.0), key))
    (alpha_3, sigma_3), (alpha_2, sigma_2) = schedule.at(3), schedule.at(2)
    c = sigma_2 / sigma_3 * (1 - (alpha_3 / alpha_2) ** 2) ** 0.5
    k = (sigma_2**2 - c**2) ** 0.5 / sigma_3
    torch.testing.assert_close(states[0].x, k * draws[0] + c * draws[1], rtol=1e-5, atol=1e-6)


def randomized(network: nn.Module) -> nn.Module:
    """Weights without the zeros of a fresh network, which would make every output 0."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.uniform_(-0.05, 0.05, generator=generator)
    return network.eval()


NETWORKS: dict[str, Any] = {
    "mlp": MLPConfig(shape=(12,), width=32, depth=2, time_dim=32, num_classes=3),
    "unet": UNetConfig(
        shape=(2, 8, 8), width=16, mult=(1, 2), depth=1, attention=(1,), heads=2, groups=4, num_classes=3
    ),
}


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm++"])
@pytest.mark.parametrize("name", NETWORKS)
def test_network_samples_do_not_depend_on_the_batch_size(name: str, sampler: str) -> None:
    """Matrix products depend on the batch in their last bits: 1e-5, with guidance, over batches of 1, 3 and
    8.
    """
    config = NETWORKS[name]
    pipe = Pipeline(
        randomized(build(config)),
        DiffusionConfig(),
        IdentityCodec(config.shape),
        classes=("zero", "one", "two"),
    )
    labels = [0, 1, 2, 0, 1, 2, 0, 1]

    def images(batch: int) -> Tensor:
        return pipe.sample(8, sampler=sampler, steps=5, label=labels, guidance=2.0, seed=9, batch=batch)

    whole = images(8)
    assert (whole.abs() < 1).float().mean() > 0.5  # the clamp to [-1, 1] hides little
    assert not torch.allclose(whole[0], whole[3], atol=1e-2)
    for batch in (1, 3):
        torch.testing.assert_close(images(batch), whole, rtol=0, atol=1e-5)


def test_the_same_chunks_give_the_same_bits_through_a_network() -> None:
    config = NETWORKS["unet"]
    pipe = Pipeline(
        randomized(build(config)),
        DiffusionConfig(),
        IdentityCodec(config.shape),
        classes=("zero", "one", "two"),
    )
    one = pipe.sample(6, steps=3, seed=2, batch=3)
    assert torch.equal(one, pipe.sample(6, steps=3, seed=2, batch=3))
    assert torch.equal(one[3:], pipe.sample(3, steps=3, seed=5, batch=3))


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    schedule = make_schedule("cosine")
    denoise = analytic(schedule, torch.zeros(2, dtype=torch.int64), w=1.0, clip=None)
    results = []
    state = torch.random.get_rng_state()
    try:
        for seed in (0, 1):
            torch.random.manual_seed(seed)
            before = torch.random.get_rng_state()
            key = Key.of(0, 2)
            results.append(run(denoise, start(key, SHAPE), schedule.levels(3), ddpm(schedule), key))
            assert torch.equal(before, torch.random.get_rng_state())
    finally:
        torch.random.set_rng_state(state)
    assert torch.equal(*results)
