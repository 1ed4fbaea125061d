"""The captured loop on a real GPU: the bits of the eager loop, other keys, and no host synchronization."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import latentdiff as ld
from latentdiff.diffusion.compile import CUDAGraphLoop
from latentdiff.diffusion.denoiser import Denoiser, denoiser
from latentdiff.diffusion.guidance import Condition
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import ddim, ddpm, dpmpp2m
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.nn import build
from latentdiff.nn.networks import MLPConfig, UNetConfig
from latentdiff.ops import constants
from latentdiff.ops.random import Key

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

B = 8
SCHEDULE = make_schedule("cosine", T=1000)
LEVELS = SCHEDULE.levels(50)
STEPS = {
    "ddim": ddim(SCHEDULE),
    "ddpm": ddpm(SCHEDULE),
    "ddpm learned": ddpm(SCHEDULE, variance="learned"),
    "dpm++": dpmpp2m(SCHEDULE),
}
CONFIGS = {
    "mlp": partial(MLPConfig.of_preset, "small", shape=(32,)),
    "unet": partial(UNetConfig.of_preset, "small", shape=(3, 16, 16)),
}


def network(kind: str, *, learned: bool) -> nn.Module:
    """A small network with three classes, weights drawn on the CPU and nothing left at zero."""
    module = build(CONFIGS[kind](num_classes=3, out_factor=2 if learned else 1)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for weight in module.parameters():
        weight.copy_(0.02 * torch.randn(weight.shape, generator=generator))
    return module.to("cuda")


def inputs(module: nn.Module, seed: int) -> tuple[Tensor, Key, Tensor]:
    key = Key.of(seed, B, device="cuda")
    return start(key, module.config.shape), key, key.seeds % 3


def denoise(module: nn.Module, labels: Tensor, *, learned: bool, w: float = 2.0) -> Denoiser:
    condition = Condition(labels, null=3, w=w)
    return denoiser(module, SCHEDULE, prediction="v", condition=condition, clip=2.0, learned_variance=learned)


@contextmanager
def no_synchronization() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("name", STEPS)
def test_a_replay_gives_the_bits_of_the_eager_loop_of_its_own_key(name: str, kind: str) -> None:
    learned = name == "ddpm learned"
    module = network(kind, learned=learned)
    x, key, labels = inputs(module, 7)
    own = labels.clone()
    loop = CUDAGraphLoop(denoise(module, own, learned=learned), LEVELS, STEPS[name], x, key, labels=own)
    results = []
    for seed in (7, 100, 7):
        x, key, labels = inputs(module, seed)
        eager = run(denoise(module, labels, learned=learned), x, LEVELS, STEPS[name], key)
        results.append(loop(x, key, labels=labels))
        assert torch.equal(results[-1], eager)
    assert torch.equal(results[0], results[2]) and not torch.equal(results[0], results[1])


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_neither_the_replay_nor_a_second_eager_loop_waits_for_the_gpu(name: str) -> None:
    module = network("mlp", learned=False)
    x, key, labels = inputs(module, 0)
    own = labels.clone()
    loop = CUDAGraphLoop(denoise(module, own, learned=False), LEVELS, STEPS[name], x, key, labels=own)
    run(denoise(module, labels, learned=False), x, LEVELS, STEPS[name], key)
    torch.cuda.synchronize()
    with no_synchronization():
        replayed = loop(x, key, labels=labels)
        eager = run(denoise(module, labels, learned=False), x, LEVELS, STEPS[name], key)
    assert torch.equal(replayed, eager)


def test_a_loop_of_a_thousand_steps_survives_the_constants_of_others() -> None:
    module = network("mlp", learned=False)
    x, key, labels = inputs(module, 0)
    levels, own = SCHEDULE.levels(), labels.clone()
    loop = CUDAGraphLoop(denoise(module, own, learned=False), levels, STEPS["ddpm"], x, key, labels=own)
    before = loop(x, key, labels=labels)
    constants._kept_row.cache_clear()
    constants._kept_filled.cache_clear()
    torch.cuda.empty_cache()
    for value in range(3 * constants.ENTRIES):  # writes over whatever was freed
        constants.constant_fill(value, (B,), dtype=torch.float32, device=x.device)
    assert torch.equal(loop(x, key, labels=labels), before)


def test_constants_are_not_kept_from_a_capture_of_ones_own() -> None:
    graph, device = torch.cuda.CUDAGraph(), torch.device("cuda", torch.cuda.current_device())
    stream = torch.cuda.Stream()
    with torch.cuda.graph(graph, stream=stream):
        constants.constant_fill(123457, (4,), dtype=torch.int64, device=device)
    with torch.cuda.stream(stream):  # the recorded fill has not run yet
        assert (
            constants.constant_fill(123457, (4,), dtype=torch.int64, device=device).tolist() == [123457] * 4
        )


def test_what_does_not_fit_the_capture_is_refused() -> None:
    module = network("mlp", learned=False)
    x, key, labels = inputs(module, 0)
    own = labels.clone()
    loop = CUDAGraphLoop(denoise(module, own, learned=False), LEVELS, STEPS["ddim"], x, key, labels=own)
    for other in (x[:4], x.double(), x.cpu()):
        with pytest.raises(ValueError, match=r"the loop was captured for x float32 \[8, 32\] on cuda"):
            loop(other, key, labels=labels)


def test_a_pipeline_draws_the_same_images_captured(tiny_denoiser_run: Path) -> None:
    pipe = ld.load(tiny_denoiser_run, device="cuda")
    for options in ({"sampler": "ddim"}, {"sampler": "ddpm"}, {"sampler": "dpm++", "steps": 6}):
        ask = partial(pipe.sample, 7, label=[0, 1, 2, 0, 1, 2, 0], guidance=2.0, batch=3, **options)
        for seed in (0, 50):
            assert float((ask(seed=seed, compile=True) - ask(seed=seed)).abs().max()) <= 1e-4
