"""Keys for counter-based noise: a seed for each sample and a stream, never the global generator."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.errors import InputError
from latentdiff.ops import constants

# The first 8 bits of a stream. Entries may be appended; a value, once published, never changes: it is part of
# what a
# seed means. 0 is left to streams numbered by hand.
PURPOSES = {
    "init": 1,  # x_T
    "step": 2,  # the noise of a reverse step
    "known": 3,  # the known region of an inpainting, noised to a level
    "posterior": 4,  # a draw from an encoder's posterior
    "train": 5,  # the noise of a training step
    "degrade": 6,  # a random degradation
    "ald": 7,  # annealed Langevin dynamics
    "augment": 8,  # augmentation of the data
}
_INT64 = torch.iinfo(torch.int64)


@dataclass(frozen=True, eq=False)
class Key:
    """Counter-based noise: one seed per sample and a stream; never the global generator.

    ``seeds``: int64 [B]; ``stream``: any int64. The noise of a sample depends on its seed, the stream and the
    element alone: not on the batch, the device or the number of threads.
    """

    seeds: Tensor
    stream: int = 0

    def __post_init__(self) -> None:
        if self.seeds.dtype != torch.int64 or self.seeds.dim() != 1:
            raise ValueError(f"expected seeds int64 [B], got {self.seeds.dtype} {list(self.seeds.shape)}")
        if not _INT64.min <= self.stream <= _INT64.max:
            raise ValueError(f"expected a stream that fits int64, got {self.stream}")

    @classmethod
    def of(cls, seed: int, n: int, *, device: torch.device | str | None = None) -> "Key":
        """Make the key of n samples, with seeds seed, seed + 1, ...: image k is what seed + k gives alone."""
        if n < 0:
            raise InputError(f"expected a number of samples >= 0, got {n}")
        if not (_INT64.min <= seed and seed + max(n - 1, 0) <= _INT64.max):
            raise InputError(f"expected seeds that fit int64 (-2^63 to 2^63-1), got {seed} for {n} samples")
        return cls(torch.arange(n, dtype=torch.int64, device=device) + seed)

    def at(self, purpose: str, level: int = 0, visit: int = 0) -> "Key":
        """Return the key of one use: stream = purpose (8 bits), visit (24 bits), level (32 bits), highest
        first.

        Different uses never share noise. Raises ValueError for an unknown purpose or numbers that do not fit.
        """
        if purpose not in PURPOSES:
            raise ValueError(f"expected a purpose out of {', '.join(PURPOSES)}, got {purpose!r}")
        if not 0 <= level < 1 << 32:
            raise ValueError(f"expected a level in 0..2^32-1, got {level}")
        if not 0 <= visit < 1 << 24:
            raise ValueError(f"expected a visit in 0..2^24-1, got {visit}")
        return replace(self, stream=PURPOSES[purpose] << 56 | visit << 32 | level)

    def with_purpose(self, purpose: str) -> "Key":
        """Return the key of another purpose at the same level and visit; ValueError if it is unknown."""
        return self.at(purpose, self.stream & 0xFFFFFFFF, self.stream >> 32 & 0xFFFFFF)

    def __len__(self) -> int:
        return self.seeds.shape[0]

    def __getitem__(self, index: slice | Tensor) -> "Key":
        """Select samples by a slice, a mask or an index tensor [b]."""
        return replace(self, seeds=self.seeds[index])

    def repeat(self, k: int) -> "Key":
        """Return the key of k copies of the batch, one after the other; the copies share their noise."""
        return replace(self, seeds=self.seeds.repeat(k))

    def to(self, device: torch.device | str) -> "Key":
        """Return the key on a device."""
        return replace(self, seeds=self.seeds.to(device))

    def stream_tensor(self) -> Tensor:
        """Return the stream as int64 [] on the seeds' device, without synchronization; never write to it."""
        return constants.constant_fill(self.stream, (), dtype=torch.int64, device=self.seeds.device)

    def normal(self, shape: Sequence[int], *, dtype: torch.dtype = torch.float32) -> Tensor:
        """Draw standard normals [B, *shape] on the device of the seeds (:func:`latentdiff.ops.normal`)."""
        return ops.normal(self.seeds, self.stream_tensor(), shape, dtype=dtype)
