"""Discriminator of image patches, for the adversarial term of an autoencoder."""

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


def _applied(conv: nn.Module, x: Tensor, *, frozen: bool) -> Tensor:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    weight, bias = (conv.weight.detach(), conv.bias.detach()) if frozen else (conv.weight, conv.bias)
    out: Tensor = F.conv2d(x, weight, bias, conv.stride, conv.padding)
    return out
