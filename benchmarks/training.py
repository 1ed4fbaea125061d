"""Training throughput with and without bfloat16, channels-last layout, the fused optimizer and workers that
share a batch.

python -m benchmarks.training [--rounds 5] [--seconds 2] [--threads 2] [--json]

Each variant trains the default small VAE (vector latent 32), MLP denoiser on its latents and pixel UNet on
the embedded digits, and on colour images of 64 x 64 pixels (noise: only their shape matters) the default VAE
with a grid of 8 x 8 x 8, and MLP and UNet on its latents. Variants take turns, one slice of time each a
round, so that a change in the machine's speed hits all of them; the table shows the median over rounds and
the spread (minimum to maximum) in images a second.
"""

from __future__ import annotations

import json
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import count

import click
import torch

from latentdiff.config.loop import LoopOptions
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.data import Dataset, Split, batch_indices, load_dataset
from latentdiff.nn import VAEConfig, build
from latentdiff.nn.networks import MLPConfig, UNetConfig
from latentdiff.pipeline.codec import IdentityCodec, LatentStatistics, VAECodec
from latentdiff.train.backward import backward, workers_of
from latentdiff.train.build import denoiser_config_of, vae_config_of
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.optimizer import make_optimizer
from latentdiff.train.task import Task
from latentdiff.train.vae import VAETask

VARIANTS: dict[str, dict[str, object]] = {
    "plain": {"bf16": "off", "channels_last": False, "fused": False, "workers": 1},
    "fused AdamW": {"bf16": "off", "channels_last": False, "fused": True, "workers": 1},
    "channels_last": {"bf16": "off", "channels_last": True, "fused": False, "workers": 1},
    "both": {"bf16": "off", "channels_last": True, "fused": True, "workers": 1},
    "both + bf16": {"bf16": "on", "channels_last": True, "fused": True, "workers": 1},
    "both + workers": {"bf16": "off", "channels_last": True, "fused": True, "workers": None},
    "all": {"bf16": "on", "channels_last": True, "fused": True, "workers": None},
}
CPU = torch.device("cpu")


def colour_images() -> Dataset:
    """Noise in the shape of a folder of photos."""
    images = torch.randint(0, 256, (512, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    split = Split(images.to(torch.uint8), torch.arange(512) % 10)
    return Dataset("colour", split, split, split, classes=tuple("0123456789"))


def tasks(data: Dataset, variant: dict[str, object]) -> dict[str, tuple[Task, LoopOptions]]:
    """The networks to train, in the numbers of one variant."""
    image = (data.channels, data.height, data.width)
    vae_options, options = TrainVAE.model_validate(variant), TrainDenoiser.model_validate(variant)
    pixel = TrainDenoiser.model_validate(variant | {"pixel": True})
    vae = build(VAEConfig.of_preset("small", image=image, latent=(32,)))
    untrained = build(VAEConfig.of_preset("small", image=image, latent=(32,)))
    codec = VAECodec(untrained, LatentStatistics(torch.zeros(32), torch.ones(32)))
    mlp = build(MLPConfig.of_preset("small", shape=(32,), num_classes=data.num_classes))
    unet = build(UNetConfig.of_preset("small", shape=image, num_classes=data.num_classes))
    return {
        "VAE": (VAETask(vae_options, data, vae, CPU), vae_options),
        "MLP denoiser": (DenoiserTask(options, data, codec, mlp, CPU), options),
        "pixel UNet": (DenoiserTask(pixel, data, IdentityCodec(image), unet, CPU), pixel),
        **grid_tasks(colour_images(), variant),
    }


def grid_tasks(data: Dataset, variant: dict[str, object]) -> dict[str, tuple[Task, LoopOptions]]:
    """The networks of colour images with a latent grid."""
    options = TrainVAE.model_validate(variant | {"latent": "8x8x8"})
    config = vae_config_of(options, data)
    codec = VAECodec(build(config), LatentStatistics(torch.zeros(8), torch.ones(8)))
    found: dict[str, tuple[Task, LoopOptions]] = {
        "grid VAE": (VAETask(options, data, build(config), CPU), options)
    }
    for kind in ("mlp", "unet"):
        chosen = TrainDenoiser.model_validate(variant | {"network": kind})
        network = build(denoiser_config_of(chosen, data, codec))
        found[f"grid {kind.upper()}"] = (DenoiserTask(chosen, data, codec, network, CPU), chosen)
    return found


def stepper(task: Task, options: LoopOptions) -> Callable[[], None]:
    """A function that makes one optimizer step."""
    if options.channels_last:
        task.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = make_optimizer(task.network, betas=task.betas, weight_decay=0.01, fused=options.fused)
    steps, workers = count(), workers_of(task, options, CPU)

    def step() -> None:
        i = next(steps)
        positions = torch.arange(i * task.batch, (i + 1) * task.batch)
        indices = batch_indices(task.size, batch=task.batch, step=i, seed=0)
        optimizer.zero_grad(set_to_none=True)
        backward(task.network, partial(task.loss, i), positions, indices, workers)
        torch.nn.utils.clip_grad_norm_(task.network.parameters(), 1.0)
        optimizer.step()

    return step


def rate(step: Callable[[], None], batch: int, seconds: float) -> float:
    """Images a second over a slice of time of at least one step."""
    done, start = 0, time.perf_counter()
    while done < 1 or time.perf_counter() - start < seconds:
        step()
        done += 1
    return done * batch / (time.perf_counter() - start)


@click.command()
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), default=2.0, show_default=True, help="Length of a slice."
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), default=None, help="CPU threads (default: torch's choice)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def main(rounds: int, seconds: float, threads: int | None, as_json: bool) -> None:
    """Training throughput with and without bfloat16, channels-last layout, the fused optimizer and
    workers.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    data = load_dataset("mnist5k")
    made = {name: tasks(data, variant) for name, variant in VARIANTS.items()}
    steppers = {
        (v, t): (stepper(*pair), pair[0].batch) for v, each in made.items() for t, pair in each.items()
    }
    for step, batch in steppers.values():
        rate(step, batch, 0.1)
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in steppers}
    for _ in range(rounds):
        for key, (step, batch) in steppers.items():
            rates[key].append(rate(step, batch, seconds))
    where = (
        f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    )
    if as_json:
        rows = {f"{t} / {v}": values for (v, t), values in rates.items()}
        click.echo(json.dumps({"torch": torch.__version__, "machine": where, "images_per_second": rows}))
        return
    click.echo(
        f"images a second, median of {rounds} (minimum to maximum); torch {torch.__version__}, {where}"
    )
    for name in next(iter(made.values())):
        click.echo(name)
        for variant in VARIANTS:
            found = rates[variant, name]
            spread = f"({min(found):.0f} to {max(found):.0f})"
            click.echo(f"  {variant:16} {statistics.median(found):6.0f} {spread}")


if __name__ == "__main__":
    main()
