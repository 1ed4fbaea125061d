"""The queue of drawings: one at a time, in order of arrival; waiting ones can be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Event

from latentdiff.apps.ui.limits import WAITING
from latentdiff.errors import InputError
from latentdiff.pipeline.batching import Cancelled


class DrawingQueue:
    """Drawings in order of arrival, each by its browser session and its stop event; the first may draw."""

    def __init__(self) -> None:
        self._drawings: list[tuple[str, Event]] = []
        self._changed = Condition()

    @contextmanager
    def enter(self, session: str, stop: Event) -> Iterator[Iterator[int]]:
        """Append a drawing, which is removed on leaving; an earlier one of the session is stopped.

        Yields an iterator that waits until the drawing is first, and gives the number of those ahead whenever
        that changes; it raises Cancelled once the drawing is stopped. InputError where too many wait.
        """
        own = (session, stop)
        with self._changed:
            if len(self._drawings) > WAITING:
                raise InputError(f"{WAITING} drawings wait already; try again in a moment")
            self.stop(session)
            self._drawings.append(own)
        try:
            yield self._ahead(own)
        finally:
            with self._changed:
                self._drawings.remove(own)
                self._changed.notify_all()

    def stop(self, session: str) -> None:
        """Stop the drawing of a session: at once while it waits, else at its next step."""
        with self._changed:
            for owner, stop in self._drawings:
                if owner == session:
                    stop.set()
            self._changed.notify_all()

    def _ahead(self, own: tuple[str, Event]) -> Iterator[int]:
        ahead, stop = -1, own[1]
        while ahead:
            with self._changed:
                while self._drawings.index(own) == ahead and not stop.is_set():
                    self._changed.wait()
                ahead = self._drawings.index(own)
            if stop.is_set():
                raise Cancelled
            if ahead:
                yield ahead
