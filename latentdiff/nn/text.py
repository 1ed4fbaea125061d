"""Conditioning on texts: by a transformer over word pieces, trained along, or by a frozen encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.attention import fused_attention
from latentdiff.nn.base_config import DenoiserConfig, TextConfig, text_of
from latentdiff.nn.embeddings import Conditioning, Embedding, checked_labels, distinct

START, END = 2, 3  # the pieces of an empty text, before its padding (latentdiff.pipeline.text.tokenizer)


class TextEncoder(nn.Module):
    """Word pieces int64 [B, L] -> context [B, L, D]; the first token, [start], stands for the whole text.

    Pre-norm transformer layers that see the text in both directions. Padding is a token like any other, as in
    the text encoders of published latent diffusion models: its meaning is learned.
    """

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.width)
        self.positions = nn.Embedding(config.length, config.width)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Encode. ValueError for another length or type; IndexError for pieces beyond the vocabulary."""
        if tokens.ndim != 2 or tokens.shape[1] != self.config.length or tokens.dtype != torch.int64:
            raise ValueError(
                f"`tokens`: expected int64 of shape {['B', self.config.length]}, got {tokens.dtype} of shape"
                f" {list(tokens.shape)}"
            )
        x = self.tokens(tokens) + self.positions.weight
        for layer in self.layers:
            x = layer(x)
        out: Tensor = self.norm(x)
        return out

    def empty(self, device: torch.device) -> Tensor:
        """The pieces of the empty text, [1, L]: the null condition."""
        tokens = torch.zeros(1, self.config.length, dtype=torch.int64, device=device)
        tokens[:, 0], tokens[:, 1] = START, END
        return tokens


class ContextNorm(nn.Module):
    """Contexts [B, L, D] of a frozen encoder, normalized token by token."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.config = config
        self.norm = nn.LayerNorm(config.width)

    def forward(self, context: Tensor) -> Tensor:
        """The normalized context [B, L, D]."""
        out: Tensor = self.norm(context)
        return out


class TextConditioned(nn.Module):
    """A denoiser that may be conditioned on texts: ``text`` encodes them, None for one of classes or none."""

    text: TextEncoder | ContextNorm | None

    def condition_on(self, config: DenoiserConfig, dim: int) -> None:
        """Make the embedding [B, dim] of time and of the classes or texts of ``config``."""
        text = text_of(config)
        self.text = None if text is None else TextEncoder(text) if text.vocabulary else ContextNorm(text)
        self.condition = Conditioning(
            dim, config.num_classes, text=text.width if text else 0, guided=getattr(config, "guided", False)
        )

    def encode(self, texts: Tensor | None, n: int) -> Tensor:
        """The context [n, L, D] of ``n`` texts (or of one for all) from word pieces int64 [n, L]; a context
        [n, L, D] is returned as given; None: the empty text.

        A network with a frozen encoder takes contexts alone. ValueError for texts that the network does not
        take, and for another shape.
        """
        if self.text is None:
            raise ValueError("encode: expected a network conditioned on texts, got one that is not")
        if isinstance(self.text, TextEncoder) and texts is None:
            texts = self.text.empty(self.text.tokens.weight.device)
        if texts is None or (isinstance(self.text, ContextNorm) and not texts.is_floating_point()):
            raise ValueError("encode: expected the contexts of a frozen encoder, got none")
        context: Tensor = texts if texts.is_floating_point() else self.text(texts)
        expected = [n, self.text.config.length, self.text.config.width]
        if context.ndim != 3 or list(context.shape[1:]) != expected[1:] or len(context) not in (1, n):
            raise ValueError(f"`context`: expected shape {expected}, got {list(context.shape)}")
        return context.expand(n, -1, -1)

    def embedded(
        self, t: Tensor, labels: Tensor | None, guidance: Tensor | None = None
    ) -> tuple[Embedding, Tensor | None]:
        """The embedding of timesteps [B], classes [B] or texts and guidance scales [B]; texts' context
        [B, L, D] or None.
        """
        if self.text is None:
            known = checked_labels(labels, t, num_classes=self.condition.num_classes)
            if (found := distinct(t, known, guidance)) is None:
                return Embedding(self.condition(t, labels, None, guidance)), None
            few, rows = found
            scales = None if guidance is None else guidance[few]
            each = None if labels is None else labels[few]
            return Embedding(self.condition(t[few], each, None, scales), rows), None
        context = self.encode(labels, len(t))
        if isinstance(self.text, ContextNorm):
            context = self.text(context)
        return Embedding(self.condition(t, None, context[:, 0], guidance)), context


class _Layer(nn.Module):
    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.width
        self.heads = config.heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        x = x + self.out(fused_attention(q, k, v).transpose(1, 2).reshape(b, n, d))
        out: Tensor = x + self.down(F.gelu(self.up(self.norm2(x))))
        return out
