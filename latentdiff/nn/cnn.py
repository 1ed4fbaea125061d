"""Small convolutional denoiser: a few convolutions in a row, conditioned on time by an MLP of sinusoids."""

from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.embeddings import Conditioning
from latentdiff.nn.layers import ZeroConv2d, check_input
from latentdiff.nn.networks import CNNConfig


class CNNDenoiser(nn.Module):
    """x_t [B, C, H, W], t [B], labels [B] or None -> [B, out_factor C, H, W]; zero at the start of training.

    C-16-32-32-16-C by default, at the full resolution throughout. The large kernels come first: 7, 7, 7, 3, 3
    let an output see 23 pixels a side, most of a digit. The embedding of time and (one-hot) class is added,
    one number a channel, after every convolution but the last.
    """

    def __init__(self, config: CNNConfig) -> None:
        super().__init__()
        self.config = config
        inner = zip((config.shape[0], *config.channels), config.channels, config.kernels, strict=False)
        self.condition = Conditioning(config.time_dim, config.num_classes, one_hot=True)
        self.shifts = nn.Linear(config.time_dim, sum(config.channels))
        self.convs = nn.ModuleList(nn.Conv2d(c_in, c_out, k, padding=k // 2) for c_in, c_out, k in inner)
        last = config.kernels[-1]
        self.head = ZeroConv2d(
            config.channels[-1], config.out_factor * config.shape[0], last, padding=last // 2
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Network output in float32. t: timesteps 0..T-1, may be real; labels None: the null class.

        ValueError for ``x`` or ``t`` of another shape.
        """
        check_input(self.config, x, t)
        shifts = self.shifts(self.condition(t, labels))[:, :, None, None].split(
            list(self.config.channels), dim=1
        )
        h = x.to(self.head.weight.dtype)
        for conv, shift in zip(self.convs, shifts, strict=True):
            h = F.silu(conv(h) + shift)
        out: Tensor = self.head(h)
        return out.float()
