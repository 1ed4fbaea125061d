"""Random decisions of a picture that is drawn: each a function of the seed and the picture's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from latentdiff.data.order import integers

SLOTS = 32  # random integers for each picture
RESOLUTION = 2**24

Choice = TypeVar("Choice")


class Draws:
    """The random integers of one picture, one slot for each decision."""

    def __init__(self, words: NDArray[np.int64]) -> None:
        self._words = iter(words.tolist())

    def below(self, n: int) -> int:
        """An integer in 0..n-1."""
        return int(next(self._words)) * n // RESOLUTION

    def of(self, choices: Sequence[Choice]) -> Choice:
        return choices[self.below(len(choices))]

    def chance(self, p: float) -> bool:
        return self.below(RESOLUTION) < p * RESOLUTION


def draws_of(use: str, first: int, count: int, *, seed: int) -> list[Draws]:
    """The decisions of the pictures at places ``first``, ``first`` + 1, ..., as many as ``count``."""
    slots = torch.arange(first * SLOTS, (first + count) * SLOTS)
    words = integers(use, slots, seed=seed, choices=RESOLUTION).view(count, SLOTS).numpy()
    return [Draws(row) for row in words]
