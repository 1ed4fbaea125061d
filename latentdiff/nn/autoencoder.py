"""Variational autoencoder between images and a vector or spatial latent."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.nn.base_config import ForeignVAEConfig
from latentdiff.nn.layers import Conv2d, GroupNorm, ZeroConv2d, replicated
from latentdiff.nn.vae_config import VAEConfig

LOGVAR_MIN, LOGVAR_MAX = -20.0, 10.0  # deviations from 4.5e-5 to 148: no overflow in exp, no zero variance
NORM_GROUPS = 8
_SAME = (3, 1, 1)  # kernel, stride, padding
_HALVE = (4, 2, 1)
FLAT = "checkerboard-free"


@dataclass(frozen=True)
class Posterior:
    """q(z | x) = N(mean, exp(logvar)), both [B, *latent] in float32, independent components."""

    mean: Tensor
    logvar: Tensor

    def mode(self) -> Tensor:
        """The most likely latent [B, *latent]: the deterministic encoding."""
        return self.mean

    def sample(self, noise: Tensor) -> Tensor:
        """mean + std * noise for standard normal noise [B, *latent] of the caller.

        ValueError for another shape.
        """
        if noise.shape != self.mean.shape:
            raise ValueError(f"`noise`: expected shape {list(self.mean.shape)}, got {list(noise.shape)}")
        return torch.addcmul(self.mean, torch.exp(self.logvar / 2), noise.to(self.mean.dtype))

    def kl(self) -> Tensor:
        """KL(q || N(0, 1)) for each sample [B], in nats, computed in float32 (Kingma and Welling 2013)."""
        mean, logvar = self.mean.float(), self.logvar.float()
        # expm1 keeps the digits of exp(logvar) - 1 - logvar near the prior
        return 0.5 * (mean.square() + torch.expm1(logvar) - logvar).flatten(1).sum(dim=1)


class Autoencoder(nn.Module):
    """The network of a codec: images [B, *image] in [-1, 1] <-> latents [B, *latent] of its ``config``."""

    config: VAEConfig | ForeignVAEConfig
    has_logits: ClassVar[bool] = False  # whether `raw` is the logit of a pixel

    @property
    def variational(self) -> bool:
        """Whether its posterior has a variance that is learned, and so a KL divergence."""
        return True

    def encode(self, x: Tensor) -> Posterior:
        """The posterior of images."""
        raise NotImplementedError

    def decode(self, z: Tensor) -> Tensor:
        """Images in [-1, 1], float32, of latents."""
        raise NotImplementedError

    def decode_raw(self, z: Tensor) -> Tensor:
        """The output of the decoder's last layer, float32, of which a loss is taken."""
        raise NotImplementedError

    def pixels(self, raw: Tensor) -> Tensor:
        """Images of :meth:`decode_raw`'s outputs, with a gradient wherever they have one."""
        raise NotImplementedError

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that latents depend on; the others are the decoder's."""
        raise NotImplementedError


class VAE(Autoencoder):
    """Images [B, C, H, W] in [-1, 1] <-> latents [B, *latent].

    The stem is strided and the head is a pixel shuffle, so that nothing runs at the full resolution; the
    residual blocks stand below half of it (at it, where the latent's grid is that large). It draws no noise.
    """

    config: VAEConfig
    has_logits = True

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        self.config = config
        halvings = config.factor.bit_length() - 1
        channels = [config.width * min(2**i, 4) for i in range(max(1, halvings))]
        self.encoder = _encoder(config, channels, strided=halvings > 0)
        self.decoder = _decoder(config, channels[::-1], strided=halvings > 0)

    def encode(self, x: Tensor) -> Posterior:
        """Posterior of images [B, C, H, W] in [-1, 1]; its logvar is clamped to [-20, 10].

        ValueError for shapes.
        """
        if x.shape[1:] != self.config.image:
            raise ValueError(f"`x`: expected shape {['B', *self.config.image]}, got {list(x.shape)}")
        mean, logvar = self.encoder(x.to(_dtype(self))).float().chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(LOGVAR_MIN, LOGVAR_MAX))

    def decode_logits(self, z: Tensor) -> Tensor:
        """Logits l [B, C, H, W] in float32 of latents [B, *latent]: sigmoid(l) = (x + 1) / 2.

        ValueError for shapes.
        """
        if z.shape[1:] != self.config.latent:
            raise ValueError(f"`z`: expected shape {['B', *self.config.latent]}, got {list(z.shape)}")
        out: Tensor = self.decoder(z.to(_dtype(self)))
        return out.float()

    def decode(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W], float32, of latents [B, *latent]: 2 sigmoid(logits) - 1 in [-1, 1]."""
        return self.pixels(self.decode_logits(z))

    def decode_raw(self, z: Tensor) -> Tensor:
        """The logits of :meth:`decode_logits`."""
        return self.decode_logits(z)

    def pixels(self, raw: Tensor) -> Tensor:
        """Images in (-1, 1) of logits."""
        return torch.tanh(raw / 2)

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Those of ``encoder``."""
        return self.encoder.parameters()


def grow(network: VAE, source: VAE) -> None:
    """Give a new ``network`` the weights of ``source``, which has fewer residual blocks.

    The blocks that it lacks are left as they are, at first the identity, so that both compute the same.
    ValueError unless the configurations differ in ``depth`` and ``detail`` alone, and neither shrinks.
    """
    new, old = network.config, source.config
    more = {"depth": max(old.depth, new.depth), "detail": max(old.detail, new.detail)}
    if old.model_copy(update=more) != new:
        raise ValueError(f"expected the network {old} with a larger depth or detail, got {new}")
    for mine, theirs in ((network.encoder, source.encoder), (network.decoder, source.decoder)):
        for stage, first in zip(_stages(mine), _stages(theirs), strict=True):
            for layer, known in zip(stage, first, strict=False):
                layer.load_state_dict(known.state_dict())


