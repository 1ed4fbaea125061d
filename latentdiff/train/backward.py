"""The gradient of a part of a batch, computed at once or in pieces by several workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from latentdiff.parallel.threads import Workers

Part = tuple[Tensor, Tensor]
"""Data positions and indices of training images, int64 [b] each."""
Loss = Callable[[Part], Mapping[str, Tensor]]
"""The mean loss of some images, by the name "loss", and other means worth logging."""


def backward(
    network: nn.Module, loss: Loss, part: Part, workers: Workers, *, share: float = 1.0
) -> dict[str, float]:
    """Add ``share`` times the gradient of the mean loss of ``part`` to that of the parameters; returns the
    means.

    Several workers take a piece each. Their gradients are added in the order of the pieces, so that the
    result is the same to the bit at every run.
    """
    if workers.count == 1:
        values = loss(part)
        (share * values["loss"]).backward()
        return {name: float(value.detach()) for name, value in values.items()}
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def piece(images: Part) -> _Piece:
        # not .backward(): several at a time would add to .grad in any order
        weight, values = len(images[0]) / len(part[0]), loss(images)
        gradients = torch.autograd.grad(share * weight * values["loss"], parameters, allow_unused=True)
        return _Piece({name: weight * float(value.detach()) for name, value in values.items()}, gradients)

    pieces = workers.map(piece, zip(*(all_of.tensor_split(workers.count) for all_of in part), strict=True))
    means: dict[str, float] = {}
    for found in pieces:
        for name, value in found.means.items():
            means[name] = means.get(name, 0.0) + value
        for parameter, gradient in zip(parameters, found.gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return means


class DistributedLoss:
    """The loss of a network that several processes train, each on its share: gradients are averaged over all
    of them on the way back.

    torch's DistributedDataParallel around the loss instead of the network, so that a task may call any part
    of that.
    """

    def __init__(
        self, network: nn.Module, loss: Callable[[int, Tensor, Tensor], Mapping[str, Tensor]]
    ) -> None:
        # no device_ids: positions and indices, which the loss is called with, stay on the CPU
        self._module = DistributedDataParallel(_Loss(network, loss))

    def __call__(self, step: int, part: Part, *, last: bool) -> Mapping[str, Tensor]:
        """The loss of a part; gradients are exchanged with the ``last`` part of a batch."""
        with nullcontext() if last else self._module.no_sync():
            found: Mapping[str, Tensor] = self._module(step, *part)
            return found


class _Loss(nn.Module):
    """A task's loss as a module whose parameters are the network's."""

    def __init__(
        self, network: nn.Module, loss: Callable[[int, Tensor, Tensor], Mapping[str, Tensor]]
    ) -> None:
        super().__init__()
        self.network, self._loss = network, loss

    def forward(self, step: int, positions: Tensor, indices: Tensor) -> Mapping[str, Tensor]:
        return self._loss(step, positions, indices)


class _Piece(NamedTuple):
    """What a worker found: its share of the means, and of the gradient of each parameter (None: it has no
    part in the loss).
    """

    means: dict[str, float]
    gradients: tuple[Tensor | None, ...]
