"""Edits of attention: pure functions of the probabilities of one call of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.edit.words import Alignment
from latentdiff.nn import AttentionSite

SELF_LIMIT = 32 * 32  # pixels of a map up to which attention among them is copied


@dataclass(frozen=True, eq=False)
class AttentionEdit:
    """The edit of attention for one edited text.

    cross, self_share: the shares of the sampling process, from noise on, in which the source's cross- and
    self-attention is used; weights [L]: factors of the attention to the edited text's positions, throughout.
    """

    alignment: Alignment
    weights: Tensor
    cross: float = 0.8
    self_share: float = 0.4


class AttentionEditor:
    """The ``attend`` of one call of a network on a batch of n sources, then n for each of ``changes``.

    The second half of a guided call, with the null condition, is left unchanged. ``done``: the
    share of the sampling process so far. The attention to the texts is kept for :meth:`map`.
    """

    def __init__(self, changes: Sequence[AttentionEdit], n: int, done: float) -> None:
        self._changes, self._n, self._done = changes, n, done
        self._maps: list[tuple[tuple[int, int], Tensor]] = []

    def __call__(self, probabilities: Tensor, place: AttentionSite) -> Tensor:
        """The probabilities to use."""
        conditional = self._n * (1 + len(self._changes))
        source, *edited = probabilities[:conditional].split(self._n)
        change = self._cross if place.kind == "cross" else self._self
        parts = [source, *(change(source, own, how) for own, how in zip(edited, self._changes, strict=True))]
        used = torch.cat(parts)
        if place.kind == "cross":
            self._maps.append((place.grid, used.mean(1)))
        return torch.cat([used, probabilities[conditional:]])

    def map(self, size: tuple[int, int]) -> Tensor:
        """Attention [B, L, H, W] at one size, the mean over heads and all places that attend to a text.

        ValueError if there are none.
        """
        if not self._maps:
            raise ValueError("expected a network that attends to a text")
        scaled = []
        for grid, probabilities in self._maps:
            picture = probabilities.transpose(1, 2).unflatten(2, grid)
            scaled.append(F.interpolate(picture, size=size, mode="bilinear", align_corners=False))
        return torch.stack(scaled).mean(0)

    def _cross(self, source: Tensor, own: Tensor, how: AttentionEdit) -> Tensor:
        mixed = how.alignment(source, own) if self._done < how.cross else own
        return mixed * how.weights.to(mixed)

    def _self(self, source: Tensor, own: Tensor, how: AttentionEdit) -> Tensor:
        return source if self._done < how.self_share and own.shape[-1] <= SELF_LIMIT else own


def blend_mask(maps: Sequence[Tensor], *, threshold: float) -> Tensor:
    """The mask of a local edit, [B, 1, H, W] of 0 and 1: where a map exceeds ``threshold`` of its range.

    Dilated by one pixel. Hertz et al. 2023, section 3.2, "local editing", measure from 0 instead of the
    minimum, which masks the whole image with a small network that attends a little everywhere.
    """
    chosen = []
    for each in maps:
        low, high = each.amin((1, 2), keepdim=True), each.amax((1, 2), keepdim=True)
        above = each >= low + threshold * (high - low)
        chosen.append(F.max_pool2d(above[:, None].float(), 3, stride=1, padding=1))
    return torch.stack(chosen).amax(0)
