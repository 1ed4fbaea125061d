"""Per-image conditioning in training: class index, caption tokens, or embeddings of a frozen text encoder."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.data.types import TrainSplit
from latentdiff.pipeline.text.encoder import FrozenEncoder
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer

CACHE_BYTES = 4 * 2**30  # encoded captions are kept in memory up to this size
CHUNK = 256


class TokenRows:
    """A table with a row for each image, and the ``null`` conditioning."""

    def __init__(self, rows: Tensor, null: Tensor) -> None:
        self._rows, self.null = rows, null

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._rows[indices]


class Contexts:
    """Embeddings of captions by a frozen encoder, float32 [B, L, D].

    Each distinct caption is encoded once and kept in half precision; at every use where they are too many.
    """

    def __init__(self, captions: tuple[str, ...], encoder: FrozenEncoder, device: torch.device) -> None:
        texts = sorted(set(captions))
        place = {text: k for k, text in enumerate(texts)}
        self._which = torch.tensor([place[caption] for caption in captions])
        self._texts, self._encoder, self._device = texts, encoder, device
        self.null = encoder.contexts([""], device).cpu()
        self._table: Tensor | None = None
        if 2 * len(texts) * encoder.length * encoder.width <= CACHE_BYTES:
            parts = [texts[first : first + CHUNK] for first in range(0, len(texts), CHUNK)]
            self._table = torch.cat([encoder.contexts(part, device).half().cpu() for part in parts])

    def __getitem__(self, indices: Tensor) -> Tensor:
        which = self._which[indices]
        if self._table is not None:
            return self._table[which].float()
        texts = [self._texts[k] for k in which.tolist()]
        return self._encoder.contexts(texts, self._device).half().float().cpu()


def conditioning_of(
    split: TrainSplit, num_classes: int, tokenizer: TextTokenizer | None, device: torch.device
) -> TokenRows | Contexts | None:
    """Captions where there is a tokenizer, else labels of the classes; None for unconditional training."""
    if tokenizer is not None and split.captions is not None:
        if isinstance(tokenizer, FrozenEncoder):
            return Contexts(split.captions, tokenizer, device)
        assert isinstance(tokenizer, Tokenizer)
        return TokenRows(tokenizer.encode(split.captions), tokenizer.encode([""]))
    if not num_classes or split.labels is None:
        return None
    return TokenRows(split.labels, torch.tensor(num_classes))
