"""Training of a VAE: reconstruction plus beta times the KL divergence (Higgins et al. 2017)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff.config.training import TrainVAE
from latentdiff.data.classes import representative
from latentdiff.data.types import ImageData, ImageSplit
from latentdiff.errors import InputError
from latentdiff.metrics.features import (
    PerceptualNetwork,
    default_features,
    perceptual_loss,
    perceptual_network,
)
from latentdiff.nn import Autoencoder, Posterior
from latentdiff.nn.discriminator import PatchDiscriminator
from latentdiff.nn.factory import initialized
from latentdiff.ops.random import Key
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import INDEX, Writer
from latentdiff.pipeline.codec import ACTIVE, LatentStatistics, StatisticsAccumulator
from latentdiff.pipeline.components import index_of, renormalize, save_vae
from latentdiff.train.adversarial import AdversarialVAE, adversarial_losses
from latentdiff.train.batch import AugmentedImages, autocast, chunk_of, data_key
from latentdiff.train.brightness import save_brightness
from latentdiff.train.perceptual import PerceptualTerm, are_digits
from latentdiff.viz.images import pair_grid, save_image

SHOWN = 32  # validation images in the sample grid
PERCEPTUAL = 1.3  # the weight for digits (docs/quality.md)
FEATURES = 5.0  # weight of the discriminator's feature maps, against its logits


def _perceptual(options: TrainVAE, data: ImageData, device: torch.device) -> PerceptualTerm | None:
    """The term of the options; by default one for digits, whose network is small and in the package."""
    weight = options.perceptual
    if weight is None:
        weight = PERCEPTUAL if are_digits(data.train, data.shape, data.classes) else 0.0
    if not weight:
        return None
    automatic = options.perceptual_network == "auto"
    name = default_features(data.shape, data.classes) if automatic else options.perceptual_network
    weights = None if options.perceptual_weights is None else Path(options.perceptual_weights)
    network = perceptual_network(name, weights=weights, side=options.perceptual_size, device=device)
    return PerceptualTerm(weight, network)


def _vae(network: nn.Module) -> Autoencoder:
    """The autoencoder of a task's network, or of the average of it."""
    vae = network.vae if isinstance(network, AdversarialVAE) else network
    assert isinstance(vae, Autoencoder)
    return vae


TIMED = 32  # images that the cost of the perceptual term is measured on


