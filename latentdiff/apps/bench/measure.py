"""The grid: every operation, dtype and size, implementations interleaved, within a budget of time."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from latentdiff.apps.bench.baselines import IMPLEMENTATIONS, Prepared, prepare
from latentdiff.apps.bench.timing import Calls, Clock, Stopwatch, Timing, interleaved, stopwatch_for
from latentdiff.apps.bench.workload import Operation, least_bytes, make_workload, sets_for, tensor_bytes

SHAPES: tuple[tuple[int, ...], ...] = (  # 2 KiB, 8 KiB, 256 KiB, 4, 16, 64 and 256 MiB in float32
    (64, 8),
    (64, 32),
    (64, 4, 16, 16),
    (64, 4, 64, 64),
    (64, 4, 128, 128),
    (64, 4, 256, 256),
    (64, 16, 256, 256),
)
ALWAYS = ("fused", "fused out=", "eager", "copy")  # never left out for want of time
FEWEST_ROUNDS = 3  # below, a median says nothing
UNMEASURED = 3  # slices or slow calls beside the rounds: two warm an implementation, one finds the repeats
SHORT = 0.1  # seconds that never matter
NO_TIME = "no time left in the budget for so large a tensor"


@dataclass(frozen=True)
class BenchmarkGrid:
    """The operations, dtypes, shapes and implementations to time.

    ``seconds`` is a budget for all of it: rounds, and then slow implementations, are cut to keep it.
    """

    device: torch.device
    operations: Sequence[Operation]
    dtypes: Sequence[torch.dtype]
    shapes: Sequence[tuple[int, ...]] = SHAPES
    implementations: Sequence[str] = IMPLEMENTATIONS
    min_bytes: int = 0  # of one tensor
    max_bytes: int = 256 << 20
    dynamic: bool = False
    rounds: int = 9
    slice_seconds: float = 0.002
    seconds: float = math.inf

    def cells(self) -> list[tuple[Operation, torch.dtype, tuple[int, ...]]]:
        """(operation, dtype, shape) in the order of the timing: sizes grow within an operation and dtype."""
        shapes = sorted(self.shapes, key=math.prod)
        return [
            (operation, dtype, shape)
            for operation in self.operations
            for dtype in self.dtypes
            for shape in shapes
            if self.min_bytes <= tensor_bytes(shape, dtype) <= self.max_bytes
        ]


@dataclass(frozen=True)
class Row:
    """One operation at one size and dtype: the timing of each implementation, or why there is none."""

    operation: Operation
    dtype: torch.dtype
    shape: tuple[int, ...]
    sets: int
    timings: dict[str, Timing] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """Elements of one tensor."""
        return math.prod(self.shape)

    def ns_per_element(self, name: str) -> float:
        """Median nanoseconds an element of one tensor."""
        return self.timings[name].median / self.elements * 1e9

    def gb_per_s(self, name: str) -> float:
        """1e9 bytes a second, of the bytes that have to move; a copy reads and writes one tensor."""
        tensor = tensor_bytes(self.shape, self.dtype)
        moved = 2 * tensor if name == "copy" else least_bytes(self.operation, self.shape, self.dtype)
        return moved / self.timings[name].median / 1e9

    def faster(self, name: str, other: str) -> float | None:
        """How many times faster ``name`` is than ``other``; None where either was not timed."""
        if name not in self.timings or other not in self.timings:
            return None
        return self.timings[other].median / self.timings[name].median

    def of_copy(self, name: str) -> float | None:
        """The achieved share of the copy bandwidth measured beside it; None where either was not timed."""
        if name not in self.timings or "copy" not in self.timings:
            return None
        return self.gb_per_s(name) / self.gb_per_s("copy")


def measure(
    grid: BenchmarkGrid,
    *,
    clock: Clock = time.monotonic,
    stopwatch: Stopwatch | None = None,
    on_row: Callable[[Row], None],
) -> list[Row]:
    """Measure the grid; ``on_row`` is called with each row. The global generator is left as it was."""
    watch = stopwatch or stopwatch_for(grid.device)
    cells, begun = grid.cells(), clock()
    rows: list[Row] = []
    row: Row | None = None
    weights = [1 + math.prod(shape) / (1 << 18) for _, _, shape in cells]
    devices = [grid.device] if grid.device.type == "cuda" else []
    with torch.inference_mode(), torch.random.fork_rng(devices=devices):
        for i, (operation, dtype, shape) in enumerate(cells):
            left = grid.seconds - (clock() - begun)
            share = left * weights[i] / sum(weights[i:]) if math.isfinite(left) else math.inf
            if i == 0 or cells[i - 1][:2] != (operation, dtype):
                torch.compiler.reset()  # torch.compile's limit of recompilations would be reached otherwise
                row = None
            row = _row(grid, operation, dtype, shape, share, row, watch)
            on_row(row)
            rows.append(row)
    return rows


def _affordable(name: str, elements: int, seconds: float, smaller: Row | None) -> bool:
    """Whether an implementation fits in ``seconds``, by its time at the next ``smaller`` size."""
    if name in ALWAYS or smaller is None:
        return True
    if name not in smaller.timings:
        return not smaller.skipped.get(name, "").startswith(NO_TIME)
    call = smaller.ns_per_element(name) * elements / 1e9
    return (UNMEASURED + FEWEST_ROUNDS) * call < max(seconds, SHORT)


def _row(
    grid: BenchmarkGrid,
    operation: Operation,
    dtype: torch.dtype,
    shape: tuple[int, ...],
    seconds: float,
    smaller: Row | None,
    watch: Stopwatch,
) -> Row:
    sets = sets_for(operation, shape, dtype, grid.device)
    workloads = [
        make_workload(operation, shape, dtype=dtype, device=grid.device, seed=i) for i in range(sets)
    ]
    names = [name for name in grid.implementations if _affordable(name, math.prod(shape), seconds, smaller)]
    prepared = prepare(operation, workloads, names, dynamic=grid.dynamic)
    prepared.skipped.update({name: NO_TIME for name in grid.implementations if name not in names})
    rounds = _fit(prepared, grid, seconds, watch)
    timings = interleaved(prepared.calls, stopwatch=watch, rounds=rounds, slice_seconds=grid.slice_seconds)
    return Row(operation, dtype, shape, sets, timings, prepared.skipped)


def _fit(prepared: Prepared, grid: BenchmarkGrid, seconds: float, watch: Stopwatch) -> int:
    """Warm the implementations, leave out those too slow for a row; return the rounds that fit."""
    slices = {name: max(_warm(calls, watch), grid.slice_seconds) for name, calls in prepared.calls.items()}
    if math.isinf(seconds):
        return grid.rounds
    for name in sorted(set(slices) - set(ALWAYS), key=lambda name: -slices[name]):
        optional = sum(took for other, took in slices.items() if other not in ALWAYS)
        beyond = (UNMEASURED + FEWEST_ROUNDS) * optional > max(seconds, SHORT)
        if beyond and slices[name] > grid.slice_seconds:
            prepared.skipped[name] = NO_TIME
            del prepared.calls[name], slices[name]
    return max(FEWEST_ROUNDS, min(grid.rounds, int(seconds / sum(slices.values())) - UNMEASURED))


def _warm(calls: Calls, watch: Stopwatch) -> float:
    """Seconds a call takes, after one call on every set; a slow first call is taken as it is."""
    first = watch(calls, len(calls)) / len(calls)
    return first if first > SHORT else watch(calls, len(calls)) / len(calls)


def gaps(rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
    """(implementation, reason) for everything that was left out, each reason once."""
    yield from dict.fromkeys((name, reason) for row in rows for name, reason in row.skipped.items())
