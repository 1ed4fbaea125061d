"""Records what a sampling loop passes through: its progress, decoded frames and the images at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.diffusion.loop import State

ProgressCallback = Callable[[int, int], None]
"""Called with (moves done, moves in all)."""

FrameSelection = int | tuple[int, ...]
"""Which frames of a loop to keep: about this many, evenly spread (0: none), or those at the visited levels
nearest to the given ones.
"""


class Frame(NamedTuple):
    """A moment of the reverse process: x_t and the estimate of x_0, both as images [n, C, H, W], and x_t
    itself [n, ...] as the sampler has it, in the latent space of a VAE.
    """

    t: int
    noisy: Tensor
    estimate: Tensor
    latent: Tensor


@dataclass(frozen=True, eq=False)
class SampleResult:
    """Images float32 [n, C, H, W] in [-1, 1] on the CPU, and the recorded frames, which end with them."""

    images: Tensor
    frames: tuple[Frame, ...] = ()

    @classmethod
    def concatenated(cls, parts: Sequence[SampleResult]) -> SampleResult:
        """Join micro-batches: images in their order, frames level by level where they were recorded."""
        if len(parts) == 1:
            return parts[0]
        recorded = [part.frames for part in parts if part.frames]
        frames = tuple(
            Frame(same[0].t, *(torch.cat(each) for each in zip(*(frame[1:] for frame in same), strict=True)))
            for same in zip(*recorded, strict=True)
        )
        return cls(torch.cat([part.images for part in parts]), frames)


@dataclass(frozen=True, eq=False, kw_only=True)
class Recorder:
    """What to record of a sampling loop.

    ``frames`` selects levels, ``images`` the number of images that frames show, from the first on (None:
    all). ``progress`` is called after each move, ``show`` with each frame as soon as it is decoded, and with
    the rows of its images. ``first``: the row of the loop's first image in a larger batch.
    """

    frames: FrameSelection = 0
    images: int | None = None
    progress: ProgressCallback | None = None
    show: Callable[[slice, Frame], None] | None = None
    first: int = 0

    def of_rows(self, rows: slice, progress: ProgressCallback) -> Recorder:
        """Make the recorder of a micro-batch, which holds the images ``rows`` of the batch."""
        images = None if self.images is None else max(0, self.images - rows.start)
        frames = 0 if images == 0 else self.frames
        return replace(self, frames=frames, images=images, progress=progress, first=self.first + rows.start)


SILENT = Recorder()
"""Records nothing."""


def record(
    states: Iterable[State],
    x: Tensor,
    levels: Sequence[int],
    *,
    decode: Callable[[Tensor], Tensor],
    recorder: Recorder = SILENT,
) -> SampleResult:
    """Run a loop that starts from ``x`` at levels[0] to its end, and decode x there.

    Frames show x_t before a move and the estimate that the move was made with; the last frame is the result.
    """
    moves, shown = len(levels) - 1, _shown(levels, recorder.frames)
    kept: list[Frame] = []

    def keep(t: int, noisy: Tensor, estimate: Tensor) -> None:
        frame = Frame(t, *(each[: recorder.images] for each in (noisy, estimate, x.cpu())))
        kept.append(frame)
        if recorder.show is not None:
            recorder.show(slice(recorder.first, recorder.first + len(frame.noisy)), frame)

    for i, state in enumerate(states):
        if i in shown:
            keep(levels[i], decode(x), decode(state.estimate.x0()))
        x = state.x
        if recorder.progress is not None:
            recorder.progress(i + 1, moves)
    images = decode(x)
    if recorder.frames:
        keep(levels[-1], images, images)
    return SampleResult(images, tuple(kept))


def _shown(levels: Sequence[int], frames: FrameSelection) -> set[int]:
    """The moves before which a frame is kept."""
    moves = len(levels) - 1
    if isinstance(frames, int):
        return {round(i * (moves - 1) / max(1, frames - 2)) for i in range(frames - 1)}
    return {min(range(moves), key=lambda i: abs(levels[i] - level)) for level in frames} if moves else set()
