"""Study `restoration`: solvers against a known posterior, and against one another on digits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit.colour import ColourPart, colour_part
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixel_model
from latentdiff.apps.studies.kit.paired import MethodScores, PairedMetrics, against_input, closer
from latentdiff.apps.studies.kit.presets import LONG_COLOUR, LONG_PIXELS, PixelPreset
from latentdiff.apps.studies.report.blocks import Block, Picture, Report, Section, Table
from latentdiff.apps.studies.restoration import posterior
from latentdiff.apps.studies.runner import Study
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.operators import Operator
from latentdiff.edit import backprojection, measured, restore
from latentdiff.pipeline.pipeline import Pipeline


class Solver(NamedTuple):
    """A solver with its settings and sampler."""

    name: str
    how: Restoration
    sampling: Sampling


class SolvedTask(NamedTuple):
    """What solvers made of a measurement: images by draw and scores, by solver, with a figure and a table."""

    draws: Mapping[str, Sequence[Tensor]]
    scores: MethodScores
    picture: Picture
    table: Table


@dataclass(frozen=True, eq=False, kw_only=True)
class SolverComparison:
    """Compares solvers on ``images`` [n, C, H, W], several ``draws`` each; ``sigma``: noise of measurements.

    ``base`` and ``seen`` are the titles of the measurements in tables and in figures.
    """

    context: StudyContext
    pipeline: Pipeline
    metrics: PairedMetrics
    images: Tensor
    solvers: Sequence[Solver]
    draws: int
    base: str
    seen: str
    sigma: float = 0.0

    def restored(self, solver: Solver, operator: Operator, y: Tensor, mask: Tensor | None, k: int) -> Tensor:
        """Draw ``k`` of a solver from the measurements ``y``."""
        seed, sigma = self.context.seed + k * len(self.images), self.sigma
        _, how, sampling = solver
        return restore(
            self.pipeline, operator, y, how=how, settings=sampling, sigma=sigma, mask=mask, seed=seed
        ).images

    def solve(
        self, name: str, operator: Operator, captions: tuple[str, str], *, mask: Tensor | None = None
    ) -> SolvedTask:
        """Measure the images and restore them; ``captions`` are those of the figure and of the table."""
        y = measured(operator, self.images, sigma=self.sigma, seed=self.context.seed)
        draws = {
            each.name: [self.restored(each, operator, y, mask, k) for k in range(self.draws)]
            for each in self.solvers
        }
        seen = backprojection(operator, y).clamp(-1, 1)
        scores = {
            method: [self.metrics.pairs(x, self.images) for x in made]
            for method, made in {self.base: [seen], **draws}.items()
        }
        stages = [("original", self.images), (self.seen, seen), *((each, x[0]) for each, x in draws.items())]
        notes = {each: x[0].notes for each, x in scores.items()} | {self.seen: scores[self.base][0].notes}
        table = self.metrics.table(name, ("",), (((each,), x) for each, x in scores.items()), captions[1])
        picture = self.context.stages(name, stages, captions[0], notes=notes, legend=self.metrics.legend)
        return SolvedTask(draws, scores, picture, table)


@dataclass(frozen=True)
class RestorationSettings:
    """``seeds`` for each of ``tested`` images; ``noise`` of measurements; ``chains`` of the Gaussian part."""

    pixels: PixelPreset = field(default_factory=PixelPreset)
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


def solvers(settings: RestorationSettings) -> tuple[Solver, ...]:
    """The solvers, in ascending order of quality in the literature; the fast one last."""
    slow = Sampling(sampler="ddim", steps=settings.steps, eta=1.0)
    return (
        Solver("SDEdit", Restoration(solver="sdedit", strength=0.4), slow),
        Solver("ScoreALD", Restoration(solver="ald"), slow),
        Solver("DPS", Restoration(solver="dps", zeta=settings.zeta), slow),
        Solver(
            f"DiffPIR, {settings.fast} steps", Restoration(solver="diffpir"), Sampling(steps=settings.fast)
        ),
    )


def tasks(shape: tuple[int, int, int]) -> dict[str, Operator]:
    """The degradations of images [C, H, W]."""
    _, height, width = shape
    return {
        "a box missing": op.masked(shape, op.box(height, width)),
        "70% of pixels missing": op.masked(shape, op.scattered(height, width, missing=0.7)),
        "Gaussian blur, 1.5 pixels": op.gaussian_blur(shape, sigma=1.5),
        "motion blur, 7 pixels": op.motion_blur(shape, length=7, angle=45),
        "a quarter of the pixels": op.downsample(shape, 2),
    }


def study(context: StudyContext, settings: RestorationSettings) -> Report:
    with context.part("known posterior"):
        truth = posterior.GaussianProblem.make()
        known = list(posterior.rows(truth, settings.analytic, settings.chains))
    pipeline = pixel_model(context, settings.pixels, latents=True)
    images = context.test_images(settings.tested)[0]
    found, about, blocks = _compared(context, settings, pipeline, images, tasks(context.data.shape))
    sections = [posterior.section(context, truth, known), Section("On digits", about, *blocks)]
    part = colour_part(context, settings.colour, settings.colour_tested)
    channels, height, width = part.pipeline.codec.image_shape
    every = tasks((channels, height, width))
    chosen = {name: every[name] for name in ("a box missing", "Gaussian blur, 1.5 pixels")}
    in_colour, about, blocks = _compared(context, settings, part.pipeline, part.images, chosen, part=part)
    sections.append(Section("On colour images", f"{part.about} {about}", *blocks))
    found |= {f"in colour, {task}": scores for task, scores in in_colour.items()}
    return Report(_findings(settings, known, found), *sections)


def _compared(
    context: StudyContext,
    settings: RestorationSettings,
    pipeline: Pipeline,
    images: Tensor,
    tasks: Mapping[str, Operator],
    *,
    part: ColourPart | None = None,
) -> tuple[dict[str, MethodScores], str, list[Block]]:
    """The scores of every solver on every task, the text, and a figure and a table for each.

    ``part``: that of the colour images, if these are restored.
    """
    comparison = SolverComparison(
        context=context,
        pipeline=pipeline,
        metrics=PairedMetrics.of(context) if part is None else part.metrics,
        images=images,
        solvers=solvers(settings),
        draws=settings.seeds,
        base="as measured",
        seen="measured",
        sigma=settings.noise,
    )
    found: dict[str, MethodScores] = {}
    blocks: list[Block] = []
    for task, operator in tasks.items():
        name = task if part is None else f"colour: {task}"
        captions = (
            f"Restored from {task}, noise {settings.noise:g}.",
            f"{name}: restored images against the originals, mean and spread over the seeds.",
        )
        with context.part(name):
            made = comparison.solve(name, operator, captions)
        found[task] = made.scores
        blocks += [made.picture, made.table]
    return found, ABOUT.format(n=len(images), **asdict(settings)), blocks


ABOUT = (
    "{n} images, one class after the other, measured with noise of {noise:g} (pixels lie in [-1, 1]);"
    " means over {seeds} seeds each. SDEdit, ScoreALD and DPS take {steps} ancestral steps, DiffPIR {fast}."
    " SDEdit starts from the measurement and does not use the operator."
)


def _findings(
    settings: RestorationSettings,
    known: Sequence[posterior.PosteriorError],
    found: Mapping[str, MethodScores],
) -> Iterator[str]:
    yield posterior.finding(known, settings.chains)
    for task, scores in found.items():
        name = f"{task[0].upper()}{task[1:]}"
        yield against_input(name, scores, "as measured", "distance", "distance")
        yield against_input(name, scores, "as measured", "psnr", "PSNR", unit=" dB")
    if found:
        order = ", ".join(RANKING)
        yield f"The order of the literature ({order}), {closer(found, list(pairwise(RANKING)))} degradations."


RANKING = ("DPS", "ScoreALD", "SDEdit")  # from the closest, as in Chung et al. 2023

FULL = RestorationSettings(
    pixels=LONG_PIXELS,
    tested=50,
    seeds=3,
    steps=200,
    chains=20_000,
    analytic=(20, 100, 500, 1000),
    colour=LONG_COLOUR,
    colour_tested=12,
)
STUDY = Study(quick=RestorationSettings(), full=FULL, run=study)
