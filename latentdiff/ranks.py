"""Several processes that work on one thing, as torchrun starts them: which one this is, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

PATIENCE = timedelta(minutes=30)  # how long a process waits for the others: one of them may write a checkpoint


@dataclass(frozen=True)
class Ranks:
    """This process is number ``rank`` of ``count``; ``device`` is what it computes on and speaks through."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of ``n`` things in a row; the parts of all processes are as even as can be."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gathered(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, of one shape and type, in their order; on this one's device."""
        if self.count == 1:
            return [tensor]
        found = [torch.empty_like(tensor, device=self.device) for _ in range(self.count)]
        distributed.all_gather(found, tensor.to(self.device).contiguous())
        return found

    def rows(self, own: Tensor, n: int) -> Tensor:
        """The rows of all processes, [n, ...] on the CPU, from those of each one's :meth:`share` of n."""
        if self.count == 1:
            return own
        most = -(-n // self.count)
        padded = torch.zeros(most, *own.shape[1:], dtype=own.dtype)
        padded[: len(own)] = own
        parts = self.gathered(padded)
        lengths = [len(range(n)[Ranks(rank, self.count).share(n)]) for rank in range(self.count)]
        return torch.cat([part[:length].cpu() for part, length in zip(parts, lengths, strict=True)])

    def text_of_first(self, text: str) -> str:
        """What the first process has, for all."""
        if self.count == 1:
            return text
        own = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor([len(own)], device=self.device)
        distributed.broadcast(length, 0)
        content = own.to(self.device) if self.first else torch.empty(int(length), dtype=torch.uint8, device=self.device)
        distributed.broadcast(content, 0)
        return bytes(content.tolist()).decode()


ALONE = Ranks()


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started this one among (gloo on CPUs, NCCL on GPUs); alone without torchrun."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
