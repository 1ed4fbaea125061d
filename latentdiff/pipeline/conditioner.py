"""Turns labels or prompts into the tensor that conditions the network, one entry per image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from latentdiff.data.classes import class_index
from latentdiff.errors import InputError
from latentdiff.nn import ExternalModel, TextConditioned
from latentdiff.pipeline.text.encoder import FrozenEncoder
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer

Labels = int | str | Sequence[int | str] | None
"""A class by name or index, or a prompt; or one for each image; None: unconditional."""
ENCODED = 256  # prompts encoded at once


@dataclass(frozen=True, eq=False)
class Conditioner:
    """Class indices of ``classes``, or prompts encoded by a ``tokenizer`` and its own or a frozen encoder."""

    network: nn.Module
    classes: tuple[str, ...]
    tokenizer: TextTokenizer | None
    device: torch.device

    def resolve(self, label: Labels, n: int) -> list[int] | list[str] | None:
        """A class index or prompt for each of ``n`` images; InputError for unknown ones, another number."""
        if label is None:
            return None
        many = list(label) if isinstance(label, Iterable) and not isinstance(label, str) else [label] * n
        if len(many) != n:
            raise InputError(f"expected one label or {n} of them, got {len(many)}")
        if self.tokenizer is None:
            return [class_index(self.classes, value) for value in many]
        return [str(value) for value in many]

    def encode(self, label: Labels, n: int) -> Tensor | None:
        """Class indices int64 [n] or encoded prompts float32 [n, L, D]; None for no label.

        InputError for unknown classes, another number than ``n`` and texts that cannot be encoded.
        """
        each = self.resolve(label, n)
        if each is None:
            return None
        if self.tokenizer is None:
            return torch.tensor(each, dtype=torch.int64, device=self.device)
        texts = sorted({str(text) for text in each})  # each text once
        place = {text: k for k, text in enumerate(texts)}
        return self._encoded(texts)[torch.tensor([place[str(text)] for text in each], device=self.device)]

    def validate(self, labels: Tensor | None, guidance: float) -> None:
        """InputError unless guidance is possible: it needs a label or prompt, and a network with a null
        class, which diffusers' class-conditional UNets lack.
        """
        if labels is None and guidance not in (0, 1):
            raise InputError(f"`guidance` {guidance:g} needs a `label` or a `prompt`, got none")
        if self.classes and isinstance(self.network, ExternalModel) and (labels is None or guidance != 1):
            found = f"guidance {guidance:g}" if guidance != 1 else "no label"
            raise InputError(
                "this model of diffusers needs a class and has no null class: expected a `label`"
                f" and `guidance` 1, got {found}"
            )

    def null(self, negative: str = "") -> int | Tensor:
        """The null condition of guidance: the index of the null class, or the encoded empty (or ``negative``)
        prompt [1, L, D].

        InputError for a negative prompt of a model without text conditioning.
        """
        if self.tokenizer is not None:
            return self._encoded([negative])
        if negative:
            raise InputError(
                f"`negative_prompt` {negative!r:.60}: this model is not conditioned on text; leave it out, or"
                " take a text model"
            )
        return len(self.classes)

    @torch.no_grad()
    def _encoded(self, texts: Sequence[str]) -> Tensor:
        if isinstance(self.tokenizer, FrozenEncoder):
            parts = [texts[first : first + ENCODED] for first in range(0, len(texts), ENCODED)]
            return torch.cat([self.tokenizer.contexts(part, self.device) for part in parts])
        assert isinstance(self.tokenizer, Tokenizer) and isinstance(self.network, TextConditioned)
        tokens = self.tokenizer.encode(texts).to(self.device)
        return torch.cat([self.network.encode(part, len(part)).float() for part in tokens.split(ENCODED)])
