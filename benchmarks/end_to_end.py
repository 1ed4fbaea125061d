"""Whole commands: seconds from the start of the process to the file, and within a process that runs already.

python -m benchmarks.end_to_end [--rounds 3] [--threads 2] [--device cuda] [--before FOLDER] [--json FILE]
    [-n 10000,1000,200] [--student digits=RUN]

Draws digits (an MLP on 32 numbers), pictures for a caption (a UNet on 4 x 8 x 8) and photos of clothes (a
UNet on 8 x 8 x 8), DDIM with 50 steps, in turn by every implementation, --rounds times. --before is a
checkout of an earlier commit with its kernels built:

    git worktree add /tmp/before e6ddb38 && cd /tmp/before && python setup.py build_ext --inplace

It draws with its own copies of the models, as far as it has them. `diffusers' loop` is the loop that its
users write, with DDIMScheduler and our network in float32. The students are those of the package, or trained
runs. Each measurement is a process of its own; within it the model has drawn once before the clock starts.
The table has the fastest round.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.options import Target
from latentdiff.apps.bench.report import machine, machine_line
from latentdiff.errors import InputError
from latentdiff.files.system import processor_name
from latentdiff.parallel.device import dtype_name, network_dtype, resolve_device
from latentdiff.pipeline.checkpoint.pretrained import FOLDER, shipped_folder

ROOT = Path(__file__).parent.parent
WORKER = Path(__file__).parent / "end_to_end_worker.py"
STEPS = 50
HEAD = "| | in a running process | start to file |\n| --- | --- | --- |"
MODELS = "latentdiff/assets/models", "latentdiff/models"  # of the package, today and before they moved
CAPTION = "a large red seven on a blue background"


@dataclass(frozen=True)
class Drawing:
    """A model of the package and what it draws: ``text`` for all images, or the classes in turn."""

    model: str
    text: str | None
    guidance: float


DRAWINGS = {
    "digits": Drawing("digits", None, 1.0),
    "scenes": Drawing("scenes", CAPTION, 3.0),
    "clothes": Drawing("clothes", None, 4.0),
}


@dataclass(frozen=True)
class Contender:
    """An implementation of one drawing; ``command``: it has a command line to time from start to file."""

    name: str
    drawing: Drawing
    checkout: Path
    model: Path
    dtype: str = "float32"
    loop: str = "own"
    steps: int | None = STEPS
    command: bool = True

    def job(self, n: int, threads: int, device: torch.device) -> dict[str, Any]:
        """What the worker draws."""
        drawing = self.drawing
        return {
            "model": str(self.model),
            "n": n,
            "steps": self.steps,
            "threads": threads,
            "device": str(device),
            "text": drawing.text,
            "guidance": drawing.guidance,
            "dtype": self.dtype,
            "loop": self.loop,
        }

    def words(self, n: int, device: torch.device, out: Path) -> list[str]:
        """The command line that writes ``n`` images to ``out``."""
        words = ["sample", "--run", str(self.model), "-n", str(n), "--out", str(out)]
        words += ["--guidance", f"{self.drawing.guidance:g}", "--eta", "0", "--device", str(device)]
        words += [] if self.steps is None else ["--steps", str(self.steps)]
        words += [] if self.drawing.text is None else ["--prompt", self.drawing.text]
        if self.checkout == ROOT:
            words += ["--dtype", self.dtype]
        return words


def contenders(
    drawing: Drawing, before: Path | None, student: Path | None, device: torch.device
) -> Iterator[Contender]:
    """All implementations of a drawing that are there."""
    ours, fast = FOLDER / drawing.model, dtype_name(network_dtype("auto", device))
    student = student or shipped_folder(f"{drawing.model}-student")
    if before is not None:
        places = [before / folder / drawing.model for folder in MODELS]
        for model in [place for place in places if place.exists()][:1]:
            yield Contender("before", drawing, before, model)
    if find_spec("diffusers") is not None:
        yield Contender("diffusers' loop", drawing, ROOT, ours, loop="diffusers", command=False)
    yield Contender("latentdiff, float32", drawing, ROOT, ours)
    if fast != "float32":
        yield Contender(f"latentdiff, {fast}", drawing, ROOT, ours, fast)
    if student is not None:
        yield Contender(f"student, {fast}", drawing, ROOT, student, fast, steps=None)


def run(contender: Contender, words: list[str], threads: int) -> str:
    """Run a line with the contender's code; its stdout. ClickException where it fails."""
    environment = os.environ | {"PYTHONPATH": str(contender.checkout), "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(
        words, cwd=contender.checkout, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise click.ClickException(f"{contender.name}: {last}")
    return done.stdout


def to_file(contender: Contender, n: int, threads: int, device: torch.device, folder: Path) -> float:
    """Seconds from the start of `latentdiff sample` to its end."""
    out = folder / "images.npz"
    words = [sys.executable, "-m", "latentdiff", *contender.words(n, device, out)]
    begun = time.perf_counter()
    run(contender, words, threads)
    seconds = time.perf_counter() - begun
    out.unlink()
    return seconds


def measure(contender: Contender, n: int, threads: int, device: torch.device, folder: Path) -> dict[str, Any]:
    """Seconds within a process and from start to file, and what the first images are like."""
    job = json.dumps(contender.job(n, threads, device))
    answer = run(contender, [sys.executable, str(WORKER), job], threads)
    found: dict[str, Any] = json.loads(answer.splitlines()[-1])
    if contender.command:
        found["to_file"] = to_file(contender, n, threads, device, folder)
    return found


def fastest(rounds: list[dict[str, Any]], name: str) -> float | None:
    """The least seconds over the rounds; None where they were not measured."""
    return min(row[name] for row in rounds) if name in rounds[0] else None


def table(rows: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """The lines of one drawing, with ratios to the first implementation."""
    first = next(iter(rows.values()))
    for name, rounds in rows.items():
        cells = []
        for kind in ("seconds", "to_file"):
            mine, base = fastest(rounds, kind), fastest(first, kind)
            ratio = f" ({base / mine:.2f} x)" if mine and base else ""
            cells.append("" if mine is None else f"{mine:.2f} s{ratio}")
        yield f"| {name} | {cells[0]} | {cells[1]} |"


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True, help="For each.")
@click.option(
    "--threads", type=click.IntRange(1), default=os.cpu_count() or 1, show_default=True, help="CPU threads."
)
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="Where to draw."
)
@click.option("-n", "counts", default="10000,1000,200", show_default=True, help="Images of each model.")
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Checkout of an earlier commit.",
)
@click.option(
    "--student", "students", multiple=True, metavar="MODEL=RUN", help="Instead of the package's student."
)
@click.option("--json", "json_path", type=Target(), help="Write everything measured.")
def main(
    rounds: int,
    threads: int,
    device: str,
    counts: str,
    before: Path | None,
    students: tuple[str, ...],
    json_path: Path | None,
) -> None:
    """Time whole drawings, in a process and from start to file."""
    try:
        numbers = [int(part) for part in counts.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != len(DRAWINGS) or min(numbers) < 1:
        raise click.UsageError(
            f"-n: expected three numbers of 1 or more such as 10000,1000,200, got {counts!r}"
        )
    runs = {}
    for each in students:
        name, _, run = each.partition("=")
        if name not in DRAWINGS or not Path(run).is_dir():
            raise click.UsageError(
                f"--student: expected {' or '.join(DRAWINGS)}, = and the folder of a run, got {each!r}"
            )
        runs[name] = Path(run).resolve()
    torch.set_num_threads(threads)
    try:
        place = resolve_device(device)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    where = machine(place, cpu=processor_name())
    click.echo(machine_line(where))
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for n, (name, drawing) in zip(numbers, DRAWINGS.items(), strict=True):
            every = list(contenders(drawing, before, runs.get(name), place))
            rows: dict[str, list[dict[str, Any]]] = {each.name: [] for each in every}
            for k in range(rounds):
                for each in every if k % 2 == 0 else reversed(every):
                    rows[each.name].append(measure(each, n, threads, place, Path(folder)))
            results[name] = {"n": n, "rounds": rows}
            click.echo(f"\n{n} images by `{name}`\n\n{HEAD}")
            for line in table(rows):
                click.echo(line)
    if json_path is not None:
        text = json.dumps({"machine": where, "steps": STEPS, "results": results}, indent=1)
        if str(json_path) == "-":
            click.echo(text)
        else:
            json_path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
