"""Embeddings of what a denoiser is told beside x_t: the timestep and the class label."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MAX_PERIOD = 10_000.0
FREQUENCIES = 64


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoids [B, dim] (float32) of real timesteps t [B]: sin(t w_i), then cos(t w_i), w_i = 10000^(-i / (dim/2)).

    Vaswani et al. 2017, section 3.5, with the sines and the cosines side by side instead of interleaved.
    """
    if dim < 2 or dim % 2:
        raise ValueError(f"dim: expected an even number of at least 2, got {dim}")
    i = torch.arange(dim // 2, device=t.device, dtype=torch.float32)
    angle = t.float()[:, None] * torch.exp(i * (-math.log(MAX_PERIOD) / (dim // 2)))
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Conditioning(nn.Module):
    """Timesteps t [B] and labels [B] -> one embedding [B, dim], ready for the layers that modulate a network.

    Row `num_classes` of the label table is the null class (Ho and Salimans 2022: trained by dropping labels).
    """

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.time1 = nn.Linear(2 * FREQUENCIES, dim)
        self.time2 = nn.Linear(dim, dim)
        self.label = nn.Embedding(num_classes + 1, dim) if num_classes else None

    def forward(self, t: Tensor, labels: Tensor | None) -> Tensor:
        """Embed; labels None means the null class for every sample. ValueError for shapes that do not agree."""
        if t.ndim != 1:
            raise ValueError(f"t: expected shape [B], got {list(t.shape)}")
        sinusoids = timestep_embedding(t, 2 * FREQUENCIES).to(self.time1.weight.dtype)
        e: Tensor = self.time2(F.silu(self.time1(sinusoids)))
        if self.label is None:
            if labels is not None:
                raise ValueError("labels: expected None for a network without classes, got a tensor")
            return F.silu(e)
        if labels is None:
            labels = torch.full_like(t, self.num_classes, dtype=torch.int64)
        if labels.shape != t.shape or labels.dtype != torch.int64:
            raise ValueError(
                f"labels: expected int64 of shape {list(t.shape)}, got {labels.dtype} of shape {list(labels.shape)}"
            )
        return F.silu(e + self.label(labels))
