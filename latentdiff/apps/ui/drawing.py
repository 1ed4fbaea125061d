"""A drawing of the page: the queue that it waits in, and its frames as the generator of a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition, Event, Thread

import torch
from torch import Tensor

from latentdiff.apps.ui.limits import FRAMES, WAITING
from latentdiff.edit import Frame, Recorder, SampleResult
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


@dataclass(frozen=True, eq=False)
class Preview:
    """x_t and the estimate of x_0 of all images, [n, C, H, W] in [-1, 1] (0 where nothing was drawn yet), at
    level ``t``, after a share of the work.
    """

    t: int
    share: float
    noisy: Tensor
    estimate: Tensor


def stream(
    draw: Callable[[Recorder], SampleResult], shape: tuple[int, ...], *, stop: Event | None = None
) -> Iterator[Preview | SampleResult]:
    """Yield the previews of a drawing of ``shape`` [n, C, H, W], then its result; errors are raised here.

    Once ``stop`` is set, or the generator closed, the loop is cancelled at its next step, and Cancelled is
    raised.
    """
    events: SimpleQueue[tuple[slice, Frame, float] | SampleResult | BaseException] = SimpleQueue()
    stop, closed, share = stop or Event(), Event(), [0.0]

    def progress(done: int, total: int) -> None:
        share[0] = done / total
        if stop.is_set() or closed.is_set():
            raise Cancelled

    def work() -> None:
        try:
            recorder = Recorder(
                frames=FRAMES, progress=progress, show=lambda rows, frame: events.put((rows, frame, share[0]))
            )
            events.put(draw(recorder))
        except BaseException as error:
            events.put(error)

    thread = Thread(target=work, name="drawing", daemon=True)
    thread.start()
    noisy, estimate = torch.zeros(shape), torch.zeros(shape)
    try:
        while True:
            found = events.get()
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, SampleResult):
                yield found
                return
            rows, frame, done = found
            noisy[rows], estimate[rows] = frame.noisy, frame.estimate
            yield Preview(frame.t, done, noisy.clone(), estimate.clone())
    finally:
        closed.set()
        thread.join()
