"""The process group of torchrun: the rank of this process, and collectives over CPU tensors."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from latentdiff.errors import InputError

PATIENCE = timedelta(
    days=7
)  # how long a process waits for the others; one that is gone is noticed at once by gloo


@dataclass(frozen=True)
class Ranks:
    """This process is number ``rank`` of ``count`` and computes on ``device``; collectives run on
    CPUs.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  immutable

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of ``n`` things in a row; the parts of all processes are as even as can be."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    def sums(self, values: Sequence[float]) -> list[float]:
        """The sums over all processes, in float64."""
        if self.count == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def rows(self, own: Tensor, n: int) -> Tensor:
        """For the first process the rows of all, [n, ...] on the CPU, from those of each one's :meth:`share`
        of n; for others their own.
        """
        return self.collected(
            own, [len(range(n)[Ranks(rank, self.count).share(n)]) for rank in range(self.count)]
        )

    def collected(self, own: Tensor, lengths: Sequence[int]) -> Tensor:
        """As :meth:`rows`, where process k has ``lengths[k]`` of them."""
        if self.count == 1:
            return own
        padded = torch.zeros(max(lengths), *own.shape[1:], dtype=own.dtype)
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(self.count)] if self.first else None
        distributed.gather(padded, parts)
        if parts is None:
            return own
        return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])

    def text_of_first(self, make: Callable[[], str]) -> str:
        """What ``make`` gives in the first process, for all; an InputError there is one everywhere."""
        if self.count == 1:
            return make()
        text = ""
        if self.first:
            try:
                text = f"+{make()}"
            except InputError as error:
                text = f"-{error}"
        own = torch.tensor(list(text.encode(errors="surrogatepass")), dtype=torch.uint8)
        length = torch.tensor([len(own)])
        distributed.broadcast(length, 0)
        content = own if self.first else torch.empty(int(length), dtype=torch.uint8)
        distributed.broadcast(content, 0)
        text = bytes(content.tolist()).decode(errors="surrogatepass")
        if text.startswith("-"):
            raise InputError(text[1:])
        return text[1:]


ALONE = Ranks()


def processes() -> int:
    """How many processes torchrun started for this command; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started this one among (gloo on CPUs, NCCL on GPUs); alone without
    torchrun.

    Within another such context they stay joined until that one ends: processes can meet only once.
    """
    if processes() == 1:
        yield ALONE
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    if distributed.is_initialized():
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
        return
    # keeps the group that exists at its import as a default argument: imported while there is none
    from torch.distributed.nn import functional  # noqa: F401

    try:
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE
        )
    except RuntimeError as error:  # another process has ended, or cannot be reached
        raise InputError(
            f"process {os.environ.get('RANK', '?')} of {processes()} did not meet the others; their messages"
            " tell why"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
    # gloo's threads end with the group: one that works while Python ends aborts the process. Not after an
    # error: a thread that waits for a lost process would be waited for
    gc.collect()
