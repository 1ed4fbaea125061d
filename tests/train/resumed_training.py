"""Trainings of every kind that are broken off and resumed in process."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from latentdiff.config.training import TrainDenoiser, TrainVAE
from latentdiff.data import Dataset, Split
from latentdiff.nn import VAEConfig, build, network_config
from latentdiff.nn.networks import MLPConfig
from latentdiff.pipeline.checkpoint.folder import Checkpoint, open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.pipeline.codec import Codec, IdentityCodec, LatentStatistics, VAECodec
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.loop import Trainer
from latentdiff.train.progress import Budget
from latentdiff.train.vae import VAETask

CPU = torch.device("cpu")

STEPS = 10  # saves after 3, 6, 9; log lines after 4, 8; validations after 5, 10; an epoch is 2.75 steps

LOOP: dict[str, Any] = {
    "steps": STEPS,
    "batch": 8,
    "save_every": 3,
    "log_every": 4,
    "validate_every": 5,
    "warmup": 3,
}


class Stop(Exception):
    """The process dies."""


class Hook:
    """A reporter that breaks the training off after a step, by an exception or by a signal."""

    def __init__(self, at: int | None = None, signum: int | None = None) -> None:
        self.at, self.signum = at, signum
        self.notes: list[str] = []

    def start(self, budget: Budget, step: int) -> None: ...
    def note(self, message: str) -> None:
        self.notes.append(message)

    def stop(self) -> None: ...
    def step(self, step: int, progress: float, values: Mapping[str, float]) -> None:
        if step == self.at and self.signum is None:
            raise Stop
        if step == self.at:
            signal.raise_signal(self.signum)


def make_data() -> Dataset:
    generator = torch.Generator().manual_seed(7)
    sizes = (22, 5, 3)
    splits = [
        Split(
            torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8), torch.arange(n) % 2
        )
        for n in sizes
    ]
    return Dataset("tiny", *splits, classes=("even", "odd"))


DATA = make_data()


def make_task(kind: str, options: Mapping[str, Any]) -> VAETask | DenoiserTask:
    """A fresh task with the weights of a new process; kind is vae, vector, spatial, pixel, or a network on
    pixels.
    """
    if kind == "vae":
        config = VAEConfig(image=(1, 8, 8), latent=(4,), width=8, depth=1, hidden=16)
        return VAETask(TrainVAE(**LOOP | options), DATA, build(config), CPU)
    pixel = kind not in ("vector", "spatial")
    settings = TrainDenoiser(**LOOP | {"T": 4, "pixel": pixel} | options)
    codec: Codec = IdentityCodec((1, 8, 8), settings.pixel_scale)
    if not pixel:
        latent = (4,) if kind == "vector" else (2, 4, 4)
        vae = build(VAEConfig(image=(1, 8, 8), latent=latent, width=8, depth=0, hidden=16), seed=5).eval()
        codec = VAECodec(vae, LatentStatistics(torch.full(latent[:1], 0.1), torch.full(latent[:1], 0.5)))
    factor = 2 if settings.variance == "learned" else 1
    if kind == "vector":
        network = build(
            MLPConfig.of_preset(
                "small", shape=(4,), num_classes=2, out_factor=factor, width=16, depth=1, time_dim=8
            )
        )
        return DenoiserTask(settings, DATA, codec, network, CPU)
    form: str = kind if kind in ("cnn", "course-unet", "convnext") else "unet"
    depth = 1 if form == "unet" else None
    numbers = {"num_classes": 2, "out_factor": factor, "width": 16, "depth": depth}
    grid = build(network_config(form, "small", codec.latent_shape, levels=4, **numbers))
    return DenoiserTask(settings, DATA, codec, grid, CPU)


def trainer(
    kind: str,
    folder: Path,
    options: Mapping[str, Any],
    *,
    hook: Hook | None = None,
    resume: Checkpoint | None = None,
) -> Trainer:
    task = make_task(kind, options)
    return Trainer(
        task,
        task.options,
        Run(folder),
        data="fingerprint",
        device=CPU,
        reporter=hook or Hook(),
        resume=resume,
    )


def content(folder: Path) -> dict[str, Any]:
    """Everything a run ends with except times: the bytes of all files of its last checkpoint, and the log's
    lines.
    """
    run = Run(folder)
    checkpoint = open_checkpoint(run.checkpoints()[-1])
    checkpoint.verify()
    files: dict[str, Any] = {
        name: (checkpoint.folder / name).read_bytes()
        for name in checkpoint.files
        if name != "training/state.json"
    }
    state = checkpoint.json("training/state.json")
    log = [json.loads(line) for line in run.log.read_text().splitlines()]
    for values in (state, *log):
        values.pop("elapsed", None)
        values.pop("seconds", None)
    return {**files, "state": state, "log": log, "name": checkpoint.folder.name}
