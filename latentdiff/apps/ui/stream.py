"""Streams a drawing: the loop runs in a thread of its own, and a generator yields its frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread

import torch
from torch import Tensor

from latentdiff.apps.ui.limits import FRAMES
from latentdiff.edit import Frame, Recorder, SampleResult
from latentdiff.pipeline.batching import Cancelled


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
