"""What a training tells: while it runs, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from latentdiff.train.budget import Budget


class Reporter(Protocol):
    """Who is told how the training goes; the command line draws bars or prints lines."""

    def note(self, message: str) -> None: ...
    def start(self, budget: Budget, step: int) -> None: ...
    def step(self, step: int, progress: float, values: Mapping[str, float]) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class Outcome:
    """How a training ended; ``signum`` is the signal that ended it early, ``diagnosis`` what the task says at
    the end.
    """

    run: Path
    checkpoint: Path
    step: int
    seconds: float
    images_per_second: float
    signum: int | None
    diagnosis: dict[str, Any] = field(default_factory=dict)
