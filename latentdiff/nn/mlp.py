"""Residual MLP denoiser for vector latents and small grids, modulated by adaptive layer norm."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.ada_norm import ada_norm, add_ada_norm
from latentdiff.nn.layers import ZeroLinear, check_input
from latentdiff.nn.networks import MLPConfig
from latentdiff.nn.text import TextConditioned


class MLPDenoiser(TextConditioned):
    """x_t [B, L] or [B, C, H, W], t [B], labels [B] or None -> [B, out_factor L] or [B, out_factor C, H, W];
    zero at first.

    Blocks with adaLN-zero: scale, shift and gate come from the embedding and start at zero
    (Peebles and Xie 2023, section 3.2). A text adds the embedding of the whole to that of time.
    """

    def __init__(self, config: MLPConfig) -> None:
        super().__init__()
        self.config = config
        width, size = config.width, math.prod(config.shape)
        self.condition_on(config, config.time_dim)
        self.stem = nn.Linear(size, width)
        # one matrix product gives scale, shift and gate of every block and scale and shift of the head
        self.modulation = ZeroLinear(config.time_dim, (3 * config.depth + 2) * width)
        self.blocks = nn.ModuleList(_MLPBlock(width, config.expand * width) for _ in range(config.depth))
        self.head = ZeroLinear(width, config.out_factor * size)

    def forward(
        self, x: Tensor, t: Tensor, labels: Tensor | None = None, *, guidance: Tensor | None = None
    ) -> Tensor:
        """Network output in float32. t: timesteps 0..T-1, may be real; labels None: the null class.

        A network of texts takes them as ``labels``: word pieces int64 [B, L], or the context from
        :meth:`encode`. ``guidance`` [B]: scales, of a network that is ``guided``. ValueError for ``x``,
        ``t`` or texts of another shape.
        """
        check_input(self.config, x, t)
        e, _ = self.embedded(t, labels, guidance)
        parts = list(self.modulation(e.values).float().chunk(3 * self.config.depth + 2, dim=1))
        parts[::3] = [1 + scale for scale in parts[::3]]
        # the residual stream stays float32 under autocast
        h = self.stem(x.flatten(1).to(self.stem.weight.dtype)).float()
        y = ada_norm(h, parts[0], parts[1], e.rows, self.head.weight.dtype)
        for i, block in enumerate(self.blocks):
            gate, factor, shift = parts[3 * i + 2 : 3 * i + 5]  # norm of what follows the block
            h, y = add_ada_norm(h, block(y), gate, factor, shift, e.rows)
        out: Tensor = self.head(y)
        channels, *rest = self.config.shape
        return out.float().view(-1, self.config.out_factor * channels, *rest)


class _MLPBlock(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.down(F.silu(self.up(y)))
        return out
