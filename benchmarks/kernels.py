"""The fused operations against their fallback, eager PyTorch, torch.compile and diffusers, over sizes and
dtypes.

python -m benchmarks.kernels [--device cpu] [--threads 1] [--seconds 240] [--json FILE] [--figure FILE]

Implementations take turns, one slice of at least 2 ms each a round, beside a preallocated copy of the same
size, which shows the bandwidth of the machine. The table shows the median over rounds and half the distance
of the quartiles. benchmarks/README.md explains the rest.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.options import Target
from latentdiff.apps.bench.baselines import IMPLEMENTATIONS, prepare
from latentdiff.apps.bench.figure import save_kernels_figure
from latentdiff.apps.bench.measure import BenchmarkGrid, Row, measure
from latentdiff.apps.bench.report import document, machine, machine_line
from latentdiff.apps.bench.workload import OPERATIONS, Operation, make_workload
from latentdiff.apps.cli.measure.bench import measurable, show
from latentdiff.apps.cli.shared.options import Finite
from latentdiff.errors import InputError
from latentdiff.files.system import processor_name
from latentdiff.parallel.device import dtype_name
from latentdiff.parallel.threads import cpu_threads

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
PROFILE_SHAPE = (64, 4, 64, 64)
PROFILE_CALLS = 20


def listed(kind: str, allowed: tuple[str, ...]) -> Any:
    """A click callback that splits a comma-separated option and refuses unknown words."""

    def split(ctx: click.Context, parameter: click.Parameter, text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        if not words or set(words) - set(allowed):
            raise click.BadParameter(f"expected {kind} out of {', '.join(allowed)}, got {text!r}")
        return words

    return split


@click.command()
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads.")
@click.option(
    "--rounds", type=click.IntRange(3, 1000), default=9, show_default=True, help="At the most, where time is."
)
@click.option(
    "--seconds",
    type=Finite(1, 36000),
    default=240.0,
    show_default=True,
    help=(
        "Budget of time; to keep it, rounds are cut to 3 and slow baselines are left out where tensors are"
        " large."
    ),
)
@click.option("--min-mib", type=Finite(0, 65536), default=0.0, show_default=True, help="Smallest tensor.")
@click.option(
    "--max-mib", type=Finite(0.001, 65536), default=256.0, show_default=True, help="Largest tensor."
)
@click.option(
    "--operations", default=",".join(OPERATIONS), show_default=True, callback=listed("operations", OPERATIONS)
)
@click.option(
    "--dtypes",
    default="float32,bfloat16,float16",
    show_default=True,
    callback=listed("dtypes", tuple(DTYPES)),
)
@click.option(
    "--contenders",
    default=",".join(IMPLEMENTATIONS),
    show_default=True,
    callback=listed("contenders", IMPLEMENTATIONS),
)
@click.option(
    "--compile",
    "compiling",
    type=click.Choice(["dynamic", "static"]),
    default="dynamic",
    show_default=True,
    help="torch.compile once for all sizes, or for each size (seconds a size, and what serves it best).",
)
@click.option(
    "--json",
    "json_file",
    type=Target(),
    help="Write the result as JSON; - is stdout.",
)
@click.option("--figure", type=Target(suffix=".png"), help="Write the figure as PNG.")
@click.option(
    "--profile",
    type=Target(folder=True),
    help=(
        "Measure nothing: write torch profiler traces of the fused and the eager operations into this folder."
    ),
)
def main(
    device: str,
    threads: int,
    rounds: int,
    seconds: float,
    min_mib: float,
    max_mib: float,
    operations: tuple[Operation, ...],
    dtypes: tuple[str, ...],
    contenders: tuple[str, ...],
    compiling: str,
    json_file: Path | None,
    figure: Path | None,
    profile: Path | None,
) -> None:
    """The fused operations against their fallback, eager PyTorch, torch.compile and diffusers."""
    try:
        where = measurable(device)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    if where.type == "cuda" and "float64" in dtypes:
        raise click.BadParameter("float64 is measured on the CPU only", param_hint="--dtypes")
    if min_mib > max_mib:
        raise click.BadParameter(
            f"expected at most --max-mib, {max_mib:g}, got {min_mib:g}", param_hint="--min-mib"
        )
    grid = BenchmarkGrid(
        device=where,
        operations=operations,
        dtypes=tuple(DTYPES[name] for name in dtypes),
        implementations=contenders,
        min_bytes=int(min_mib * (1 << 20)),
        max_bytes=int(max_mib * (1 << 20)),
        dynamic=compiling == "dynamic",
        rounds=rounds,
        seconds=seconds,
    )
    with cpu_threads(threads):
        if profile is not None:
            write_profiles(grid, profile)
            return
        rows = measure(grid, on_row=tell)
        if not rows:
            raise click.ClickException(
                f"expected a size between {min_mib:g} and {max_mib:g} MiB to measure, found none"
            )
        facts = machine(where, cpu=processor_name())
    if json_file is not None:
        text = json.dumps(document(grid, rows, facts), indent=1)
        if str(json_file) == "-":
            click.echo(text)
        else:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(text + "\n", encoding="utf-8")
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        save_kernels_figure(rows, figure, title=machine_line(facts))
    if str(json_file) != "-":
        show(grid, rows, facts)


def tell(row: Row) -> None:
    """A line of progress on stderr."""
    times = ", ".join(f"{name} {timing.median * 1e6:.3g}" for name, timing in row.timings.items())
    click.echo(
        f"{row.operation} {dtype_name(row.dtype)} {'x'.join(map(str, row.shape))}, µs: {times}", err=True
    )


def write_profiles(grid: BenchmarkGrid, folder: Path) -> None:
    """Chrome traces (chrome://tracing, ui.perfetto.dev), one for each operation, of 20 fused and 20 eager
    calls.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if grid.device.type == "cuda" else [])]
    folder.mkdir(parents=True, exist_ok=True)
    with (
        torch.inference_mode(),
        torch.random.fork_rng(devices=[grid.device] if grid.device.type == "cuda" else []),
    ):
        for operation in grid.operations:
            workload = make_workload(operation, PROFILE_SHAPE, dtype=grid.dtypes[0], device=grid.device)
            calls = {
                name: each[0]
                for name, each in prepare(operation, [workload], ("fused", "eager")).calls.items()
            }
            for call in calls.values():
                call()  # warm
            with profile(activities=activities, record_shapes=True) as traced:
                for name, call in calls.items():
                    with record_function(f"{name} {operation}"):
                        for _ in range(PROFILE_CALLS):
                            call()
                        if grid.device.type == "cuda":
                            torch.cuda.synchronize()
            path = folder / f"{operation}-{dtype_name(grid.dtypes[0])}.json"
            traced.export_chrome_trace(str(path))
            click.echo(str(path))


if __name__ == "__main__":
    main()