def _stages(layers: nn.Sequential) -> list[list[nn.Module]]:
    """The layers, with the residual blocks that follow one another as one stage behind the layer before."""
    stages: list[list[nn.Module]] = []
    for layer in layers:
        if isinstance(layer, _VAEBlock) and stages:
            stages[-1].append(layer)
        else:
            stages.append([layer])
    return stages


def _encoder(config: VAEConfig, channels: list[int], *, strided: bool) -> nn.Sequential:
    layers: list[nn.Module] = [_conv(config, config.image[0], channels[0], _HALVE if strided else _SAME)]
    if len(channels) == 1:
        layers += _blocks(config, channels[0])
    for c_in, c_out in pairwise(channels):
        layers += [nn.SiLU(), _conv(config, c_in, c_out, _HALVE), *_blocks(config, c_out)]
    layers += [GroupNorm(NORM_GROUPS, channels[-1]), nn.SiLU()]
    if len(config.latent) == 3:
        layers.append(_conv(config, channels[-1], 2 * config.latent[0]))
    else:
        features = channels[-1] * config.grid[0] * config.grid[1]
        layers += [nn.Flatten(), nn.Linear(features, config.hidden), nn.SiLU()]
        layers.append(nn.Linear(config.hidden, 2 * config.latent[0]))
    return nn.Sequential(*layers)


def _decoder(config: VAEConfig, channels: list[int], *, strided: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    if len(config.latent) == 3:
        layers.append(_conv(config, config.latent[0], channels[0]))
    else:
        features = channels[0] * config.grid[0] * config.grid[1]
        layers += [nn.Linear(config.latent[0], config.hidden), nn.SiLU(), nn.Linear(config.hidden, features)]
        layers.append(nn.Unflatten(1, (channels[0], *config.grid)))
    layers += _blocks(config, channels[0])
    for i, (c_in, c_out) in enumerate(pairwise(channels), start=2):
        layers += [GroupNorm(NORM_GROUPS, c_in), nn.SiLU(), _doubling(config, c_in, c_out)]
        layers += _blocks(config, c_out) if i < len(channels) else []
    layers += [_VAEBlock(config, channels[-1]) for _ in range(config.detail)]
    layers += [GroupNorm(NORM_GROUPS, channels[-1]), nn.SiLU()]
    if not strided:
        layers.append(_conv(config, channels[-1], config.image[0]))
    elif config.upsampling == FLAT:
        layers.append(_ShuffleHead(channels[-1], config.image[0]))
    else:
        layers += [nn.Conv2d(channels[-1], 4 * config.image[0], *_SAME), nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


def _conv(
    config: VAEConfig, c_in: int, c_out: int, shape: tuple[int, int, int] = _SAME, *, zero: bool = False
) -> Conv2d:
    kind = ZeroConv2d if zero else Conv2d
    return kind(c_in, c_out, *shape, padding_mode="replicate" if config.upsampling == FLAT else "zeros")


def _doubling(config: VAEConfig, c_in: int, c_out: int) -> nn.Module:
    return Upsample(c_in, c_out) if config.upsampling == FLAT else nn.ConvTranspose2d(c_in, c_out, *_HALVE)


def _blocks(config: VAEConfig, channels: int) -> list[nn.Module]:
    return [_VAEBlock(config, channels) for _ in range(config.depth)]


class Upsample(nn.ConvTranspose2d):
    """Transposed 4x4 convolution of stride 2 without a checkerboard: flat areas stay flat.

    The taps of a kernel that meet an output pixel are those of its phase, one of 2 x 2; their sums are made
    equal, which is all that an artefact of period 2 needs (Sugawara et al. 2019, section 3.2).
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, *_HALVE)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[B, C, H, W] -> [B, c_out, 2 H, 2 W]; edges are replicated."""
        phases = self.weight.unflatten(3, (2, 2)).unflatten(2, (2, 2))  # [C, c_out, tap, phase, tap, phase]
        sums = phases.sum((2, 4), keepdim=True)
        kernel = phases + (sums.mean((3, 5), keepdim=True) - sums) / 4
        return F.conv_transpose2d(replicated(x), kernel.reshape(self.weight.shape), self.bias, 2, 3)


class _ShuffleHead(Conv2d):
    """3x3 convolution to 2 x 2 pixels for each position, without a checkerboard as in :class:`Upsample`."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, 4 * c_out, *_SAME, padding_mode="replicate")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, c_out, 2 H, 2 W]."""
        phases = self.weight.unflatten(0, (-1, 4))  # [c_out, phase, C, 3, 3]
        sums = phases.sum((3, 4), keepdim=True)
        kernel = phases + (sums.mean(1, keepdim=True) - sums) / 9
        assert self.bias is not None
        bias = self.bias.unflatten(0, (-1, 4)).mean(1).repeat_interleave(4)
        return F.pixel_shuffle(self._conv_forward(x, kernel.flatten(0, 1), bias), 2)


class _VAEBlock(nn.Module):
    """Residual block; the identity at the start of training."""

    def __init__(self, config: VAEConfig, channels: int) -> None:
        super().__init__()
        self.norm = GroupNorm(NORM_GROUPS, channels)
        self.conv1 = _conv(config, channels, channels)
        self.conv2 = _conv(config, channels, channels, zero=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))
        return out


def _dtype(module: nn.Module) -> torch.dtype:
    return next(module.parameters()).dtype
