"""Attention in denoisers: among the positions of a grid, and from them to the tokens of a text.

Uses fused attention unless an ``attend`` hook is given; then the probabilities are computed and passed to it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.layers import GroupNorm, ZeroLinear


@dataclass(frozen=True)
class AttentionSite:
    """One attention of a network: among positions ("self") or to tokens ("cross"), the ``index``-th of its
    kind, on a grid of a height and a width.
    """

    kind: Literal["self", "cross"]
    index: int
    grid: tuple[int, int]


Attend = Callable[[Tensor, AttentionSite], Tensor]
"""(probabilities [B, heads, positions, positions or tokens], site) -> the ones to use, of the same shape."""


KEYS = 16  # that torch's attention on a CPU takes at once; what is left of them it takes one by one
MOST_LEFT = 2 * KEYS  # from so many keys on the others outweigh what is left


def fused_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q [B, heads, N, d], k and v [B, heads, M, d], by torch.

    On a CPU it is computed in float32, and few keys are filled up to a multiple of :data:`KEYS` with masked
    ones, which have no weight: twice as fast for the 15 word pieces of a prompt, the same to the last digits.
    """
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)
    dtype, count, mask = q.dtype, k.shape[2], None
    if dtype == torch.bfloat16:  # torch's backward takes 3 to 8 times as long in it (2.13, 16 to 64 tokens)
        q, k, v = q.float(), k.float(), v.float()
    more = -count % KEYS if count < MOST_LEFT else 0
    if more:
        k, v = (F.pad(part, (0, 0, 0, more)) for part in (k, v))
        mask = torch.where(torch.arange(count + more) < count, 0.0, -math.inf).to(q.dtype)
        mask = mask.expand(1, 1, q.shape[2], -1)
    with torch.autocast("cpu", enabled=False):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).to(dtype)


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, heads: int, site: AttentionSite, attend: Attend | None
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v in ``heads`` parts of d channels (Vaswani et al. 2017, eq. 1), [B, N, C].

    q [B, N, C], k and v [B, M, C]. Fused, unless there is an ``attend`` hook for the probabilities.
    """
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (q, k, v))  # [B, heads, N or M, d]
    if attend is None:
        mixed = fused_attention(q, k, v)
    else:
        scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
        mixed = attend(scores.softmax(-1), site).to(v.dtype) @ v
    return mixed.transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Attention over the pixels of a feature map [B, C, H, W], added to it."""

    def __init__(self, channels: int, *, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.index = heads, 0  # the network numbers its layers
        self.norm = GroupNorm(groups, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = ZeroLinear(channels, channels)

    def forward(self, x: Tensor, attend: Attend | None = None) -> Tensor:
        """The map plus the attention of its pixels to one another."""
        site = AttentionSite("self", self.index, (x.shape[2], x.shape[3]))
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, HW, C]: no copy in channels_last
        q, k, v = self.qkv(tokens).chunk(3, dim=2)
        mixed = attention(q, k, v, heads=self.heads, site=site, attend=attend)
        out: Tensor = x + self.out(mixed).transpose(1, 2).reshape(x.shape)
        return out


class CrossAttention(nn.Module):
    """Attention from the pixels of a feature map [B, C, H, W] to a text's tokens [B, L, D], added to it."""

    def __init__(self, channels: int, context: int, *, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.index = heads, 0  # the network numbers its layers
        self.norm = GroupNorm(groups, channels)
        self.q = nn.Linear(channels, channels)
        self.kv = nn.Linear(context, 2 * channels)
        self.out = ZeroLinear(channels, channels)

    def forward(self, x: Tensor, context: Tensor, attend: Attend | None = None) -> Tensor:
        """The map plus the attention of its pixels to the text (Rombach et al. 2022, section 3.3)."""
        site = AttentionSite("cross", self.index, (x.shape[2], x.shape[3]))
        q = self.q(self.norm(x).flatten(2).transpose(1, 2))
        k, v = self.kv(context.to(q.dtype)).chunk(2, dim=2)
        mixed = attention(q, k, v, heads=self.heads, site=site, attend=attend)
        out: Tensor = x + self.out(mixed).transpose(1, 2).reshape(x.shape)
        return out
