"""Layers and checks that several networks share: zero-started layers, float32 normalization."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff import ops
from latentdiff.nn.base_config import DenoiserConfig


class ZeroLinear(nn.Linear):
    """Linear layer that starts at zero: the branch or network that it ends starts with output 0."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        _zero(self)


def replicated(x: Tensor) -> Tensor:
    """[B, C, H, W] -> [B, C, H + 2, W + 2] in x's dtype: edges are repeated once.

    Autocast on a CPU would compute it in float32, with two conversions each way for the same values.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.pad(x, (1, 1, 1, 1), mode="replicate")


class Conv2d(nn.Conv2d):
    """Convolution; ``padding_mode`` replicate is that of :func:`replicated`, for a padding of 1."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.padding_mode == "replicate":
            return F.conv2d(replicated(input), weight, bias, self.stride)
        out: Tensor = super()._conv_forward(input, weight, bias)
        return out


class ZeroConv2d(Conv2d):
    """Convolution that starts at zero."""

    def reset_parameters(self) -> None:
        """Set weight and bias to zero."""
        _zero(self)


class GroupNorm(nn.GroupNorm):
    """Group normalization of [B, C, H, W] with float32 statistics for any dtype, which it keeps."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalize every sample by itself."""
        if x.dtype == torch.bfloat16 and x.device.type == "cpu" and not torch.is_grad_enabled():
            return ops.group_norm(x, self.num_groups, self.weight.float(), self.bias.float(), eps=self.eps)
        if not x.requires_grad and torch.is_grad_enabled():
            # torch's backward crashes for channels_last input that needs no gradient (CPU, 2.13)
            x = x.contiguous()
        return F.group_norm(x.float(), self.num_groups, self.weight.float(), self.bias.float(), self.eps).to(
            x.dtype
        )


def check_input(config: DenoiserConfig, x: Tensor, t: Tensor) -> None:
    """ValueError unless x is [B, *shape] with the configuration's shape, and t [B]."""
    if x.shape[1:] != config.shape or t.shape != x.shape[:1]:
        raise ValueError(
            f"expected x of shape {['B', *config.shape]} and t of shape ['B'],"
            f" got {list(x.shape)} and {list(t.shape)}"
        )


def _zero(layer: nn.Linear | nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
