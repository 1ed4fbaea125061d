"""Study `restoration`: solvers against a known posterior, and against one another on digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff import operators as op
from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.denoise import Denoiser
from latentdiff.edit import backprojection, measured, restore
from latentdiff.operators import Operator
from latentdiff.pipeline import Pipeline
from latentdiff.random import Key
from latentdiff.sample import run, start
from latentdiff.schedule import Schedule, make_schedule
from latentdiff.solve import ald, corrected, dps, gaussian_update, half_quadratic
from latentdiff.step import Step, ddim, ddpm, renoising
from latentdiff.study import recipes
from latentdiff.study.analytic import Gaussian
from latentdiff.study.figures import Curve, Panel
from latentdiff.study.lab import Lab
from latentdiff.study.make import Study
from latentdiff.study.pairs import Eye, Pairs
from latentdiff.study.pick import one_of_each_class
from latentdiff.study.recipes import PixelNumbers
from latentdiff.study.report import Picture, Report, Section, Table, Words
from latentdiff.study.training import pipeline_of

SHOWN = 10


@dataclass(frozen=True)
class Method:
    """A solver with its numbers and steps."""

    name: str
    how: Restoration
    settings: Sampling


@dataclass(frozen=True)
class Numbers:
    """``tested`` images are restored with ``seeds`` seeds each; ``noise``: of the measurements; ``chains``: samples of the Gaussian part."""

    pixels: PixelNumbers = field(default_factory=PixelNumbers)
    tested: int = 20
    seeds: int = 2
    noise: float = 0.05
    steps: int = 100
    fast: int = 20
    chains: int = 4000
    analytic: tuple[int, ...] = (20, 100, 500)
    zeta: float = 0.5


class Task(NamedTuple):
    """A degradation with its name."""

    name: str
    operator: Operator
    mask: Tensor | None = None


def methods(numbers: Numbers) -> tuple[Method, ...]:
    """The solvers that are compared, in the order in which the literature ranks them; the fast one last."""
    slow = Sampling(sampler="ddim", steps=numbers.steps, eta=1.0)
    return (
        Method("SDEdit", Restoration(solver="sdedit", strength=0.4), slow),
        Method("ScoreALD", Restoration(solver="ald"), slow),
        Method("DPS", Restoration(solver="dps", zeta=numbers.zeta), slow),
        Method(f"DiffPIR, {numbers.fast} steps", Restoration(solver="diffpir"), Sampling(steps=numbers.fast)),
    )


def tasks(shape: tuple[int, int, int]) -> tuple[Task, ...]:
    """What images suffer."""
    _, height, width = shape
    mask = op.box(height, width)
    return (
        Task("a box missing", op.masked(shape, mask), mask),
        Task("70% of pixels missing", op.masked(shape, op.scattered(height, width, missing=0.7))),
        Task("Gaussian blur, 1.5 pixels", op.gaussian_blur(shape, sigma=1.5)),
        Task("motion blur, 7 pixels", op.motion_blur(shape, length=7, angle=45)),
        Task("a quarter of the pixels", op.downsample(shape, 2)),
    )


def study(lab: Lab, numbers: Numbers) -> Report:
    with lab.part("known posterior"):
        rows = tuple(_analytic(numbers))
    with lab.part("model of pixels"):
        pipeline = pipeline_of(lab, recipes.pixels(lab, "pixels", numbers.pixels))
    shape = (lab.data.channels, lab.data.height, lab.data.width)
    images = to_float(one_of_each_class(lab.data.test, numbers.tested))
    eye, found, pictures = Eye.of(lab), {}, []
    for task in tasks(shape):
        with lab.part(task.name):
            found[task.name], picture = _restored(lab, numbers, pipeline, task, images, eye)
            pictures.append(picture)
    tables = [_table(name, scores, eye) for name, scores in found.items()]
    blocks = tuple(block for pair in zip(pictures, tables, strict=True) for block in pair)
    about = Words(
        ABOUT.format(steps=numbers.steps, fast=numbers.fast, noise=numbers.noise, n=len(images), seeds=numbers.seeds)
    )
    return Report(
        tuple(_findings(rows, found)),
        (
            Section("Against a known posterior", (Words(KNOWN), _analytic_curves(lab, rows), _analytic_table(rows))),
            Section("On digits", (about, *blocks)),
        ),
    )


KNOWN = (
    "A curve of 16 points with a Gaussian distribution, of which a blurred third is measured with noise: what is left of it is known in closed form, and so is the exact "
    "denoiser. The table says how far the samples of each solver are from that posterior: its mean in standard deviations, its covariance relative to its "
    "size. “Exact” uses the full covariance of x_0 given x_t, which no network tells: its error is that of the steps and of counting. The others have a bias of their own."
)
ABOUT = (
    "{n} test images, one class after the other, measured with noise of {noise:g} (pixels lie in [-1, 1]); means over {seeds} seeds each. SDEdit, ScoreALD and DPS take {steps} ancestral "
    "steps, DiffPIR {fast}. SDEdit starts from what was measured and knows nothing of the operator."
)


class Row(NamedTuple):
    """A line of the table of the known posterior."""

    solver: str
    steps: int
    mean: float
    covariance: float


def _analytic(numbers: Numbers) -> Iterator[Row]:
    prior, n = Gaussian.smooth(16), numbers.chains
    a = op.blur_matrix(op.gaussian_taps(1.0), 16)[::3]
    sigma = 0.1
    y = a @ prior.draw(1, seed=3)[0] + sigma * Key.of(4, 1).at("degrade").normal((len(a),), dtype=torch.float64)[0]
    truth = prior.posterior(a, y, sigma)
    schedule = make_schedule(ScheduleConfig(kind="cosine"))
    for name in ("exact", "DPS", "ScoreALD", "DiffPIR"):
        denoise, step = _solver(name, prior, a, y, sigma, schedule)
        for steps in numbers.analytic:
            key = Key.of(0, n)
            x = start(key, (16,), dtype=torch.float64)
            yield Row(name, steps, *truth.apart(run(denoise, x, schedule.levels(steps), step, key)))


def _solver(
    name: str, prior: Gaussian, a: Tensor, y: Tensor, sigma: float, schedule: Schedule
) -> tuple[Denoiser, Step]:
    denoise, operator = prior.denoiser(schedule), op.matrix(a)
    if name == "exact":
        return corrected(denoise, gaussian_update(a, y, lambda t: prior.left(schedule, t), sigma=sigma)), ddim(schedule)
    if name == "DPS":
        return denoise, dps(ddpm(schedule), operator, y, zeta=0.1)
    if name == "ScoreALD":
        return denoise, ald(ddpm(schedule), operator, y, schedule, sigma=sigma)
    return corrected(denoise, half_quadratic(operator, y, schedule, sigma=sigma)), renoising(schedule, share=0.3)


def _analytic_curves(lab: Lab, rows: tuple[Row, ...]) -> Picture:
    panels = []
    for title, what in (("mean", "standard deviations"), ("covariance", "share of its size")):
        curves = [
            Curve(
                name,
                [row.steps for row in rows if row.solver == name],
                [getattr(row, title) for row in rows if row.solver == name],
                "marked",
            )
            for name in dict.fromkeys(row.solver for row in rows)
        ]
        panels.append(Panel(f"error of the {title}", "steps", what, curves, log_x=True, log_y=True))
    return lab.plot("posterior", panels, "Distance of the samples from the known posterior by number of steps.")


def _analytic_table(rows: tuple[Row, ...]) -> Table:
    return Table(
        "posterior",
        ("solver", "steps", "error of the mean", "error of the covariance"),
        tuple(tuple(row) for row in rows),
        "Samples of each solver against the posterior in closed form.",
    )


def _restored(
    lab: Lab, numbers: Numbers, pipeline: Pipeline, task: Task, images: Tensor, eye: Eye
) -> tuple[dict[str, list[Pairs]], Picture]:
    """The scores of every method by seed, and the first images of the first seed."""
    y = measured(task.operator, images, sigma=numbers.noise, seed=lab.seed)
    seen = backprojection(task.operator, y).clamp(-1, 1)
    scores, rows = {"as measured": [eye.pairs(seen, images)]}, [("original", images), ("measured", seen)]
    for method in methods(numbers):
        for seed in range(numbers.seeds):
            made = restore(
                pipeline,
                task.operator,
                y,
                how=method.how,
                settings=method.settings,
                sigma=numbers.noise,
                seed=lab.seed + seed * len(images),
            ).images
            scores.setdefault(method.name, []).append(eye.pairs(made, images))
            if seed == 0:
                rows.append((method.name, made))
    name = "".join(letter if letter.isalnum() else "-" for letter in task.name)
    picture = lab.rows(
        name,
        [(title, x[:SHOWN]) for title, x in rows],
        f"Restored from {task.name}, noise {numbers.noise:g}.",
        about={"seed": lab.seed},
    )
    return scores, picture


def _table(name: str, scores: Mapping[str, list[Pairs]], eye: Eye) -> Table:
    return Table(
        name,
        ("", *eye.columns),
        tuple((method, *eye.cells(pairs)) for method, pairs in scores.items()),
        f"{name}: restored images against the originals, mean and spread over the seeds.",
    )


def _findings(rows: tuple[Row, ...], found: Mapping[str, Mapping[str, list[Pairs]]]) -> Iterator[str]:
    most = max(row.steps for row in rows)
    last = {row.solver: row for row in rows if row.steps == most}
    yield (
        f"On the known posterior, {most} steps: with the exact likelihood the mean is off by {last['exact'].mean:.2g} standard deviations, with "
        + ", ".join(f"{name} by {last[name].mean:.2g}" for name in ("DPS", "ScoreALD", "DiffPIR"))
        + "."
    )
    for task, scores in found.items():
        mean = {name: sum(p.distance for p in pairs) / len(pairs) for name, pairs in scores.items()}
        order = sorted((name for name in mean if name != "as measured"), key=mean.__getitem__)
        worse = [name for name in order if mean[name] > mean["as measured"]]
        yield (
            f"{task[0].upper()}{task[1:]}: from the closest to the farthest, {', '.join(f'{name} ({mean[name]:.2g})' for name in order)}; as measured {mean['as measured']:.2g}"
            + (f", which {' and '.join(worse)} did not better." if worse else ".")
        )
    yield from _ranking(found)


RANKING = ("DPS", "ScoreALD", "SDEdit")  # from the best, as in Chung et al. 2023


def _ranking(found: Mapping[str, Mapping[str, list[Pairs]]]) -> Iterator[str]:
    """Whether the literature's order holds, and where squared error prefers what was measured."""

    def means(scores: Mapping[str, list[Pairs]], what: str) -> dict[str, float]:
        return {name: sum(getattr(p, what) for p in pairs) / len(pairs) for name, pairs in scores.items()}

    distances = {task: means(scores, "distance") for task, scores in found.items()}
    orders = {task: sorted(RANKING, key=mean.__getitem__) for task, mean in distances.items()}
    same = [task for task, order in orders.items() if order == list(RANKING)]
    text = f"The order of the literature ({', '.join(RANKING)}, from the best) holds for {len(same)} of {len(orders)} degradations"
    others = [f"{task} ({', '.join(order)})" for task, order in orders.items() if task not in same]
    yield text + (f"; not for {'; '.join(others)}." if others else ".")
    noisy = []
    for task, scores in found.items():
        psnr = means(scores, "psnr")
        noisy += [f"{name} on {task}" for name in psnr if psnr[name] < psnr["as measured"]]
    yield (
        f"{len(noisy)} of {sum(len(scores) - 1 for scores in found.values())} restorations have a lower PSNR than what was measured"
        + (f": {', '.join(noisy)}." if noisy else ".")
    )


FULL = Numbers(
    pixels=PixelNumbers(steps=8000),
    tested=100,
    seeds=5,
    steps=500,
    fast=50,
    chains=20_000,
    analytic=(20, 100, 500, 1000),
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
