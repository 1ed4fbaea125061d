"""Study `inpainting`: what stands in a hole, by four solvers and three masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.colour import colour_part
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixel_model
from latentdiff.apps.studies.kit.paired import MethodScores, PairedMetrics, against_input, closer
from latentdiff.apps.studies.kit.presets import LONG_COLOUR, LONG_PIXELS, PixelPreset
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.restoration.restoration import SolvedTask, Solver, SolverComparison
from latentdiff.apps.studies.runner import Study
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion import operators as op
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class InpaintingSettings:
    """``draws`` fillings of each image; RePaint goes back ``jumps`` - 1 times over every ``length`` moves."""

    pixels: PixelPreset = field(default_factory=PixelPreset)
    tested: int = 20
    draws: int = 3
    steps: int = 50
    jumps: int = 4
    length: int = 5
    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    zeta: float = 0.5
    colour: PixelPreset = field(default_factory=lambda: PixelPreset(width=64, steps=150, batch=64))
    colour_tested: int = 6


def study(context: StudyContext, settings: InpaintingSettings) -> Report:
    pipeline, images = (
        pixel_model(context, settings.pixels, latents=True),
        context.test_images(settings.tested)[0],
    )
    comparison = _comparison(context, settings, pipeline, PairedMetrics.of(context), images)
    shape, n = context.data.shape, len(comparison.images)
    masks = {
        "a box in the middle": op.box(*shape[1:]),
        "the lower half": op.half(*shape[1:]),
        "70% of the pixels": op.scattered(*shape[1:], missing=0.7),
    }
    found: dict[str, MethodScores] = {}
    sections: list[Section] = []
    for name, mask in masks.items():
        captions = (
            f"Missing: {name}; the first draw.",
            f"Missing: {name}; against the originals, mean and spread over the draws.",
        )
        with context.part(name):
            made = comparison.solve(name, op.masked(shape, mask), captions, mask=mask)
            drawn = _variety(context, f"{name}-draws", made)
        found[name] = made.scores
        about = [] if sections else [ABOUT.format(n=n, back=settings.jumps - 1, **asdict(settings))]
        sections.append(Section(f"Missing: {name}", *about, made.picture, drawn, made.table))
    with context.part("shares of missing pixels"):
        sections.append(_shares(comparison, settings.shares))
    distances = dict.fromkeys(found, comparison.metrics.distance)
    section, found[COLOUR], distances[COLOUR] = _colour(context, settings)
    return Report(_findings(found, distances), *sections, section)


COLOUR = "in colour, a box in the middle"
# in the order of the literature (Lugmayr et al. 2022, Chung et al. 2023, Zhu et al. 2023)
PAIRS = (("RePaint", "replacement"), ("DPS", "RePaint"), ("DiffPIR", "replacement"))


ABOUT = (
    "{n} test images, {draws} fillings of each, {steps} ancestral steps. Replacement overwrites the known"
    " pixels of every x_t with the noised original; RePaint also goes back {length} steps and forth again,"
    " {back} times, so that the two parts fit each other; DPS follows the gradient of the known pixels'"
    " error; DiffPIR moves every estimate towards them. Known pixels are the original's exactly in all of"
    " them."
)


def _solvers(settings: InpaintingSettings) -> tuple[Solver, ...]:
    slow = Sampling(steps=settings.steps, eta=1.0)
    repaint = Restoration(solver="repaint", jump_length=settings.length, jumps=settings.jumps)
    return (
        Solver("replacement", Restoration(solver="replacement"), slow),
        Solver("RePaint", repaint, slow),
        Solver("DPS", Restoration(solver="dps", zeta=settings.zeta), slow),
        Solver("DiffPIR", Restoration(solver="diffpir"), Sampling(steps=settings.steps)),
    )


def _comparison(
    context: StudyContext,
    settings: InpaintingSettings,
    pipeline: Pipeline,
    metrics: PairedMetrics,
    images: Tensor,
) -> SolverComparison:
    return SolverComparison(
        context=context,
        pipeline=pipeline,
        metrics=metrics,
        images=images,
        solvers=_solvers(settings),
        draws=settings.draws,
        base="nothing filled in",
        seen="known",
    )


def _variety(context: StudyContext, name: str, made: SolvedTask) -> Picture:
    """All draws of the first and of the fourth image, by solver."""
    rows = [
        (method, torch.stack([x[k % len(x)] for k in (0, 3) for x in draws]))
        for method, draws in made.draws.items()
    ]
    draws = range(1, len(rows[0][1]) // 2 + 1)
    columns = [f"image {k}, draw {draw}" for k in (1, 4) for draw in draws]
    return context.rows(name, rows, "Several draws of two images.", columns=columns)


def _colour(context: StudyContext, settings: InpaintingSettings) -> tuple[Section, MethodScores, str]:
    """A box missing from colour pictures: the section, the scores and the name of the distance."""
    part = colour_part(context, settings.colour, settings.colour_tested)
    colours = _comparison(context, settings, part.pipeline, part.metrics, part.images)
    channels, height, width = part.pipeline.codec.image_shape
    mask = op.box(height, width)
    captions = (
        "Missing: a box in the middle of colour pictures; the first draw.",
        "Colour pictures, a box missing; against the originals, mean and spread over the draws.",
    )
    with context.part("colour: a box in the middle"):
        made = colours.solve("colour: box", op.masked((channels, height, width), mask), captions, mask=mask)
        drawn = _variety(context, "colour-draws", made)
    section = Section("Colour pictures", part.about, made.picture, drawn, made.table)
    return section, made.scores, part.metrics.distance


def _shares(comparison: SolverComparison, shares: Sequence[float]) -> Section:
    """How the distance grows with the share of pixels that are missing at random."""
    context, metrics, images = comparison.context, comparison.metrics, comparison.images
    shape, curves = context.data.shape, []
    for solver in comparison.solvers:
        if solver.name in ("replacement", "DiffPIR"):
            found = []
            for share in shares:
                mask = op.scattered(*shape[1:], missing=share)
                operator = op.masked(shape, mask)
                made = comparison.restored(solver, operator, operator(images), mask, 0)
                found.append(metrics.pairs(made, images).distance)
            curves.append(Curve(solver.name, list(shares), found, "marked"))
    panel = Panel("pixels missing at random", "share missing", metrics.distance, curves)
    caption = "Distance from the originals by the share of pixels that are missing."
    return Section("How much may be missing", context.plot("shares", [panel], caption))


def _findings(found: Mapping[str, MethodScores], distances: Mapping[str, str]) -> Iterator[str]:
    for name, scores in found.items():
        yield against_input(f"Missing {name}", scores, "nothing filled in", "distance", distances[name])
    by = " and ".join(dict.fromkeys(distances.values()))
    yield f"By the {by}, {closer(found, PAIRS)} tasks."


FULL = InpaintingSettings(
    pixels=LONG_PIXELS,
    tested=50,
    draws=5,
    steps=100,
    jumps=10,
    length=10,
    colour=LONG_COLOUR,
    colour_tested=12,
)
STUDY = Study(quick=InpaintingSettings(), full=FULL, run=study)
