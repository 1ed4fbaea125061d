"""UNet of ConvNeXt blocks, each conditioned on time: the network of the cold diffusion studies."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.embeddings import Conditioning
from latentdiff.nn.layers import GroupNorm, ZeroConv2d, check_input
from latentdiff.nn.networks import ConvNeXtConfig


class ConvNeXtDenoiser(nn.Module):
    """x_t [B, C, H, W], t [B], labels [B] or None -> [B, out_factor C, H, W]; zero at the start of training.

    Blocks of Liu et al. 2022 (depthwise 7x7 convolution, norm, expanding and contracting 1x1 convolutions,
    residual) with the embedding of time and class added after the depthwise convolution, as in Bansal et al.
    2022 (Cold Diffusion), appendix A. A resolution halves to ceil(n / 2), and the way up takes the size of
    the skip connection.
    """

    def __init__(self, config: ConvNeXtConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.width * m for m in config.mult]
        e = 4 * config.width
        self.condition = Conditioning(e, config.num_classes)
        patched = config.shape[0] * config.patch**2
        self.stem = nn.Conv2d(patched, widths[0], 3, padding=1)
        last = len(widths) - 1
        self.down, self.halve, self.up = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(_Level(widths[max(0, level - 1)], width, e, config))
            if level < last:
                self.halve.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
        self.middle = _ConvNeXtBlock(widths[-1], widths[-1], e, config.expand)
        for level, width in reversed(list(enumerate(widths))):
            self.up.append(_Level(widths[min(last, level + 1)] + width, width, e, config))
        self.norm = GroupNorm(1, widths[0])
        self.head = ZeroConv2d(widths[0], config.out_factor * patched, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Network output in float32. t: timesteps 0..T-1, may be real; labels None: the null class.

        ValueError for ``x`` or ``t`` of another shape.
        """
        check_input(self.config, x, t)
        e = self.condition(t, labels)
        h = self.stem(F.pixel_unshuffle(x.to(self.stem.weight.dtype), self.config.patch))
        skips = []
        for level, down in enumerate(self.down):
            h = down(self.halve[level - 1](h) if level else h, e)
            skips.append(h)
        h = self.middle(h, e)
        for up in self.up:
            skip = skips.pop()
            if h.shape[2:] != skip.shape[2:]:
                h = F.interpolate(h, size=skip.shape[2:], mode="nearest")
            h = up(torch.cat([h, skip], dim=1), e)
        out: Tensor = self.head(F.gelu(self.norm(h)))
        return F.pixel_shuffle(out.float(), self.config.patch)


class _Level(nn.Module):
    """The blocks of one resolution, [B, c_in, H, W] -> [B, c_out, H, W]."""

    def __init__(self, c_in: int, c_out: int, e: int, config: ConvNeXtConfig) -> None:
        super().__init__()
        sizes = [c_in, *[c_out] * (config.depth - 1)]
        self.blocks = nn.ModuleList(_ConvNeXtBlock(size, c_out, e, config.expand) for size in sizes)

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, e)
        return x


class _ConvNeXtBlock(nn.Module):
    """[B, c_in, H, W] -> [B, c_out, H, W]."""

    def __init__(self, c_in: int, c_out: int, e: int, expand: int) -> None:
        super().__init__()
        self.spread = nn.Conv2d(c_in, c_in, 7, padding=3, groups=c_in)
        self.shift = nn.Linear(e, c_in)
        self.norm = GroupNorm(1, c_in)
        self.wide = nn.Conv2d(c_in, expand * c_out, 1)
        self.narrow = ZeroConv2d(expand * c_out, c_out, 1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, e: Tensor) -> Tensor:
        h = self.norm(self.spread(x) + self.shift(e)[:, :, None, None])
        out: Tensor = self.skip(x) + self.narrow(F.gelu(self.wide(h)))
        return out
