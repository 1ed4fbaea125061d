"""Progress of reading: what reads images one by one reports it to whoever observes, as the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Observer = Callable[[str, int, int], None]
"""Called with what is read ("images"), how many are done, and of how many."""
_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Report what is read in this context to an observer."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def reported(items: Sequence[T], what: str, *, each: int = 1, total: int | None = None) -> Iterator[T]:
    """The items, each reported once the next one is requested.

    An item stands for ``each`` of ``total`` (default: the number of items).
    """
    observer, count = _observer.get(), len(items) if total is None else total
    for done, item in enumerate(items, start=1):
        yield item
        if observer is not None:
            observer(what, min(done * each, count), count)
