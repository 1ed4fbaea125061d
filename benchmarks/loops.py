"""The loops that benchmarks.sampling compares, and their measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from latentdiff.apps.bench.networks import SIDE, operations, product
from latentdiff.apps.bench.timing import Calls, Timing, interleaved, stopwatch_for
from latentdiff.diffusion.compile import CudaGraph, CUDAGraphLoop, compiled_network
from latentdiff.diffusion.denoiser import Network, denoiser, timestep
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import ddim, ddpm
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.errors import InputError
from latentdiff.nn import build
from latentdiff.nn.networks import MLPConfig, UNetConfig
from latentdiff.ops.random import Key

T = 1000
DDIM_STEPS = 50
Sampler = Literal["DDIM", "DDPM"]
OURS, THEIRS, COMPILED, NETWORK = "latentdiff", "diffusers", "latentdiff compiled", "network alone"
NETWORK_GRAPH = "network alone, graph"
PRODUCT = "matrix product"
OUR_REST, THEIR_REST = "latentdiff without network", "diffusers without network"


@dataclass(frozen=True)
class Task:
    """A sampler with a network: ``moves`` of the ``planned`` moves are measured, the first ones."""

    name: str
    sampler: Sampler
    network: Network
    x: Tensor
    key: Key
    planned: int
    moves: int

    @property
    def levels(self) -> list[int]:
        """The levels that the measured moves visit."""
        return make_schedule("linear", T=T).levels(self.planned)[: self.moves + 1]


@dataclass(frozen=True)
class Loops:
    """The timings of one task, in seconds a loop, and why implementations are missing; ``operations``: of one
    call of the network.
    """

    task: Task
    timings: dict[str, Timing] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    operations: int = 0

    def a_move(self, name: str) -> float:
        """Median seconds of one move."""
        return self.timings[name].median / self.task.moves

    def beyond_graph(self) -> float | None:
        """Seconds of a move that the captured loop adds to the captured network; None without a GPU."""
        if COMPILED not in self.timings or NETWORK_GRAPH not in self.timings:
            return None
        return self.a_move(COMPILED) - self.a_move(NETWORK_GRAPH)

    def of_peak(self) -> float:
        """The network's operations a second as a part of those of a large matrix product."""
        network = self.operations * self.task.moves / self.timings[NETWORK].median
        return network / (2 * SIDE**3 / self.timings[PRODUCT].fastest)

    def share(self, rest: str) -> float:
        """What a loop does outside its network, as a part of the network's time."""
        return self.timings[rest].median / self.timings[NETWORK].median


def ours(task: Task, network: Network) -> Callable[[], Tensor]:
    """Our loop with a network."""
    schedule = make_schedule("linear", T=T)
    denoise = denoiser(network, schedule, prediction="v")
    step = ddim(schedule) if task.sampler == "DDIM" else ddpm(schedule)
    levels = task.levels
    return lambda: run(denoise, task.x, levels, step, task.key)


def theirs(task: Task, network: Network) -> Callable[[], Tensor] | str:
    """The loop that users of diffusers write, with its scheduler as it comes."""
    try:
        from diffusers import DDIMScheduler, DDPMScheduler
    except ImportError:
        return "diffusers is not installed"
    kind: Any = DDIMScheduler if task.sampler == "DDIM" else DDPMScheduler
    scheduler = kind(
        num_train_timesteps=T,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        timestep_spacing="trailing",
    )

    def loop() -> Tensor:
        scheduler.set_timesteps(task.planned, device=task.x.device)
        x = task.x
        for t in scheduler.timesteps[: task.moves]:
            out = network(x, t.expand(len(x)), None)
            x = scheduler.step(out, t, x, return_dict=False)[0]
        return x

    return loop


def compiled(task: Task, ready: dict[str, Network]) -> Callable[[], Tensor] | str:
    """Our loop as one CUDA graph; on a CPU, our loop with the compiled network, which both samplers share
    (``ready``).
    """
    schedule = make_schedule("linear", T=T)
    if task.x.device.type == "cuda":
        step = ddim(schedule) if task.sampler == "DDIM" else ddpm(schedule)
        denoise = denoiser(task.network, schedule, prediction="v")
        captured = CUDAGraphLoop(denoise, task.levels, step, task.x, task.key)
        return lambda: captured(task.x, task.key)
    try:
        if task.name not in ready:
            ready[task.name] = compiled_network(task.network)
        network = ready[task.name]
        network(task.x, _time(task, task.levels[0]), None)
    except (InputError, RuntimeError) as error:  # all of torch.compile's errors derive from RuntimeError
        return " ".join(str(error).split())[:120]
    return ours(task, network)


