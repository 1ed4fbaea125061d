"""Quality for the same training time: the latent recipe of this package against a pixel UNet of diffusers.

python -m benchmarks.quality_vs_diffusers --data mnist [--minutes 10] [--samples 2000] [--threads 2]
[--features mnist]
    [--batch 32] [--out FOLDER]

Both sides are class-conditional, train for --minutes of wall time on the same images one after the other,
keep a moving average of the weights, decay their learning rate to zero over that time and draw the same
number of images, all classes in turn, with 50 DDIM steps and no guidance. latentdiff:
configs/mnist-latent32.yaml through the command line, the minutes shared between VAE and denoiser as there.
diffusers: `UNet2DModel` of the usual course size (28x28, channels 32, 64, 64, two layers a block, attention
in the lower two resolutions), DDPMScheduler, batches of --batch (32: with the 128 of GPU tutorials a
processor makes too few steps). Both are scored against the test images by `latentdiff evaluate`'s figures in
the features of --features. The VAE of the recipe learned through `mnist`, which so flatters our side; FOLDER
keeps the images as .npz for any metric of your own, a picture of both and results.json. Left out of the time
of both: reading data and drawing samples, which are reported apart; of ours, measuring the spread of the
latents once after the VAE's minutes.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.apps.bench.report import machine
from latentdiff.config.base import Config
from latentdiff.data import Dataset, load_dataset, to_float, to_uint8
from latentdiff.errors import InputError
from latentdiff.evaluate import Reference, Resampling, random_subset, score_images
from latentdiff.files.system import processor_name
from latentdiff.metrics.features import feature_network
from latentdiff.metrics.features.network import network_labels
from latentdiff.metrics.names import NAMES, NEEDS_WEIGHTS
from latentdiff.viz.figures import save_panels
from latentdiff.viz.images import class_columns, image_grid, save_npz

RECIPE = Path(__file__).parent.parent / "configs" / "mnist-latent32.yaml"
STEPS, EMA, LR, WARMUP, DROP = 50, 0.999, 1e-3, 100, 0.1
CPU = torch.device("cpu")
JUDGES = [name for name in NAMES if name not in NEEDS_WEIGHTS]


class Budget(Config):
    """What both sides get."""

    data: str
    minutes: float
    samples: int
    threads: int
    seed: int
    batch: int  # of diffusers; the recipe has its own


@dataclass(frozen=True)
class Entry:
    """What one side made of its budget."""

    name: str
    images: Tensor  # uint8 [n, 1, H, W]
    steps: str
    training_seconds: float
    sampling_seconds: float


def command(*words: object, out: Path) -> dict[str, Any]:
    """Run `latentdiff WORDS --json` in the folder ``out``; its answer."""
    line = [sys.executable, "-m", "latentdiff", *map(str, words), "--json"]
    done = subprocess.run(line, cwd=out, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(line)} ended with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def latentdiff(budget: Budget, out: Path) -> Entry:
    """The recipe through the command line, its minutes scaled to the budget."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    minutes = {name: float(recipe[name]["minutes"]) for name in ("train-vae", "train-denoiser")}
    share = budget.minutes / sum(minutes.values())
    data = Path(budget.data).resolve() if Path(budget.data).exists() else budget.data
    common = ["--config", RECIPE, "--data", data, "--threads", budget.threads, "--seed", budget.seed]
    seconds, steps = 0.0, []
    for name, run in (("train-vae", "vae"), ("train-denoiser", "denoiser")):
        extra = ["--vae", "runs/vae"] if run == "denoiser" else []
        made = command(name, *common, "--minutes", minutes[name] * share, "--name", run, *extra, out=out)
        seconds, steps = seconds + made["seconds"], [*steps, f"{run} {made['steps']}"]
    from latentdiff.pipeline.pipeline import load

    pipeline, start = load(out / "runs" / "denoiser"), time.perf_counter()
    labels = [k % len(pipeline.classes) for k in range(budget.samples)]
    images = pipeline.sample(budget.samples, sampler="ddim", steps=STEPS, label=labels, seed=budget.seed)
    return Entry("latentdiff", to_uint8(images), ", ".join(steps), seconds, time.perf_counter() - start)


def diffusers(budget: Budget, data: Dataset) -> Entry:
    """The pixel UNet, trained by the lines that every tutorial has, with moving average and decay added."""
    from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
    from diffusers.training_utils import EMAModel

    torch.manual_seed(budget.seed)
    blocks = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    network = UNet2DModel(
        sample_size=(data.height, data.width),
        in_channels=data.channels,
        out_channels=data.channels,
        layers_per_block=2,
        block_out_channels=(32, 64, 64),
        down_block_types=blocks,
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
        num_class_embeds=data.num_classes + 1,
    ).to(memory_format=torch.channels_last)
    ema = EMAModel(network.parameters(), decay=EMA, use_ema_warmup=True, inv_gamma=1.0, power=3 / 4)
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-2, fused=True)
    noising = DDPMScheduler(num_train_timesteps=1000)
    step, start = 0, time.perf_counter()
    while (progress := (time.perf_counter() - start) / (60 * budget.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LR * min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * progress))
        _update(network, optimizer, noising, data, budget.batch)
        ema.step(network.parameters())
        step += 1
    seconds = time.perf_counter() - start
    ema.copy_to(network.parameters())
    start = time.perf_counter()
    sampler = DDIMScheduler(num_train_timesteps=1000, timestep_spacing="trailing")
    images = torch.cat(
        [_draw(network, sampler, part, data) for part in torch.arange(budget.samples).split(budget.batch)]
    )
    return Entry("diffusers", images, str(step), seconds, time.perf_counter() - start)


