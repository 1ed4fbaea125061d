"""The order of the training images: a function of (seed, epoch), so that resumed batches are the same."""

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
    """The order of n images in one epoch: int64 [n], each of 0..n-1 once; pure in (n, seed, epoch).

    ValueError unless n >= 0, 0 <= seed < 2^64 and 0 <= epoch < 2^64.
    """
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
