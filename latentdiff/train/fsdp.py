"""A network that several processes hold in parts: parameters, gradients, moments and average, a share of each
in every process.

torch's FSDP2 (``fully_shard``): the parameters of a block are gathered when it computes and given up again
after it, and its gradients are averaged and scattered on the way back. Files know nothing of it: what is
saved is whole, and what is read is split again.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff.parallel.processes import Ranks
from latentdiff.train.backward import Part

# torch.distributed.tensor is imported where it is needed: it takes as long as the rest of a training command


class Shards:
    """The loss of a network whose parameters are spread over the processes; network and average are split in
    place.

    They are split on the CPU, block by block, so that no process ever has more than a block of it in full on
    its device.
    """

    def __init__(
        self,
        network: nn.Module,
        average: nn.Module,
        loss: Callable[[int, Tensor, Tensor], Mapping[str, Tensor]],
        ranks: Ranks,
        device: torch.device,
    ) -> None:
        self._network, self._loss, self._ranks, self._device = network, loss, ranks, device
        self._empty = copy.deepcopy(average).to(
            "meta"
        )  # what an average in full is made of; holds no numbers
        for module in (network, average):
            _split(module, ranks, device)

    def __call__(self, step: int, part: Part, *, last: bool) -> Mapping[str, Tensor]:
        """The loss of a part; gradients are exchanged with the ``last`` part of a batch."""
        network: Any = self._network
        network.set_requires_gradient_sync(last)
        return self._loss(step, *part)

    def whole(self, average: nn.Module) -> nn.Module:
        """The averaged network in full in the first process, on its device; all processes have to call it.

        Others get what they have.
        """
        parts = gathered(average.state_dict())
        if not self._ranks.first:
            return average
        module = copy.deepcopy(self._empty).to_empty(device=self._device)
        module.load_state_dict(parts)
        return module.eval().requires_grad_(False)


def _split(network: nn.Module, ranks: Ranks, device: torch.device) -> None:
    """Spread a network over the processes: each entry of its lists of blocks by itself, the rest together."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # the loss changes nothing in place, which is what this is about
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
    """Tensors of which each process may hold a share, in full; shares become tensors on the CPU. All
    processes have to call it.

    In the order of their names: dictionaries that were read from safetensors have another order in every
    process.
    """
    return {
        name: in_full(value).cpu() if _is_share(value) else value for name, value in sorted(tensors.items())
    }


def in_full(tensor: Tensor) -> Tensor:
    """A tensor of which each process may hold a share, or a part of the sum.

    All processes have to call it.
    """
    share: Any = tensor
    full: Tensor = share.full_tensor() if _is_share(tensor) else tensor
    return full


def split_like(value: Tensor, like: Tensor) -> Tensor:
    """This process's share of a tensor that all have in full, where it has a share of ``like``; else the
    tensor.
    """
    if not _is_share(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    share: Any = like
    return distribute_tensor(value.to(like.device), share.device_mesh, share.placements, src_data_rank=None)


def _is_share(tensor: Any) -> bool:
    """Whether it is a DTensor."""
    return hasattr(tensor, "full_tensor")