def _update(
    network: nn.Module, optimizer: torch.optim.Optimizer, noising: Any, data: Dataset, batch: int
) -> None:
    assert data.train.labels is not None
    chosen = torch.randint(0, len(data.train), (batch,))
    x0, labels = to_float(data.train.images[chosen]), data.train.labels[chosen]
    labels = torch.where(torch.rand(batch) < DROP, data.num_classes, labels)
    eps, t = torch.randn_like(x0), torch.randint(0, 1000, (batch,))
    out = network(noising.add_noise(x0, eps, t), t, class_labels=labels).sample
    optimizer.zero_grad(set_to_none=True)
    F.mse_loss(out, eps).backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()


@torch.no_grad()
def _draw(network: nn.Module, sampler: Any, indices: Tensor, data: Dataset) -> Tensor:
    labels = indices % data.num_classes
    x = torch.randn(len(indices), data.channels, data.height, data.width)
    sampler.set_timesteps(STEPS)
    for t in sampler.timesteps:
        x = sampler.step(network(x, t, class_labels=labels).sample, t, x).prev_sample
    return to_uint8(x.clamp(-1, 1))


def scored(entry: Entry, data: Dataset, reference: Reference) -> dict[str, Any]:
    """The figures of one side."""
    classes = torch.arange(len(entry.images)) % data.num_classes
    labels = network_labels(reference.network, classes, data.classes or ())
    scores = score_images(entry.images, reference, labels=labels, resampling=Resampling(count=0))
    seconds = {"training_seconds": entry.training_seconds, "sampling_seconds": entry.sampling_seconds}
    return {"steps": entry.steps, **seconds, **scores.as_dict()}


@click.command()
@click.option("--data", default="mnist", show_default=True, help="Data set with labels: a name or a path.")
@click.option(
    "--minutes", type=click.FloatRange(0.01, 6000), default=10.0, show_default=True, help="Training time."
)
@click.option(
    "--samples", type=click.IntRange(100, 50_000), default=2000, show_default=True, help="Images drawn."
)
@click.option("--threads", type=click.IntRange(1, 1024), default=2, show_default=True, help="CPU threads.")
@click.option(
    "--features",
    type=click.Choice(JUDGES),
    default="mnist",
    show_default=True,
    help="Network of the figures; mnist flatters our side, whose VAE learned through it.",
)
@click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Of both sides."
)
@click.option(
    "--batch", type=click.IntRange(1, 4096), default=32, show_default=True, help="Images a step of diffusers."
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("quality_vs_diffusers"))
def main(
    data: str, minutes: float, samples: int, threads: int, features: str, seed: int, batch: int, out: Path
) -> None:
    """Train both sides for the same time and score them."""
    torch.set_num_threads(threads)
    budget = Budget(data=data, minutes=minutes, samples=samples, threads=threads, seed=seed, batch=batch)
    images = load_dataset(data)
    if images.num_classes == 0:
        raise click.ClickException(f"--data {data}: expected labels, found none")
    try:
        network = feature_network(features)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    out.mkdir(parents=True, exist_ok=True)
    if (out / "runs").exists():
        raise click.ClickException(f"{out}/runs exists already: name another --out")
    real = network_labels(network, images.test.labels, images.classes or ())
    reference = Reference.from_images(images.test.images, network, labels=real, name=data)
    results: dict[str, Any] = {"budget": budget.model_dump(), "machine": machine(CPU, cpu=processor_name())}
    panels = []
    for make in (lambda: latentdiff(budget, out), lambda: diffusers(budget, images)):
        entry = make()
        save_npz(
            entry.images, out / f"{entry.name}.npz", labels=[k % images.num_classes for k in range(samples)]
        )
        panels.append(
            (entry.name, image_grid(entry.images[:100], columns=class_columns(100, images.num_classes)))
        )
        results[entry.name] = scored(entry, images, reference)
        fd, accuracy = (
            results[entry.name]["fd"]["value"],
            (results[entry.name]["accuracy"] or {}).get("value"),
        )
        click.echo(
            f"{entry.name:>10}: {entry.training_seconds:.0f} s of training ({entry.steps} steps), FD"
            f" {fd:.3f}, "
            + ("" if accuracy is None else f"class accuracy {accuracy:.1%}, ")
            + f"{1000 * entry.sampling_seconds / samples:.1f} ms an image"
        )
    chosen = images.train.images[random_subset(len(images.train), samples, seed=seed)]
    floor = score_images(chosen, reference, resampling=Resampling(count=0))
    results["real"] = floor.as_dict()
    click.echo(
        f"{'real':>10}: FD {floor.fd.value:.3f} of {samples} training images (features: {network.name})"
    )
    if network.name == "mnist":
        click.echo(
            "the VAE of latentdiff learned through mnist, which flatters its FD: --features names another"
            " judge"
        )
    save_panels(
        panels, out / "samples.png", title=f"{minutes:g} minutes of training on {threads} CPU threads"
    )
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
