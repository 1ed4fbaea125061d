"""A drawing while it happens: the loop runs in a thread of its own, and what it shows comes out of a
generator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Thread

import torch
from torch import Tensor

from latentdiff.apps.ui.limits import FRAMES
from latentdiff.diffusion.trajectory import Frame
from latentdiff.edit import Recorder, SampleResult
from latentdiff.pipeline.batching import Cancelled


@dataclass(frozen=True, eq=False)
class Moment:
    """x_t and the estimate of x_0 of all images, [n, C, H, W] in [-1, 1] (0 where nothing was drawn yet), at
    level ``t``, after a share of the work.
    """

    t: int
    share: float
    noisy: Tensor
    estimate: Tensor


def live(
    draw: Callable[[Recorder], SampleResult], shape: tuple[int, ...], *, stop: Event | None = None
) -> Iterator[Moment | SampleResult]:
    """The moments of a drawing of ``shape`` [n, C, H, W], then the drawing; whatever it raises is raised
    here.

    Once ``stop`` is set, or the generator closed, the loop ends at its next step, and Stopped is raised.
    """
    told: SimpleQueue[tuple[slice, Frame, float] | SampleResult | BaseException] = SimpleQueue()
    stop, closed, share = stop or Event(), Event(), [0.0]

    def progress(done: int, total: int) -> None:
        share[0] = done / total
        if stop.is_set() or closed.is_set():
            raise Cancelled

    def work() -> None:
        try:
            watch = Recorder(
                frames=FRAMES, progress=progress, show=lambda rows, frame: told.put((rows, frame, share[0]))
            )
            told.put(draw(watch))
        except BaseException as error:
            told.put(error)

    thread = Thread(target=work, name="drawing", daemon=True)
    thread.start()
    noisy, estimate = torch.zeros(shape), torch.zeros(shape)
    try:
        while True:
            found = told.get()
            if isinstance(found, BaseException):
                raise found
            if isinstance(found, SampleResult):
                yield found
                return
            rows, frame, done = found
            noisy[rows], estimate[rows] = frame.noisy, frame.estimate
            yield Moment(frame.t, done, noisy.clone(), estimate.clone())
    finally:
        closed.set()
        thread.join()
