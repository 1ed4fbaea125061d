"""Fixed chunks of images for the networks, so that no score depends on the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latentdiff.pipeline.batching import slices

CHUNK = 250  # images in one call of a network, at most
# pixels (of any number of channels) in one call, at most: 250 images of 64x64, 16 of 256x256
POSITIONS = 2**20

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def chunk_size(shape: Sequence[int]) -> int:
    """The number of images [C, H, W] in a chunk; it depends on their shape alone."""
    return max(1, min(CHUNK, POSITIONS // (shape[-1] * shape[-2])))


def chunks(n: int, shape: Sequence[int]) -> list[slice]:
    """Slices of ``n`` images [C, H, W], one for each chunk."""
    return slices(n, chunk_size(shape))
