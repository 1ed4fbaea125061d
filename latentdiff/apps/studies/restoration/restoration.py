"""Study `restoration`: solvers against a known posterior, and against one another on digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext, colour_missing
from latentdiff.apps.studies.kit.model import colours_to_look_at, pixels_to_look_at
from latentdiff.apps.studies.kit.paired import PairedMetrics, Pairs, against_input, difference
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.report.blocks import Block, Picture, Report, Section, Table, Words
from latentdiff.apps.studies.restoration import posterior
from latentdiff.apps.studies.runner import Study
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.data.select import one_of_each_class
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.operators import Operator
from latentdiff.edit import backprojection, measured, restore
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10


@dataclass(frozen=True)
class Method:
    """A solver with its numbers and steps."""

    name: str
    how: Restoration
    settings: Sampling


@dataclass(frozen=True)
class Numbers:
    """``tested`` images are restored with ``seeds`` seeds each; ``noise``: of the measurements; ``chains``:
    samples of the Gaussian part.
    """

    pixels: PixelNumbers | None = None
    tested: int = 16
    seeds: int = 2
    noise: float = 0.05
    steps: int = 100
    fast: int = 20
    chains: int = 4000
    analytic: tuple[int, ...] = (20, 100, 500)
    colour: PixelNumbers = field(default_factory=lambda: PixelNumbers(width=64, steps=150, batch=64))
    colour_tested: int = 6
    zeta: float = 0.5


class RestorationTask(NamedTuple):
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


def tasks(shape: tuple[int, int, int]) -> tuple[RestorationTask, ...]:
    """What images suffer."""
    _, height, width = shape
    mask = op.box(height, width)
    return (
        RestorationTask("a box missing", op.masked(shape, mask), mask),
        RestorationTask("70% of pixels missing", op.masked(shape, op.scattered(height, width, missing=0.7))),
        RestorationTask("Gaussian blur, 1.5 pixels", op.gaussian_blur(shape, sigma=1.5)),
        RestorationTask("motion blur, 7 pixels", op.motion_blur(shape, length=7, angle=45)),
        RestorationTask("a quarter of the pixels", op.downsample(shape, 2)),
    )


def study(lab: StudyContext, numbers: Numbers) -> Report:
    with lab.part("known posterior"):
        truth = posterior.Truth.make()
        known = list(posterior.rows(truth, numbers.analytic, numbers.chains))
    pipeline = pixels_to_look_at(lab, numbers.pixels, latents=True)
    shape = (lab.data.channels, lab.data.height, lab.data.width)
    images = to_float(one_of_each_class(lab.data.test, numbers.tested))
    found, blocks = _compared(lab, numbers, pipeline, tasks(shape), images, PairedMetrics.of(lab))
    about = Words(_about(numbers, len(images)))
    sections = [posterior.section(lab, truth, known), Section("On digits", (about, *blocks))]
    in_colour: dict[str, dict[str, list[Pairs]]] = {}
    if lab.colour is None:
        sections.append(Section("On colour images", (colour_missing(lab),)))
    else:
        in_colour, section = _colour(lab, numbers, lab.colour)
        sections.append(section)
    return Report(tuple(_findings(numbers, known, found, in_colour)), tuple(sections))


def _compared(
    lab: StudyContext,
    numbers: Numbers,
    pipeline: Pipeline,
    tasks: Sequence[RestorationTask],
    images: Tensor,
    eye: PairedMetrics,
    prefix: str = "",
) -> tuple[dict[str, dict[str, list[Pairs]]], list[Block]]:
    """The scores of every method on every task, with a figure and a table for each."""
    found: dict[str, dict[str, list[Pairs]]] = {}
    blocks: list[Block] = []
    for task in tasks:
        with lab.part(f"{prefix}{task.name}"):
            found[task.name], picture = _restored(lab, numbers, pipeline, task, images, eye, prefix)
        blocks += [picture, _table(f"{prefix}{task.name}", found[task.name], eye)]
    return found, blocks


def _colour(
    lab: StudyContext, numbers: Numbers, data: Dataset
) -> tuple[dict[str, dict[str, list[Pairs]]], Section]:
    """Filling in and deblurring of colour images, by an unconditional model of them."""
    pipeline = colours_to_look_at(lab, numbers.colour, data, labels=False)
    shape = data.shape
    images = to_float(data.test.images[: numbers.colour_tested])
    chosen = [task for task in tasks(shape) if task.name in ("a box missing", "Gaussian blur, 1.5 pixels")]
    found, blocks = _compared(
        lab, numbers, pipeline, chosen, images, PairedMetrics.of(lab, data=data), prefix="colour: "
    )
    words = Words(f"{data.name}, {len(data.train):,} training images. {_about(numbers, len(images))}")
    return found, Section("On colour images", (words, *blocks))


def _about(numbers: Numbers, n: int) -> str:
    return ABOUT.format(steps=numbers.steps, fast=numbers.fast, noise=numbers.noise, n=n, seeds=numbers.seeds)


ABOUT = (
    "{n} test images, one class after the other, measured with noise of {noise:g} (pixels lie in [-1, 1]);"
    " means over {seeds} seeds each. SDEdit, ScoreALD and DPS take {steps} ancestral steps, DiffPIR {fast}."
    " SDEdit starts from what was measured and knows nothing of the operator."
)


def _restored(
    lab: StudyContext,
    numbers: Numbers,
    pipeline: Pipeline,
    task: RestorationTask,
    images: Tensor,
    eye: PairedMetrics,
    prefix: str,
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
    name = "".join(letter if letter.isalnum() else "-" for letter in prefix + task.name)
    picture = lab.rows(
        name,
        [(title, x[:SHOWN]) for title, x in rows],
        f"Restored from {task.name}, noise {numbers.noise:g}.",
        about={"seed": lab.seed},
    )
    return scores, picture


def _table(name: str, scores: Mapping[str, list[Pairs]], eye: PairedMetrics) -> Table:
    return Table(
        name,
        ("", *eye.columns),
        tuple((method, *eye.cells(pairs)) for method, pairs in scores.items()),
        f"{name}: restored images against the originals, mean and spread over the seeds.",
    )


def _findings(
    numbers: Numbers,
    known: Sequence[posterior.Row],
    found: Mapping[str, Mapping[str, list[Pairs]]],
    in_colour: Mapping[str, Mapping[str, list[Pairs]]],
) -> Iterator[str]:
    yield posterior.finding(known, numbers.chains)
    every = {**found, **{f"in colour, {task}": scores for task, scores in in_colour.items()}}
    for task, scores in every.items():
        name = f"{task[0].upper()}{task[1:]}"
        yield against_input(name, scores, "as measured", "distance", "distance")
        yield against_input(name, scores, "as measured", "psnr", "PSNR", unit=" dB")
    if every:
        yield _ranking(every)


RANKING = ("DPS", "ScoreALD", "SDEdit")  # from the closest, as in Chung et al. 2023


def _ranking(found: Mapping[str, Mapping[str, list[Pairs]]]) -> str:
    """In how many degradations the literature's order holds, and in how many its opposite, for neighbours in
    it.
    """
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


FULL = Numbers(
    pixels=PixelNumbers(steps=8000),
    tested=100,
    seeds=5,
    steps=500,
    fast=50,
    chains=20_000,
    analytic=(20, 100, 500, 1000),
    colour=PixelNumbers(width=96, steps=20_000, patch=2),
    colour_tested=50,
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
