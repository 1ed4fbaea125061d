"""The fixed pieces in which networks see images while they are measured: no figure depends on what fits in
memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latentdiff.pipeline.batching import parts

CHUNK = 250  # images in one call of a network, at most
POSITIONS = (
    2**20
)  # pixels (of any number of channels) in one call, at most: 250 images of 64x64, 16 of 256x256

Progress = Callable[[int, int], None]
"""Called with (done, in all)."""


def chunks(n: int, shape: Sequence[int]) -> list[slice]:
    """``n`` images [C, H, W] in pieces of a size that their shape alone decides."""
    return parts(n, max(1, min(CHUNK, POSITIONS // (shape[-1] * shape[-2]))))
