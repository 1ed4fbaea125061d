"""Training of a denoiser: predict eps, v, x_0 or the score from a noised latent."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from latentdiff import ops
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.config.training import TrainDenoiser
from latentdiff.data import to_uint8
from latentdiff.data.classes import representative
from latentdiff.data.order import integers
from latentdiff.data.types import ImageData, TrainData, TrainSplit
from latentdiff.diffusion.denoiser import timestep
from latentdiff.diffusion.losses import VariationalBound, Weighting, level_weights
from latentdiff.diffusion.prediction import target, to_x0
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.errors import InputError
from latentdiff.nn import ExternalModel
from latentdiff.ops.random import Key
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Writer
from latentdiff.pipeline.codec import Codec
from latentdiff.pipeline.components import denoiser_config
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.pipeline.text.tokenizer import TextTokenizer
from latentdiff.train.batch import autocast, chunk_of, data_key, draw_levels
from latentdiff.train.brightness import save_brightness
from latentdiff.train.choices import resolved, usual_eta, usual_guidance
from latentdiff.train.conditioning import conditioning_of
from latentdiff.train.latents import latents_of
from latentdiff.train.quick_evaluation import GridSamples, QuickEvaluation
from latentdiff.viz.images import class_columns, image_grid, save_image

VLB_WEIGHT = 1e-3  # lambda of the hybrid loss (Nichol & Dhariwal 2021, section 3.1), on the sum over levels
DROP_RESOLUTION = 2**20
GRID = 64  # samples in a grid
LEAST_COMPARED = 2  # validation images of a kernel distance


class LevelTables(NamedTuple):
    """Coefficients by level, float32; level 0 is never trained."""

    noising: Tensor  # [T + 1, 4]: alpha, sigma, and a, b of the target a x_0 + b eps
    weights: Tensor  # [T + 1]: of the squared error
    to_x0: Tensor  # [T + 1, 2]: p, q of x_0 = p x_t + q out

    @classmethod
    def of(
        cls, diffusion: DiffusionConfig, weighting: Weighting, schedule: Schedule, device: torch.device
    ) -> LevelTables:
        """The tables of the prediction type of a process and of a loss weighting."""
        prediction, sigma_data = diffusion.prediction, diffusion.sigma_data
        alpha, sigma = schedule.alpha[1:], schedule.sigma[1:]
        noising = torch.stack([alpha, sigma, *target(prediction, alpha, sigma, sigma_data=sigma_data)], 1)
        recover = torch.stack(to_x0(prediction, alpha, sigma, sigma_data=sigma_data), 1)
        weights = level_weights(schedule, prediction, weighting, sigma_data=sigma_data)
        zeros = noising.new_zeros(1, 4)
        found = (torch.cat([zeros, noising]), weights, torch.cat([zeros[:, :2], recover]))
        return cls(*(table.float().to(device) for table in found))


class DenoiserTask:
    """Trains ``network`` on latents of ``codec`` of the images; see :class:`latentdiff.train.task.Task`."""

    kind = "denoiser"
    perceptual_fingerprint = None
    betas = (0.9, 0.999)

    def __init__(
        self,
        options: TrainDenoiser,
        data: TrainData,
        codec: Codec,
        network: nn.Module,
        device: torch.device,
        tokenizer: TextTokenizer | None = None,
        diffusion: DiffusionConfig | None = None,
    ) -> None:
        self.options = options = resolved(options, codec)
        self.network, self.device = network, device
        self.data, self.codec, self.tokenizer = data, codec.to(device), tokenizer
        config = denoiser_config(network)
        # another library's network of classes has no null class
        self._dropout = 0.0 if isinstance(network, ExternalModel) else options.label_dropout
        self.num_classes = config.num_classes
        self.guidance = self._guidance()
        self.eta = usual_eta(options, codec, classes=bool(self.num_classes) and self._dropout > 0)
        self.size, self.batch = len(data.train), options.batch or config.batch
        self.default_steps = config.steps
        self.peak_lr = options.lr or config.peak_lr[options.preset]

        self.latents = latents_of(options, data, self.codec, device)
        self._train, self._val = (
            conditioning_of(split, self.num_classes, tokenizer, device) for split in (data.train, data.val)
        )
        self.diffusion = diffusion or options.diffusion()
        self.schedule = make_schedule(self.diffusion.schedule)
        self._tables = LevelTables.of(self.diffusion, options.weighting, self.schedule, device)
        self.quick = _quick_evaluation(options, data, device, by_class=bool(self.num_classes))
        self._bound: VariationalBound | None = None
        if options.variance == "learned":
            self._bound = VariationalBound(
                self.schedule, bins=options.pixel, scale=options.pixel_scale, shift=options.pixel_shift
            )

    def _guidance(self) -> float:
        """The guidance to keep with the model; InputError for one that it would not have learned."""
        options, trained = self.options, bool(self.num_classes or self.tokenizer) and self._dropout > 0
        if options.guidance not in (None, 0, 1) and not trained:
            raise InputError(
                f"`guidance` {options.guidance:g}: needs classes or texts, and `label_dropout` above 0, of"
                " which this training has none"
            )
        return usual_guidance(options, self.codec, classes=bool(self.num_classes) and trained)

    def prefetch(self, positions: Tensor, indices: Tensor) -> None:
        self.latents.prefetch(positions, indices)

    def _train_conditioning(self, indices: Tensor, positions: Tensor) -> Tensor | None:
        """Labels [B], tokens [B, L] or text embeddings [B, L, D], some of them replaced by the null
        conditioning (classifier-free guidance, Ho & Salimans 2022); None for unconditional training.
        """
        if self._train is None:
            return None
        found = self._train[indices]
        draws = integers("drop_label", positions, seed=self.options.seed, choices=DROP_RESOLUTION)
        dropped = draws < self._dropout * DROP_RESOLUTION
        mask = dropped.view(-1, *[1] * (found.ndim - 1))
        return torch.where(mask, self._train.null, found).to(self.device)

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
            conditioning = self._train_conditioning(indices, positions)
            error, bound = self._errors(self.network, x0, t, conditioning, key.at("train"))
        loss = (self._tables.weights[t] * error).mean()
        if bound is None:
            return loss, {}
        # the bound is a sum over levels: its estimate from one level is T times the term there
        return loss + VLB_WEIGHT * self.schedule.T * bound.mean(), {"simple": loss, "bound": bound.mean()}

    def _errors(
        self, network: nn.Module, x0: Tensor, t: Tensor, conditioning: Tensor | None, key: Key
    ) -> tuple[Tensor, Tensor | None]:
        """Mean squared error of the prediction [B] and, for a learned variance, the bound's term [B]."""
        coefficients = self._tables.noising[t]
        x_t, expected = ops.add_noise(x0, coefficients, seeds=key.seeds, stream=key.stream_tensor())
        out = network(x_t, timestep(t).float(), conditioning).float()
        if self._bound is None:
            return (out - expected).square().flatten(1).mean(1), None
        out, spread = out.chunk(2, 1)
        p, q = self._tables.to_x0[t].view(-1, 2, *[1] * (x0.ndim - 1)).unbind(1)
        x0_hat = p * x_t + q * out.detach()
        if self.diffusion.clip is not None:
            x0_hat = x0_hat.clamp(-self.diffusion.clip, self.diffusion.clip)
        return (out - expected).square().flatten(1).mean(1), self._bound(x0, x_t, x0_hat, spread, t)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss on the validation split: the modes' latents, fixed noise, levels spread over 1..T."""
        total, n, chunk = 0.0, len(self.data.val), chunk_of(network)
        for first in range(0, n, chunk):
            rows = torch.arange(first, min(first + chunk, n))
            x0 = self.latents.val_batch(rows)
            t = 1 + (rows * self.schedule.T // n).to(self.device)
            key = Key.of(first, len(rows), device=self.device).at("train")
            conditioning = None if self._val is None else self._val[rows].to(self.device)
            error, _ = self._errors(network, x0, t, conditioning, key)
            total += float((self._tables.weights[t] * error).double().sum())
        return {"val_loss": total / n}

    def pipeline(self, network: nn.Module) -> Pipeline:
        """The pipeline of a checkpoint."""
        names = (self.data.classes or ()) if self.num_classes else ()
        return Pipeline(
            network,
            self.diffusion,
            self.codec,
            names,
            device=self.device,
            data=self.data.name,
            class_counts=_counts(self.data.train, len(names)),
            tokenizer=self.tokenizer,
            guidance=self.guidance,
            eta=self.eta,
        )

    def save_samples(self, network: nn.Module, path: Path) -> GridSamples:
        """64 samples (DDIM, 25 steps): of the classes in turn, or of captions of the validation images.

        Of large pictures of another library's network fewer.
        """
        pipeline, val, shown = self.pipeline(network), self.data.val, min(GRID, chunk_of(network))
        captions: Sequence[str] = ()
        if self.tokenizer is not None and val.captions:
            captions = [val.captions[k] for k in representative(None, len(val), shown).tolist()]
        steps = min(25, self.schedule.T)

        def draw(first: int, n: int) -> Tensor:
            seeds = range(first, first + n)
            labels: Labels = [k % self.num_classes for k in seeds] if self.num_classes else None
            if captions:
                labels = [captions[k % len(captions)] for k in seeds]
            return pipeline.sample(n, sampler="ddim", steps=steps, label=labels, seed=first)

        begun = time.monotonic()
        images = draw(0, shown)
        seconds = time.monotonic() - begun
        save_image(image_grid(images, columns=class_columns(shown, self.num_classes)), path)
        return GridSamples(to_uint8(images), seconds, lambda first, n: to_uint8(draw(first, n)))

    def final_metrics(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        return {}

    def save(self, writer: Writer, network: nn.Module) -> None:
        self.pipeline(network).write(writer)
        if isinstance(self.data, ImageData):
            save_brightness(writer, self.data.train)


def _quick_evaluation(
    options: TrainDenoiser, data: TrainData, device: torch.device, *, by_class: bool
) -> QuickEvaluation | None:
    """The quick evaluation of the options; None where it is off, and for data without images to compare."""
    if not options.quick_samples or not isinstance(data, ImageData) or len(data.val) < LEAST_COMPARED:
        return None
    n, share = options.quick_samples, options.quick_share
    return QuickEvaluation(data, n, device, share=share, by_class=by_class)


def _counts(split: TrainSplit, classes: int) -> tuple[int, ...]:
    """Images of each class; () without labels."""
    if not classes or split.labels is None:
        return ()
    return tuple(torch.bincount(split.labels, minlength=classes).tolist())
