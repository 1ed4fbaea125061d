"""Parts of a batch computed at the same time, each on CPU threads of its own.

A small network's operations are too short to be worth sharing among threads; its batch is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier, Event, local
from types import TracebackType
from typing import Self, TypeVar

import torch

LEAST = 32  # images that are worth a worker
In = TypeVar("In")
Out = TypeVar("Out")
_HERE = local()  # whether this thread is a worker


class Workers:
    """``count`` of them share torch's CPU threads; one alone computes in the caller, with all threads."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ValueError(f"expected 1 worker or more, got {count}")
        self.count = count
        self.stopped = Event()
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def suited(cls, n: int, device: torch.device) -> Workers:
        """As many as a batch of ``n`` images is worth: one on a GPU, on a CPU one for LEAST images, at most
        one a thread; a worker has none of its own.
        """
        if device.type != "cpu" or getattr(_HERE, "works", False):
            return cls(1)
        return cls(max(1, min(torch.get_num_threads(), n // LEAST)))

    def map(self, function: Callable[[In], Out], items: Iterable[In]) -> list[Out]:
        """The results in the order of the items.

        The first exception, or a signal, is raised here and sets ``stopped``: work that looks at it ends
        early.
        """
        if self.count == 1:
            return [function(item) for item in items]
        self.stopped.clear()
        if self._pool is None:
            self._pool = self._started()
        gradients = torch.is_grad_enabled()  # a thread has a mode of its own

        def called(item: In) -> Out:
            with torch.set_grad_enabled(gradients):
                return function(item)

        try:
            return list(self._pool.map(called, items))
        except BaseException:
            self.stopped.set()
            raise

    def _started(self) -> ThreadPoolExecutor:
        every, all_up = torch.get_num_threads(), Barrier(self.count)

        def begin(_: int) -> None:
            # takes the number of all threads at the first call, over one that was set before
            torch.get_num_threads()
            torch.set_num_threads(max(1, every // self.count))
            _HERE.works = True
            all_up.wait()

        pool = ThreadPoolExecutor(self.count, "worker")
        try:
            list(pool.map(begin, range(self.count)))
        except BaseException:  # a thread could not be started: the others must not wait for it
            all_up.abort()
            pool.shutdown(cancel_futures=True)
            raise
        torch.set_num_threads(every)  # a worker's number would be that of all threads to come
        return pool

    def close(self) -> None:
        """End the threads; the next :meth:`map` starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def cpu_threads(count: int) -> Iterator[None]:
    """Compute with ``count`` CPU threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
