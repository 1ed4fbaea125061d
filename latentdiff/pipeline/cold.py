"""A trained cold diffusion model: a network that undoes a degradation, and what it needs to generate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, create_model
from torch import Tensor, nn

from latentdiff.config.base import parse
from latentdiff.config.cold import DegradationConfig
from latentdiff.diffusion.cold import Degradation, Intensities, cold_step, make_degradation, restorer
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.loop import sample
from latentdiff.diffusion.trajectory import SILENT, Recorder, SampleResult, record
from latentdiff.errors import InputError
from latentdiff.files.untrusted import Number, checked
from latentdiff.ops.random import Key
from latentdiff.parallel.device import resolve_device
from latentdiff.pipeline.batching import batch_that_fits, map_images
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint, Writer
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.components import denoiser_config, load_network, save_network

DEGRADATION = "degradation/degradation_config.json"
CELLS = "degradation/cells.safetensors"
Start = Literal["cells", "flat"]
CPU = torch.device("cpu")


@dataclass(frozen=True, eq=False)
class ColdModel:
    """Restores degraded images step by step; generates from intensities of images, or of ``cells``."""

    network: nn.Module
    config: DegradationConfig
    intensities: Intensities
    device: torch.device = CPU
    data: str = ""
    cells: Intensities | None = None

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return denoiser_config(self.network).shape  # type: ignore[return-value]

    @cached_property
    def degradation(self) -> Degradation:
        return make_degradation(self.config, self.image_shape).to(self.device)

    def denoiser(self) -> Denoiser:
        """R(x_t, t) as a Denoiser, for a loop of one's own."""
        return restorer(self.network)

    def levels(self, t: int, steps: int | None = None) -> list[int]:
        """The levels visited from ``t`` down to 0: all, or ``steps`` moves spread evenly.

        InputError unless 1 <= steps <= t <= T.
        """
        if not 1 <= t <= self.config.T:
            raise InputError(f"`t` must lie in 1..{self.config.T}, got {t}")
        count = t if steps is None else steps
        if not 1 <= count <= t:
            raise InputError(f"`steps` must lie in 1..{t}, got {steps}")
        return [round(t - i * t / count) for i in range(count)] + [0]

    @torch.no_grad()
    def restore(
        self,
        degraded: Tensor,
        t: int,
        *,
        steps: int | None = None,
        improved: bool = True,
        recorder: Recorder = SILENT,
    ) -> SampleResult:
        """Restore images [n, C, H, W] in [-1, 1] degraded to level ``t``. InputError for unknown levels."""
        levels, step = self.levels(t, steps), cold_step(self.degradation, improved=improved)

        def part(rows: slice, recorder: Recorder) -> SampleResult:
            x = degraded[rows].to(self.device)
            states = sample(self.denoiser(), x, levels, step, Key.of(0, len(x), device=self.device))
            return record(states, x, levels, decode=_decoded, recorder=recorder)

        return map_images(len(degraded), self._fits, part, device=self.device, recorder=recorder)

    @torch.no_grad()
    def one_step(self, degraded: Tensor, t: int) -> Tensor:
        """The network's direct restoration R(x_t, t), images on the CPU."""

        def part(rows: slice, _: Recorder) -> SampleResult:
            return SampleResult(_decoded(self.denoiser()(degraded[rows].to(self.device), t).x0()))

        return map_images(len(degraded), self._fits, part, device=self.device).images

    @property
    def _fits(self) -> int:
        return batch_that_fits(self.network, self.device)

    def sample(
        self,
        n: int,
        *,
        seed: int = 0,
        noise: float = 0.002,
        start: Start | None = None,
        steps: int | None = None,
        improved: bool = True,
        recorder: Recorder = SILENT,
    ) -> SampleResult:
        """``n`` new images: drawn intensities, degraded to level T, a little ``noise`` (standard deviation)
        to break the symmetry, restored.

        Image k comes from seed + k. ``start``: "flat" draws the mean intensity of an image, as published
        (Bansal et al. 2022, section 5.3), "cells" those of a grid of cells, so that starts are as degraded
        images are (default: where the model has them).

        InputError for fewer than 1 image, a negative noise, and cells that the model does not have.
        """
        if n < 1 or not 0 <= noise < math.inf:
            raise InputError(f"expected `n` of 1 or more and `noise` of 0 or more, got {n} and {noise:g}")
        key = Key.of(seed, n, device=self.device)
        if start == "cells" and self.cells is None:
            raise InputError(
                "`start` cells: this model was trained before intensities of cells were kept, expected flat"
            )
        intensities = self.intensities if self.cells is None or start == "flat" else self.cells
        x = self.degradation(intensities.images(key, self.image_shape), self.config.T)
        x = x + noise * key.at("degrade").normal(self.image_shape)
        return self.restore(x, self.config.T, steps=steps, improved=improved, recorder=recorder)

    def to(self, device: torch.device) -> ColdModel:
        return replace(self, network=self.network.to(device), device=device)

    def write(self, writer: Writer) -> None:
        """The components and the model index of a checkpoint."""
        save_network(writer, "restorer", self.network)
        writer.json(DEGRADATION, self.config.model_dump(mode="json"))
        if self.cells is not None:
            writer.tensors(CELLS, self.cells.tensors())
        index = {"_class_name": "ColdDiffusion", "restorer": ["latentdiff", type(self.network).__name__]}
        if len(self.intensities.weights) != 1:
            raise ValueError("`intensities` of whole images are one normal distribution, `cells` a mixture")
        mean, covariance = (
            each[0].tolist() for each in (self.intensities.means, self.intensities.covariances)
        )
        writer.json(
            INDEX, {**index, "data": self.data, "intensities": {"mean": mean, "covariance": covariance}}
        )


