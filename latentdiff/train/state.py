"""The state of a training: optimizer, moving average and progress, and what an exact resume needs of them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from latentdiff.config.base import Config, current_names, parse
from latentdiff.config.training import TrainCold, TrainDenoiser, TrainVAE
from latentdiff.data import Unreadable
from latentdiff.data.brightness import LOOKED_AT, Brightness
from latentdiff.data.types import ImageSplit
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer, bytes_of, check_tensors
from latentdiff.pipeline.checkpoint.pretrained import about
from latentdiff.train.distributed import gathered, split_like

# by kind of training
OPTIONS: dict[str, type[Config]] = {"vae": TrainVAE, "denoiser": TrainDenoiser, "cold": TrainCold}
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
    moments = {
        f"{n}.{key}": p.shape for n, p in network.named_parameters() for key in ("exp_avg", "exp_avg_sq")
    }
    moments |= {f"{n}.step": torch.Size() for n, _ in network.named_parameters()}
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


class EMA:
    """A copy of ``module`` whose weights are the moving average of its weights; samples are drawn from
    the copy.

    ``decay`` is reached gradually, min(decay, (1 + i) / (10 + i)) at update i, so that short trainings are
    not tied to the initial weights; 0 makes the copy equal to the module.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """One update towards the module's weights; call it after each optimizer step."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(
            list(self.module.parameters()), [p.detach() for p in module.parameters()], 1 - decay
        )


def make_optimizer(
    network: nn.Module, *, betas: tuple[float, float], weight_decay: float, fused: bool
) -> torch.optim.AdamW:
    """AdamW without weight decay of biases, gains and 1-d embeddings; the loop sets the learning rate."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, fused=fused)


def optimizer_tensors(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as tensors named PARAMETER.KEY."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in network.named_parameters()}
    return {
        f"{names[p]}.{key}": value for p, state in optimizer.state.items() for key, value in state.items()
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, network: nn.Module, tensors: Mapping[str, Tensor]
) -> None:
    """Restore the state of :func:`optimizer_tensors`; devices are the parameters', but for counters."""
    parameters = dict(network.named_parameters())
    for full, value in tensors.items():
        name, key = full.rsplit(".", 1)
        parameter = parameters[name]
        on_device = value if key == "step" and not optimizer.defaults["fused"] else value.to(parameter.device)
        if key != "step":  # keep the layout of the parameter, so that resumed sums run in the same order
            on_device = torch.empty_like(parameter).copy_(split_like(on_device, parameter))
        optimizer.state[parameter][key] = on_device


BRIGHTNESS = "training/brightness.json"


def save_brightness(writer: Writer, split: ImageSplit) -> None:
    """Write the ranges of some training images."""
    with suppress(Unreadable):  # the training itself names the image; its checkpoint is saved all the same
        writer.json(BRIGHTNESS, _measured(split).dump())


@lru_cache(maxsize=2)  # every checkpoint of a training holds the same
def _measured(split: ImageSplit) -> Brightness:
    chosen = torch.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).long()
    return Brightness.of(split.images[chosen])


def brightness_of(checkpoint: Checkpoint) -> Brightness | None:
    """The brightness of the images that a model was trained on; None where it is not recorded."""
    if BRIGHTNESS in checkpoint:
        return Brightness.parse(checkpoint.json(BRIGHTNESS), f"{checkpoint.folder}/{BRIGHTNESS}")
    known = about(checkpoint.folder).get("brightness")
    return None if known is None else Brightness.parse(known, f"{checkpoint.folder}.json")
