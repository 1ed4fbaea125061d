"""The UNet of a first course on diffusion: one-hot class and fully connected time blocks steer the way up."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.embeddings import checked_labels, one_hot
from latentdiff.nn.layers import GroupNorm, ZeroConv2d, check_input
from latentdiff.nn.networks import CourseUNetConfig

NORM_GROUPS = 8


class CourseUNetDenoiser(nn.Module):
    """x_t [B, C, H, W], t [B], labels [B] or None -> [B, out_factor C, H, W]; zero at the start of training.

    Two halvings, an average over the whole grid as the bottleneck, and on the way up h <- c h + t twice: the
    scale c comes from the one-hot class (all zeros for the null class; 1 in a network without classes) and
    the shift from t / levels, each through Linear, GELU, Linear (Berkeley CS180, project 5, part B). Group
    normalization stands where the course has batch normalization, so that a sample does not depend on its
    batch.
    """

    def __init__(self, config: CourseUNetConfig) -> None:
        super().__init__()
        self.config = config
        c, d, classes = config.shape[0], config.width, config.num_classes
        self.stem = _block(c, d)
        self.down1 = nn.Sequential(*_down(d, d), *_block(d, d))
        self.down2 = nn.Sequential(*_down(d, 2 * d), *_block(2 * d, 2 * d))
        self.unflatten = nn.Sequential(
            *_normed(nn.ConvTranspose2d(2 * d, 2 * d, config.grid, config.grid), 2 * d)
        )
        self.up1 = nn.Sequential(*_up(4 * d, d), *_block(d, d))
        self.up2 = nn.Sequential(*_up(2 * d, d), *_block(d, d))
        self.last = _block(2 * d, d)
        self.head = ZeroConv2d(d, config.out_factor * c, 3, padding=1)
        self.times = nn.ModuleList(_fully_connected(1, size) for size in (2 * d, d))
        self.classes = nn.ModuleList(_fully_connected(classes, size) for size in (2 * d, d) if classes)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Network output in float32. t: timesteps 0..T-1, may be real; labels None: the null class.

        ValueError for ``x`` or ``t`` of another shape.
        """
        check_input(self.config, x, t)
        (shift1, scale1), (shift2, scale2) = self._modulation(t, labels)
        h0 = self.stem(x.to(self.head.weight.dtype))
        h1 = self.down1(h0)
        h2 = self.down2(h1)
        h = self.unflatten(F.gelu(h2.mean((2, 3), keepdim=True)))
        h = self.up1(torch.cat([scale1 * h + shift1, h2], dim=1))
        h = self.up2(torch.cat([scale2 * h + shift2, h1], dim=1))
        out: Tensor = self.head(self.last(torch.cat([h, h0], dim=1)))
        return out.float()

    def _modulation(self, t: Tensor, labels: Tensor | None) -> list[tuple[Tensor, Tensor | float]]:
        """(shift, scale) of the two places, [B, channels, 1, 1] each."""
        dtype = self.head.weight.dtype
        time = (t.float() / self.config.levels)[:, None].to(dtype)
        shifts = [block(time)[:, :, None, None] for block in self.times]
        known = checked_labels(labels, t, num_classes=self.config.num_classes)
        if not self.config.num_classes:
            return [(shift, 1.0) for shift in shifts]
        hot = one_hot(known, self.config.num_classes).to(dtype)
        return [(s, block(hot)[:, :, None, None]) for s, block in zip(shifts, self.classes, strict=True)]


def _fully_connected(size: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, out), nn.GELU(), nn.Linear(out, out))


def _normed(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, GroupNorm(NORM_GROUPS, channels), nn.GELU()]


def _block(c_in: int, c_out: int) -> nn.Sequential:
    """Two convolutions at one resolution."""
    first, second = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
    return nn.Sequential(*_normed(first, c_out), *_normed(second, c_out))


def _down(c_in: int, c_out: int) -> list[nn.Module]:
    return _normed(nn.Conv2d(c_in, c_out, 3, stride=2, padding=1), c_out)


def _up(c_in: int, c_out: int) -> list[nn.Module]:
    return _normed(nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1), c_out)
