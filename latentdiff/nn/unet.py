"""UNet denoiser for spatial latents and pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.attention import Attend, CrossAttention, SelfAttention
from latentdiff.nn.embeddings import Embedding
from latentdiff.nn.layers import GroupNorm, ZeroConv2d, check_input
from latentdiff.nn.networks import UNetConfig
from latentdiff.nn.text import TextConditioned


class UNetDenoiser(TextConditioned):
    """x_t [B, C, H, W], t [B], labels [B] or None -> [B, out_factor C, H, W]; zero at the start of training.

    Residual blocks with scale and shift after the group norm (Dhariwal and Nichol 2021, "adaptive group
    norm"), attention at the chosen resolutions and in the middle, there also from pixels to the tokens of a
    text (Rombach et al. 2022). A resolution halves to ceil(n / 2), and the way up takes the size of the skip
    connection, so that odd sides work. Squares of ``patch`` pixels a side are channels inside, which on a CPU
    is several times as fast as the full resolution.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = [config.width * m for m in config.mult]
        e, last = 4 * config.width, len(channels) - 1
        self.condition_on(config, e)
        patched = config.shape[0] * config.patch**2
        self.stem = nn.Conv2d(patched, channels[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        c = channels[0]
        for level, width in enumerate(channels):
            attend = level in config.attention
            for _ in range(config.depth):
                self.down.append(_Stage(c, width, e, config=config, attend=attend))
                c = width
            if level < last:
                self.down.append(_Down(c))
        self.middle = _Stage(c, c, e, config=config, attend=True)
        self.after = _Stage(c, c, e, config=config, attend=False)
        for level, width in reversed(list(enumerate(channels))):
            attend = level in config.attention
            for _ in range(config.depth):
                self.up.append(_Stage(c + width, width, e, config=config, attend=attend))
                c = width
        self.norm = GroupNorm(config.groups, c)
        self.head = ZeroConv2d(c, config.out_factor * patched, 3, padding=1)
        for kind in (SelfAttention, CrossAttention):
            for index, layer in enumerate(part for part in self.modules() if isinstance(part, kind)):
                layer.index = index

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        labels: Tensor | None = None,
        *,
        attend: Attend | None = None,
        guidance: Tensor | None = None,
    ) -> Tensor:
        """Network output in float32. t: timesteps 0..T-1, may be real; labels None: the null class.

        A network of texts takes them as ``labels``: word pieces int64 [B, L], or the context from
        :meth:`encode`. ``guidance`` [B]: scales, of a network that is ``guided``. ``attend`` gets the
        probabilities of every attention and may change them. ValueError for ``x``, ``t`` or texts of another
        shape.
        """
        check_input(self.config, x, t)
        e, context = self.embedded(t, labels, guidance)
        h = self.stem(F.pixel_unshuffle(x.to(self.stem.weight.dtype), self.config.patch))
        skips = []
        for stage in self.down:
            h = stage(h, e, context, attend)
            if isinstance(stage, _Stage):
                skips.append(h)
        h = self.after(self.middle(h, e, context, attend), e, context, attend)
        for stage in self.up:
            skip = skips.pop()
            if h.shape[2:] != skip.shape[2:]:
                h = F.interpolate(h, size=skip.shape[2:], mode="nearest")
            h = stage(torch.cat([h, skip], dim=1), e, context, attend)
        out: Tensor = self.head(F.silu(self.norm(h)))
        return F.pixel_shuffle(out.float(), self.config.patch)


class _Stage(nn.Module):
    """Residual block [B, c_in, H, W] -> [B, c_out, H, W]; ``attend``: also to pixels and a text's tokens."""

    def __init__(self, c_in: int, c_out: int, e: int, *, config: UNetConfig, attend: bool) -> None:
        super().__init__()
        self.norm1 = GroupNorm(config.groups, c_in)
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1)
        self.modulation = nn.Linear(e, 2 * c_out)
        self.norm2 = GroupNorm(config.groups, c_out)
        self.conv2 = ZeroConv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()
        shared = {"heads": config.heads, "groups": config.groups}
        self.attention = SelfAttention(c_out, **shared) if attend else None
        self.cross = CrossAttention(c_out, config.text.width, **shared) if attend and config.text else None

    def forward(self, x: Tensor, e: Embedding, context: Tensor | None, attend: Attend | None) -> Tensor:
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        scale, shift = e.through(self.modulation)[:, :, None, None].chunk(2, dim=1)
        h = self.conv2(F.silu(torch.addcmul(shift, h, 1 + scale)))
        out: Tensor = self.skip(x) + h
        if self.attention is not None:
            out = self.attention(out, attend)
        if self.cross is not None and context is not None:
            out = self.cross(out, context, attend)
        return out


class _Down(nn.Module):
    """Half resolution, rounded up, by a strided convolution; takes the arguments of a stage."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, e: Embedding, context: Tensor | None, attend: Attend | None) -> Tensor:
        out: Tensor = self.conv(x)
        return out
