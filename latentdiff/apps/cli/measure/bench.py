"""`latentdiff bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.help import GENERAL, option
from latentdiff.apps.cli.shared.options import Finite, cli_command, given
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from latentdiff.apps.bench.measure import BenchmarkGrid, Row

ALL = "all"
TABLE_WIDTH = 200  # where the output is no terminal


@cli_command(
    "bench", "latentdiff bench", "latentdiff bench --torch-compile --threads 2 --json", title="Measurement"
)
@option("--device", default="auto", group=GENERAL, help="Device: auto, cpu, cuda or cuda:N.")
@option(
    "--threads",
    type=click.IntRange(1, 1024),
    default=1,
    group="Compute",
    help="CPU threads.",
)
@option(
    "--seconds",
    type=Finite(1, 3600),
    default=15.0,
    help="Time budget; slow baselines are left out to keep it.",
)
@option("--max-mib", type=Finite(0.002, 1024), default=4.0, help="Largest tensor in MiB.")
@option(
    "--torch-compile",
    "compiled",
    was="--compile",
    is_flag=True,
    help="Also measure torch.compile, which takes a minute.",
)
@option(
    "--network",
    is_flag=False,
    flag_value=ALL,
    default=None,
    metavar="[MODELS]",
    help=(
        "Instead the networks of the package, all or those of the models named (digits,clothes), and their"
        " share of the matrix-product peak (default: the operations)."
    ),
)
def command(
    device: str,
    threads: int,
    seconds: float,
    max_mib: float,
    compiled: bool,
    network: str | None,
    as_json: bool,
) -> int:
    """Measure the fused operations against plain PyTorch.

    Times of one call, also of diffusers, and the share of the copy bandwidth, beside the goals of the
    project. The full grids are in benchmarks/ of the repository.
    """
    if network is not None:
        flags = {"seconds": "--seconds", "max_mib": "--max-mib", "compiled": "--torch-compile"}
        for name in given(flags):
            raise click.UsageError(f"{flags[name]} is for the operations, it does not go with --network")
        return _networks(network, device, threads, as_json=as_json)
    import torch

    from latentdiff.apps.bench.baselines import IMPLEMENTATIONS
    from latentdiff.apps.bench.measure import SHAPES, BenchmarkGrid, measure
    from latentdiff.apps.bench.report import document, machine
    from latentdiff.apps.bench.workload import OPERATIONS
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.files.system import processor_name
    from latentdiff.parallel.threads import cpu_threads

    where = measurable(device)
    grid = BenchmarkGrid(
        device=where,
        operations=OPERATIONS,
        dtypes=(torch.float32, torch.bfloat16),
        shapes=SHAPES[1:],
        implementations=tuple(name for name in IMPLEMENTATIONS if compiled or name != "compile"),
        max_bytes=int(max_mib * (1 << 20)),
        rounds=5,
        seconds=seconds,
    )
    cells, done = len(grid.cells()), 0
    with cpu_threads(threads), SamplingBar("measuring") as bar:

        def on_row(row: Row) -> None:
            nonlocal done
            done += 1
            bar.update(done, cells)

        rows = measure(grid, on_row=on_row)
        values = document(grid, rows, machine(where, cpu=processor_name()))
    if as_json:
        result(values, as_json=True, text="")
    else:
        show(grid, rows, values["machine"])
    return 0


def _networks(names: str, device: str, threads: int, *, as_json: bool) -> int:
    """Measure the networks of the package, all or the named ones."""
    from latentdiff.apps.bench.networks import BATCHES, measure_networks, networks_table
    from latentdiff.apps.bench.report import machine, machine_line
    from latentdiff.apps.cli.shared.progress import result, show_tables
    from latentdiff.files.system import processor_name
    from latentdiff.parallel.threads import cpu_threads

    wanted = list(BATCHES) if names == ALL else [name.strip() for name in names.split(",")]
    if unknown := [name for name in wanted if name not in BATCHES]:
        raise click.UsageError(f"--network: expected models of {', '.join(BATCHES)}, got {unknown[0]!r}")
    where = measurable(device)
    with cpu_threads(threads):
        rows = measure_networks(where, batches={name: BATCHES[name] for name in wanted})
        about = machine(where, cpu=processor_name())
    if as_json:
        result({"machine": about, "rows": [row.as_dict() for row in rows]}, as_json=True, text="")
    else:
        click.echo(machine_line(about))
        show_tables([networks_table(rows)], width=TABLE_WIDTH)
    return 0


def measurable(name: str) -> torch.device:
    """The device of a --device option, made the current one; InputError where there is none or no clock."""
    import torch

    from latentdiff.parallel.device import resolve_device

    device = resolve_device(name)
    if device.type not in ("cpu", "cuda"):
        raise InputError(f"benchmarks need --device cpu or cuda, got {name}")
    if device.type == "cuda":
        torch.cuda.set_device(device if device.index is not None else 0)
        return torch.device("cuda", torch.cuda.current_device())
    return device


def show(grid: BenchmarkGrid, rows: Sequence[Row], where: dict[str, Any]) -> None:
    """Print the machine, the table, what was left out and the verdicts."""
    from latentdiff import ops
    from latentdiff.apps.bench.baselines import served_by_fallback
    from latentdiff.apps.bench.measure import gaps
    from latentdiff.apps.bench.report import machine_line, table, verdicts
    from latentdiff.apps.cli.shared.progress import show_tables

    click.echo(machine_line(where))
    if served_by_fallback(grid.device):
        click.echo(
            '"fused" is served by the PyTorch fallback here:'
            f" {ops.NATIVE.reason or 'no kernels for this device'}"
        )
    show_tables([table(rows)], width=TABLE_WIDTH)
    for name, reason in gaps(rows):
        click.echo(f"without {name} in places: {reason}")
    for verdict in verdicts(rows, grid.device):
        click.echo(
            f"{'met    ' if verdict.met else 'NOT MET'} {verdict.what}: {verdict.found}; {verdict.promised}"
        )
