"""Fully sharded data parallelism: every process holds a shard of the parameters, gradients, moments and
average.

torch's FSDP2 (``fully_shard``): the parameters of a block are gathered when it computes and freed after it,
and its gradients are averaged and scattered on the way back. Checkpoints hold tensors in full, whatever the
number of processes.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff.parallel.processes import Ranks
from latentdiff.train.task import Task

# torch.distributed.tensor is imported where it is needed: it takes as long as the rest of a training command


class FSDPLoss:
    """The loss of a task whose network is sharded over the processes: a
    :class:`latentdiff.train.data_parallel.DataParallelLoss`.

    Shards the network and its ``average`` in place, on the CPU and block by block, so that no process ever
    has more than a block of it in full on its device.
    """

    def __init__(self, task: Task, average: nn.Module, ranks: Ranks, device: torch.device) -> None:
        self._task, self._ranks, self._device = task, ranks, device
        self._empty = copy.deepcopy(average).to("meta")  # the architecture, without numbers
        for module in (task.network, average):
            _shard(module, ranks, device)

    def __call__(
        self, step: int, positions: Tensor, indices: Tensor, *, last: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        network: Any = self._task.network
        network.set_requires_gradient_sync(last)
        return self._task.loss(step, positions, indices)

    def unsharded(self, average: nn.Module) -> nn.Module:
        """The averaged network in full in the first process, on its device, and the shard in the others.

        A collective operation: all processes have to call it.
        """
        parts = gathered(average.state_dict())
        if not self._ranks.first:
            return average
        module = copy.deepcopy(self._empty).to_empty(device=self._device)
        module.load_state_dict(parts)
        return module.eval().requires_grad_(False)


def _shard(network: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Shard a network over the processes: each entry of its lists of blocks by itself, the rest together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # the warning is about changes in place, which the loss does not make
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (ranks.count,))
    for block in _blocks(network):
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def _blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The entries of all lists of blocks, inner ones first."""
    for part in reversed(list(network.modules())):
        if isinstance(part, nn.ModuleList):
            yield from (block for block in part if any(True for _ in block.parameters()))


def gathered(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather sharded tensors in full, on the CPU; others stay as they are. A collective operation.

    In the order of their names: dictionaries out of safetensors have another order in every process.
    """
    return {
        name: in_full(value).cpu() if _is_sharded(value) else value for name, value in sorted(tensors.items())
    }


def in_full(tensor: Tensor) -> Tensor:
    """A sharded tensor, or a partial sum, in full; others as they are. A collective operation."""
    sharded: Any = tensor
    full: Tensor = sharded.full_tensor() if _is_sharded(tensor) else tensor
    return full


def split_like(value: Tensor, like: Tensor) -> Tensor:
    """The shard of ``value``, which all processes have in full, that this process holds of ``like``."""
    if not _is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    sharded: Any = like
    return distribute_tensor(
        value.to(like.device), sharded.device_mesh, sharded.placements, src_data_rank=None
    )


def _is_sharded(tensor: Any) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "full_tensor")
