"""Results as a JSON document, as a table for people, and as verdicts against what the project promises."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from latentdiff import ops
from latentdiff.apps.bench.baselines import IMPLEMENTATIONS
from latentdiff.apps.bench.measure import BenchmarkGrid, Row
from latentdiff.apps.bench.workload import TITLES, least_bytes, tensor_bytes
from latentdiff.parallel.device import dtype_name

if TYPE_CHECKING:
    from rich.table import Table

SCHEMA = 1  # of the document; grows when a field changes its meaning
BASELINES = ("fallback", "eager", "compile", "diffusers")


def machine(device: torch.device, *, cpu: str) -> dict[str, Any]:
    """Where the numbers come from; ``cpu`` is the name of the processor."""
    cuda = device.type == "cuda"
    return {
        "cpu": cpu,
        "architecture": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": device.type,
        "gpu": torch.cuda.get_device_name(device) if cuda else None,
        "cuda": torch.version.cuda if cuda else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "implementation": ops.implementation(),
        "kernels": ops.NATIVE.cpu_capability,
        "LATENTDIFF_OPS": os.environ.get("LATENTDIFF_OPS"),
    }


def machine_line(values: dict[str, Any]) -> str:
    """The machine in one line."""
    where = f"{values['gpu']} (CUDA {values['cuda']}), " if values["gpu"] else ""
    return (
        f"{where}{values['cpu']}, {values['capability']}, {values['threads']} thread(s); torch"
        f" {values['torch']}; operations: {values['implementation']}"
        + (f" ({values['kernels']})" if values["kernels"] else "")
    )


def document(grid: BenchmarkGrid, rows: Sequence[Row], where: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, in seconds, one entry for each implementation, with its settings."""
    return {
        "schema": SCHEMA,
        "kind": "kernels",
        "machine": where,
        "settings": {
            "device": str(grid.device),
            "rounds": grid.rounds,
            "slice_seconds": grid.slice_seconds,
            "compile": "dynamic" if grid.dynamic else "static",
            "max_bytes": grid.max_bytes,
        },
        "rows": [_entry(row, name) for row in rows for name in row.timings],
        "skipped": [
            _place(row) | {"contender": name, "reason": why}
            for row in rows
            for name, why in row.skipped.items()
        ],
        "verdicts": [asdict(verdict) for verdict in verdicts(rows, grid.device)],
    }


def _place(row: Row) -> dict[str, Any]:
    return {"operation": row.operation, "dtype": dtype_name(row.dtype), "shape": list(row.shape)}


def _entry(row: Row, name: str) -> dict[str, Any]:
    timing = row.timings[name]
    return _place(row) | {
        "contender": name,
        "elements": row.elements,
        "tensor_bytes": tensor_bytes(row.shape, row.dtype),
        "least_bytes": least_bytes(row.operation, row.shape, row.dtype),
        "input_sets": row.sets,
        "median_s": timing.median,
        "low_s": timing.low,
        "high_s": timing.high,
        "fastest_s": timing.fastest,
        "rounds": timing.rounds,
        "repeats": timing.repeats,
        "ns_per_element": row.ns_per_element(name),
        "gb_per_s": row.gb_per_s(name),
        "of_copy": row.of_copy(name),
        "times_faster_than": {other: row.faster(name, other) for other in BASELINES if other != name},
    }


