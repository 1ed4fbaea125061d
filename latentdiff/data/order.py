"""The order of the training images and the draws for each: pure functions of (seed, position)."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_PURPOSE = 0x6F72646572  # "order": keeps this Philox stream apart from any other use of the same seed


def shuffled(n: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A pseudo-random permutation of 0..n-1 as int64 [n]: argsort of n raw Philox-4x64 words, key (seed,
    epoch).

    Raw words and a stable sort, because numpy promises those across versions and `Generator.permutation` not.
    ValueError unless n >= 0, 0 <= seed < 2^64 and 0 <= epoch < 2^64.
    """
    if n < 0 or not 0 <= seed < 2**64 or not 0 <= epoch < 2**64:
        raise ValueError(
            f"expected n >= 0 and seed, epoch in 0..2^64-1, found n={n}, seed={seed}, epoch={epoch}"
        )
    key = np.array([seed, epoch], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=np.array([0, 0, 0, _PURPOSE], dtype=np.uint64)).random_raw(n)
    return np.argsort(words, kind="stable").astype(np.int64)


@lru_cache(maxsize=2)
def _epoch_order(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """`shuffled`, remembered for the epochs that neighboring batches share; read-only."""
    order = shuffled(n, seed=seed, epoch=epoch)
    order.flags.writeable = False
    return order


def permutation(n: int, *, seed: int, epoch: int) -> Tensor:
    """The order of n images in one epoch: int64 [n], pure in (n, seed, epoch). ValueError as `shuffled`."""
    return torch.from_numpy(_epoch_order(n, seed, epoch).copy())


def batch_indices(n: int, *, batch: int, step: int, seed: int) -> Tensor:
    """Indices of the images in batch `step` (from 0): int64 [batch]; pure in (n, batch, step, seed).

    The endless concatenation of the epochs' permutations, cut at positions step*batch .. step*batch + batch -
    1: no image is dropped at the end of an epoch, and a batch may span epochs. ValueError unless n, batch >=
    1, step >= 0.
    """
    if n < 1 or batch < 1 or step < 0:
        raise ValueError(
            f"expected n >= 1, batch >= 1 and step >= 0, found n={n}, batch={batch}, step={step}"
        )
    start, stop = step * batch, step * batch + batch
    pieces = []
    while start < stop:
        epoch, offset = divmod(start, n)
        pieces.append(_epoch_order(n, seed, epoch)[offset : offset + stop - start])
        start += len(pieces[-1])
    return torch.from_numpy(np.concatenate(pieces))


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
