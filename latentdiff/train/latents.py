"""Sources of the latents that a denoiser trains on: pixels, images through a VAE, or an encoded data set."""

from __future__ import annotations

import math
from functools import cached_property
from threading import Lock

import torch
from torch import Tensor

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import to_float
from latentdiff.data.order import integers
from latentdiff.data.types import ImageData, ImageSplit, TrainData
from latentdiff.nn import Posterior
from latentdiff.ops.random import Key
from latentdiff.pipeline.codec import Codec, StatisticsAccumulator, VAECodec
from latentdiff.train.batch import AugmentedImages, chunk_of
from latentdiff.train.latent_dataset import EncodedData

MEASURED = 2000  # images whose latents are normalized, by which all are
CACHE_BYTES = 4 * 2**30  # posteriors of the training set are kept in memory up to this size


@torch.no_grad()
def normalized_for(codec: VAECodec, split: ImageSplit, device: torch.device) -> VAECodec:
    """The codec with mean and deviation of the latents of up to :data:`MEASURED` images of the split."""
    accumulator = StatisticsAccumulator(codec.latent_shape[0])
    chosen = torch.linspace(0, len(split) - 1, min(len(split), MEASURED)).long()
    vae = codec.vae.to(device)
    for indices in chosen.split(chunk_of(vae)):
        accumulator.add(vae.encode(to_float(split.images[indices].to(device))))
    return VAECodec(vae, accumulator.result())


class ImageLatents:
    """Images through a codec: samples of their posteriors, or the ``means``, as pixels are.

    Normalised latents float32 [B, *latent_shape] on the device of the training.
    """

    def __init__(self, codec: Codec, images: AugmentedImages, val: ImageSplit, *, means: bool) -> None:
        self._codec, self._images, self._val, self._means = codec, images, val, means
        self._encoding = Lock()

    @torch.no_grad()
    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        """Of the training images ``indices`` int64 [B] at these data positions, with the noise of ``key``."""
        noise = None if self._means else key.at("posterior").normal(self._codec.latent_shape)
        every = self._cached
        if every is None:
            return self._codec.encode(self._images.batch(positions, indices), noise=noise)
        assert isinstance(self._codec, VAECodec)
        if self._images.augment:  # the mirrored images follow the others
            mirrored = integers("flip", positions, seed=self._images.seed, choices=2) == 1
            indices = indices + len(self._images.split) * mirrored
        here = indices.to(every.mean.device)
        return self._codec.normalized(Posterior(every.mean[here], every.logvar[here]), noise=noise)

    @torch.no_grad()
    def val_batch(self, rows: Tensor) -> Tensor:
        """Of the validation images ``rows`` int64 [B]: their posteriors' modes."""
        return self._codec.encode(self._images.to_device(self._val.images[rows]))

    def prefetch(self, indices: Tensor) -> None:
        """Hint that the training images ``indices`` are used next."""
        if self._cached is None:
            self._images.split.prefetch(indices)

    @property
    def _cached(self) -> Posterior | None:
        """The posteriors of all training images, and of their mirror images where these are trained on;
        None where they change in more ways or are too large.

        Encoded in the first step, so that a budget of minutes holds it too; other workers wait for it.
        """
        with self._encoding, torch.no_grad():
            return self._posteriors

    @cached_property
    def _posteriors(self) -> Posterior | None:
        images, codec, augment = self._images.split.images, self._codec, self._images.augment
        size = 8 * len(images) * math.prod(codec.latent_shape) * (2 if augment else 1)
        if not isinstance(codec, VAECodec) or set(augment.values) - {"flip"} or size > CACHE_BYTES:
            return None
        parts = [
            codec.vae.encode(self._images.to_device(chunk.flip(3) if mirrored else chunk))
            for mirrored in ((False, True) if augment else (False,))
            for chunk in images.split(chunk_of(codec.vae))
        ]
        return Posterior(torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts]))


class EncodedLatents:
    """As :class:`ImageLatents`, of stored posteriors: without the VAE, a batch is read from the disk."""

    def __init__(self, data: EncodedData, device: torch.device, *, means: bool) -> None:
        self._data, self._codec, self._device, self._means = data, data.codec, device, means

    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        noise = None if self._means else key.at("posterior").normal(self._codec.latent_shape)
        return self._codec.normalized(self._to_device(self._data.train.posteriors[indices]), noise=noise)

    def val_batch(self, rows: Tensor) -> Tensor:
        return self._codec.normalized(self._to_device(self._data.val.posteriors[rows]))

    def prefetch(self, indices: Tensor) -> None:
        """Nothing to do: the files are mapped, and the system reads ahead."""

    def _to_device(self, posterior: Posterior) -> Posterior:
        return Posterior(posterior.mean.to(self._device), posterior.logvar.to(self._device))


def latents_of(
    options: TrainDenoiser, data: TrainData, codec: Codec, device: torch.device
) -> ImageLatents | EncodedLatents:
    """The latents of the options, of images or of a data set encoded before.

    ``latents="auto"``: the posterior's mean for latent grids, whose samples are mostly noise, else samples
    (docs/quality.md).
    """
    means = len(codec.latent_shape) > 1 if options.posterior == "auto" else options.posterior == "mean"
    if isinstance(data, EncodedData):
        return EncodedLatents(data, device, means=means)
    assert isinstance(data, ImageData)
    images = AugmentedImages.of(data.train, options, options, device)
    return ImageLatents(codec, images, data.val, means=means or not isinstance(codec, VAECodec))
