"""Whole sampling loops, DDIM-50 and DDPM-1000, against diffusers' schedulers on the same network.

python -m benchmarks.sampling [--device cpu] [--threads 2] [--ddpm-steps 1000] [--json FILE] [--figure FILE]

Implementations take turns. The cost of a loop outside its network is measured directly, with a network that
returns a tensor computed before, because the difference of two noisy totals is noise; the difference is in
the JSON, too. benchmarks/README.md explains the rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.loops import (
    COMPILED,
    NETWORK,
    NETWORK_GRAPH,
    OUR_REST,
    OURS,
    THEIR_REST,
    THEIRS,
    Loops,
    T,
    make_tasks,
    measure,
)
from benchmarks.options import Target
from latentdiff.apps.bench.report import machine, machine_line, time_text
from latentdiff.apps.cli.measure.bench import TABLE_WIDTH, measurable
from latentdiff.apps.cli.shared.options import Finite
from latentdiff.diffusion.denoiser import Network
from latentdiff.errors import InputError
from latentdiff.files.system import processor_name
from latentdiff.nn import parse_latent
from latentdiff.nn.networks import UNetConfig
from latentdiff.parallel.threads import cpu_threads
from latentdiff.viz.figures import COLORS, FAINT, INK, new_figure, save_figure


def document(results: list[Loops], where: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, in seconds a loop of the measured moves."""
    rows = []
    for loops in results:
        task = loops.task
        rests = {OURS: OUR_REST, THEIRS: THEIR_REST}
        rows.append(
            {
                "network": task.name,
                "sampler": task.sampler,
                "planned_moves": task.planned,
                "moves": task.moves,
                "batch": len(task.x),
                "shape": list(task.x.shape[1:]),
                "seconds_a_loop": {name: asdict(t) for name, t in loops.timings.items()},
                "outside_network_of_network": {
                    name: loops.share(rest) for name, rest in rests.items() if rest in loops.timings
                },
                "difference_to_network_of_network": {
                    name: loops.timings[name].median / loops.timings[NETWORK].median - 1
                    for name in (OURS, THEIRS, COMPILED)
                    if name in loops.timings
                },
                "network_of_matrix_product_peak": loops.of_peak(),
                "captured_beyond_network_s_a_move": loops.beyond_graph(),
                "skipped": loops.skipped,
            }
        )
    return {"schema": 1, "kind": "sampling", "machine": where, "rows": rows}


def show(results: list[Loops], where: dict[str, Any]) -> None:
    """Print a table of milliseconds a move and the verdict on what is outside the network."""
    from rich.console import Console
    from rich.table import Table

    click.echo(machine_line(where))
    table = Table(
        caption=(
            "median of one move ± half the distance of the quartiles; outside: the loop with a network that"
            " is free"
        )
    )
    every = (OURS, THEIRS, COMPILED, NETWORK, NETWORK_GRAPH, OUR_REST, THEIR_REST)
    shown = [name for name in every if any(name in loops.timings for loops in results)]
    for heading in ("network", "loop", *(name.replace(" without network", ", outside") for name in shown)):
        table.add_column(heading, no_wrap=True)
    for loops in results:
        task = loops.task
        cut = "" if task.moves == task.planned else f", {task.moves} moves of it"
        table.add_row(
            f"{task.name} {'x'.join(map(str, task.x.shape))}",
            f"{task.sampler}-{task.planned}{cut}",
            *(_cell(loops, name) for name in shown),
        )
    console = Console()
    if not console.is_terminal:
        console.width = TABLE_WIDTH
    console.print(table)
    for loops in results:
        met = loops.share(OUR_REST) <= 0.05
        mark = "       " if loops.task.name == "MLP" else "met    " if met else "NOT MET"
        promise = "stated, not promised" if loops.task.name == "MLP" else "at most 5%"
        what = f"{loops.task.name} {loops.task.sampler}-{loops.task.planned}"
        found = f"{loops.share(OUR_REST):.1%} of the network's time"
        others = f", diffusers {loops.share(THEIR_REST):.1%}" if THEIR_REST in loops.timings else ""
        click.echo(f"{mark} {what}: all outside the network takes {found}{others}; {promise}")
    for loops in results:
        what = f"{loops.task.name} {loops.task.sampler}-{loops.task.planned}"
        click.echo(f"        {what}: the network reaches {loops.of_peak():.0%} of the matrix-product peak")
    for loops in results:
        beyond = loops.beyond_graph()
        if beyond is not None:
            met = beyond <= max(4e-6, 0.05 * loops.a_move(NETWORK_GRAPH))
            what = f"{loops.task.name} {loops.task.sampler}-{loops.task.planned}, captured"
            found = f"{beyond * 1e6:.2f} µs a move beyond the captured network"
            click.echo(f"{'met    ' if met else 'NOT MET'} {what}: {found}; at most 4 µs or 5%")
    for name, reason in dict.fromkeys(pair for loops in results for pair in loops.skipped.items()):
        click.echo(f"without {name}: {reason}")


def _cell(loops: Loops, name: str) -> str:
    if name not in loops.timings:
        return "-"
    timing = loops.timings[name]
    return f"{time_text(loops.a_move(name))} ±{timing.spread:.0%}"


