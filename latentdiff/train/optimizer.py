"""The optimizer (AdamW, its state named by parameters) and EMA, the moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from latentdiff.train.distributed import split_like


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
