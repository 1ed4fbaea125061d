"""What the networks of the package reach of the matrix-product peak: calls as those of a sampling loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from latentdiff.apps.bench.report import time_text
from latentdiff.apps.bench.timing import Calls, Timing, interleaved, stopwatch_for
from latentdiff.diffusion.denoiser import in_dtype
from latentdiff.ops.random import Key
from latentdiff.parallel.device import bf16_native, dtype_name
from latentdiff.pipeline.pipeline import Pipeline, load

if TYPE_CHECKING:
    from rich.table import Table

BATCHES = {"digits": 512, "clothes": 64, "scenes": 64, "digits-pixels": 64}  # models of the package
SIDE = 2048  # of the square matrices whose product is the peak
SLICE_SECONDS = 0.1
T_MIDDLE = 500.0


@dataclass(frozen=True)
class NetworkRow:
    """A network in one type: ``operations`` (two for a multiplication and addition) of a call, its timing,
    and the ``peak`` of matrix products in that type, operations a second.
    """

    model: str
    network: str
    batch: int
    dtype: torch.dtype
    operations: int
    timing: Timing
    peak: float

    @property
    def rate(self) -> float:
        """Operations a second, of the median call."""
        return self.operations / self.timing.median

    @property
    def share(self) -> float:
        """The part of the peak that is reached."""
        return self.rate / self.peak

    def as_dict(self) -> dict[str, Any]:
        """All numbers, for JSON."""
        found = asdict(self) | {"dtype": dtype_name(self.dtype), "operations_per_s": self.rate}
        return found | {"share_of_peak": self.share, "images_per_s": self.batch / self.timing.median}


def measure_networks(
    device: torch.device, *, rounds: int = 5, batches: dict[str, int] = BATCHES, side: int = SIDE
) -> list[NetworkRow]:
    """The networks of ``batches`` (model of the package -> batch) and matrix products, interleaved.

    In float32 and, where the device computes in it, bfloat16.
    """
    dtypes = (torch.float32, *([torch.bfloat16] if bf16_native(device) else []))
    pipelines = {name: load(name, device=device) for name in batches}
    inputs = {name: network_inputs(pipelines[name], batch) for name, batch in batches.items()}
    works: dict[tuple[str, torch.dtype], Callable[[], object]] = {}
    for dtype in dtypes:
        works["", dtype] = product(side, dtype, device)
        for name, pipeline in pipelines.items():
            works[name, dtype] = call_of(pipeline, dtype, inputs[name])
    calls: dict[str, Calls] = {f"{name} {dtype}": [work] for (name, dtype), work in works.items()}
    with torch.inference_mode():
        for each in calls.values():
            each[0]()
        timings = interleaved(
            calls, stopwatch=stopwatch_for(device), rounds=rounds, slice_seconds=SLICE_SECONDS
        )
    rows = []
    for dtype in dtypes:
        peak = 2 * side**3 / timings[f" {dtype}"].fastest
        for name, batch in batches.items():
            kind = type(pipelines[name].network.config).__name__.removesuffix("Config")
            count, timing = operations(works[name, torch.float32]), timings[f"{name} {dtype}"]
            rows.append(NetworkRow(name, kind, batch, dtype, count, timing, peak))
    return rows


def network_inputs(pipeline: Pipeline, batch: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """x, t and the conditioning of a step of a sampling loop: one timestep; classes in turn, or one text."""
    x = Key.of(0, batch, device=pipeline.device).normal(pipeline.codec.latent_shape)
    given: Any = "a large red seven on a blue background" if pipeline.tokenizer else None
    if pipeline.classes:
        given = [k % len(pipeline.classes) for k in range(batch)]
    return x, torch.full((batch,), T_MIDDLE, device=x.device), pipeline.conditioner.encode(given, batch)


def call_of(
    pipeline: Pipeline, dtype: torch.dtype, inputs: tuple[Tensor, Tensor, Tensor | None]
) -> Callable[[], object]:
    """One call of the network in a type, as a sampling loop makes it, but for casting its weights again."""
    own = replace(pipeline, network=deepcopy(pipeline.network)).to(pipeline.device, dtype=dtype)
    network = in_dtype(own.network, own.device, dtype)
    return lambda: network(*inputs)


def product(side: int, dtype: torch.dtype, device: torch.device) -> Callable[[], object]:
    """A product of two square matrices."""
    a, b = (Key.of(seed, side, device=device).normal((side,)).to(dtype) for seed in (0, side))
    return lambda: a @ b


@torch.no_grad()
def operations(work: Callable[[], object]) -> int:
    """The operations of the matrix products, convolutions and attention of a call."""
    # the fused attention of CPUs is not in the counter's table
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def networks_table(rows: Sequence[NetworkRow]) -> Table:
    """A rich table, and the peaks in its caption."""
    from rich.table import Table

    peaks = {row.dtype: row.peak for row in rows}
    found = ", ".join(f"{dtype_name(dtype)} {peak / 1e9:.0f} GFLOP/s" for dtype, peak in peaks.items())
    made = Table(caption=f"median over rounds; peak, the fastest product of {SIDE} x {SIDE}: {found}")
    for name in ("model", "network", "batch", "dtype", "a call", "images/s", "GFLOP", "GFLOP/s", "of peak"):
        made.add_column(name, justify="left" if name in ("model", "network", "dtype") else "right")
    for row in rows:
        made.add_row(
            *(row.model, row.network, str(row.batch), dtype_name(row.dtype), time_text(row.timing.median)),
            *(f"{row.batch / row.timing.median:.0f}", f"{row.operations / 1e9:.2f}"),
            *(f"{row.rate / 1e9:.0f}", f"{row.share:.0%}"),
        )
    return made
