"""A step of the fused schedulers against the stock classes of diffusers that they stand in for.

python -m benchmarks.schedulers [--device cpu] [--threads 1] [--seconds 0.3] [--rounds 7] [--json FILE]

Each row is `scheduler.step` as a pipeline calls it (epsilon-prediction, clipped samples, 50 steps, a timestep
of `scheduler.timesteps`, a generator where noise is drawn), or `add_noise` for a batch of timesteps, on
samples that exist already. The implementations take turns; medians over rounds, in microseconds.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from latentdiff.apps.bench.report import machine, machine_line
from latentdiff.apps.bench.timing import Timing, interleaved, stopwatch_for
from latentdiff.files.system import processor_name
from latentdiff.parallel.device import resolve_device
from latentdiff.parallel.threads import cpu_threads
from latentdiff.pipeline.diffusers import FusedDDIMScheduler, FusedDDPMScheduler

SHAPES = ((1, 4, 8, 8), (1, 4, 64, 64), (16, 4, 64, 64), (4, 3, 256, 256))
STEPS = 50
Call = Callable[[], object]


def calls(what: str, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> dict[str, Call]:
    """The same work by the stock class and by ours."""
    generator = torch.Generator(device).manual_seed(0)
    x, out, noise = (torch.randn(shape, generator=generator, device=device).to(dtype) for _ in range(3))
    timesteps = torch.randint(0, 1000, shape[:1], device=device, generator=generator)
    pair: tuple[Any, Any] = (
        (DDPMScheduler, FusedDDPMScheduler) if what == "DDPM step" else (DDIMScheduler, FusedDDIMScheduler)
    )
    made: dict[str, Call] = {}
    for name, cls in zip(("stock", "fused"), pair, strict=True):
        scheduler = cls()
        scheduler.set_timesteps(STEPS, device=device)
        if what == "add_noise":
            made[name] = lambda s=scheduler: s.add_noise(x, noise, timesteps)
            continue
        options = {"eta": 1.0} if what == "DDIM step, eta 1" else {}
        random = {} if what == "DDIM step" else {"generator": torch.Generator(device).manual_seed(1)}
        t = scheduler.timesteps[STEPS // 2]
        made[name] = lambda s=scheduler, t=t, o=options | random: s.step(out, t, x, **o)
    return made


@click.command()
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", type=click.IntRange(1, 1024), default=1, show_default=True, help="CPU threads.")
@click.option(
    "--seconds", type=click.FloatRange(0.01, 60), default=0.3, show_default=True, help="Length of a slice."
)
@click.option("--rounds", type=click.IntRange(1, 1000), default=7, show_default=True)
@click.option(
    "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), default="float32", show_default=True
)
@click.option(
    "--json", "path", type=click.Path(path_type=Path), default=None, help="Write every number there, too."
)
def main(device: str, threads: int, seconds: float, rounds: int, dtype: str, path: Path | None) -> None:
    """A step of the fused schedulers against the stock classes of diffusers."""
    place, rows = resolve_device(device), []
    with cpu_threads(threads), torch.no_grad():
        where = machine(place, cpu=processor_name())
        click.echo(machine_line(where))
        for what in ("DDIM step", "DDIM step, eta 1", "DDPM step", "add_noise"):
            for shape in SHAPES:
                implementations = calls(what, shape, place, getattr(torch, dtype))
                for call in implementations.values():
                    call()
                found = interleaved(
                    {name: [call] for name, call in implementations.items()},
                    stopwatch=stopwatch_for(place),
                    rounds=rounds,
                    slice_seconds=seconds,
                )
                rows.append(_row(what, shape, found))
    if path is not None:
        document = {"schema": 1, "kind": "schedulers", "machine": where, "dtype": dtype, "rows": rows}
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _row(what: str, shape: tuple[int, ...], found: dict[str, Timing]) -> dict[str, Any]:
    stock, fused = (1e6 * found[name].median for name in ("stock", "fused"))
    size = "x".join(map(str, shape))
    click.echo(
        f"{what:18} {size:14} stock {stock:9.1f} us   fused {fused:9.1f} us   {stock / fused:5.1f} times as"
        " fast"
    )
    return {
        "what": what,
        "shape": list(shape),
        "seconds": {name: asdict(timing) for name, timing in found.items()},
    }


if __name__ == "__main__":
    main()
