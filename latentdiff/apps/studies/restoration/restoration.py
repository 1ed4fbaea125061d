"""Study `restoration`: solvers against a known posterior, and against one another on digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext, colour_missing
from latentdiff.apps.studies.kit.model import colour_model, pixel_model
from latentdiff.apps.studies.kit.paired import (
    MethodScores,
    PairedMetrics,
    PairedScores,
    against_input,
    difference,
)
from latentdiff.apps.studies.kit.presets import PixelPreset
from latentdiff.apps.studies.report.blocks import Block, Picture, Report, Section
from latentdiff.apps.studies.restoration import posterior
from latentdiff.apps.studies.runner import Study
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.operators import Operator
from latentdiff.edit import backprojection, measured, restore
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10


class RestorationMethod(NamedTuple):
    """A solver with its settings and sampler."""

    name: str
    how: Restoration
    sampling: Sampling


@dataclass(frozen=True)
class RestorationSettings:
    """``seeds`` for each of ``tested`` images; ``noise`` of measurements; ``chains`` of the Gaussian part."""

    pixels: PixelPreset | None = None
    tested: int = 16
    seeds: int = 2
    noise: float = 0.05
    steps: int = 100
    fast: int = 20
    chains: int = 4000
    analytic: tuple[int, ...] = (20, 100, 500)
    colour: PixelPreset = field(default_factory=lambda: PixelPreset(width=64, steps=150, batch=64))
    colour_tested: int = 6
    zeta: float = 0.5


class RestorationTask(NamedTuple):
    """A degradation with its name."""

    name: str
    operator: Operator
    mask: Tensor | None = None


def methods(settings: RestorationSettings) -> tuple[RestorationMethod, ...]:
    """The solvers, in ascending order of quality in the literature; the fast one last."""
    slow = Sampling(sampler="ddim", steps=settings.steps, eta=1.0)
    return (
        RestorationMethod("SDEdit", Restoration(solver="sdedit", strength=0.4), slow),
        RestorationMethod("ScoreALD", Restoration(solver="ald"), slow),
        RestorationMethod("DPS", Restoration(solver="dps", zeta=settings.zeta), slow),
        RestorationMethod(
            f"DiffPIR, {settings.fast} steps", Restoration(solver="diffpir"), Sampling(steps=settings.fast)
        ),
    )


def tasks(shape: tuple[int, int, int]) -> tuple[RestorationTask, ...]:
    """The degradations of images [C, H, W]."""
    _, height, width = shape
    mask = op.box(height, width)
    return (
        RestorationTask("a box missing", op.masked(shape, mask), mask),
        RestorationTask("70% of pixels missing", op.masked(shape, op.scattered(height, width, missing=0.7))),
        RestorationTask("Gaussian blur, 1.5 pixels", op.gaussian_blur(shape, sigma=1.5)),
        RestorationTask("motion blur, 7 pixels", op.motion_blur(shape, length=7, angle=45)),
        RestorationTask("a quarter of the pixels", op.downsample(shape, 2)),
    )


def study(context: StudyContext, settings: RestorationSettings) -> Report:
    with context.part("known posterior"):
        truth = posterior.GaussianProblem.make()
        known = list(posterior.rows(truth, settings.analytic, settings.chains))
    pipeline = pixel_model(context, settings.pixels, latents=True)
    shape = context.data.shape
    images = context.test_images(settings.tested)[0]
    found, blocks = _compared(context, settings, pipeline, tasks(shape), images, PairedMetrics.of(context))
    about = ABOUT.format(n=len(images), **asdict(settings))
    sections = [posterior.section(context, truth, known), Section("On digits", about, *blocks)]
    in_colour: dict[str, MethodScores] = {}
    if context.colour is None:
        sections.append(Section("On colour images", colour_missing(context)))
    else:
        in_colour, section = _colour(context, settings, context.colour)
        sections.append(section)
    return Report(_findings(settings, known, found, in_colour), *sections)


def _compared(
    context: StudyContext,
    settings: RestorationSettings,
    pipeline: Pipeline,
    tasks: Sequence[RestorationTask],
    images: Tensor,
    metrics: PairedMetrics,
    prefix: str = "",
) -> tuple[dict[str, MethodScores], list[Block]]:
    """The scores of every method on every task, with a figure and a table for each."""
    found: dict[str, MethodScores] = {}
    blocks: list[Block] = []
    for task in tasks:
        name = f"{prefix}{task.name}"
        with context.part(name):
            scores, picture = _restored(context, settings, pipeline, task, images, metrics, prefix)
        found[task.name], caption = (
            scores,
            f"{name}: restored images against the originals, mean and spread over the seeds.",
        )
        rows = [((method,), pairs, ()) for method, pairs in scores.items()]
        blocks += [picture, metrics.table(name, ("",), rows, caption)]
    return found, blocks


def _colour(
    context: StudyContext, settings: RestorationSettings, data: Dataset
) -> tuple[dict[str, MethodScores], Section]:
    """Filling in and deblurring of colour images, by an unconditional model of them."""
    pipeline = colour_model(context, settings.colour, data, labels=False)
    shape = data.shape
    images = to_float(data.test.images[: settings.colour_tested])
    chosen = [task for task in tasks(shape) if task.name in ("a box missing", "Gaussian blur, 1.5 pixels")]
    found, blocks = _compared(
        context, settings, pipeline, chosen, images, PairedMetrics.of(context, data=data), prefix="colour: "
    )
    about = ABOUT.format(n=len(images), **asdict(settings))
    words = f"{data.name}, {len(data.train):,} training images. {about}"
    return found, Section("On colour images", words, *blocks)


ABOUT = (
    "{n} test images, one class after the other, measured with noise of {noise:g} (pixels lie in [-1, 1]);"
    " means over {seeds} seeds each. SDEdit, ScoreALD and DPS take {steps} ancestral steps, DiffPIR {fast}."
    " SDEdit starts from the measurement and does not use the operator."
)


def _restored(
    context: StudyContext,
    settings: RestorationSettings,
    pipeline: Pipeline,
    task: RestorationTask,
    images: Tensor,
    metrics: PairedMetrics,
    prefix: str,
) -> tuple[dict[str, list[PairedScores]], Picture]:
    """The scores of every method by seed, and the first images of the first seed."""
    y = measured(task.operator, images, sigma=settings.noise, seed=context.seed)
    seen = backprojection(task.operator, y).clamp(-1, 1)
    scores, rows = {"as measured": [metrics.pairs(seen, images)]}, [("original", images), ("measured", seen)]
    for method in methods(settings):
        how = {"how": method.how, "settings": method.sampling, "sigma": settings.noise}
        seeds = [context.seed + k * len(images) for k in range(settings.seeds)]
        made = [restore(pipeline, task.operator, y, **how, seed=seed).images for seed in seeds]  # type: ignore[arg-type]
        scores[method.name] = [metrics.pairs(x, images) for x in made]
        rows.append((method.name, made[0]))
    name = "".join(letter if letter.isalnum() else "-" for letter in prefix + task.name)
    shown = [(title, x[:SHOWN]) for title, x in rows]
    return scores, context.rows(name, shown, f"Restored from {task.name}, noise {settings.noise:g}.")


def _findings(
    settings: RestorationSettings,
    known: Sequence[posterior.PosteriorError],
    found: Mapping[str, MethodScores],
    in_colour: Mapping[str, MethodScores],
) -> Iterator[str]:
    yield posterior.finding(known, settings.chains)
    every = {**found, **{f"in colour, {task}": scores for task, scores in in_colour.items()}}
    for task, scores in every.items():
        name = f"{task[0].upper()}{task[1:]}"
        yield against_input(name, scores, "as measured", "distance", "distance")
        yield against_input(name, scores, "as measured", "psnr", "PSNR", unit=" dB")
    if every:
        yield _ranking(every)


RANKING = ("DPS", "ScoreALD", "SDEdit")  # from the closest, as in Chung et al. 2023


def _ranking(found: Mapping[str, MethodScores]) -> str:
    """In how many degradations neighbours in the literature's order have it, and in how many its opposite."""
    counts = []
    for near, far in pairwise(RANKING):
        comparisons = len(found) * (len(RANKING) - 1)
        signs = [
            difference(scores[far], scores[near], "distance", comparisons=comparisons).sign
            for scores in found.values()
        ]
        counts.append(f"{near} is closer than {far} in {signs.count(1)}, farther in {signs.count(-1)}")
    return (
        f"The order of the literature ({', '.join(RANKING)}), beyond the {comparison.WITHIN} of the"
        f" difference: {'; '.join(counts)} of {len(found)} degradations."
    )


FULL = RestorationSettings(
    pixels=PixelPreset(steps=8000),
    tested=100,
    seeds=5,
    steps=500,
    fast=50,
    chains=20_000,
    analytic=(20, 100, 500, 1000),
    colour=PixelPreset(width=96, steps=20_000, patch=2),
    colour_tested=50,
)
STUDY = Study(quick=RestorationSettings(), full=FULL, run=study)
