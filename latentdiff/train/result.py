"""Reports of a training: its progress while it runs, and its result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from latentdiff.train.budget import Budget


class Reporter(Protocol):
    """Receives the progress of a training; that of the command line draws bars or prints lines."""

    def note(self, message: str) -> None: ...
    def start(self, budget: Budget, step: int) -> None: ...
    def step(self, step: int, progress: float, values: Mapping[str, float]) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class TrainResult:
    """The end of a training; ``signum``: the signal that ended it early, ``metrics``: of the last validation
    and the task's :meth:`~latentdiff.train.task.Task.final_metrics`, {} after a signal.
    """

    run: Path
    checkpoint: Path
    step: int
    seconds: float
    images_per_second: float
    signum: int | None
    metrics: dict[str, Any] = field(default_factory=dict)
