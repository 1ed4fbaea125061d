"""The state of a training, which an exact resume needs: weights, moving average, optimizer, progress."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from latentdiff.config.base import Config, current_names, parse
from latentdiff.config.training import TrainCold, TrainDenoiser, TrainStudent, TrainVAE
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer, bytes_of, check_tensors
from latentdiff.train.distributed import gathered, split_like
from latentdiff.train.optimizer import EMA, load_optimizer, optimizer_tensors

# by kind of training
OPTIONS: dict[str, type[Config]] = {
    "vae": TrainVAE,
    "denoiser": TrainDenoiser,
    "student": TrainStudent,
    "cold": TrainCold,
}
STATE = "training/state.json"
TENSORS = "training/state.safetensors"


class TrainState(Config):
    """The progress after ``step`` updates in ``elapsed`` seconds; ``window``: sums that are not logged."""

    kind: str
    step: int = Field(ge=0)
    elapsed: float = Field(ge=0)
    ema_updates: int = Field(ge=0)
    window: dict[str, float]
    window_steps: int = Field(ge=0)
    data: str  # fingerprint of the training split
    finished: bool
    perceptual: str | None = None  # Task.perceptual_fingerprint
    options: dict[str, Any]  # the configuration, to continue with the same


def state_tensors(network: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Raw weights, moving average and optimizer moments in full. Collective where sharded."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    tensors |= {f"ema.{name}": value for name, value in ema.module.state_dict().items()}
    return gathered(
        tensors | {f"adam.{name}": value for name, value in optimizer_tensors(optimizer, network).items()}
    )


def save_state(writer: Writer, progress: TrainState, tensors: Mapping[str, Tensor]) -> None:
    """Write ``training/``: the tensors of :func:`state_tensors`, and the progress as JSON."""
    writer.json(STATE, progress.model_dump(mode="json"))
    writer.tensors(TENSORS, tensors)


def load_train_state(checkpoint: Checkpoint) -> TrainState:
    """The progress alone, its options by their names of today; InputError where there is none."""
    state = parse(TrainState, checkpoint.json(STATE), f"{checkpoint.folder}/{STATE}")
    model = OPTIONS.get(state.kind)
    return (
        state if model is None else state.model_copy(update={"options": current_names(model, state.options)})
    )


def check_perceptual(progress: TrainState, found: str | None, checkpoint: Checkpoint) -> None:
    """InputError unless a training has the perceptual network that its checkpoint records."""
    if progress.perceptual not in (None, found):
        raise InputError(
            f"{checkpoint.folder}: was trained with the perceptual network {progress.perceptual}, found"
            f" {found}; `resume` needs the same, `perceptual_weights` names where its weights are"
        )


def load_state(
    checkpoint: Checkpoint, network: nn.Module, ema: EMA, optimizer: torch.optim.Optimizer
) -> None:
    """Load the saved tensors; InputError where one is missing or of another shape."""
    progress, mine = load_train_state(checkpoint), network.state_dict()
    where = f"{checkpoint.folder}/{TENSORS}"
    shapes: Mapping[str, torch.Size] = {name: value.shape for name, value in mine.items()}
    trained = {name: p.shape for name, p in network.named_parameters() if p.requires_grad}
    moments = {f"{n}.{key}": shape for n, shape in trained.items() for key in ("exp_avg", "exp_avg_sq")}
    moments |= {f"{n}.step": torch.Size() for n in trained}
    tensors = checkpoint.tensors(
        TENSORS, limit=bytes_of([*shapes.values(), *shapes.values(), *moments.values()])
    )
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "ema": {}, "adam": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = value
    check_tensors(parts["network"], shapes, where)
    check_tensors(parts["ema"], shapes, where)
    if progress.step:
        check_tensors(parts["adam"], moments, where)
    for module, part in ((network, "network"), (ema.module, "ema")):
        module.load_state_dict({name: split_like(value, mine[name]) for name, value in parts[part].items()})
    ema.updates = progress.ema_updates
    load_optimizer(optimizer, network, parts["adam"])
