"""Study `sdedit`: images noised and denoised, from little to much, of test digits, of drawings, towards a
class.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.classifier import ClassReader
from latentdiff.apps.studies.kit.comparison import Difference
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixels_to_look_at
from latentdiff.apps.studies.kit.paired import PairedMetrics, Pairs
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.data.select import indices_by_class
from latentdiff.edit import from_noise, invert, level_at, relative_error, sdedit
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10
Stroke = tuple[tuple[float, float], ...]
DRAWINGS: dict[str, tuple[Stroke, ...]] = {  # by hand, in units of the side
    "house": (((0.2, 0.85), (0.2, 0.45), (0.5, 0.15), (0.8, 0.45), (0.8, 0.85), (0.2, 0.85)),),
    "wave": (((0.15, 0.5), (0.3, 0.25), (0.45, 0.5), (0.6, 0.75), (0.85, 0.4)),),
    "cross": (((0.5, 0.15), (0.5, 0.85)), ((0.2, 0.5), (0.8, 0.5))),
    "hook": (((0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.45, 0.85)),),
    "snail": (((0.8, 0.75), (0.35, 0.8), (0.2, 0.5), (0.45, 0.2), (0.7, 0.4), (0.5, 0.55)),),
}


@dataclass(frozen=True)
class Numbers:
    """``indices``: places in the levels of ``steps`` steps where the way back starts; ``tested`` images in
    the table; ``trips``: steps of the inversions.
    """

    pixels: PixelNumbers | None = None
    indices: tuple[int, ...] = (20, 10, 7, 5, 3, 1)
    steps: int = 30
    tested: int = 100
    guidance: float = 3.0
    trips: tuple[int, ...] = (10, 20, 40, 80)


def study(lab: StudyContext, numbers: Numbers) -> Report:
    pipeline = pixels_to_look_at(lab, numbers.pixels, latents=True)
    settings, places = Sampling(steps=numbers.steps), indices_by_class(lab.data.test, numbers.tested)
    images = to_float(lab.data.test.images[places])
    eye, blocks = PairedMetrics.of(lab), []
    with lab.part("edits"):
        made = {
            k: (
                sdedit(
                    pipeline, images, level_at(pipeline, settings, k), settings=settings, seed=lab.seed
                ).images
            )
            for k in numbers.indices
        }
        scores = {k: eye.pairs(x, images) for k, x in made.items()}
        kept = _kept(lab, made, places)
        drawings = torch.cat([drawing(strokes, pipeline.codec.image_shape) for strokes in DRAWINGS.values()])
        blocks.append(
            _rows(
                lab,
                "digits",
                {"input": images} | _named(pipeline, settings, made),
                "Test digits, no class given.",
            )
        )
        of_drawings = {
            k: (
                sdedit(
                    pipeline, drawings, level_at(pipeline, settings, k), settings=settings, seed=lab.seed
                ).images
            )
            for k in numbers.indices
        }
        blocks.append(
            _rows(
                lab,
                "drawings",
                {"drawn": drawings} | _named(pipeline, settings, of_drawings),
                "Drawings that are no digits, edited.",
            )
        )
    sections = [
        Section("From little to much", (Words(ABOUT), *blocks, _table(pipeline, settings, scores, kept, eye)))
    ]
    if pipeline.classes:
        with lab.part("towards a class"):
            sections.append(_towards(lab, numbers, pipeline, images))
    with lab.part("inversion"):
        trips, section = _inverted(lab, numbers, pipeline, images)
    sections.append(section)
    return Report(tuple(_findings(numbers, scores, kept, trips)), tuple(sections))


ABOUT = (
    "SDEdit noises an image to some level and denoises it from there (Meng et al. 2022): what the noise has"
    " covered is invented anew, what it has not is kept. The start index counts the sampler's levels from the"
    " noisiest one, so a small index is much noise."
)


def drawing(strokes: Sequence[Stroke], shape: Sequence[int]) -> Tensor:
    """White strokes on black as an image float32 [1, C, H, W] in [-1, 1], of the thickness of handwriting."""
    channels, height, width = shape
    scale = 8
    picture = Image.new("L", (scale * width, scale * height))
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        pen.line(
            [(x * scale * width, y * scale * height) for x, y in stroke],
            fill=255,
            width=scale * height // 12,
            joint="curve",
        )
    small = torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.BOX))).float()
    return (small / 127.5 - 1).expand(1, channels, height, width)


def _named(pipeline: Pipeline, settings: Sampling, made: Mapping[int, Tensor]) -> dict[str, Tensor]:
    return {f"index {k} (t = {level_at(pipeline, settings, k)})": images for k, images in made.items()}


def _rows(lab: StudyContext, name: str, rows: Mapping[str, Tensor], caption: str) -> Picture:
    return lab.rows(
        name, [(title, images[:SHOWN]) for title, images in rows.items()], caption, about={"seed": lab.seed}
    )


def _kept(lab: StudyContext, made: Mapping[int, Tensor], places: Tensor) -> dict[int, float]:
    """The share of edits that a classifier still sees as the class of their input; {} where none tells them
    apart.
    """
    reader, labels = ClassReader.of(lab), lab.data.test.labels
    if reader is None or labels is None:
        return {}
    return {k: reader.share(images, labels[places]) for k, images in made.items()}


def _table(
    pipeline: Pipeline,
    settings: Sampling,
    scores: Mapping[int, Pairs],
    kept: Mapping[int, float],
    eye: PairedMetrics,
) -> Table:
    rows = tuple(
        (k, level_at(pipeline, settings, k), *eye.cells([pairs]), *([kept[k]] if kept else []))
        for k, pairs in scores.items()
    )
    last = ("class kept",) if kept else ()
    return Table("edits", ("start index", "t", *eye.columns, *last), rows, "Edits against their input.")


def _towards(lab: StudyContext, numbers: Numbers, pipeline: Pipeline, images: Tensor) -> Section:
    settings = Sampling(steps=numbers.steps, guidance=numbers.guidance)
    first, classes = images[:SHOWN], pipeline.classes
    labels = [(k + 1) % len(classes) for k in range(len(first))]
    rows = {"input": first}
    for k in numbers.indices:
        t = level_at(pipeline, settings, k)
        rows[f"index {k} (t = {t})"] = sdedit(
            pipeline, first, t, settings=settings, label=labels, seed=lab.seed
        ).images
    words = Words(
        f"The same, told to become the next class (guidance {numbers.guidance:g}): with enough noise the"
        " image gives way, and keeps its slant and its weight for a while."
    )
    return Section(
        "Towards a class", (words, _rows(lab, "classes", rows, "Each image told to become the next class."))
    )


def _inverted(
    lab: StudyContext, numbers: Numbers, pipeline: Pipeline, images: Tensor
) -> tuple[dict[int, Tensor], Section]:
    """Round trips through DDIM inversion: the relative error of each image by number of steps."""
    first, errors, rows = images[:SHOWN], {}, {"input": images[:SHOWN]}
    best = pipeline.reconstruct(first)
    for steps in numbers.trips:
        settings = Sampling(steps=steps)
        back = from_noise(pipeline, invert(pipeline, first, settings=settings), settings=settings).images
        errors[steps] = relative_error(back, best).double()
        rows[f"{steps} steps"] = back
    means = {steps: float(error.mean()) for steps, error in errors.items()}
    curve = Curve("round trips", list(means), list(means.values()), "marked")
    law = [next(iter(means.values())) * next(iter(means)) / steps for steps in means]
    panel = Panel(
        "error of a round trip",
        "steps",
        "relative error",
        [curve, Curve("one over the steps", list(means), law, "dashed")],
        log_x=True,
        log_y=True,
    )
    words = Words(
        "DDIM can be run backwards: from an image to the noise that it would be drawn from. Each step of the"
        " inversion takes its estimate where the step back takes it one level on, which is the error of the"
        " round trip. Of a denoiser that is smooth in x and t it would fall as one over the number of steps"
        " (dashed); what these images show is fitted in the findings above."
    )
    picture = _rows(lab, "inversion", rows, "Inverted and drawn again.")
    return errors, Section(
        "Inversion",
        (words, picture, lab.plot("round-trips", [panel], "The error of a round trip by number of steps.")),
    )


def exponent(trips: Mapping[int, Tensor]) -> Difference:
    """The power of the number of steps that errors float64 [n] go with, and its interval over the images.

    It is the slope of the errors' logarithms, fitted to each image.
    """
    steps = torch.tensor([math.log(count) for count in trips], dtype=torch.float64)
    logs = torch.stack([error.clamp_min(1e-300).log() for error in trips.values()])  # [steps, images]
    away = steps - steps.mean()
    slopes = away @ logs / away.square().sum()
    return comparison.paired(slopes, torch.zeros_like(slopes))


def _findings(
    numbers: Numbers, scores: Mapping[int, Pairs], kept: Mapping[int, float], trips: Mapping[int, Tensor]
) -> Iterator[str]:
    little, much = max(scores), min(scores)
    yield (
        f"From start index {little} to {much} the PSNR against the input goes from {scores[little].psnr:.3g}"
        f" to {scores[much].psnr:.3g} dB"
        + (
            f", and the share that keeps its class from {kept[little]:.0%} to {kept[much]:.0%}."
            if kept
            else "."
        )
    )
    few, many = min(trips), max(trips)
    yield (
        f"A round trip of inversion has a relative error of {float(trips[few].mean()):.2g} with {few} steps"
        f" and of {float(trips[many].mean()):.2g} with {many}."
    )
    if len(trips) > 1:
        power = exponent(trips)
        yield f"Fitted to all of these, the error goes as the number of steps to the power of {power.text()}."


FULL = Numbers(pixels=PixelNumbers(steps=8000), tested=1000, trips=(10, 20, 40, 80, 160, 320))
STUDY = Study(quick=Numbers(), full=FULL, run=study)
