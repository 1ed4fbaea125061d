"""Who draws: one at a time, in the order of their coming; those who wait see how many are before them, and
may leave.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event

from latentdiff.apps.ui.limits import WAITING
from latentdiff.errors import InputError
from latentdiff.pipeline.batching import Cancelled

LOOK = 0.2  # seconds between looks at the stop of one who waits


class Ticket:
    """A place in the line; iterating over it waits: it gives the number of those before, whenever that has
    changed, until there is none.

    Stopped once its ``stop`` is set.
    """

    def __init__(self, line: DrawingQueue) -> None:
        self._line, self.stop = line, Event()

    def __iter__(self) -> Iterator[int]:
        last = 0
        while before := self._line.before(self, last):
            if self.stop.is_set():
                raise Cancelled
            if before != last:
                yield before
            last = before


class DrawingQueue:
    """Places in the order of their coming; the first one draws."""

    def __init__(self) -> None:
        self._places: list[Ticket] = []
        self._moved = Condition()

    @contextmanager
    def place(self) -> Iterator[Ticket]:
        """A place at the end, given up on leaving. InputError where too many wait already."""
        with self._moved:
            if len(self._places) > WAITING:
                raise InputError(f"{WAITING} drawings wait already; try again in a moment")
            own = Ticket(self)
            self._places.append(own)
        try:
            yield own
        finally:
            with self._moved:
                self._places.remove(own)
                self._moved.notify_all()

    def before(self, place: Ticket, last: int) -> int:
        """How many places are before one; waits a moment for it to become another number than ``last``."""
        with self._moved:
            if self._places.index(place) == last != 0:
                self._moved.wait(LOOK)
            return self._places.index(place)
