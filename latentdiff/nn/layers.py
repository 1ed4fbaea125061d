"""Layers that several networks share: zero-started layers and group normalization in float32."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ZeroLinear(nn.Linear):
    """Linear layer that starts at zero, so that what it ends (a branch, a network) starts as nothing."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        _zero(self)


class ZeroConv2d(nn.Conv2d):
    """Convolution that starts at zero."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        _zero(self)


class GroupNorm(nn.GroupNorm):
    """Group normalization of [B, C, H, W] whose statistics are float32 whatever the input; keeps the
    dtype.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize every sample by itself."""
        if not x.requires_grad and torch.is_grad_enabled():
            x = (
                x.contiguous()
            )  # torch's backward crashes for channels_last input that needs no gradient (CPU, 2.13)
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(
            x.dtype
        )


def _zero(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
