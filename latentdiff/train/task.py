"""The interface between the training loop and what it trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Writer
from latentdiff.train.quick_evaluation import GridSamples, QuickEvaluation


class Task(Protocol):
    """A network with its loss, validation and checkpoint; random by (seed, position), never by a state."""

    kind: str  # "vae", "denoiser" or "cold"
    network: nn.Module
    size: int  # training images
    batch: int  # images of an optimizer step
    peak_lr: float
    betas: tuple[float, float]  # of AdamW
    default_steps: int

    @property
    def quick(self) -> QuickEvaluation | None:
        """What measures samples while the network trains; None where nothing does."""

    @property
    def perceptual_fingerprint(self) -> str | None:
        """The perceptual network of the loss, with the hash of unpublished weights; None without one."""

    def prefetch(self, positions: Tensor, indices: Tensor) -> None:
        """Hint that the next step uses the training images ``indices`` at these data positions; what it
        prepares is computed by all threads, not by one of the workers. An implementation may ignore it.
        """

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean loss of the images ``indices`` at data ``positions`` (int64 [b]), its parts for the log."""

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Means over the validation split, with the same noise at every call."""

    def save_samples(self, network: nn.Module, path: Path) -> GridSamples | None:
        """Save a grid of what ``network`` makes; returns those samples where `quick` measures them."""

    def final_metrics(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        """Metrics of the trained network; called once in every process, before the last checkpoint."""

    def save(self, writer: Writer, network: nn.Module) -> None:
        """Write the components and the model index of a checkpoint."""
