"""What the loop needs to know of the thing it trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.pipeline.checkpoint.folder import Writer


class Task(Protocol):
    """A network, its loss and what is worth looking at; it draws all randomness from (seed, position), never
    from a state.
    """

    kind: str  # "vae" or "denoiser"
    network: nn.Module
    size: int  # training images
    batch: int  # images for one optimizer step
    peak_lr: float
    betas: tuple[float, float]
    default_steps: int

    @property
    def judge(self) -> str | None:
        """The network of a perceptual term of the loss, with the hash of weights that are not the published
        ones; None without one.
        """
        ...

    def prefetch(self, indices: Tensor) -> None:
        """The training images that the next step will ask for; nothing has to be done about it."""
        ...

    def loss(self, step: int, positions: Tensor, indices: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Mean loss of the training images ``indices`` (int64 [b]) at the data ``positions``, and parts worth
        logging.
        """
        ...

    def validate(self, network: nn.Module) -> dict[str, float]:
        """Figures on the validation split, the same noise at every call."""
        ...

    def picture(self, network: nn.Module, path: Path) -> None:
        """Save a grid that shows how well ``network`` does."""
        ...

    def finish(self, network: nn.Module, ranks: Ranks = ALONE) -> dict[str, Any]:
        """Called once in every process when the budget is spent, before the last checkpoint; returns the
        closing diagnosis.
        """
        ...

    def save(self, writer: Writer, network: nn.Module) -> None:
        """Write the components and the model index of a checkpoint."""
        ...