def save_sampling_figure(results: list[Loops], path: Path, *, title: str) -> None:
    """Bars of one move, one panel a task: the network's part and the rest, and the quartiles of the whole
    loop.
    """
    figure = new_figure(3.1 * len(results) + 0.4, 3.9)
    for axes, loops in zip(figure.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        names = [name for name in (OURS, THEIRS, COMPILED) if name in loops.timings]
        total = [loops.a_move(name) for name in names]
        unit, size = max(
            ((u, s) for u, s in (("ms", 1e-3), ("µs", 1e-6)) if s <= max(total)), key=lambda pair: pair[1]
        )
        rests = {OURS: OUR_REST, THEIRS: THEIR_REST}
        network = loops.a_move(NETWORK)
        for i, name in enumerate(names):
            low, high = (
                value / loops.task.moves / size
                for value in (loops.timings[name].low, loops.timings[name].high)
            )
            if name in rests:
                rest = loops.a_move(rests[name])
                axes.bar(i, network / size, color=FAINT, width=0.65, label="network")
                color = INK if name == OURS else COLORS[1]
                axes.bar(
                    i, rest / size, bottom=network / size, color=color, width=0.65, label=f"{name}: the rest"
                )
                axes.text(
                    i, (network + rest) / size, f"+{rest / network:.1%}", ha="right", va="bottom", fontsize=8
                )
            else:  # its network is another one: only the whole is known
                axes.bar(i, total[i] / size, color=COLORS[2], width=0.65, label=f"{name}: all")
            axes.errorbar(
                i + 0.15,
                total[i] / size,
                [[total[i] / size - low], [high - total[i] / size]],
                color="black",
                linewidth=1,
                capsize=3,
                fmt=".",
                markersize=4,
                label="whole loop, quartiles",
            )
        axes.set_xticks(range(len(names)), [name.replace(" ", "\n") for name in names], fontsize=8)
        axes.set(
            ylabel=f"{unit} a move", title=f"{loops.task.name}, {loops.task.sampler}-{loops.task.planned}"
        )
        axes.title.set_fontsize(10)
        axes.margins(y=0.12)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    legend = {
        text: line
        for axes in figure.axes
        for line, text in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    legend["whole loop, quartiles"] = legend.pop("whole loop, quartiles")  # last
    figure.legend(
        legend.values(),
        legend.keys(),
        loc="outside lower center",
        ncols=len(legend),
        frameon=False,
        fontsize=8,
    )
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


@click.command()
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads.")
@click.option("--rounds", type=click.IntRange(1, 1000), default=5, show_default=True)
@click.option("--batch", type=click.IntRange(1, 65536), default=64, show_default=True)
@click.option("--unet-shape", default="1x28x28", show_default=True, help="What the UNet works on, C x H x W.")
@click.option("--ddpm-steps", type=click.IntRange(1, T), default=T, show_default=True, help="Moves of DDPM.")
@click.option(
    "--seconds",
    type=Finite(1, 36000),
    default=300.0,
    show_default=True,
    help=(
        "Budget of time; to keep it, only the first moves of a long loop are measured (the table says how"
        " many)."
    ),
)
@click.option(
    "--compile/--no-compile", "with_compiled", default=True, show_default=True, help="Also our compiled loop."
)
@click.option(
    "--json",
    "json_file",
    type=Target(),
    help="Write the result as JSON; - is stdout.",
)
@click.option("--figure", type=Target(suffix=".png"), help="Write the figure as PNG.")
def main(
    device: str,
    threads: int,
    rounds: int,
    batch: int,
    unet_shape: str,
    ddpm_steps: int,
    seconds: float,
    with_compiled: bool,
    json_file: Path | None,
    figure: Path | None,
) -> None:
    """Whole sampling loops, DDIM-50 and DDPM-1000, against diffusers' schedulers on the same network."""
    try:
        where, shape = measurable(device), parse_latent(unet_shape)
        UNetConfig.of_preset("small", shape=shape)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    devices = [where] if where.type == "cuda" else []
    results = []
    ready: dict[str, Network] | None = {} if with_compiled else None
    with cpu_threads(threads), torch.random.fork_rng(devices=devices):
        tasks = make_tasks(
            where, batch=batch, unet_shape=shape, ddpm_steps=ddpm_steps, rounds=rounds, seconds=seconds
        )
        for task in tasks:
            with torch.inference_mode():
                results.append(measure(task, rounds=rounds, ready=ready))
            whole = time_text(results[-1].a_move(OURS))
            click.echo(f"{task.name} {task.sampler}: {whole} a move", err=True)
        facts = machine(where, cpu=processor_name())
    if json_file is not None:
        text = json.dumps(document(results, facts), indent=1)
        if str(json_file) == "-":
            click.echo(text)
        else:
            json_file.parent.mkdir(parents=True, exist_ok=True)
            json_file.write_text(text + "\n", encoding="utf-8")
    if figure is not None:
        figure.parent.mkdir(parents=True, exist_ok=True)
        save_sampling_figure(results, figure, title=machine_line(facts))
    if str(json_file) != "-":
        show(results, facts)


if __name__ == "__main__":
    main()
