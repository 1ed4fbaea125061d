"""Codecs map images [B, C, H, W] in [-1, 1] to the denoiser's latents and back, or leave them pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.nn.autoencoder import Autoencoder, Posterior

# a latent unit is active if its posterior mean varies more than this over the data (Burda et al. 2016)
ACTIVE = 0.01


class Codec(Protocol):
    """What the rest of the package knows of a codec."""

    @property
    def image_shape(self) -> tuple[int, ...]: ...
    @property
    def latent_shape(self) -> tuple[int, ...]: ...
    def encode(self, images: Tensor, *, noise: Tensor | None = None) -> Tensor: ...
    def decode(self, latents: Tensor) -> Tensor: ...
    def to(self, device: torch.device) -> Codec: ...


@dataclass(frozen=True)
class IdentityCodec:
    """Pixels are the latents, times ``scale`` and plus ``shift`` (both 0.5: data in [0, 1]).

    InputError unless the scale is positive and both are finite.
    """

    shape: tuple[int, ...]
    scale: float = 1.0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise InputError(f"pixel scale must be a positive number, got {self.scale:g}")
        if not math.isfinite(self.shift):
            raise InputError(f"pixel shift must be a finite number, got {self.shift:g}")

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.shape

    def encode(self, images: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """The images, scaled and shifted; ``noise`` has no meaning here and must be None."""
        if noise is not None:
            raise ValueError("the identity codec has no posterior to sample: noise must be None")
        scaled = images if self.scale == 1 else images * self.scale
        return scaled + self.shift if self.shift else scaled

    def decode(self, latents: Tensor) -> Tensor:
        scaled = latents - self.shift if self.shift else latents
        return scaled if self.scale == 1 else scaled / self.scale

    def to(self, device: torch.device) -> IdentityCodec:
        return self


@dataclass(frozen=True, eq=False)
class LatentStatistics:
    """Mean and standard deviation of the latents over the training set, one a channel: float32 [C]."""

    mean: Tensor
    std: Tensor

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.ndim != 1 or not bool(torch.isfinite(values).all()):
                raise InputError(
                    f"latent {name} must be finite numbers, one a channel, got {values.tolist()}"
                )
        if self.mean.shape != self.std.shape or not bool((self.std > 0).all()):
            raise InputError(f"latent std must be positive and as many as the means, got {self.std.tolist()}")

    def normalize(self, latents: Tensor) -> Tensor:
        mean, std = self._like(latents)
        return (latents - mean) / std

    def denormalize(self, latents: Tensor) -> Tensor:
        mean, std = self._like(latents)
        return latents * std + mean

    def _like(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        shape = (-1, *[1] * (latents.ndim - 2))
        return self.mean.to(latents.device).view(shape), self.std.to(latents.device).view(shape)


@dataclass(frozen=True, eq=False)
class VAECodec:
    """A trained autoencoder and statistics that normalise its latents to mean 0 and variance 1 a channel."""

    vae: Autoencoder
    statistics: LatentStatistics

    @property
    def image_shape(self) -> tuple[int, ...]:
        return self.vae.config.image

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.vae.config.latent

    def same_latents(self, other: VAECodec) -> bool:
        """Whether another codec has the same encoder and statistics, to the bit: images have the same latents
        by both.
        """
        if self.vae.config != other.vae.config:
            return False
        mine, theirs = (
            [*codec.vae.encoder_parameters(), codec.statistics.mean, codec.statistics.std]
            for codec in (self, other)
        )
        return len(mine) == len(theirs) and all(
            torch.equal(a.cpu(), b.cpu()) for a, b in zip(mine, theirs, strict=True)
        )

    def same_as(self, other: Codec) -> bool:
        """Whether another codec has the same weights and statistics, to the bit."""
        if not isinstance(other, VAECodec):
            return False
        mine, theirs = (
            {**codec.vae.state_dict(), "mean": codec.statistics.mean, "std": codec.statistics.std}
            for codec in (self, other)
        )
        return mine.keys() == theirs.keys() and all(
            torch.equal(value.cpu(), theirs[name].cpu()) for name, value in mine.items()
        )

    def encode(self, images: Tensor, *, noise: Tensor | None = None) -> Tensor:
        """Normalised latents [B, *latent_shape]: the posterior's mode, or with normal ``noise`` a sample."""
        return self.normalized(self.vae.encode(images), noise=noise)

    def normalized(self, posterior: Posterior, *, noise: Tensor | None = None) -> Tensor:
        """The normalised mode (or sample) of a posterior computed before."""
        return self.statistics.normalize(posterior.mode() if noise is None else posterior.sample(noise))

    def decode(self, latents: Tensor) -> Tensor:
        """Images [B, C, H, W] in [-1, 1] of normalised latents."""
        return self.vae.decode(self.statistics.denormalize(latents))

    def to(self, device: torch.device) -> VAECodec:
        return VAECodec(self.vae.to(device), self.statistics)


class StatisticsAccumulator:
    """Per-channel mean and variance of z ~ q(z|x) over a data set, in float64: Var(mean) + E[variance]."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum, self._square, self._variance = (
            torch.zeros(channels, dtype=torch.float64) for _ in range(3)
        )

    @property
    def values(self) -> list[float]:
        """Everything counted: the values of several processes add up to those of one that saw all."""
        return [self._count, *torch.cat([self._sum, self._square, self._variance]).tolist()]

    @classmethod
    def of(cls, values: Sequence[float]) -> StatisticsAccumulator:
        """From :attr:`values`."""
        found = cls((len(values) - 1) // 3)
        found._count = int(values[0])
        found._sum, found._square, found._variance = torch.tensor(values[1:], dtype=torch.float64).chunk(3)
        return found

    def add(self, posterior: Posterior) -> None:
        mean = posterior.mean.double().cpu().transpose(0, 1).flatten(1)  # [C, B * positions]
        self._count += mean.shape[1]
        self._sum += mean.sum(1)
        self._square += mean.square().sum(1)
        self._variance += posterior.logvar.double().cpu().exp().transpose(0, 1).flatten(1).sum(1)

    def result(self) -> LatentStatistics:
        mean = self._sum / self._count
        variance = (self._square + self._variance) / self._count - mean.square()
        return LatentStatistics(mean.float(), variance.clamp_min(0).sqrt().float())
