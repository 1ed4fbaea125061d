"""Moments of a running loop, decoded: what a trajectory shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.diffusion.loop import State

ProgressCallback = Callable[[int, int], None]
"""Called with (moves done, moves in all)."""

FrameSelection = int | tuple[int, ...]
"""Which moments of a loop to keep: about so many, evenly spread (0: none), or those at the visited levels
nearest to the given ones.
"""


class Frame(NamedTuple):
    """A moment of the reverse process: x_t and the estimate of x_0 there, both decoded to images [n, C, H,
    W].
    """

    t: int
    noisy: Tensor
    estimate: Tensor


def shared_progress(progress: ProgressCallback | None, count: int) -> list[ProgressCallback | None]:
    """The progress of each of ``count`` equally long parts of a whole, which hears of their sum; they may run
    at the same time.
    """
    if progress is None:
        return [None] * count
    tell, lock, done = progress, Lock(), [0] * count

    def of_part(k: int) -> ProgressCallback:
        def told(now: int, total: int) -> None:
            with lock:
                done[k] = now
                tell(sum(done), count * total)

        return told

    return [of_part(k) for k in range(count)]


def concatenated(parts: Sequence[Sequence[Frame]]) -> list[Frame]:
    """The frames of several parts of one batch, moment by moment."""
    return [
        Frame(
            same[0].t,
            torch.cat([frame.noisy for frame in same]),
            torch.cat([frame.estimate for frame in same]),
        )
        for same in zip(*parts, strict=True)
    ]


def record(
    states: Iterable[State],
    x: Tensor,
    levels: Sequence[int],
    *,
    decode: Callable[[Tensor], Tensor],
    frames: FrameSelection = 0,
    progress: ProgressCallback | None = None,
    show: Callable[[Frame], None] | None = None,
) -> tuple[Tensor, list[Frame]]:
    """Run a loop that starts from ``x`` at levels[0] to its end: x there, and the moments that ``frames``
    asks for.

    The last frame is the result. Frames before it show x_t before a move and the estimate that the move was
    made with; each goes to ``show`` as soon as it is there.
    """
    moves, shown = len(levels) - 1, _shown(levels, frames)
    kept: list[Frame] = []

    def keep(frame: Frame) -> None:
        kept.append(frame)
        if show is not None:
            show(frame)

    for i, state in enumerate(states):
        if i in shown:
            keep(Frame(levels[i], decode(x), decode(state.estimate.x0())))
        x = state.x
        if progress is not None:
            progress(i + 1, moves)
    if frames:
        image = decode(x)
        keep(Frame(levels[-1], image, image))
    return x, kept


def _shown(levels: Sequence[int], frames: FrameSelection) -> set[int]:
    """The moves before which a frame is kept."""
    moves = len(levels) - 1
    if isinstance(frames, int):
        return {round(i * (moves - 1) / max(1, frames - 2)) for i in range(frames - 1)}
    return {min(range(moves), key=lambda i: abs(levels[i] - level)) for level in frames} if moves else set()
