"""Embeddings of the timestep and of the class label."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.layers import ZeroLinear

MAX_PERIOD = 10_000.0
FREQUENCIES = 64
LEAST_SHARED = 8  # samples of a batch whose conditions are looked through
SCALE = 100.0  # of a guidance scale, to the range of timesteps


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoids [B, dim] (float32) of real timesteps t [B]: sin(t w_i), then cos(t w_i), w_i = 10000^(-i /
    (dim/2)).

    Vaswani et al. 2017, section 3.5, with the sines and the cosines side by side instead of interleaved.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"`dim`: expected an even number of at least 2, got {dim}")
    i = torch.arange(dim // 2, device=t.device, dtype=torch.float32)
    angle = t.float()[:, None] * torch.exp(i * (-math.log(MAX_PERIOD) / (dim // 2)))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Embedding(NamedTuple):
    """``values`` [U, dim] of the U conditions of a batch, and which one each sample has, int64 [B]; ``rows``
    None: sample k has values[k].
    """

    values: Tensor
    rows: Tensor | None = None

    def through(self, layer: nn.Module) -> Tensor:
        """A layer's outputs [B, ...], computed once for each condition."""
        return self.spread(layer(self.values))

    def spread(self, values: Tensor) -> Tensor:
        """Values [U, ...] of the conditions for each sample, [B, ...]."""
        # values[rows] takes seven times as long
        return values if self.rows is None else values.index_select(0, self.rows)


def distinct(t: Tensor, labels: Tensor | None, guidance: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Samples [U] that between them have all conditions of a batch, and which of them each sample is like,
    int64 [B]; None where looking for them does not pay: while training, off a CPU, for a few samples.

    A sampling loop has one timestep and one guidance for all samples, and few classes.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or t.device.type != "cpu":
        return None
    if len(t) < LEAST_SHARED or any(bool((x != x[0]).any()) for x in (t, guidance) if x is not None):
        return None
    if labels is None:
        return t.new_zeros(1, dtype=torch.int64), torch.zeros(len(t), dtype=torch.int64)
    known, rows = torch.unique(labels, return_inverse=True)
    if 2 * len(known) > len(labels):
        return None
    first = torch.full_like(known, len(t)).scatter_reduce(0, rows, torch.arange(len(t)), "amin")
    return first, rows


class Conditioning(nn.Module):
    """Timesteps t [B] and labels [B] -> one embedding [B, dim], ready for the layers that modulate a network.

    With ``text``, the size of a text's embedding [B, text], that is added too. Label `num_classes` is the
    null class (Ho and Salimans 2022: trained by dropping labels): a row of its own in the label table or,
    with ``one_hot``, the zero vector in front of a linear layer. ``guided``: the guidance scale is embedded,
    too, at first without an effect (Meng et al. 2023, section 3.1).
    """

    def __init__(
        self, dim: int, num_classes: int, *, one_hot: bool = False, text: int = 0, guided: bool = False
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.time1 = nn.Linear(2 * FREQUENCIES, dim)
        self.time2 = nn.Linear(dim, dim)
        table = OneHotLinear(num_classes, dim) if one_hot else nn.Embedding(num_classes + 1, dim)
        self.label = table if num_classes else None
        self.text = nn.Linear(text, dim) if text else None
        self.guidance = ZeroLinear(2 * FREQUENCIES, dim) if guided else None

    def forward(
        self, t: Tensor, labels: Tensor | None, text: Tensor | None = None, guidance: Tensor | None = None
    ) -> Tensor:
        """Embed; labels None means the null class for every sample, guidance [B] None a scale of 1.

        ValueError for shapes that do not agree, and for guidance of a network that does not take it.
        """
        if t.ndim != 1:
            raise ValueError(f"`t`: expected shape [B], got {list(t.shape)}")
        sinusoids = timestep_embedding(t, 2 * FREQUENCIES).to(self.time1.weight.dtype)
        e: Tensor = self.time2(F.silu(self.time1(sinusoids)))
        if self.text is not None and text is not None:
            e = e + self.text(text.to(e.dtype))
        e = e + self._guided(t, guidance) if self.guidance is not None or guidance is not None else e
        known = checked_labels(labels, t, num_classes=self.num_classes)
        return F.silu(e) if self.label is None else F.silu(e + self.label(known))

    def _guided(self, t: Tensor, guidance: Tensor | None) -> Tensor:
        """The embedding [B, dim] of guidance scales [B]."""
        if self.guidance is None:
            raise ValueError("`guidance`: expected None for a network that does not take it, got a tensor")
        scales = torch.ones_like(t, dtype=torch.float32) if guidance is None else guidance
        if scales.shape != t.shape:
            raise ValueError(f"`guidance`: expected shape {list(t.shape)}, got {list(scales.shape)}")
        found: Tensor = self.guidance(
            timestep_embedding(SCALE * scales, 2 * FREQUENCIES).to(self.time1.weight.dtype)
        )
        return found


class OneHotLinear(nn.Linear):
    """Labels int64 [B] -> [B, out_features]: a linear layer of one-hot vectors, zeros for the null class."""

    def forward(self, labels: Tensor) -> Tensor:
        """Label ``in_features`` is the null class: only the bias is left of it."""
        return super().forward(one_hot(labels, self.in_features).to(self.weight.dtype))


def one_hot(labels: Tensor, num_classes: int) -> Tensor:
    """Labels int64 [B] in 0..num_classes as float32 [B, num_classes]; the last, the null class, is zero."""
    hot = torch.zeros(len(labels), num_classes + 1, device=labels.device)
    return hot.scatter(1, labels[:, None], 1.0)[:, :num_classes]


def checked_labels(labels: Tensor | None, t: Tensor, *, num_classes: int) -> Tensor:
    """Labels int64 [B] for timesteps t [B]: the null class for every sample where None is given.

    ValueError for labels of another shape or type, or for a network without classes.
    """
    if labels is None:
        return torch.full_like(t, num_classes, dtype=torch.int64)
    if not num_classes:
        raise ValueError("`labels`: expected None for a network without classes, got a tensor")
    if labels.shape != t.shape or labels.dtype != torch.int64:
        raise ValueError(
            f"`labels`: expected int64 of shape {list(t.shape)}, got {labels.dtype} of shape"
            f" {list(labels.shape)}"
        )
    return labels
