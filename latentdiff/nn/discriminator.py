"""Discriminators: of image patches for an autoencoder, of whole samples for a student."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

GROUPS = 8
SLOPE = 0.2  # of the leaky rectifier


class PatchDiscriminator(nn.Module):
    """Says of overlapping patches of 26 x 26 pixels whether they are real (Isola et al. 2017, section 3.2).

    Two strided convolutions and two at a quarter of the resolution; normalized without learned gains.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(channels, width, 4, 2, 1),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.Conv2d(2 * width, 2 * width, 3, 1, 1),
            ]
        )
        self.head = nn.Conv2d(2 * width, 1, 3, 1, 1)

    def forward(self, x: Tensor, *, frozen: bool = False) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, 1, H / 4, W / 4] of images [N, C, H, W] in [-1, 1], positive where they look real, and
        the feature maps before them; both in float32. ``frozen``: without gradients in the weights.
        """
        maps = []
        for index, conv in enumerate(self.convs):
            x = _applied(conv, x, frozen=frozen).float()
            x = F.leaky_relu(F.group_norm(x, GROUPS) if index else x, SLOPE)
            maps.append(x)
        return _applied(self.head, x, frozen=frozen).float(), maps


class SampleDiscriminator(nn.Module):
    """Says of samples [N, C, H, W], and of their patches, whether they are real, given their condition.

    The condition is projected (Miyato and Koyama 2018): class labels int64 [N] of ``classes`` (with the null
    class), or encoded texts [N, L, ``context``] by their mean; without effect at first. Sides of 4 or more.
    """

    def __init__(self, channels: int, *, classes: int = 0, context: int = 0, width: int = 48) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(channels, width, 4, 2, 1),
                nn.Conv2d(width, 2 * width, 4, 2, 1),
                nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            ]
        )
        self.patches = nn.Conv2d(4 * width, 1, 3, 1, 1)
        self.whole = nn.Conv2d(4 * width, 4 * width, 3, 2, 1)
        self.head = nn.Linear(4 * width, 1)
        self.classes = nn.Embedding(classes, 4 * width) if classes else None
        self.context = nn.Linear(context, 4 * width) if context else None

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits float32 [N, 2] of patches (their mean) and of the whole, positive where they look real."""
        for index, conv in enumerate(self.convs):
            x = conv(x).float()
            x = F.leaky_relu(F.group_norm(x, GROUPS) if index else x, SLOPE)
        patches = self.patches(x).float().flatten(1).mean(1, keepdim=True)
        h = F.leaky_relu(self.whole(x).float(), SLOPE).mean((2, 3))
        whole = self.head(h).float()
        known = None
        if condition is not None and self.classes is not None:
            known = self.classes(condition)
        elif condition is not None and self.context is not None:
            known = self.context(condition.mean(1))
        if known is not None:
            whole = whole + (h * known.float()).sum(1, keepdim=True)
        return torch.cat([patches, whole], 1)


def _applied(conv: nn.Module, x: Tensor, *, frozen: bool) -> Tensor:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    weight, bias = (conv.weight.detach(), conv.bias.detach()) if frozen else (conv.weight, conv.bias)
    out: Tensor = F.conv2d(x, weight, bias, conv.stride, conv.padding)
    return out
