"""The progress of a training: its budget, learning rate, reports and result."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from latentdiff.config.loop import LoopOptions
from latentdiff.errors import counted


@dataclass(frozen=True)
class Budget:
    """A number of steps, or of seconds of wall time."""

    steps: int | None
    seconds: float | None

    @classmethod
    def of(cls, options: LoopOptions, *, size: int, batch: int, default_steps: int) -> Budget:
        """The budget of the options for a training set of ``size`` images."""
        if options.minutes is not None:
            return cls(None, options.minutes * 60)
        if options.epochs is not None:
            passes = Fraction(str(options.epochs))  # as written: 0.07 * 100 is above 7 in floating point
            return cls(math.ceil(passes * size / batch), None)
        return cls(options.steps or default_steps, None)

    def progress(self, step: int, elapsed: float) -> float:
        """The share that is spent, 1 or more at the end."""
        return step / self.steps if self.steps is not None else elapsed / (self.seconds or math.inf)

    def __str__(self) -> str:
        minutes = (self.seconds or 0.0) / 60
        return counted(self.steps, "step") if self.steps is not None else counted(minutes, "minute")


def learning_rate(options: LoopOptions, peak: float, step: int, progress: float) -> float:
    """Linear warm-up over the first steps, then decay over the budget; a time budget decays by the clock."""
    warm = min(1.0, (step + 1) / options.warmup) if options.warmup else 1.0
    if options.decay == "cosine":
        return peak * warm * (0.5 + 0.5 * math.cos(math.pi * min(progress, 1.0)))
    if options.decay == "linear":
        return peak * warm * (1 - min(progress, 1.0))
    return peak * warm


class Stopwatch:
    """Seconds of training, across interruptions."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self._start = time.monotonic()

    @property
    def elapsed(self) -> float:
        return self._before + time.monotonic() - self._start


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
