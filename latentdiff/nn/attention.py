"""Attention in denoisers: over the pixels of a feature map, and from them to the tokens of a text.

Both run fused, or, where somebody wants to see or change them, with their probabilities in the open.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.layers import GroupNorm, ZeroLinear


@dataclass(frozen=True)
class AttentionSite:
    """Which attention of a network: over pixels ("self") or to tokens ("cross"), the ``index``-th of its
    kind, on which grid.
    """

    kind: Literal["self", "cross"]
    index: int
    grid: tuple[int, int]


Attend = Callable[[Tensor, AttentionSite], Tensor]
"""(probabilities [B, heads, pixels, pixels or tokens], place) -> the ones to use, of the same shape: reads
attention or edits it.
"""


def attention(q: Tensor, k: Tensor, v: Tensor, place: AttentionSite, attend: Attend | None) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q [B, heads, N, d] and k, v [B, heads, M, d] (Vaswani et al. 2017, eq.
    1).

    Fused, unless ``attend`` asks for the probabilities.
    """
    if attend is None:
        return F.scaled_dot_product_attention(q, k, v)
    scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
    return attend(scores.softmax(-1), place).to(v.dtype) @ v


class SelfAttention(nn.Module):
    """Attention over the pixels of a feature map [B, C, H, W], added to it."""

    def __init__(self, channels: int, *, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.index = heads, 0  # the network numbers its layers
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = ZeroLinear(channels, channels)

    def forward(self, x: Tensor, attend: Attend | None = None) -> Tensor:
        """The map with what its pixels tell one another."""
        b, c, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, HW, C]: no copy in channels_last
        q, k, v = self.qkv(tokens).view(b, -1, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = (
            attention(q, k, v, AttentionSite("self", self.index, (height, width)), attend)
            .transpose(1, 2)
            .reshape(b, -1, c)
        )
        out: Tensor = x + self.out(mixed).transpose(1, 2).reshape(b, c, height, width)
        return out


class CrossAttention(nn.Module):
    """Attention from the pixels of a feature map [B, C, H, W] to a text's tokens [B, L, D], added to the
    map.
    """

    def __init__(self, channels: int, context: int, *, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.index = heads, 0  # the network numbers its layers
        self.norm = GroupNorm(groups, channels)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(context, 2 * channels)
        self.out = ZeroLinear(channels, channels)

    def forward(self, x: Tensor, context: Tensor, attend: Attend | None = None) -> Tensor:
        """The map with what its pixels read in the text (Rombach et al. 2022, section 3.3)."""
        b, c, height, width = x.shape
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q = self.q(tokens).view(b, -1, self.heads, c // self.heads).transpose(1, 2)
        k, v = self.kv(context.to(q.dtype)).view(b, -1, 2, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        mixed = (
            attention(q, k, v, AttentionSite("cross", self.index, (height, width)), attend)
            .transpose(1, 2)
            .reshape(b, -1, c)
        )
        out: Tensor = x + self.out(mixed).transpose(1, 2).reshape(b, c, height, width)
        return out
