"""Diffusion transformer: attention among the patches of a grid, adaptive layer norm for time and class."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.activations import gelu_tanh
from latentdiff.nn.ada_norm import ada_norm, add_ada_norm, for_each
from latentdiff.nn.attention import Attend, AttentionSite, attention
from latentdiff.nn.embeddings import Embedding, timestep_embedding
from latentdiff.nn.layers import ZeroLinear, check_input
from latentdiff.nn.networks import DiTConfig
from latentdiff.nn.text import TextConditioned


class DiTDenoiser(TextConditioned):
    """x_t [B, C, H, W], t [B], labels [B] or None -> [B, out_factor C, H, W]; zero at the start of training.

    Peebles and Xie 2023: squares of ``patch`` pixels a side are tokens, with fixed positions; blocks with
    adaLN-zero take scale, shift and gate from the embedding of time and class (section 3.2). A text adds its
    embedding to that of time, and cross-attention to its tokens to every block (Chen et al. 2023, PixArt).
    """

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width, patched = config.width, config.shape[0] * config.patch**2
        self.condition_on(config, width)
        self.stem = nn.Linear(patched, width)
        self.blocks = nn.ModuleList(_DiTBlock(config, index) for index in range(config.depth))
        self.modulation = ZeroLinear(width, 2 * width)
        self.head = ZeroLinear(width, config.out_factor * patched)

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
        patches = F.pixel_unshuffle(x.to(self.stem.weight.dtype), self.config.patch)
        h = self.stem(patches.flatten(2).transpose(1, 2)).float()  # [B, N, width]: float32 under autocast
        h = h + positions(self.config.grid, self.config.width, x.device)
        for block in self.blocks:
            h = block(h, e, context, attend)
        scale, shift = self.modulation(e.values).float().chunk(2, dim=1)
        y = ada_norm(h, 1 + scale, shift, e.rows, self.head.weight.dtype)
        out = self.head(y).transpose(1, 2).unflatten(2, self.config.grid)
        return F.pixel_shuffle(out.float(), self.config.patch)


def positions(grid: tuple[int, int], width: int, device: torch.device) -> Tensor:
    """Sinusoids [H W, width] of the rows and of the columns of a grid, half of the channels each."""
    rows, columns = (timestep_embedding(torch.arange(side, device=device), width // 2) for side in grid)
    height, breadth = grid
    return torch.cat([rows.repeat_interleave(breadth, 0), columns.repeat(height, 1)], dim=1)


class _DiTBlock(nn.Module):
    """Tokens [B, N, width] float32: gated self-attention, cross-attention to a text, gated MLP."""

    def __init__(self, config: DiTConfig, index: int) -> None:
        super().__init__()
        width = config.width
        self.heads, self.site = config.heads, AttentionSite("self", index, config.grid)
        self.modulation = ZeroLinear(width, 6 * width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.cross = _Cross(config, config.text.width, index) if config.text else None
        self.up = nn.Linear(width, config.expand * width)
        self.down = nn.Linear(config.expand * width, width)

    def forward(self, h: Tensor, e: Embedding, context: Tensor | None, attend: Attend | None) -> Tensor:
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulation(e.values).float().chunk(6, dim=1)
        y = ada_norm(h, 1 + scale1, shift1, e.rows, self.up.weight.dtype)
        q, k, v = self.qkv(y).chunk(3, dim=2)
        mixed = self.out(attention(q, k, v, heads=self.heads, site=self.site, attend=attend))
        if self.cross is None or context is None:
            h, y = add_ada_norm(h, mixed, gate1, 1 + scale2, shift2, e.rows)
        else:
            h = torch.addcmul(h, for_each(gate1, e.rows, h), mixed.float())
            h = h + self.cross(h, context, attend)
            y = ada_norm(h, 1 + scale2, shift2, e.rows, mixed.dtype)
        out = self.down(gelu_tanh(self.up(y)))
        return torch.addcmul(h, for_each(gate2, e.rows, h), out.float())


class _Cross(nn.Module):
    """Attention from tokens [B, N, width] to those of a text [B, L, D]; zero at the start of training."""

    def __init__(self, config: DiTConfig, text: int, index: int) -> None:
        super().__init__()
        self.heads, self.site = config.heads, AttentionSite("cross", index, config.grid)
        self.q, self.kv = nn.Linear(config.width, config.width), nn.Linear(text, 2 * config.width)
        self.out = ZeroLinear(config.width, config.width)

    def forward(self, h: Tensor, context: Tensor, attend: Attend | None) -> Tensor:
        q = self.q(F.layer_norm(h, h.shape[-1:]).to(self.q.weight.dtype))
        k, v = self.kv(context.to(q.dtype)).chunk(2, dim=2)
        out: Tensor = self.out(attention(q, k, v, heads=self.heads, site=self.site, attend=attend))
        return out.float()
