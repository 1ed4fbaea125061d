"""Fixed chunks of images for the networks, so that no score depends on the memory there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from latentdiff.pipeline.batching import slices

CHUNK = 250  # images in one call of a network, at most
# pixels (of any number of channels) in one call, at most: 250 images of 64x64, 16 of 256x256
POSITIONS = 2**20

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


def chunks(n: int, shape: Sequence[int]) -> list[slice]:
    """Slices of ``n`` images [C, H, W], of a size that depends on their shape alone."""
    return slices(n, max(1, min(CHUNK, POSITIONS // (shape[-1] * shape[-2]))))
