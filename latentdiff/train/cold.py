"""Training of a cold diffusion model: predict x_0 from its degradation (Bansal et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latentdiff.config.training import TrainCold
from latentdiff.data import Dataset, to_float
from latentdiff.data.classes import representative
from latentdiff.diffusion.cold import Intensities, make_degradation
from latentdiff.diffusion.denoiser import timestep
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Writer
from latentdiff.pipeline.cold import ColdModel
from latentdiff.train.batch import CHUNK, AugmentedImages, autocast, draw_levels
from latentdiff.train.brightness import save_brightness
from latentdiff.viz.images import image_grid, save_image

SHOWN = 16  # images a row of the sample grid
COMPONENTS = 40  # of the mixture that these intensities are drawn from, at most
PER_COMPONENT = 100  # images, at least
CELLS = 7  # a side, of the intensities that new images start from; what a blur leaves of an image is coarser


class ColdTask:
    """Trains ``network`` to undo the degradation of the options; see :class:`latentdiff.train.task.Task`."""

    kind = "cold"
    quick = None
    perceptual_fingerprint = None
    betas = (0.9, 0.999)
    default_steps = 3000

    def __init__(self, options: TrainCold, data: Dataset, network: nn.Module, device: torch.device) -> None:
        self.options, self.network, self.device = options, network, device
        self.batch = options.batch or 64
        self.peak_lr = options.lr or 1e-3
        self.images = AugmentedImages.of(data.train, options, options, device)
        self._train, self.val, self.size, self.data = data.train, data.val, len(data.train), data.name
        self.config = options.degradation_config()
        self.degradation = make_degradation(self.config, data.shape).to(device)
        self._intensities: tuple[Intensities, Intensities] | None = None

    def prefetch(self, positions: Tensor, indices: Tensor) -> None:
        self.images.split.prefetch(indices)

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Distance of R(D(x_0, t), t) and x_0 at one level for each image."""
        x0 = self.images.batch(positions, indices)
        t = draw_levels("stratified", positions, batch=self.batch, seed=self.options.seed, T=self.config.T)
        return self._errors(self.network, x0, t.to(self.device), training=True).mean(), {}

    def _errors(self, network: nn.Module, x0: Tensor, t: Tensor, *, training: bool = False) -> Tensor:
        """The mean error of each image, [B]; the degradation stays in float32, as deep blurs are small."""
        x = self.degradation(x0, t)
        with autocast(self.options, self.device) if training else nullcontext():
            change = network(x, timestep(t).float(), None)
        out: Tensor = x + change.float()
        error = (out - x0).abs() if self.options.loss == "l1" else (out - x0).square()
        return error.flatten(1).mean(1)

    @torch.no_grad()
    def validate(self, network: nn.Module) -> dict[str, float]:
        """The loss on the validation split, levels spread evenly over 1..T."""
        total = 0.0
        for first in range(0, len(self.val), CHUNK):
            images = self.val.images[first : first + CHUNK]
            t = 1 + torch.arange(first, first + len(images)) * self.config.T // len(self.val)
            total += float(
                self._errors(network, self.images.to_device(images), t.to(self.device)).double().sum()
            )
        return {"val_loss": total / len(self.val)}

    def model(self, network: nn.Module) -> ColdModel:
        """The model of a checkpoint."""
        if self._intensities is None:
            images = to_float(self._train.images)
            side = min(CELLS, *images.shape[2:])
            components = max(1, min(COMPONENTS, len(images) // PER_COMPONENT))
            self._intensities = (
                Intensities.of(images),
                Intensities.of(images, side, components=components),
            )
        whole, cells = self._intensities
        return ColdModel(network, self.config, whole, self.device, self.data, cells)

    @torch.no_grad()
    def save_samples(self, network: nn.Module, path: Path) -> None:
        """Rows: validation images, degraded to level T, restored at once and by steps; generated ones."""
        shown = representative(self.val.labels, len(self.val), SHOWN)
        model, x0 = self.model(network), self.images.to_device(self.val.images[shown])
        degraded = self.degradation(x0, self.config.T)
        restored = model.restore(degraded, self.config.T).images
        made = model.sample(len(x0), seed=0).images
        rows = [x0.cpu(), degraded.cpu(), model.one_step(degraded, self.config.T), restored, made]
        save_image(image_grid(torch.cat(rows).clamp(-1, 1), columns=len(x0)), path)

    def final_metrics(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        return {}

    def save(self, writer: Writer, network: nn.Module) -> None:
        self.model(network).write(writer)
        save_brightness(writer, self.images.split)
