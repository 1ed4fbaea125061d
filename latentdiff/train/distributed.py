"""Training by several processes: the exchange of states and gradients, whole or sharded networks."""

from __future__ import annotations

import copy
import re
import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from latentdiff.errors import InputError
from latentdiff.parallel.processes import Ranks
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.train.task import Task


class DataParallelLoss(Protocol):
    """:meth:`latentdiff.train.task.Task.loss` whose gradients are averaged over all processes.

    Implementations: :class:`DDPLoss` (every process holds the network) and :class:`FSDPLoss` (each holds a
    shard of it).
    """

    def __call__(
        self, step: int, positions: Tensor, indices: Tensor, *, last: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a micro-batch; gradients are exchanged with the ``last`` one of a batch."""


class DDPLoss:
    """torch's DistributedDataParallel around the loss instead of the network: a task calls any part."""

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


# torch.distributed.tensor is imported where it is needed: it takes as long as the rest of a training command


class FSDPLoss:
    """The loss of a task whose network is sharded over the processes: a :class:`DataParallelLoss`.

    torch's FSDP2 (``fully_shard``): the parameters of a block are gathered when it computes and freed after
    it, and its gradients are averaged and scattered on the way back. Checkpoints hold tensors in full,
    whatever the number of processes. Shards the network and its ``average`` in place, on the CPU and block by
    block, so that no process ever has more than a block of it in full on its device.
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
        """The averaged network in full in the first process, the shard in others. A collective operation."""
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


class SyncState(NamedTuple):
    """The state that all processes of a training share: its seconds, and the signal that ends it."""

    elapsed: float
    signum: int | None


class PeerLost(InputError):
    """Another process of the training is lost."""


def all_reduce_state(
    ranks: Ranks, values: Mapping[str, float], own: SyncState
) -> tuple[dict[str, float], SyncState]:
    """The means over all processes, the clock of the first one, and a signal that any of them received."""
    if ranks.count == 1:
        return dict(values), own
    clock = own.elapsed if ranks.first else 0.0
    *sums, elapsed, signum = ranks.sums([*values.values(), clock, max(0, own.signum or 0)])
    means = {name: total / ranks.count for name, total in zip(values, sums, strict=True)}
    return means, SyncState(elapsed, own.signum or (signal.SIGTERM if signum else None))


COMM_WORDS = ("gloo", "nccl", "connection", "socket", "tcpstore", "distributed")  # in errors of the exchange


def is_comm_error(error: RuntimeError) -> bool:
    """Whether an error is of the exchange between processes, not of what one of them computes."""
    text = str(error).lower()
    return isinstance(error, distributed.DistError) or (
        not isinstance(error, torch.OutOfMemoryError) and any(word in text for word in COMM_WORDS)
    )


def peer_lost(error: RuntimeError, ranks: Ranks, run: Run, step: int) -> PeerLost:
    """The error of a lost process, with the checkpoint to resume from."""
    kept = run.checkpoints()
    where = (
        f"`resume` {run.folder} goes on from {kept[-1].name}"
        if kept
        else "no checkpoint had been written yet"
    )
    reason = re.sub(r"\[/[^\]]*\]\s*", "", " ".join(str(error).split()))  # without the place in torch
    reason = re.split(r"\. |: This ", reason)[0][:160].rstrip(" .")
    return PeerLost(f"lost another process of {ranks.count} after step {step} ({reason}); {where}")