class VAETask:
    """Trains ``network`` on the images of ``data``; see :class:`latentdiff.train.task.Task`."""

    kind = "vae"
    quick = None
    default_steps = 3000
    betas = (0.9, 0.99)

    network: nn.Module

    def __init__(
        self,
        options: TrainVAE,
        data: ImageData,
        network: Autoencoder,
        device: torch.device,
        statistics: LatentStatistics | None = None,
    ) -> None:
        if options.loss == "bce" and not network.has_logits:
            raise InputError("`loss`: bce needs a decoder of logits, expected mse or l1 for this autoencoder")
        self.options, self.network, self.vae, self.device = options, network, network, device
        if options.adversarial:
            discriminator = PatchDiscriminator(network.config.image[0])
            initialized(discriminator, options.seed)
            self.network = AdversarialVAE(network, discriminator)
        self.batch, self.peak_lr = options.batch or network.config.batch, options.lr or network.config.peak_lr
        self._weight = network.config.beta if options.beta is None else options.beta
        self._frozen = options.train == "decoder"
        if self._frozen:
            for parameter in network.encoder_parameters():
                parameter.requires_grad_(False)
        self._has_kl = network.variational and not self._frozen
        # of an encoder that stays as it is: denoisers go on reading its latents as they are used to
        self._kept = statistics if self._frozen else None
        self.images = AugmentedImages.of(data.train, options, options, device)
        self.val = data.val
        self.size = len(data.train)
        self.index = {"data": data.name, "classes": list(data.classes) if data.classes else None}
        self._statistics = self._kept
        self._perceptual = _perceptual(options, data, device)

    @property
    def perceptual_fingerprint(self) -> str | None:
        """The network of the perceptual term, with the hash of unpublished weights; None without one."""
        return None if self._perceptual is None else self._perceptual.network.name

    def perceptual_cost(self) -> float:
        """How many times as long loss and gradients take with the perceptual term as without: measured."""
        term, seconds = self._perceptual, {}
        self.network.to(self.device)
        positions = torch.arange(min(self.batch, TIMED))
        for each in (None, term, None, term):  # the first two prepare the kernels
            self._perceptual = each
            begun = time.perf_counter()
            self.loss(0, positions, positions % self.size)[0].backward()
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds[each is not None] = time.perf_counter() - begun
            self.network.zero_grad(set_to_none=True)
        self._perceptual = term
        return seconds[True] / seconds[False]

    def prefetch(self, positions: Tensor, indices: Tensor) -> None:
        self.images.split.prefetch(indices)

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """(reconstruction + beta KL) / pixels + weight x perceptual distance; beta rises over the warm-up.

        Without the KL divergence where the encoder is frozen or has no variance.
        """
        x = self.images.batch(positions, indices)
        noise = (
            data_key(positions, seed=self.options.seed, device=self.device)
            .at("posterior")
            .normal(self.vae.config.latent)
        )
        with autocast(self.options, self.device):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self._frozen):
                posterior = self.vae.encode(x)
            raw = self.vae.decode_raw(self._latents(self.vae, posterior, noise)).float()
        reconstruction = self._reconstruction(raw, x).mean()
        total, parts = reconstruction, {"reconstruction": reconstruction}
        if self._has_kl:
            parts["kl"] = posterior.kl().mean()
            total = total + self._beta(step) * parts["kl"]
        loss = total / x[0].numel()
        if self._perceptual is not None:
            distance = self._distance(self._perceptual.network, positions, self.vae.pixels(raw), x)
            loss, parts["perceptual"] = loss + self._perceptual.weight * distance, distance
        if isinstance(self.network, AdversarialVAE):
            start = step >= self.options.adversarial_start
            chosen = (positions % 2 == 0).to(self.device) & start  # half of the images: half of the cost
            term, others = self._adversarial(self.network.discriminator, chosen, self.vae.pixels(raw), x)
            loss, parts = loss + self.options.adversarial * term, parts | others
        return loss, parts

    def _adversarial(
        self, discriminator: PatchDiscriminator, chosen: Tensor, images: Tensor, x: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The terms of autoencoder and discriminator from the ``chosen`` images; their parts for the log."""
        if not bool(chosen.any()):  # every process needs a gradient of every weight
            zero = torch.stack([0 * weight.sum() for weight in discriminator.parameters()]).sum()
            return zero, {"generator": zero, "discriminator": zero}
        with autocast(self.options, self.device):
            found = adversarial_losses(discriminator, x[chosen], images[chosen])
        # AdamW normalizes gradients, so the weight does not slow the discriminator down: it keeps its
        # gradients from deciding at which norm the autoencoder's are clipped
        share = 2 * chosen.double().mean().float()  # 1, but for a part of a batch with one image more or less
        term = share * (found.generator + FEATURES * found.features + found.discriminator)
        return term, {
            "generator": share * found.generator.detach(),
            "discriminator": share * found.discriminator.detach(),
        }

    def _beta(self, step: int) -> float:
        return self._weight * min(1.0, (step + 1) / max(1, self.options.beta_warmup))

    def _latents(self, network: Autoencoder, posterior: Posterior, noise: Tensor) -> Tensor:
        """Samples of the posterior, or its mode where it has no variance."""
        return posterior.sample(noise) if network.variational else posterior.mode()

    def _distance(self, network: PerceptualNetwork, positions: Tensor, images: Tensor, x: Tensor) -> Tensor:
        """The mean perceptual distance, from every n-th image: at a share of the cost."""
        every = self.options.perceptual_every
        chosen = (positions % every == 0).to(self.device)
        if not bool(chosen.any()):
            return x.new_zeros(())
        with autocast(self.options, self.device):
            distance = perceptual_loss(network, images[chosen], x[chosen])
        return every * distance.sum() / len(x)

    def _reconstruction(self, raw: Tensor, x: Tensor) -> Tensor:
        """The error of each image, summed over pixels, [B]."""
        if self.options.loss == "bce":
            return F.binary_cross_entropy_with_logits(raw, (x + 1) / 2, reduction="none").flatten(1).sum(1)
        error = self.vae.pixels(raw) - x
        return (error.abs() if self.options.loss == "l1" else error.square()).flatten(1).sum(1)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """Loss, KL (if it is in the loss) and PSNR (dB, of the mode's reconstruction), means over the
        validation split.
        """
        vae = _vae(network)
        total = {"val_loss": 0.0, **({"val_kl": 0.0} if self._has_kl else {}), "val_psnr": 0.0}
        for first, x, posterior in self._posteriors(vae, self.val):
            noise = Key.of(first, len(x), device=self.device).at("posterior").normal(vae.config.latent)
            raw = vae.decode_raw(self._latents(vae, posterior, noise)).float()
            error = self._reconstruction(raw, x)
            if self._has_kl:
                kl = posterior.kl()
                error = error + self._weight * kl
                total["val_kl"] += float(kl.double().sum())
            # of pixels in [0, 1]
            mse = ((vae.decode(posterior.mode()).float() - x) / 2).square().flatten(1).mean(1)
            total["val_loss"] += float(error.double().sum()) / x[0].numel()
            if self._perceptual is not None:
                total["val_loss"] += self._perceptual.weight * self._val_distance(first, vae.pixels(raw), x)
            total["val_psnr"] += float((-10 * torch.log10(mse.clamp_min(1e-10))).double().sum())
        return {name: value / len(self.val) for name, value in total.items()}

    def _val_distance(self, first: int, images: Tensor, x: Tensor) -> float:
        """Perceptual distances of a chunk, summed; as in training from every n-th image, n times."""
        assert self._perceptual is not None
        every = self.options.perceptual_every
        chosen = torch.arange(first, first + len(x), device=x.device) % every == 0
        if not bool(chosen.any()):
            return 0.0
        distances = perceptual_loss(self._perceptual.network, images[chosen], x[chosen])
        return every * float(distances.double().sum())

    def _posteriors(
        self, vae: Autoencoder, split: ImageSplit, ranks: Ranks = ALONE
    ) -> Iterator[tuple[int, Tensor, Posterior]]:
        """(index of the first, images, posterior) in chunks over a split, which the processes share."""
        chunk = chunk_of(vae)
        for first in range(chunk * ranks.rank, len(split), chunk * ranks.count):
            x = self.images.to_device(split.images[first : first + chunk])
            yield first, x, vae.encode(x)

    @torch.no_grad()
    def save_samples(self, network: nn.Module, path: Path) -> None:
        """Validation images of all classes and their reconstructions below them, in alternating rows."""
        vae = _vae(network)
        x = self.images.to_device(self.val.images[representative(self.val.labels, len(self.val), SHOWN)])
        copies = torch.cat([vae.decode(vae.encode(part).mode()) for part in x.split(chunk_of(vae))])
        save_image(pair_grid(x.cpu(), copies.cpu()), path)

    @torch.no_grad()
    def final_metrics(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        """Latent statistics (for :meth:`save`, unless the encoder is frozen and has some) and active units
        over the training set.
        """
        vae = _vae(network)
        accumulator, units = StatisticsAccumulator(vae.config.latent[0]), math.prod(vae.config.latent)
        sums = torch.zeros(2, units, dtype=torch.float64)  # of every unit's mean and its square
        for _, _, posterior in self._posteriors(vae, self.images.split, ranks):
            accumulator.add(posterior)
            means = posterior.mean.flatten(1).double().cpu()
            sums += torch.stack([means.sum(0), means.square().sum(0)])
        every = torch.tensor(ranks.sums([*accumulator.values, *sums.flatten().tolist()]), dtype=torch.float64)
        of_channels, of_units = every.split([len(accumulator.values), 2 * units])
        measured = StatisticsAccumulator.of(of_channels.tolist()).result()
        self._statistics = self._kept or measured
        mean, square = of_units.view(2, units) / self.size
        active = int((square - mean.square() > ACTIVE).sum())
        return {
            "active_units": active,
            "latent_units": units,
            "collapsed": active == 0,
            "latents_std": [round(value, 4) for value in measured.std.tolist()],
        }

    def save(self, writer: Writer, network: nn.Module) -> None:
        vae = _vae(network)
        if self._statistics is not None and not self._frozen:
            renormalize(vae, self._statistics)
        save_vae(writer, vae, self._statistics)
        save_brightness(writer, self.images.split)
        writer.json(INDEX, {**index_of(vae, None), **self.index, "image": list(vae.config.image)})