def load_cold(path: str | Path, *, device: str | torch.device = "cpu") -> ColdModel:
    """The cold diffusion model in a run or checkpoint folder; InputError says what is missing or damaged."""
    return cold_from(locate(Path(path))).to(resolve_device(str(device)))


def cold_from(checkpoint: Checkpoint) -> ColdModel:
    """The model of an opened checkpoint, on the CPU."""
    index = checkpoint.json(INDEX)
    if "restorer" not in index:
        raise InputError(
            f"{checkpoint.folder}: expected a cold diffusion model; `latentdiff train-cold` makes one"
        )
    network, _ = load_network(checkpoint, "restorer")
    config = parse(DegradationConfig, checkpoint.json(DEGRADATION), f"{checkpoint.folder}/{DEGRADATION}")
    shape = denoiser_config(network).shape
    if len(shape) != 3:
        raise InputError(f"{checkpoint.folder}: expected a network on images, found one on {list(shape)}")
    cells = None
    if CELLS in checkpoint:
        cells = Intensities.stored(checkpoint.tensors(CELLS), shape[0], f"{checkpoint.folder}/{CELLS}")
    whole = _intensities(checkpoint, index, shape[0])
    return ColdModel(network, config, whole, data=str(index.get("data", "")), cells=cells)


def _intensities(checkpoint: Checkpoint, index: dict[str, Any], channels: int) -> Intensities:
    row = Annotated[tuple[Number, ...], Field(min_length=channels, max_length=channels)]
    rows = Annotated[tuple[row, ...], Field(min_length=channels, max_length=channels)]
    stored = create_model("Stored", mean=row, covariance=rows)
    where, what = f"{checkpoint.folder}/{INDEX}", f"intensities with mean [{channels}] and covariance"
    found = checked(stored, index.get("intensities"), where, what)
    values = {"mean": found.mean, "covariance": found.covariance}
    whole = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    return Intensities.stored(whole, channels, where)


def _decoded(x: Tensor) -> Tensor:
    return x.float().clamp(-1, 1).cpu()
