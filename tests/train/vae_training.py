"""A tiny VAE training in process, for tests of the loop, of threads and of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.config.training import TrainVAE
from latentdiff.data import Dataset, Split
from latentdiff.nn import VAEConfig, build
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.train.loop import Trainer
from latentdiff.train.progress import Budget
from latentdiff.train.vae import VAETask

CPU = torch.device("cpu")

SIZE, BATCH = 22, 8


class Reporter:
    """Calls ``after`` with the number of each step that was made."""

    def __init__(self, after: Callable[[int], object] = lambda step: None) -> None:
        self.after, self.stopped = after, False

    def start(self, budget: Budget, step: int) -> None: ...
    def note(self, message: str) -> None: ...
    def stop(self) -> None:
        self.stopped = True

    def step(self, step: int, progress: float, values: Mapping[str, float]) -> None:
        self.after(step)


def make_data() -> Dataset:
    generator = torch.Generator().manual_seed(3)
    splits = [
        Split(torch.randint(0, 256, (n, 1, 8, 8), generator=generator, dtype=torch.uint8))
        for n in (SIZE, 4, 3)
    ]
    return Dataset("tiny", *splits)


def make_task(task_class: type[VAETask] = VAETask, **options: Any) -> VAETask:
    config = VAEConfig(image=(1, 8, 8), latent=(4,), width=8, depth=0, hidden=16)
    return task_class(TrainVAE(**{"batch": BATCH, "bf16": "off"} | options), make_data(), build(config), CPU)


def make_trainer(task: VAETask, folder: Path, reporter: Reporter | None = None) -> Trainer:
    return Trainer(task, task.options, Run(folder), data="tiny", device=CPU, reporter=reporter or Reporter())


def weights(task: VAETask) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.network.state_dict().items()}


def equal(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
