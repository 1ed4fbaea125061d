"""Training of a VAE: reconstruction plus beta times the KL divergence (Higgins et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.config.training import TrainVAE
from latentdiff.data.classes import representative
from latentdiff.data.types import ImageData, ImageSplit
from latentdiff.metrics.features import (
    PerceptualNetwork,
    default_features,
    extract,
    feature_network,
    perceptual_loss,
    perceptual_network,
)
from latentdiff.nn import VAE, Posterior
from latentdiff.ops.random import Key
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import INDEX, Writer
from latentdiff.pipeline.checkpoint.index import model_index
from latentdiff.pipeline.codec import ACTIVE, LatentStatistics, StatisticsAccumulator
from latentdiff.pipeline.components import save_vae
from latentdiff.train.batch import CHUNK, AugmentedImages, autocast, data_key
from latentdiff.train.brightness import save_brightness
from latentdiff.viz.images import pair_grid, save_image

SHOWN = 32  # validation images in the sample grid
PERCEPTUAL = 1.3  # the weight for digits (docs/quality.md)
MOST_CHECKED = 200  # training images that decide whether ten classes are digits


class Perceptual(NamedTuple):
    """The perceptual term of the loss."""

    weight: float
    network: PerceptualNetwork


def _perceptual(options: TrainVAE, data: ImageData, device: torch.device) -> Perceptual | None:
    """The term of the options; by default one for digits, whose network is small and in the package."""
    fitting = default_features(data.shape, data.classes)
    weight = options.perceptual
    if weight is None:
        weight = PERCEPTUAL if fitting == "mnist" and _digits(data.train) else 0.0
    if not weight:
        return None
    name = fitting if options.perceptual_network == "auto" else options.perceptual_network
    weights = None if options.perceptual_weights is None else Path(options.perceptual_weights)
    return Perceptual(weight, perceptual_network(name, weights=weights, device=device))


def _digits(split: ImageSplit) -> bool:
    """Whether the classifier of digits agrees with the labels on most images; True without labels."""
    if split.labels is None:
        return True
    chosen = torch.linspace(0, len(split) - 1, min(len(split), MOST_CHECKED)).long()
    found = extract(feature_network("mnist"), split.images[chosen]).predictions
    assert found is not None
    return bool((found == split.labels[chosen]).double().mean() > 0.5)


class VAETask:
    """Trains ``network`` on the images of ``data``; see :class:`latentdiff.train.task.Task`."""

    kind = "vae"
    quick = None
    batch_default, lr_default, default_steps = 128, 2e-3, 3000
    betas = (0.9, 0.99)

    network: nn.Module

    def __init__(self, options: TrainVAE, data: ImageData, network: VAE, device: torch.device) -> None:
        self.options, self.network, self.vae, self.device = options, network, network, device
        self.batch = options.batch or self.batch_default
        self.peak_lr = options.lr or self.lr_default
        self.images = AugmentedImages.of(data.train, options, options, device)
        self.val = data.val
        self.size = len(data.train)
        self.index = {"data": data.name, "classes": list(data.classes) if data.classes else None}
        self._statistics: LatentStatistics | None = None
        self._perceptual = _perceptual(options, data, device)

    @property
    def perceptual_fingerprint(self) -> str | None:
        """The network of the perceptual term, with the hash of unpublished weights; None without one."""
        return None if self._perceptual is None else self._perceptual.network.name

    def prefetch(self, indices: Tensor) -> None:
        self.images.split.prefetch(indices)

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(reconstruction + beta KL) / pixels + weight x perceptual distance; beta rises over the warm-up."""
        x = self.images.batch(positions, indices)
        noise = (
            data_key(positions, seed=self.options.seed, device=self.device)
            .at("posterior")
            .normal(self.vae.config.latent)
        )
        with autocast(self.options, self.device):
            posterior = self.vae.encode(x)
            logits = self.vae.decode_logits(posterior.sample(noise))
        reconstruction, kl = self._reconstruction(logits.float(), x).mean(), posterior.kl().mean()
        beta = self.options.beta * min(1.0, (step + 1) / max(1, self.options.beta_warmup))
        loss = (reconstruction + beta * kl) / x[0].numel()
        parts = {"reconstruction": reconstruction, "kl": kl}
        if self._perceptual is not None:
            distance = self._distance(self._perceptual.network, positions, logits.float(), x)
            loss, parts["perceptual"] = loss + self._perceptual.weight * distance, distance
        return loss, parts

    def _distance(self, network: PerceptualNetwork, positions: Tensor, logits: Tensor, x: Tensor) -> Tensor:
        """The mean perceptual distance, from the images at even positions: half the cost."""
        chosen = (positions % 2 == 0).to(self.device)
        if not bool(chosen.any()):
            return x.new_zeros(())
        with autocast(self.options, self.device):
            distance = perceptual_loss(network, torch.tanh(logits[chosen] / 2), x[chosen])
        return 2 * distance.sum() / len(x)

    def _reconstruction(self, logits: Tensor, x: Tensor) -> Tensor:
        """The error of each image, summed over pixels, [B]."""
        if self.options.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, (x + 1) / 2, reduction="none").flatten(1).sum(1)
        error = torch.tanh(logits / 2) - x
        return (error.abs() if self.options.loss == "l1" else error.square()).flatten(1).sum(1)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Loss, KL and PSNR (dB, of the mode's reconstruction, mean over images) on the validation split."""
        assert isinstance(network, VAE)
        total = {"val_loss": 0.0, "val_kl": 0.0, "val_psnr": 0.0}
        for first, x, posterior in self._posteriors(network, self.val):
            noise = Key.of(first, len(x), device=self.device).at("posterior").normal(network.config.latent)
            logits = network.decode_logits(posterior.sample(noise)).float()
            error = self._reconstruction(logits, x)
            kl = posterior.kl()
            # of pixels in [0, 1]
            mse = ((network.decode(posterior.mode()).float() - x) / 2).square().flatten(1).mean(1)
            total["val_loss"] += float((error + self.options.beta * kl).double().sum()) / x[0].numel()
            if self._perceptual is not None:
                distance = perceptual_loss(self._perceptual.network, torch.tanh(logits / 2), x)
                total["val_loss"] += self._perceptual.weight * float(distance.double().sum())
            total["val_kl"] += float(kl.double().sum())
            total["val_psnr"] += float((-10 * torch.log10(mse.clamp_min(1e-10))).double().sum())
        return {name: value / len(self.val) for name, value in total.items()}

    def _posteriors(
        self, network: VAE, split: ImageSplit, ranks: Ranks = ALONE
    ) -> Iterator[tuple[int, Tensor, Posterior]]:
        """(index of the first, images, posterior) in chunks over a split, which the processes share."""
        for first in range(CHUNK * ranks.rank, len(split), CHUNK * ranks.count):
            x = self.images.to_device(split.images[first : first + CHUNK])
            yield first, x, network.encode(x)

    @torch.no_grad()
    def save_samples(self, network: nn.Module, path: Path) -> None:
        """Validation images of all classes and their reconstructions below them, in alternating rows."""
        assert isinstance(network, VAE)
        x = self.images.to_device(self.val.images[representative(self.val.labels, len(self.val), SHOWN)])
        copies = network.decode(network.encode(x).mode())
        save_image(pair_grid(x.cpu(), copies.cpu()), path)

    @torch.no_grad()
    def final_metrics(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        """Latent statistics (kept for :meth:`save`) and active units over the training set."""
        assert isinstance(network, VAE)
        accumulator, units = StatisticsAccumulator(network.config.latent[0]), math.prod(network.config.latent)
        sums = torch.zeros(2, units, dtype=torch.float64)  # of every unit's mean and its square
        for _, _, posterior in self._posteriors(network, self.images.split, ranks):
            accumulator.add(posterior)
            means = posterior.mean.flatten(1).double().cpu()
            sums += torch.stack([means.sum(0), means.square().sum(0)])
        every = torch.tensor(ranks.sums([*accumulator.values, *sums.flatten().tolist()]), dtype=torch.float64)
        of_channels, of_units = every.split([len(accumulator.values), 2 * units])
        self._statistics = StatisticsAccumulator.of(of_channels.tolist()).result()
        mean, square = of_units.view(2, units) / self.size
        active = int((square - mean.square() > ACTIVE).sum())
        return {
            "active_units": active,
            "latent_units": units,
            "collapsed": active == 0,
            "latents_std": [round(value, 4) for value in self._statistics.std.tolist()],
        }

    def save(self, writer: Writer, network: nn.Module) -> None:
        assert isinstance(network, VAE)
        save_vae(writer, network, self._statistics)
        save_brightness(writer, self.images.split)
        writer.json(
            INDEX, {**model_index(vae=True, denoiser=None), **self.index, "image": list(network.config.image)}
        )
