"""Interleaved timing: implementations take turns each round, so that a slower machine is so for all."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Call = Callable[[], object]
Calls = Sequence[Call]
"""One implementation: the same work on one or several input sets, which are used in turn."""

Stopwatch = Callable[[Calls, int], float]
"""(calls, repeats) -> seconds that so many calls took together."""

Clock = Callable[[], float]
"""Seconds since some moment."""

MAX_REPEATS = 1 << 20


@dataclass(frozen=True)
class Timing:
    """Seconds a call took, over rounds of ``repeats`` calls: median, quartiles and the fastest round."""

    median: float
    low: float
    high: float
    fastest: float
    rounds: int
    repeats: int

    @classmethod
    def of(cls, seconds: Sequence[float], repeats: int) -> Timing:
        """The timing from the seconds a call of each round; ValueError without rounds."""
        if not seconds:
            raise ValueError("expected the seconds of one round or more, got none")
        few = len(seconds) < 2
        low, _, high = [seconds[0]] * 3 if few else statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(statistics.median(seconds), low, high, min(seconds), len(seconds), repeats)

    @property
    def spread(self) -> float:
        """Half the distance of the quartiles, as a part of the median."""
        return (self.high - self.low) / self.median / 2


def host_stopwatch(calls: Calls, repeats: int) -> float:
    """Wall time of calls that are done when they return."""
    if len(calls) == 1:  # without the cost of choosing a set
        (call,) = calls
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return time.perf_counter() - start
    start = time.perf_counter()
    for i in range(repeats):
        calls[i % len(calls)]()
    return time.perf_counter() - start


def cuda_stopwatch(calls: Calls, repeats: int) -> float:
    """Time between two CUDA events around the calls; of launches, where they are the limit."""
    before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    before.record()
    for i in range(repeats):
        calls[i % len(calls)]()
    after.record()
    after.synchronize()
    return float(before.elapsed_time(after)) / 1e3


def stopwatch_for(device: torch.device) -> Stopwatch:
    """The stopwatch that waits for the work of the device."""
    return cuda_stopwatch if device.type == "cuda" else host_stopwatch


def repeats_for(calls: Calls, stopwatch: Stopwatch, seconds: float) -> int:
    """The number of calls that lasts about ``seconds``, at least one; found by doubling, on warm calls."""
    repeats = 1
    while (took := stopwatch(calls, repeats)) < seconds / 2 and repeats < MAX_REPEATS:
        repeats *= 2
    return max(1, min(MAX_REPEATS, round(repeats * seconds / took))) if took > 0 else repeats


def interleaved(
    implementations: Mapping[str, Calls], *, stopwatch: Stopwatch, rounds: int, slice_seconds: float
) -> dict[str, Timing]:
    """Time warm implementations: in every round each gets one slice of about ``slice_seconds``.

    Every second round goes through them backwards, so that none always follows the same neighbor. ValueError
    unless rounds >= 1.
    """
    if rounds < 1:
        raise ValueError(f"expected rounds >= 1, got {rounds}")
    repeats = {name: repeats_for(calls, stopwatch, slice_seconds) for name, calls in implementations.items()}
    seconds: dict[str, list[float]] = {name: [] for name in implementations}
    for i in range(rounds):
        for name in list(implementations)[:: -1 if i % 2 else 1]:
            seconds[name].append(stopwatch(implementations[name], repeats[name]) / repeats[name])
    return {name: Timing.of(values, repeats[name]) for name, values in seconds.items()}
