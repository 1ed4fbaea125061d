"""Time and memory of one step of fine-tuning a network of diffusers of a real size, with random weights.

python -m benchmarks.finetuning --model kl [--part decoder] [--batch 1] [--threads 2] [--device cpu] [--json]

The networks have the configurations of published ones: kl of stabilityai/sd-vae-ft-mse, tiny of
madebyollin/taesd, unet of google/ddpm-celebahq-256, all for images of 256x256. A step is that of
`latentdiff train-vae` and `latentdiff train-denoiser --pixel`: loss, gradients, AdamW, the moving average, in
bfloat16 where the processor computes in it.
The second of two steps is timed, on the clock and in seconds of all cores together (`cpu_seconds`, which a
shared machine does not stretch). Memory is the peak of the process (on a GPU: of what torch holds there), so
one model a call.
"""

from __future__ import annotations

import json
import platform
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import diffusers
import torch

from latentdiff.config.loop import LoopOptions
from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.data import Dataset, Split
from latentdiff.parallel.device import bf16_native
from latentdiff.pipeline.checkpoint.folder import INDEX
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.components import load_autoencoder, load_denoiser
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.optimizer import EMA, make_optimizer
from latentdiff.train.task import Task
from latentdiff.train.vae import VAETask

SIDE = 256
KL = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": SIDE,
}
UNET = {
    "sample_size": SIDE,
    "block_out_channels": (128, 128, 256, 256, 512, 512),
    "down_block_types": (*("DownBlock2D",) * 4, "AttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "AttnUpBlock2D", *("UpBlock2D",) * 4),
    "layers_per_block": 2,
    "attention_head_dim": None,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "norm_eps": 1e-6,
}


def task_of(
    model: str, part: Any, batch: int, device: torch.device, folder: Path
) -> tuple[Task, LoopOptions]:
    """The training of a network with random weights on random images."""
    images = torch.randint(0, 256, (batch, 3, SIDE, SIDE), dtype=torch.uint8)
    data = Dataset("random", Split(images), Split(images[:1]), Split(images[:1]))
    made: dict[str, Any] = {"kl": diffusers.AutoencoderKL, "tiny": diffusers.AutoencoderTiny}
    if model in made:
        made[model](**(KL if model == "kl" else {})).save_pretrained(folder)
        vae, statistics = load_autoencoder(locate(folder), {"vae": ["diffusers"]}, data.shape)
        options = TrainVAE(batch=batch, train=part)
        return VAETask(options, data, vae, device, statistics), options
    unet: Any = diffusers.UNet2DModel
    diffusers.DDPMPipeline(unet(**UNET), diffusers.DDPMScheduler()).save_pretrained(folder)
    checkpoint = locate(folder)
    network = load_denoiser(checkpoint, checkpoint.json(INDEX))
    training = TrainDenoiser(batch=batch, pixel=True, prediction="eps", schedule="linear")
    return DenoiserTask(training, data, IdentityCodec(data.shape), network, device), training


@click.command()
@click.option("--model", type=click.Choice(["kl", "tiny", "unet"]), required=True)
@click.option("--part", type=click.Choice(["all", "decoder"]), default="all")
@click.option("--batch", type=click.IntRange(1), default=1)
@click.option("--threads", type=click.IntRange(1), default=2)
@click.option("--device", default="cpu")
@click.option("--json", "as_json", is_flag=True)
def main(*, model: str, part: str, batch: int, threads: int, device: str, as_json: bool) -> None:
    torch.set_num_threads(threads)
    where = torch.device(device)
    with tempfile.TemporaryDirectory() as folder:
        task, options = task_of(model, part, batch, where, Path(folder))
    network: Any = task.network
    network.to(where).to(memory_format=torch.channels_last)
    ema = EMA(network, 0.999)
    optimizer = make_optimizer(network, betas=task.betas, weight_decay=0.01, fused=options.fused)
    positions = torch.arange(batch)
    for step in range(2):  # the second has all moments in memory
        start, of_cpu = time.perf_counter(), time.process_time()
        optimizer.zero_grad(set_to_none=True)
        task.loss(step, positions, positions)[0].backward()
        optimizer.step()
        ema.update(network)
        if where.type == "cuda":
            torch.cuda.synchronize()
        seconds, of_cpu = time.perf_counter() - start, time.process_time() - of_cpu
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if where.type == "cuda":
        peak = torch.cuda.max_memory_allocated()
    found = {
        "model": model,
        "part": part,
        "batch": batch,
        "parameters": sum(p.numel() for p in network.parameters()),
        "trained": sum(p.numel() for p in network.parameters() if p.requires_grad),
        "seconds": round(seconds, 2),
        "cpu_seconds": round(of_cpu, 2),
        "peak_gib": round(peak / 2**30, 2),
        "threads": threads,
        "bf16": bf16_native(where),
        "device": device,
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "machine": platform.platform(),
    }
    click.echo(
        json.dumps(found) if as_json else "\n".join(f"{name}: {value}" for name, value in found.items())
    )


if __name__ == "__main__":
    main()
