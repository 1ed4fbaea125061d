"""Sources of the latents that a denoiser trains on: pixels, images through a VAE, or an encoded data set."""

from __future__ import annotations

import math
from functools import cached_property
from itertools import zip_longest
from threading import Lock
from typing import cast

import torch
from torch import Tensor

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import to_float
from latentdiff.data.order import integers
from latentdiff.data.types import ImageData, ImageSplit, TrainData
from latentdiff.nn import Posterior
from latentdiff.ops.random import Key
from latentdiff.parallel.processes import processes
from latentdiff.pipeline.codec import Codec, StatisticsAccumulator, VAECodec
from latentdiff.train.batch import AugmentedImages, chunk_of
from latentdiff.train.latent_dataset import EncodedData

MEASURED = 2000  # images whose latents are normalized, by which all are
CACHE_BYTES = 4 * 2**30  # posteriors of the training set are kept in memory up to this size
VARIANTS = 16  # of an image that is augmented: after so many epochs they are those of before
LEAST_VARIANTS = 4  # fewer would not be worth their memory
VARIANT_BYTES = 2**30  # of all variants of the training set


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
        self._encoding, self._posteriors = Lock(), dict[int, Posterior]()

    @torch.no_grad()
    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        """Of the training images ``indices`` int64 [B] at these data positions, with the noise of ``key``."""
        noise = None if self._means else key.at("posterior").normal(self._codec.latent_shape)
        if not self._variants:
            return self._codec.encode(self._images.batch(positions, indices), noise=noise)
        assert isinstance(self._codec, VAECodec)
        return self._codec.normalized(self._kept(self._variant_of(positions), indices), noise=noise)

    @torch.no_grad()
    def val_batch(self, rows: Tensor) -> Tensor:
        """Of the validation images ``rows`` int64 [B]: their posteriors' modes."""
        return self._codec.encode(self._images.to_device(self._val.images[rows]))

    def prefetch(self, positions: Tensor, indices: Tensor) -> None:
        """Hint that the training images ``indices`` are used next at these data positions."""
        if not self._variants:
            self._images.split.prefetch(indices)
            return
        for variant in self._variant_of(positions).unique().tolist():
            self._encoded(variant)

    @cached_property
    def _variants(self) -> int:
        """How often each training image is encoded and kept: once, twice where it is only mirrored, up to
        :data:`VARIANTS` times where it changes in more ways; 0: it is encoded at every step, as pixels are
        and what is too large to keep, and by several processes, each of which encodes its own share, what
        changes in more ways.
        """
        augment = self._images.augment
        if not isinstance(self._codec, VAECodec):
            return 0
        size = 8 * len(self._images.split) * math.prod(self._codec.latent_shape)
        if set(augment.values) - {"flip"}:
            fits = 0 if processes() > 1 else min(VARIANTS, VARIANT_BYTES // size)
            return fits if fits >= LEAST_VARIANTS else 0
        variants = 2 if augment else 1
        return variants if variants * size <= CACHE_BYTES else 0

    def _variant_of(self, positions: Tensor) -> Tensor:
        """The variant at each data position, int64 [B]: another one in each epoch, or mirrored by chance."""
        augment = self._images.augment
        if set(augment.values) == {"flip"}:
            return integers("flip", positions, seed=self._images.seed, choices=2)
        return positions // len(self._images.split) % self._variants

    def _kept(self, variants: Tensor, indices: Tensor) -> Posterior:
        """The posteriors of images in their variants, [B, *latent_shape]."""
        found: Posterior | None = None
        for variant in variants.unique().tolist():
            here = variants == variant
            every = self._encoded(variant)
            rows = indices[here].to(every.mean.device)
            if found is None:
                shape = (len(indices), *every.mean.shape[1:])
                found = Posterior(every.mean.new_empty(shape), every.logvar.new_empty(shape))
            found.mean[here], found.logvar[here] = every.mean[rows], every.logvar[rows]
        assert found is not None
        return found

    def _encoded(self, variant: int) -> Posterior:
        """The posteriors of all training images in a variant.

        Encoded all at once before the first step that uses it, so that a budget of minutes holds it too and
        the bits do not depend on where a training was resumed.
        """
        with self._encoding, torch.no_grad():
            if variant not in self._posteriors:
                vae, split = cast(VAECodec, self._codec).vae, self._images.split
                chunks, parts = torch.arange(len(split)).split(chunk_of(vae)), []
                for rows, upcoming in zip_longest(chunks, chunks[1:]):
                    changed = self._changed(rows, variant)
                    if upcoming is not None:
                        split.prefetch(upcoming)  # read while these are encoded
                    parts.append(vae.encode(self._images.to_device(changed)))
                mean, logvar = torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts])
                self._posteriors[variant] = Posterior(mean, logvar)
            return self._posteriors[variant]

    def _changed(self, rows: Tensor, variant: int) -> Tensor:
        """The uint8 images of these rows in a variant, of which 0 is the unchanged one where they are only
        mirrored.
        """
        images, augment = self._images.split.images[rows], self._images.augment
        if set(augment.values) == {"flip"}:
            return images.flip(3) if variant else images
        return augment(images, variant * len(self._images.split) + rows, self._images.seed)


class EncodedLatents:
    """As :class:`ImageLatents`, of stored posteriors: without the VAE, a batch is read from the disk."""

    def __init__(self, data: EncodedData, device: torch.device, *, means: bool) -> None:
        self._data, self._codec, self._device, self._means = data, data.codec, device, means

    def train_batch(self, positions: Tensor, indices: Tensor, key: Key) -> Tensor:
        noise = None if self._means else key.at("posterior").normal(self._codec.latent_shape)
        return self._codec.normalized(self._to_device(self._data.train.posteriors[indices]), noise=noise)

    def val_batch(self, rows: Tensor) -> Tensor:
        return self._codec.normalized(self._to_device(self._data.val.posteriors[rows]))

    def prefetch(self, positions: Tensor, indices: Tensor) -> None:
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
