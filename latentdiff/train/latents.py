"""Where a denoiser's training gets its latents from: pixels, images through a VAE, or a data set that was
encoded before.
"""

from __future__ import annotations

import math
from functools import cached_property
from threading import Lock
from typing import Protocol

import torch
from torch import Tensor

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Split, StreamedSplit, TrainingImages
from latentdiff.nn import Posterior
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import Codec, VAECodec
from latentdiff.train.images import CHUNK, AugmentedImages
from latentdiff.train.latent_dataset import EncodedData

CACHE_BYTES = 4 * 2**30  # posteriors of the training set are kept in memory up to this size


class LatentSource(Protocol):
    """Normalised latents float32 [B, *latent_shape] on the device of the training."""

    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        """Of the training images ``indices`` int64 [B] at these data positions, with the noise of ``key``."""
        ...

    def val_batch(self, rows: Tensor) -> Tensor:
        """Of the validation images ``rows`` int64 [B]: their posteriors' modes."""
        ...

    def prefetch(self, indices: Tensor) -> None:
        """The training images that will be drawn next."""
        ...


class PixelLatents:
    """The images themselves."""

    def __init__(self, codec: Codec, images: AugmentedImages, val: Split | StreamedSplit) -> None:
        self._codec, self._images, self._val = codec, images, val

    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        return self._codec.encode(self._images.batch(positions, indices))

    def prefetch(self, indices: Tensor) -> None:
        self._images.prefetch(indices)

    def val_batch(self, rows: Tensor) -> Tensor:
        return self._codec.encode(self._images.to_device(self._val.images[rows]))


class ImageLatents:
    """Images through a VAE: samples of their posteriors, or the ``means``."""

    def __init__(
        self, codec: VAECodec, images: AugmentedImages, val: Split | StreamedSplit, *, means: bool
    ) -> None:
        self._codec, self._images, self._val, self._means = codec, images, val, means
        self._encoding = Lock()

    @torch.no_grad()
    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        noise = None if self._means else key.at("posterior").normal(self._codec.latent_shape)
        every = self._cached
        if every is None:
            return self._codec.encode(self._images.batch(positions, indices), noise=noise)
        here = indices.to(every.mean.device)
        return self._codec.normalized(Posterior(every.mean[here], every.logvar[here]), noise=noise)

    @torch.no_grad()
    def val_batch(self, rows: Tensor) -> Tensor:
        return self._codec.encode(self._images.to_device(self._val.images[rows]))

    def prefetch(self, indices: Tensor) -> None:
        if self._cached is None:
            self._images.prefetch(indices)

    @property
    def _cached(self) -> Posterior | None:
        """The posteriors of all training images, encoded once, unless they change (augmentation) or are too
        large.

        The first step pays for it, so that a budget of minutes holds it too; several workers wait for one of
        them.
        """
        with self._encoding:
            return self._posteriors

    @cached_property
    def _posteriors(self) -> Posterior | None:
        images = self._images.split.images
        if self._images.augmented or 8 * len(images) * math.prod(self._codec.latent_shape) > CACHE_BYTES:
            return None
        parts = [self._codec.vae.encode(self._images.to_device(chunk)) for chunk in images.split(CHUNK)]
        return Posterior(torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts]))


class EncodedLatents:
    """Posteriors that were stored: the VAE is not used, and a batch is read from the disk."""

    def __init__(self, data: EncodedData, device: torch.device, *, means: bool) -> None:
        self._data, self._codec, self._device, self._means = data, data.codec, device, means

    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        noise = None if self._means else key.at("posterior").normal(self._codec.latent_shape)
        return self._codec.normalized(self._placed(self._data.train.posteriors[indices]), noise=noise)

    def val_batch(self, rows: Tensor) -> Tensor:
        return self._codec.normalized(self._placed(self._data.val.posteriors[rows]))

    def prefetch(self, indices: Tensor) -> None:
        """They are on the disk as they are used: the system reads ahead."""

    def _placed(self, posterior: Posterior) -> Posterior:
        return Posterior(posterior.mean.to(self._device), posterior.logvar.to(self._device))


def latents_of(
    options: TrainDenoiser, data: TrainingImages | EncodedData, codec: Codec, device: torch.device
) -> LatentSource:
    """The latents that the options ask for, of images or of what was encoded before.

    A number of a grid holds little and is mostly the posterior's noise: by default not learned
    (docs/quality.md).
    """
    means = len(codec.latent_shape) > 1 if options.posterior == "auto" else options.posterior == "mean"
    if isinstance(data, EncodedData):
        return EncodedLatents(data, device, means=means)
    images = AugmentedImages.of(data.train, options, options, device)
    if isinstance(codec, VAECodec):
        return ImageLatents(codec, images, data.val, means=means)
    return PixelLatents(codec, images, data.val)