def alone(task: Task) -> Callable[[], Tensor]:
    """The network called as often as in the loop, on the same inputs."""
    times = [_time(task, t) for t, _ in pairwise(task.levels)]

    def calls() -> Tensor:
        out = task.x
        for time in times:
            out = task.network(task.x, time, None)
        return out

    return calls


def alone_captured(task: Task) -> Callable[[], Tensor] | str:
    """The same calls as one CUDA graph: what a captured loop has to be compared with."""
    if task.x.device.type != "cuda":
        return "CUDA graphs need a GPU"
    work, recorder = alone(task), CudaGraph(task.x.device)
    with torch.inference_mode(False), torch.no_grad():
        recorder.warm(work)
        out = recorder.capture(work)

    def replay(work: Callable[[], Tensor] = work) -> Tensor:  # work keeps the tensors that the graph reads
        recorder.replay()
        return out

    return replay


def _time(task: Task, t: int) -> Tensor:
    return torch.full((len(task.x),), timestep(t), dtype=torch.float32, device=task.x.device)


def measure(task: Task, *, rounds: int, ready: dict[str, Network] | None) -> Loops:
    """Time every implementation of a task, interleaved; ``ready``: networks compiled before, None to compile
    nothing.
    """
    done = Loops(task)
    out = task.network(task.x, _time(task, task.levels[0]), None)

    def stub(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        return out

    made: dict[str, Callable[[], Tensor] | str] = {
        OURS: ours(task, task.network),
        THEIRS: theirs(task, task.network),
        COMPILED: "switched off" if ready is None else compiled(task, ready),
        NETWORK: alone(task),
        PRODUCT: product(SIDE, task.x.dtype, task.x.device),
        NETWORK_GRAPH: "switched off" if ready is None else alone_captured(task),
        OUR_REST: ours(task, stub),
        THEIR_REST: theirs(task, stub),
    }
    calls: dict[str, Calls] = {}
    for name, call in made.items():
        if isinstance(call, str):
            done.skipped[name] = call
        else:
            calls[name] = [call]
    watch = stopwatch_for(task.x.device)
    for each in calls.values():
        watch(each, 1)
    timings = interleaved(calls, stopwatch=watch, rounds=rounds, slice_seconds=0.002)
    once = partial(task.network, task.x, _time(task, task.levels[0]), None)
    return Loops(task, timings, done.skipped, operations(once))


def make_tasks(
    device: torch.device,
    *,
    batch: int,
    unet_shape: tuple[int, ...],
    ddpm_steps: int,
    rounds: int,
    seconds: float,
) -> list[Task]:
    """Both samplers with the MLP on latents of 32 and the UNet; moves are cut where ``seconds`` would not
    do.
    """
    networks: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
        "MLP": (build(MLPConfig.of_preset("small", shape=(32,))), (32,)),
        "UNet": (build(UNetConfig.of_preset("small", shape=unet_shape)), unet_shape),
    }
    tasks = []
    for name, (module, shape) in networks.items():
        network = module.eval().requires_grad_(False).to(device)
        key = Key.of(0, batch, device=device)
        x = start(key, shape)
        time = torch.full((batch,), 0.0, device=device)
        call: Calls = [lambda network=network, x=x, time=time: network(x, time, None)]  # type: ignore[misc]
        watch = stopwatch_for(device)
        watch(call, 2)
        fit = int(
            seconds / 4 / (4 * (rounds + 2) * watch(call, 2) / 2)
        )  # four loops with a network, four tasks
        for sampler, planned in (("DDIM", DDIM_STEPS), ("DDPM", ddpm_steps)):
            moves = min(planned, max(5, fit))
            tasks.append(Task(name, sampler, network, x, key, planned, moves))  # type: ignore[arg-type]
    return tasks
