"""Study `inpainting`: what stands in a hole, by four solvers and three masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixel_model
from latentdiff.apps.studies.kit.paired import MethodScores, PairedMetrics, PairedScores, against_input
from latentdiff.apps.studies.kit.presets import PixelPreset
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion import operators as op
from latentdiff.edit import restore
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10


@dataclass(frozen=True)
class InpaintingSettings:
    """``draws`` fillings of each image; RePaint goes back ``jumps`` - 1 times over every ``length`` moves."""

    pixels: PixelPreset | None = None
    tested: int = 20
    draws: int = 3
    steps: int = 50
    jumps: int = 4
    length: int = 5
    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    zeta: float = 0.5


def study(context: StudyContext, settings: InpaintingSettings) -> Report:
    pipeline = pixel_model(context, settings.pixels, latents=True)
    images = context.test_images(settings.tested)[0]
    height, width = context.data.height, context.data.width
    masks = {
        "a box in the middle": op.box(height, width),
        "the lower half": op.half(height, width),
        "70% of the pixels": op.scattered(height, width, missing=0.7),
    }
    metrics, found = PairedMetrics.of(context), {}
    sections: list[Section] = []
    for name, mask in masks.items():
        with context.part(name):
            found[name], pictures = _filled(context, settings, pipeline, name, mask, images, metrics)
        caption = f"Missing: {name}; against the originals, mean and spread over the draws."
        table = metrics.table(name, ("",), [((m,), s, ()) for m, s in found[name].items()], caption)
        about = [] if sections else [ABOUT.format(n=len(images), back=settings.jumps - 1, **asdict(settings))]
        sections.append(Section(f"Missing: {name}", *about, *pictures, table))
    with context.part("shares of missing pixels"):
        sections.append(_shares(context, settings, pipeline, images, metrics))
    return Report(_findings(found, metrics.distance), *sections)


ABOUT = (
    "{n} test images, {draws} fillings of each, {steps} ancestral steps. Replacement overwrites the known"
    " pixels of every x_t with the noised original; RePaint also goes back {length} steps and forth again,"
    " {back} times, so that the two parts fit each other; DPS follows the gradient of the known pixels'"
    " error; DiffPIR moves every estimate towards them. Known pixels are the original's exactly in all of"
    " them."
)


def _methods(settings: InpaintingSettings) -> dict[str, tuple[Restoration, Sampling]]:
    slow = Sampling(steps=settings.steps, eta=1.0)
    return {
        "replacement": (Restoration(solver="replacement"), slow),
        "RePaint": (Restoration(solver="repaint", jump_length=settings.length, jumps=settings.jumps), slow),
        "DPS": (Restoration(solver="dps", zeta=settings.zeta), slow),
        "DiffPIR": (Restoration(solver="diffpir"), Sampling(steps=settings.steps)),
    }


def _filled(
    context: StudyContext,
    settings: InpaintingSettings,
    pipeline: Pipeline,
    name: str,
    mask: Tensor,
    images: Tensor,
    metrics: PairedMetrics,
) -> tuple[dict[str, list[PairedScores]], list[Picture]]:
    operator = op.masked(context.data.shape, mask)
    y = operator(images)
    scores = {"nothing filled in": [metrics.pairs(y, images)]}
    rows, variety = [("original", images), ("known", y)], []
    for method, (how, sampling) in _methods(settings).items():
        seeds = [context.seed + k * len(images) for k in range(settings.draws)]
        draws = [
            restore(pipeline, operator, y, how=how, settings=sampling, mask=mask, seed=seed).images
            for seed in seeds
        ]
        scores[method] = [metrics.pairs(made, images) for made in draws]
        rows.append((method, draws[0]))
        variety.append((method, torch.stack([made[k % len(made)] for k in (0, 3) for made in draws])))
    file = "".join(letter if letter.isalnum() else "-" for letter in name)
    first = [(title, x[:SHOWN]) for title, x in rows]
    return scores, [
        context.rows(file, first, f"Missing: {name}; the first draw."),
        context.rows(f"{file}-draws", variety, "Several draws of two images."),
    ]


def _shares(
    context: StudyContext,
    settings: InpaintingSettings,
    pipeline: Pipeline,
    images: Tensor,
    metrics: PairedMetrics,
) -> Section:
    """How the distance grows with the share of pixels that are missing at random."""
    shape = context.data.shape
    methods = {name: each for name, each in _methods(settings).items() if name in ("replacement", "DiffPIR")}
    found: dict[str, list[float]] = {name: [] for name in methods}
    for share in settings.shares:
        mask = op.scattered(*shape[1:], missing=share)
        operator = op.masked(shape, mask)
        for name, (how, sampling) in methods.items():
            made = restore(
                pipeline, operator, operator(images), how=how, settings=sampling, mask=mask, seed=context.seed
            )
            found[name].append(metrics.pairs(made.images, images).distance)
    curves = [Curve(name, list(settings.shares), values, "marked") for name, values in found.items()]
    panel = Panel("pixels missing at random", "share missing", metrics.distance, curves)
    caption = "Distance from the originals by the share of pixels that are missing."
    return Section("How much may be missing", context.plot("shares", [panel], caption))


def _findings(found: Mapping[str, MethodScores], distance: str) -> Iterator[str]:
    for name, scores in found.items():
        yield against_input(f"Missing {name}", scores, "nothing filled in", "distance", distance)


FULL = InpaintingSettings(pixels=PixelPreset(steps=8000), tested=100, draws=5, steps=250, jumps=10, length=10)
STUDY = Study(quick=InpaintingSettings(), full=FULL, run=study)
