"""The queue of drawings: one at a time, in order of arrival; waiting ones can be cancelled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event

from latentdiff.apps.ui.limits import WAITING
from latentdiff.errors import InputError
from latentdiff.pipeline.batching import Cancelled

POLL = 0.2  # seconds between checks of a waiting ticket's stop event


class Ticket:
    """A place in the queue; iterating over it waits until it is first, and yields the number of tickets ahead
    whenever that changes.

    Cancelled once its ``stop`` is set.
    """

    def __init__(self, queue: DrawingQueue) -> None:
        self._queue, self.stop = queue, Event()

    def __iter__(self) -> Iterator[int]:
        last = 0
        while ahead := self._queue.ahead(self, last):
            if self.stop.is_set():
                raise Cancelled
            if ahead != last:
                yield ahead
            last = ahead


class DrawingQueue:
    """Tickets in order of arrival; the first one may draw."""

    def __init__(self) -> None:
        self._tickets: list[Ticket] = []
        self._moved = Condition()

    @contextmanager
    def enter(self) -> Iterator[Ticket]:
        """A ticket at the end of the queue, removed on leaving; InputError where too many wait."""
        with self._moved:
            if len(self._tickets) > WAITING:
                raise InputError(f"{WAITING} drawings wait already; try again in a moment")
            own = Ticket(self)
            self._tickets.append(own)
        try:
            yield own
        finally:
            with self._moved:
                self._tickets.remove(own)
                self._moved.notify_all()

    def ahead(self, ticket: Ticket, last: int) -> int:
        """The number of tickets ahead of one; waits a moment for another number than ``last``."""
        with self._moved:
            if self._tickets.index(ticket) == last != 0:
                self._moved.wait(POLL)
            return self._tickets.index(ticket)
