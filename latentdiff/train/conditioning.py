"""What a network is told of each image in training: its class, its caption's word pieces, or its caption as a
frozen encoder reads it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from latentdiff.data import Split, StreamedSplit
from latentdiff.pipeline.text.encoder import FrozenEncoder
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer
from latentdiff.train.latent_dataset import EncodedSplit

CACHE_BYTES = 4 * 2**30  # encoded captions are kept in memory up to this size
CHUNK = 256


class ConditioningSource(Protocol):
    """Rows for images, and the row that stands for nothing."""

    @property
    def null(self) -> Tensor: ...

    def __getitem__(self, indices: Tensor) -> Tensor: ...


class TokenRows:
    """A table with a row for each image."""

    def __init__(self, rows: Tensor, null: Tensor) -> None:
        self._rows, self.null = rows, null

    def __getitem__(self, indices: Tensor) -> Tensor:
        return self._rows[indices]


class Contexts:
    """Captions as a frozen encoder reads them: each different one once, in half precision, or anew where they
    are too many.
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
        return (
            self._encoder.contexts([self._texts[k] for k in which.tolist()], self._device)
            .half()
            .float()
            .cpu()
        )


def conditioning_of(
    split: Split | StreamedSplit | EncodedSplit,
    num_classes: int,
    listener: TextTokenizer | None,
    device: torch.device,
) -> ConditioningSource | None:
    """Of a network with classes, or with a listener to texts; None for one that is told nothing."""
    if listener is not None and split.captions is not None:
        if isinstance(listener, FrozenEncoder):
            return Contexts(split.captions, listener, device)
        assert isinstance(listener, Tokenizer)
        return TokenRows(listener.encode(split.captions), listener.encode([""]))
    if not num_classes or split.labels is None:
        return None
    return TokenRows(split.labels, torch.tensor(num_classes))
