"""Random integers as a pure function of (seed, position, purpose): the draws for an image do not depend
on its batch.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

PURPOSES = {
    "shift_y": 0,
    "shift_x": 1,
    "flip": 2,
    "level": 3,
    "drop_label": 4,
    "scene": 5,
}
"""Fixed, as trained models depend on them; other purposes are numbered by the SHA-256 of their name."""


def integers(purpose: str, positions: Tensor, *, seed: int, choices: int) -> Tensor:
    """An integer in 0..choices-1 for each position (place in the endless data order), int64 [B] on the CPU.

    ``purpose``: a name that makes these draws independent of others. Uniform up to a bias below
    choices / 2^32. ValueError unless 0 <= seed < 2^64 and 1 <= choices <= 2^32.
    """
    if not 0 <= seed < 2**64 or not 1 <= choices <= 2**32:
        raise ValueError(f"expected a seed in 0..2^64-1 and choices in 1..2^32, found {seed} and {choices}")
    number = PURPOSES.get(purpose)
    if number is None:
        number = int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:7], "big")
    start = _mix(np.array([seed], dtype=np.uint64) + _GOLDEN * np.array([number + 1], dtype=np.uint64))
    words = _mix(_mix(positions.cpu().numpy().astype(np.uint64) * _GOLDEN + start) + start)
    return torch.from_numpy(((words >> np.uint64(32)) * np.uint64(choices) >> np.uint64(32)).astype(np.int64))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators")."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return mixed
