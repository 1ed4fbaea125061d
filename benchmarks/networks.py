"""Denoisers of one preset trained for equal minutes on the same latents, and scored alike.

python -m benchmarks.networks --data mnist5k --vae RUN [--minutes 20] [--seed 0] [--threads 2]
    [--network mlp,unet,dit] [--preset small] [-n 2000] [--out FOLDER]

--vae is a run with a VAE of spatial latents (`latentdiff train-vae --latent 4x8x8`). Its latents are encoded
once; each network then trains on them by `latentdiff train-denoiser` for --minutes, one after the other, with
the same seed, and `latentdiff evaluate --what samples` scores it against the test images (DDIM-50, without
guidance): FD and class accuracy with their intervals. FOLDER keeps the runs, evaluations and results.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import torch

from latentdiff.apps.bench.report import machine
from latentdiff.files.system import processor_name
from latentdiff.nn import KINDS
from latentdiff.pipeline.pipeline import load

HEAD = ("network", "parameters", "steps", "images/s", "FD", "class accuracy")


def command(out: Path, *words: object) -> dict[str, Any]:
    """Run `latentdiff WORDS --json` in the folder ``out``; its answer."""
    line = [sys.executable, "-m", "latentdiff", *map(str, words), "--json"]
    done = subprocess.run(line, cwd=out, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{' '.join(line)} ended with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def interval(score: dict[str, Any] | None, form: str) -> str:
    """A score with its interval, as a cell of the table."""
    if score is None:
        return ""
    low, high = score.get("low"), score.get("high")
    between = "" if low is None else f" ({low:{form}} to {high:{form}})"
    return f"{score['value']:{form}}{between}"


def row(network: str, trained: dict[str, Any], scores: dict[str, Any], parameters: int) -> list[str]:
    """The cells of one network."""
    return [
        network,
        f"{parameters:,}",
        str(trained["steps"]),
        f"{trained['images_per_second']:.0f}",
        interval(scores["fd"], ".2f"),
        interval(scores["accuracy"], ".1%"),
    ]


@click.command()
@click.option("--data", required=True, help="Data set with labels: a name or a path.")
@click.option("--vae", required=True, type=click.Path(exists=True, path_type=Path), help="Run with a VAE.")
@click.option(
    "--network", "networks", default="mlp,unet,dit", show_default=True, help="Kinds, separated by commas."
)
@click.option("--preset", default="small", show_default=True, help="Size of the networks.")
@click.option("--minutes", type=click.FloatRange(0.01), default=20.0, show_default=True, help="For each.")
@click.option("-n", "samples", type=click.IntRange(10), default=2000, show_default=True, help="Images drawn.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of all runs and samples.")
@click.option("--threads", type=click.IntRange(1), default=2, show_default=True, help="CPU threads.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("networks"))
def main(
    data: str,
    vae: Path,
    networks: str,
    preset: str,
    minutes: float,
    samples: int,
    seed: int,
    threads: int,
    out: Path,
) -> None:
    """Train the networks for equal minutes on the same latents and score them."""
    chosen = networks.split(",")
    if unknown := [name for name in chosen if name not in KINDS]:
        raise click.UsageError(f"--network: expected some of {', '.join(KINDS)}, got {unknown[0]}")
    if (out / "results.json").exists():
        raise click.UsageError(f"{out} holds results already: name another --out")
    out.mkdir(parents=True, exist_ok=True)
    source = str(Path(data).resolve()) if Path(data).exists() else data
    command(out, "encode", "--run", vae.resolve(), "--data", source, "--out", "latents")
    results: dict[str, Any] = {
        "data": data,
        "preset": preset,
        "minutes": minutes,
        "seed": seed,
        "threads": threads,
        "machine": machine(torch.device("cpu"), cpu=processor_name()),
    }
    click.echo(f"| {' | '.join(HEAD)} |\n|{' --- |' * len(HEAD)}")
    for name in chosen:
        options = ["--network", name, "--preset", preset, "--minutes", minutes, "--seed", seed]
        trained = command(
            out, "train-denoiser", "--data", "latents", *options, "--threads", threads, "--name", name
        )
        pipeline = load(out / "runs" / name)
        height, width = pipeline.codec.image_shape[1:]
        scored = command(
            out,
            *("evaluate", "--run", f"runs/{name}", "--data", source, "--what", "samples", "-n", samples),
            *("--size", f"{height}x{width}", "--steps", 50),
            *("--seed", seed, "--threads", threads, "--out", f"evaluation-{name}"),
        )
        scores = scored["samples"]
        parameters = sum(p.numel() for p in pipeline.network.parameters())
        results[name] = {"training": trained, "samples": scores, "parameters": parameters}
        click.echo(f"| {' | '.join(row(name, trained, scores, parameters))} |")
        (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
