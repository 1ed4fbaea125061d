"""Restoration beside deepinv: the same model of pixels, the same operators, the same measurements.

python -m benchmarks.restoration_vs_deepinv --run RUN [--data mnist5k] [-n 20] [--steps 100] [--threads 2]
[--json FILE]

RUN is a run of `latentdiff train-denoiser --pixel` (e.g. configs/mnist-pixel.yaml). DPS and DiffPIR of
`latentdiff.edit.restore` are set beside `deepinv.sampling.DPS` and `.DiffPIR`, which see our denoiser as
theirs (sigma for the nearest level) and our operators as their `LinearPhysics`, in their range [0, 1]. Each
side has its own defaults (lambda 0.5 and theirs 7 for DiffPIR; zeta 0.3 and 0.1; DPS with the published
step), the same number of network calls, and is scored on the same test images: PSNR, a perceptual distance
and the seconds of an image. deepinv needs torchvision: where it cannot be imported, the reason is printed and
our half is measured alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor, nn

from latentdiff.apps.bench.report import machine
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.data import load_dataset, to_float, to_uint8
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.operators import Operator
from latentdiff.edit import measured, restore
from latentdiff.errors import InputError
from latentdiff.evaluate.images import score_pairs
from latentdiff.evaluate.interval_score import Resampling
from latentdiff.files.system import processor_name
from latentdiff.metrics.features import default_features, perceptual_network
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline, load

CPU = torch.device("cpu")
SOLVERS = ("dps", "diffpir")
SIGMA = 0.05  # noise of the measurements, for images in [-1, 1]


class Problem(NamedTuple):
    """An operator and what it measured of the originals, for images in [-1, 1]."""

    operator: Operator
    y: Tensor


def peer() -> tuple[ModuleType | None, str]:
    """deepinv, or None and why not."""
    try:
        import deepinv
    except Exception as error:  # a torchvision that does not fit torch fails with more than ImportError
        return None, f"deepinv cannot be imported here ({type(error).__name__}: {str(error).splitlines()[0]})"
    found: ModuleType = deepinv
    return found, f"deepinv {found.__version__}"


class Borrowed(nn.Module):
    """Our denoiser as deepinv calls one: x + sigma noise in [0, 1] in, x out. Differentiable."""

    def __init__(self, pipeline: Pipeline) -> None:
        super().__init__()
        self.pipeline, self.denoise = pipeline, pipeline.denoiser()
        schedule = pipeline.schedule
        self.ratios = torch.tensor(
            [schedule.at(t)[1] / max(schedule.at(t)[0], 1e-6) for t in range(1, schedule.T + 1)]
        )

    def forward(self, x: Tensor, sigma: Any, **_: Any) -> Tensor:
        noise = 2 * float(torch.as_tensor(sigma).flatten()[0])  # their range is half as wide
        t = 1 + int((self.ratios - noise).abs().argmin())
        alpha = self.pipeline.schedule.at(t)[0]
        return (self.denoise((alpha * (2 * x - 1)).float(), t).x0().to(x.dtype) + 1) / 2


def physics(deepinv: ModuleType, operator: Operator, sigma: float) -> Any:
    """Our operator as deepinv's; y01 = A x01 for images in [0, 1], with half the noise."""
    noise = deepinv.physics.GaussianNoise(sigma / 2)
    wrapped = {"A": lambda x, **_: operator(x), "A_adjoint": lambda y, **_: operator.adjoint(y)}
    return deepinv.physics.LinearPhysics(**wrapped, noise_model=noise, img_size=operator.image_shape)


def theirs(deepinv: ModuleType, pipeline: Pipeline, problem: Problem, solver: str, steps: int) -> Tensor:
    """deepinv's restoration, in [-1, 1]."""
    model, operator = Borrowed(pipeline), problem.operator
    ones = operator(torch.ones(1, *operator.image_shape))
    y = (problem.y + ones) / 2
    seen = physics(deepinv, operator, SIGMA)
    if solver == "dps":
        found = deepinv.sampling.DPS(denoiser=model, num_steps=steps + 1, dtype=torch.float32)(y, seen)
    else:
        fidelity = deepinv.optim.data_fidelity.L2()
        found = deepinv.sampling.DiffPIR(model, fidelity, sigma=SIGMA / 2, max_iter=steps)(y, seen)
    restored: Tensor = 2 * found.float() - 1
    return restored.clamp(-1, 1)


