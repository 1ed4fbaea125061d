"""The loss of a task where several processes train one network, each on its share of every batch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Protocol

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from latentdiff.train.task import Task


class DataParallelLoss(Protocol):
    """:meth:`Task.loss` whose gradients are averaged over all processes on the way back.

    Implementations: :class:`DDPLoss` (every process holds the network) and
    :class:`latentdiff.train.fsdp.FSDPLoss` (each holds a shard of it).
    """

    def __call__(
        self, step: int, positions: Tensor, indices: Tensor, *, last: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a micro-batch; gradients are exchanged with the ``last`` one of a batch."""
        ...


class DDPLoss:
    """torch's DistributedDataParallel around the loss instead of the network: a task may call any part of
    it.
    """

    def __init__(self, task: Task) -> None:
        # no device_ids: positions and indices, which the loss is called with, stay on the CPU
        self._module = DistributedDataParallel(_LossModule(task))

    def __call__(
        self, step: int, positions: Tensor, indices: Tensor, *, last: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        with nullcontext() if last else self._module.no_sync():
            found: tuple[Tensor, Mapping[str, Tensor]] = self._module(step, positions, indices)
            return found


class _LossModule(nn.Module):
    """The loss of a task as a module whose parameters are those of the network."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network, self._task = task.network, task

    def forward(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self._task.loss(step, positions, indices)
