"""Philox4x32-10 on int64 tensors and the normals drawn from it: noise by (seed, stream, element) alone."""

import torch
from torch import Tensor

from latentdiff.ops import exact

_MASK = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85


def words(value: Tensor) -> tuple[Tensor, Tensor]:
    """Split int64 into its low and high 32 bits, each as int64 in 0..2^32-1 (two's complement)."""
    return value & _MASK, (value >> 32) & _MASK


def philox(even: Tensor, odd: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Apply Philox4x32-10: counter words (0, 2) and (1, 3) as int64 [2, ...], key words [2, ...] -> the same
    two pairs.

    All words lie in 0..2^32-1; the key broadcasts. Salmon et al. 2011, "Parallel random numbers: as easy as
    1, 2, 3".
    """
    multiplier, weyl = (_pair(low, high, key) for low, high in ((_M0, _M1), (_W1, _W0)))
    rounds = torch.arange(10, device=key.device).view(-1, *[1] * key.dim())
    crossed = odd.flip(0)
    for round_key in (key.flip(0) + rounds * weyl).unbind(0):
        # A product wraps in int64 with the right 64 bits. Its low word is the next odd word, already in
        # crossed order;
        # the high bits stay in there, for odd words are only xored, and masked after that. So are those of
        # the keys.
        product = even * multiplier
        even = (product >> 32).bitwise_xor_(crossed).bitwise_xor_(round_key).bitwise_and_(_MASK).flip(0)
        crossed = product
    return even, (crossed & _MASK).flip(0)


def _pair(first: int, second: int, like: Tensor) -> Tensor:
    """Two constants as int64 [2, 1, ...] that broadcast along ``like``, without a copy from the host."""
    pair = torch.full((2, *[1] * (like.dim() - 1)), first, dtype=torch.int64, device=like.device)
    pair[1].fill_(second)
    return pair


def normals(seeds: Tensor, stream: Tensor, count: int) -> Tensor:
    """Draw ``count`` standard normals for each sample: seeds int64 [B], stream int64 [] or [B] -> float32 [B,
    count].

    Element i comes from block i // 4, counter (block, stream), key = seed, by Box and Muller's transform on
    the word pairs (0, 1) and (2, 3): radius from 24 bits, angle from 32, as (cosine, sine). The largest
    possible value is 5.77.
    """
    samples, blocks = seeds.shape[0], (count + 3) // 4
    block = torch.arange(blocks, dtype=torch.int64, device=seeds.device)
    pairs = zip(words(block), words(stream.reshape(-1, 1)), strict=True)
    even, odd = (torch.stack([word.expand(samples, blocks) for word in pair]) for pair in pairs)
    even, odd = philox(even, odd, torch.stack(words(seeds.reshape(-1, 1))))
    # (k + 1) / 2^24 is exact and never 0; sqrt in float64, then rounded, is the float32 square root on every
    # device.
    radius = exact.rounded(exact.log((even >> 8).add_(1).double().mul_(2.0**-24)).mul_(-2.0).sqrt_())
    sine, cosine = exact.sincos(odd)
    z = torch.stack((cosine.mul_(radius), sine.mul_(radius)), dim=-1).permute(1, 2, 0, 3)
    return z.to(torch.float32, memory_format=torch.contiguous_format).view(samples, 4 * blocks)[:, :count]