def ours(pipeline: Pipeline, problem: Problem, solver: str, steps: int) -> Tensor:
    """Our restoration, in [-1, 1]."""
    how = Restoration.model_validate({"solver": solver})
    settings = Sampling.model_validate({"steps": steps} | ({"eta": 1.0} if solver == "dps" else {}))
    return restore(pipeline, problem.operator, problem.y, how=how, settings=settings, sigma=SIGMA).images


def problems(images: Tensor) -> dict[str, Problem]:
    """The measurements of the originals [n, C, H, W] in [-1, 1]."""
    shape = tuple(images.shape[1:])
    height, width = shape[1:]
    operators = {
        "box": op.masked(shape, op.box(height, width)),
        "70% missing": op.masked(shape, op.scattered(height, width, missing=0.7)),
        "blur": op.gaussian_blur(shape, sigma=1.5),
        "half size": op.downsample(shape, 2),
    }
    return {
        name: Problem(operator, measured(operator, images, sigma=SIGMA))
        for name, operator in operators.items()
    }


@click.command()
@click.option("--run", required=True, help="Run of a denoiser of pixels.")
@click.option("--data", default="mnist5k", show_default=True, help="Data set whose test images are restored.")
@click.option("-n", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Images.")
@click.option(
    "--steps", type=click.IntRange(2, 1000), default=100, show_default=True, help="Network calls of a solver."
)
@click.option("--threads", type=click.IntRange(1, 1024), default=2, show_default=True, help="CPU threads.")
@click.option(
    "--json", "as_json", type=click.Path(path_type=Path, dir_okay=False), help="Where the numbers go, too."
)
def main(run: str, data: str, n: int, steps: int, threads: int, as_json: Path | None) -> None:
    """Restore the same measurements with our solvers and deepinv's."""
    torch.set_num_threads(threads)
    try:
        pipeline, dataset = load(run), load_dataset(data)
    except InputError as error:
        raise click.ClickException(str(error)) from None
    if not isinstance(pipeline.codec, IdentityCodec):
        raise click.ClickException(f"--run {run}: expected a model of pixels, found a latent one")
    originals = to_float(dataset.test.images[:n])
    if tuple(originals.shape[1:]) != tuple(pipeline.codec.image_shape):
        raise click.ClickException(
            f"--data {data}: expected images {list(pipeline.codec.image_shape)}, found"
            f" {list(originals.shape[1:])}"
        )
    deepinv, about = peer()
    click.echo(about if deepinv else f"{about}: it needs torchvision for this torch; latentdiff alone")
    sides: dict[str, Callable[[Problem, str], Tensor]] = {
        "latentdiff": lambda problem, solver: ours(pipeline, problem, solver, steps)
    }
    if deepinv is not None:
        peers = deepinv
        sides["deepinv"] = lambda problem, solver: theirs(peers, pipeline, problem, solver, steps)
    try:
        eye = perceptual_network(default_features(tuple(originals.shape[1:]), dataset.classes))
    except InputError as error:
        eye = None
        click.echo(f"no perceptual distance: {error}")
    rows = []
    for name, problem in problems(originals).items():
        for solver in SOLVERS:
            for side, restored in sides.items():
                torch.manual_seed(0)
                begin = time.perf_counter()
                found = restored(problem, solver)
                seconds = (time.perf_counter() - begin) / n
                score = score_pairs(
                    to_uint8(originals), to_uint8(found), perceptual=eye, resampling=Resampling(count=0)
                )
                distance = None if score.perceptual is None else score.perceptual.value
                rows.append(
                    {
                        "operator": name,
                        "solver": solver,
                        "side": side,
                        "psnr": score.psnr.value,
                        "perceptual": distance,
                        "seconds_an_image": seconds,
                    }
                )
                seen = "" if eye is None else f"{eye.name} distance {distance:.3f}, "
                click.echo(
                    f"{name:>12} {solver:>8} {side:>10}: {score.psnr.value:5.2f} dB, {seen}{seconds:.3f} s an"
                    " image"
                )
    if as_json:
        settings = {"run": run, "data": data, "n": n, "steps": steps, "sigma": SIGMA, "deepinv": about}
        found_all = {"machine": machine(CPU, cpu=processor_name()), "settings": settings, "rows": rows}
        as_json.write_text(json.dumps(found_all, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
