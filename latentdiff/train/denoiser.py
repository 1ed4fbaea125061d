"""The task of training a denoiser: predict eps, v, x_0 or the score from a noised latent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff import ops
from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Split, StreamedSplit, TrainingImages
from latentdiff.data.classes import representative
from latentdiff.data.draws import integers
from latentdiff.diffusion.denoiser import timestep
from latentdiff.diffusion.losses import VariationalBound, level_weights
from latentdiff.diffusion.prediction import target, to_x0
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.nn import DenoiserConfig
from latentdiff.ops.random import Key
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Writer
from latentdiff.pipeline.codec import Codec
from latentdiff.pipeline.components import denoiser_config
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.pipeline.text.tokenizer import TextTokenizer
from latentdiff.train.brightness import save_brightness
from latentdiff.train.conditioning import conditioning_of
from latentdiff.train.images import CHUNK, data_key
from latentdiff.train.latent_dataset import EncodedData, EncodedSplit
from latentdiff.train.latents import latents_of
from latentdiff.train.levels import draw_levels
from latentdiff.train.precision import autocast
from latentdiff.viz.images import class_columns, image_grid, save_image

VLB_WEIGHT = 1e-3  # lambda of the hybrid loss (Nichol & Dhariwal 2021, section 3.1), on the sum over levels
DROP_RESOLUTION = 2**20


class DenoiserTask:
    """Trains ``network`` on the latents that ``codec`` makes of the images of ``data``."""

    kind = "denoiser"
    judge = None

    def __init__(
        self,
        options: TrainDenoiser,
        data: TrainingImages | EncodedData,
        codec: Codec,
        network: nn.Module,
        device: torch.device,
        tokenizer: TextTokenizer | None = None,
    ) -> None:
        config = denoiser_config(network)
        assert isinstance(config, DenoiserConfig)
        self.default_steps = config.steps
        self.betas = (0.9, 0.999)
        self.batch = options.batch or config.batch
        self.peak_lr = options.lr or config.peak_lr[options.preset]
        self.options, self.network, self.codec, self.device = options, network, codec.to(device), device
        self.diffusion = options.diffusion()
        self.schedule = make_schedule(self.diffusion.schedule)
        self.latents = latents_of(options, data, self.codec, device)
        self.train, self.val = data.train, data.val
        self.size = len(data.train)
        self.num_classes = config.num_classes
        self.data, self.classes = data.name, (data.classes or ()) if self.num_classes else ()
        self.class_counts = _counts(data.train, len(self.classes))
        self.tokenizer = tokenizer
        self._told = {
            id(split): conditioning_of(split, self.num_classes, tokenizer, device)
            for split in (data.train, data.val)
        }
        self._coefficients, self._weights, self._recover = (table.to(device) for table in self._tables())
        bound = VariationalBound(self.schedule, bins=options.pixel, scale=options.pixel_scale)
        self._bound = bound if options.variance == "learned" else None

    def _tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """By level: (alpha, sigma, a, b) of noising, the loss weight, and (p, q) that give x_0; level 0 is
        never trained.
        """
        alpha, sigma = self.schedule.alpha[1:], self.schedule.sigma[1:]
        prediction, sigma_data = self.diffusion.prediction, self.diffusion.sigma_data
        noising = torch.stack([alpha, sigma, *target(prediction, alpha, sigma, sigma_data=sigma_data)], 1)
        recover = torch.stack(to_x0(prediction, alpha, sigma, sigma_data=sigma_data), 1)
        pad = noising.new_zeros(1, 4)
        weights = level_weights(self.schedule, prediction, self.options.weighting, sigma_data=sigma_data)
        return torch.cat([pad, noising]).float(), weights.float(), torch.cat([pad[:, :2], recover]).float()

    def prefetch(self, indices: Tensor) -> None:
        self.latents.prefetch(indices)

    def _labels(
        self, split: Split | StreamedSplit | EncodedSplit, indices: Tensor, positions: Tensor | None
    ) -> Tensor | None:
        """Class labels [B], word pieces [B, L] or contexts [B, L, D]; None for a network that is told
        nothing.

        For the positions that draw it, they are replaced by the null class or the empty text.
        """
        rows = self._told[id(split)]
        if rows is None:
            return None
        asked = rows[indices]
        if positions is not None:
            draws = integers("drop_label", positions, seed=self.options.seed, choices=DROP_RESOLUTION)
            dropped = draws < self.options.label_dropout * DROP_RESOLUTION
            asked = torch.where(dropped.view(-1, *[1] * (asked.ndim - 1)), rows.null, asked)
        return asked.to(self.device)

    def _levels(self, positions: Tensor) -> Tensor:
        """The level of each position, int64 [B] in 1..T."""
        options = self.options
        kind = options.resolved_time_sampling
        return draw_levels(kind, positions, batch=self.batch, seed=options.seed, T=self.schedule.T)

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Weighted squared error of the prediction at one random level for each image."""
        key = data_key(positions, seed=self.options.seed, device=self.device)
        x0 = self.latents.train_batch(positions, indices, key)
        t = self._levels(positions).to(self.device)
        with autocast(self.options, self.device):
            error, bound = self._errors(
                self.network, x0, t, self._labels(self.train, indices, positions), key.at("train")
            )
        loss = (self._weights[t] * error).mean()
        if bound is None:
            return loss, {}
        # The bound is a sum over levels: its estimate from one level is T times the term there.
        return loss + VLB_WEIGHT * self.schedule.T * bound.mean(), {"simple": loss, "bound": bound.mean()}

    def _errors(
        self, network: nn.Module, x0: Tensor, t: Tensor, labels: Tensor | None, key: Key
    ) -> tuple[Tensor, Tensor | None]:
        """Mean squared error of the prediction [B] and, for a learned variance, the bound's term [B]."""
        x_t, wanted = ops.add_noise(x0, self._coefficients[t], seeds=key.seeds, stream=key.stream_tensor())
        out = network(x_t, timestep(t).float(), labels).float()
        if self._bound is None:
            return (out - wanted).square().flatten(1).mean(1), None
        out, spread = out.chunk(2, 1)
        p, q = self._recover[t].view(-1, 2, *[1] * (x0.ndim - 1)).unbind(1)
        x0_hat = p * x_t + q * out.detach()
        if self.diffusion.clip is not None:
            x0_hat = x0_hat.clamp(-self.diffusion.clip, self.diffusion.clip)
        return (out - wanted).square().flatten(1).mean(1), self._bound(x0, x_t, x0_hat, spread, t)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss on the validation split: the modes' latents, fixed noise and levels spread evenly over
        1..T.
        """
        total = 0.0
        for first in range(0, len(self.val), CHUNK):
            rows = torch.arange(first, min(first + CHUNK, len(self.val)))
            x0 = self.latents.val_batch(rows)
            t = 1 + (rows * self.schedule.T // len(self.val)).to(self.device)
            key = Key.of(first, len(rows), device=self.device).at("train")
            error, _ = self._errors(network, x0, t, self._labels(self.val, rows, None), key)
            total += float((self._weights[t] * error).double().sum())
        return {"val_loss": total / len(self.val)}

    def pipeline(self, network: nn.Module) -> Pipeline:
        """What the checkpoint will be used as."""
        names, counts = self.classes, self.class_counts
        return Pipeline(
            network,
            self.diffusion,
            self.codec,
            names,
            device=self.device,
            data=self.data,
            class_counts=counts,
            tokenizer=self.tokenizer,
        )

    def picture(self, network: nn.Module, path: Path) -> None:
        """64 samples (DDIM, 25 steps): of the classes in turn, or of captions of the validation images."""
        pipeline = self.pipeline(network)
        labels: Labels = [k % self.num_classes for k in range(64)] if self.num_classes else None
        if self.tokenizer is not None and self.val.captions:
            shown = representative(None, len(self.val), 64).tolist()
            labels = [self.val.captions[shown[k % len(shown)]] for k in range(64)]
        steps = min(25, self.schedule.T)
        images = pipeline.sample(64, sampler="ddim", steps=steps, label=labels, seed=0)
        save_image(image_grid(images, columns=class_columns(64, self.num_classes)), path)

    def finish(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        return {}

    def save(self, writer: Writer, network: nn.Module) -> None:
        self.pipeline(network).write(writer)
        save_brightness(writer, self.train)


def _counts(split: Split | StreamedSplit | EncodedSplit, classes: int) -> tuple[int, ...]:
    """How many images of each class a split has; () without labels."""
    if not classes or split.labels is None:
        return ()
    return tuple(torch.bincount(split.labels, minlength=classes).tolist())