def time_text(seconds: float) -> str:
    """Seconds with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def bytes_text(count: int) -> str:
    """Bytes in KiB or MiB."""
    return f"{count / (1 << 20):g} MiB" if count >= 1 << 20 else f"{count / (1 << 10):g} KiB"


def table(rows: Sequence[Row]) -> Table:
    """A rich table: the median time of each implementation, its spread, and what the fused one achieves."""
    from rich.table import Table

    shown = [name for name in IMPLEMENTATIONS if any(name in row.timings for row in rows)]
    made = Table(
        caption=(
            "median over rounds ± half the distance of the quartiles; GB/s, share of copy and factors of the"
            " fused operation"
        )
    )
    for name in ("operation", "dtype", "shape", "tensor"):
        made.add_column(name, no_wrap=True)
    for name in (*shown, "ns/element", "GB/s", "of copy", "x eager"):
        made.add_column(name, justify="right", no_wrap=True)
    previous = None
    for row in rows:
        if previous is not None and row.operation != previous.operation:
            made.add_section()
        previous = row
        made.add_row(*_cells(row, shown))
    return made


def _cells(row: Row, shown: Sequence[str]) -> list[str]:
    best = "fused out=" if "fused out=" in row.timings else "fused"
    share, factor = row.of_copy(best), row.faster("fused", "eager")
    return [
        row.operation,
        dtype_name(row.dtype),
        "x".join(map(str, row.shape)),
        bytes_text(tensor_bytes(row.shape, row.dtype)),
        *(_timing_text(row, name) for name in shown),
        f"{row.ns_per_element(best):.3g}" if best in row.timings else "",
        f"{row.gb_per_s(best):.3g}" if best in row.timings else "",
        "" if share is None else f"{share:.0%}",
        "" if factor is None else f"{factor:.2f}",
    ]


def _timing_text(row: Row, name: str) -> str:
    if name not in row.timings:
        return "-"
    timing = row.timings[name]
    return f"{time_text(timing.median)} ±{timing.spread:.0%}"


@dataclass(frozen=True)
class Verdict:
    """One promise: what was found, what was promised, and whether it holds."""

    what: str
    found: str
    promised: str
    met: bool


def verdicts(rows: Sequence[Row], device: torch.device) -> list[Verdict]:
    """Compare the rows with the project's promises; those about sizes that were not measured are left out."""
    absolute = _gpu_bandwidth(rows) if device.type == "cuda" else _cpu_figures(rows)
    return [
        *absolute,
        *_against(rows, "eager", 1.0),
        *_against(rows, "compile", 0.97),
        *_against(rows, "diffusers", 1.0),
    ]


def _at(rows: Sequence[Row], operation: str, shape: tuple[int, ...]) -> Iterator[Row]:
    yield from (r for r in rows if (r.operation, r.shape, r.dtype) == (operation, shape, torch.float32))


def _verdict(row: Row, found: str, promised: str, met: bool, note: str = "") -> Verdict:
    what = f"{TITLES[row.operation]} at {row.shape}, {dtype_name(row.dtype)}{note}"
    return Verdict(what, found, promised, met)


def _cpu_figures(rows: Sequence[Row]) -> Iterator[Verdict]:
    """One core, float32."""
    middle, small = (64, 4, 64, 64), (64, 32)
    for row in _at(rows, "ddpm", middle):
        if "fused" in row.timings:
            ns = row.ns_per_element("fused")
            yield _verdict(
                row, f"{ns:.2f} ns per element", "at most 2.0", ns <= 2.0, " (promised for AVX-512)"
            )
    yield from _times_eager([*_at(rows, "ddpm", middle), *_at(rows, "add_noise", middle)])
    for row in _at(rows, "ddim", small):
        if "fused" in row.timings:
            micro = row.timings["fused"].median * 1e6
            yield _verdict(row, f"{micro:.1f} µs a call", "at most 8", micro <= 8)
    large = [r for r in rows if r.operation == "ddim" and r.dtype == torch.float32 and r.elements >= 1 << 24]
    yield from _bandwidth(large, 0.85)


def _gpu_bandwidth(rows: Sequence[Row]) -> Iterator[Verdict]:
    large = [row for row in rows if row.elements >= 1 << 26]
    yield from _bandwidth([row for row in large if row.operation in ("ddim", "guided")], 0.90)
    noisy = [row for row in large if row.operation in ("ddpm", "add_noise") and row.dtype == torch.float32]
    yield from _bandwidth(noisy, 0.80)
    yield from _times_eager(_at(rows, "ddpm", (64, 32)))


def _times_eager(rows: Iterable[Row]) -> Iterator[Verdict]:
    for row in rows:
        if (factor := row.faster("fused", "eager")) is not None:
            yield _verdict(row, f"{factor:.1f} times as fast as eager", "at least 5", factor >= 5)


def _bandwidth(rows: Sequence[Row], least: float) -> Iterator[Verdict]:
    for row in rows:
        if (share := row.of_copy("fused out=")) is not None:
            yield _verdict(row, f"{share:.0%} of the copy bandwidth", f"at least {least:.0%}", share >= least)


def _against(rows: Sequence[Row], baseline: str, least: float) -> Iterator[Verdict]:
    """The worst row against a baseline; noise alone is left out, as the baselines draw other noise."""
    compared = [(factor, row) for row in rows if (factor := row.faster("fused", baseline)) is not None]
    compared = [(factor, row) for factor, row in compared if row.operation != "normal"]
    if not compared:
        return
    factor, row = min(compared, key=lambda pair: pair[0])
    found = f"{factor:.2f} times as fast at the worst ({row.operation}, {dtype_name(row.dtype)}, {row.shape})"
    yield Verdict(
        f"against {baseline}, all of {len(compared)} rows", found, f"at least {least}", factor >= least
    )
