"""Study `inpainting`: what stands in a hole, by four solvers and three masks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixels_to_look_at
from latentdiff.apps.studies.kit.paired import PairedMetrics, Pairs, against_input
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.data.select import one_of_each_class
from latentdiff.diffusion import operators as op
from latentdiff.edit import restore
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10


@dataclass(frozen=True)
class Numbers:
    """``tested`` images, ``draws`` fillings of each; RePaint goes back ``jumps`` - 1 times over every
    ``length`` moves.
    """

    pixels: PixelNumbers | None = None
    tested: int = 20
    draws: int = 3
    steps: int = 50
    jumps: int = 4
    length: int = 5
    shares: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
    zeta: float = 0.5


def study(lab: StudyContext, numbers: Numbers) -> Report:
    pipeline = pixels_to_look_at(lab, numbers.pixels, latents=True)
    images = to_float(one_of_each_class(lab.data.test, numbers.tested))
    height, width = lab.data.height, lab.data.width
    masks = {
        "a box in the middle": op.box(height, width),
        "the lower half": op.half(height, width),
        "70% of the pixels": op.scattered(height, width, missing=0.7),
    }
    eye, found, sections = PairedMetrics.of(lab), {}, []
    for name, mask in masks.items():
        with lab.part(name):
            found[name], pictures = _filled(lab, numbers, pipeline, name, mask, images, eye)
        sections.append(Section(f"Missing: {name}", (*pictures, _table(name, found[name], eye))))
    with lab.part("shares of missing pixels"):
        sections.append(_shares(lab, numbers, pipeline, images, eye))
    about = Words(
        ABOUT.format(
            n=len(images),
            steps=numbers.steps,
            draws=numbers.draws,
            back=numbers.jumps - 1,
            length=numbers.length,
        )
    )
    sections[0] = Section(sections[0].title, (about, *sections[0].blocks))
    return Report(tuple(_findings(found, eye.distance)), tuple(sections))


ABOUT = (
    "{n} test images, {draws} fillings of each, {steps} ancestral steps. Replacement overwrites the known"
    " pixels of every x_t with the noised original; RePaint also goes back {length} steps and forth again,"
    " {back} times, so that the two parts fit each other; DPS follows the gradient of the known pixels'"
    " error; DiffPIR moves every estimate towards them. Known pixels are the original's exactly in all of"
    " them."
)


def _methods(numbers: Numbers) -> dict[str, tuple[Restoration, Sampling]]:
    slow = Sampling(steps=numbers.steps, eta=1.0)
    return {
        "replacement": (Restoration(solver="replacement"), slow),
        "RePaint": (Restoration(solver="repaint", jump_length=numbers.length, jumps=numbers.jumps), slow),
        "DPS": (Restoration(solver="dps", zeta=numbers.zeta), slow),
        "DiffPIR": (Restoration(solver="diffpir"), Sampling(steps=numbers.steps)),
    }


def _filled(
    lab: StudyContext,
    numbers: Numbers,
    pipeline: Pipeline,
    name: str,
    mask: Tensor,
    images: Tensor,
    eye: PairedMetrics,
) -> tuple[dict[str, list[Pairs]], list[Picture]]:
    operator = op.masked((lab.data.channels, lab.data.height, lab.data.width), mask)
    y = operator(images)
    scores = {"nothing filled in": [eye.pairs(y, images)]}
    rows, variety = [("original", images), ("known", y)], []
    for method, (how, settings) in _methods(numbers).items():
        draws = [
            restore(
                pipeline, operator, y, how=how, settings=settings, mask=mask, seed=lab.seed + k * len(images)
            ).images
            for k in range(numbers.draws)
        ]
        scores[method] = [eye.pairs(made, images) for made in draws]
        rows.append((method, draws[0]))
        variety.append(
            (method, torch.stack([made[0] for made in draws] + [made[3 % len(made)] for made in draws]))
        )
    file = "".join(letter if letter.isalnum() else "-" for letter in name)
    about = {"seed": lab.seed}
    first = lab.rows(
        file, [(title, x[:SHOWN]) for title, x in rows], f"Missing: {name}; the first draw.", about=about
    )
    return scores, [first, lab.rows(f"{file}-draws", variety, "Several draws of two images.", about=about)]


def _shares(
    lab: StudyContext, numbers: Numbers, pipeline: Pipeline, images: Tensor, eye: PairedMetrics
) -> Section:
    """How the distance grows with the share of pixels that are missing at random."""
    shape = (lab.data.channels, lab.data.height, lab.data.width)
    methods = {name: way for name, way in _methods(numbers).items() if name in ("replacement", "DiffPIR")}
    found: dict[str, list[float]] = {name: [] for name in methods}
    for share in numbers.shares:
        mask = op.scattered(*shape[1:], missing=share)
        operator = op.masked(shape, mask)
        for name, (how, settings) in methods.items():
            made = restore(
                pipeline, operator, operator(images), how=how, settings=settings, mask=mask, seed=lab.seed
            )
            found[name].append(eye.pairs(made.images, images).distance)
    curves = [Curve(name, list(numbers.shares), values, "marked") for name, values in found.items()]
    panel = Panel("pixels missing at random", "share missing", eye.distance, curves)
    return Section(
        "How much may be missing",
        (
            lab.plot(
                "shares", [panel], "Distance from the originals by the share of pixels that are missing."
            ),
        ),
    )


def _table(name: str, scores: Mapping[str, list[Pairs]], eye: PairedMetrics) -> Table:
    rows = tuple((method, *eye.cells(pairs)) for method, pairs in scores.items())
    return Table(
        name,
        ("", *eye.columns),
        rows,
        f"Missing: {name}; against the originals, mean and spread over the draws.",
    )


def _findings(found: Mapping[str, Mapping[str, list[Pairs]]], distance: str) -> Iterator[str]:
    for name, scores in found.items():
        yield against_input(f"Missing {name}", scores, "nothing filled in", "distance", distance)


FULL = Numbers(pixels=PixelNumbers(steps=8000), tested=100, draws=5, steps=250, jumps=10, length=10)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
