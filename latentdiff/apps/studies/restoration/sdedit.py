"""Study `sdedit`: images noised to a level and denoised from there, also towards a class, and round trips of
DDIM inversion.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.colour import colour_part
from latentdiff.apps.studies.kit.comparison import Difference
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixel_model
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores
from latentdiff.apps.studies.kit.presets import LONG_COLOUR, LONG_PIXELS, PixelPreset
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.edit import from_noise, invert, level_at, relative_error, sdedit
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10
K = TypeVar("K")
Stroke = tuple[tuple[float, float], ...]
DRAWINGS: dict[str, tuple[Stroke, ...]] = {  # by hand, in units of the side
    "house": (((0.2, 0.85), (0.2, 0.45), (0.5, 0.15), (0.8, 0.45), (0.8, 0.85), (0.2, 0.85)),),
    "wave": (((0.15, 0.5), (0.3, 0.25), (0.45, 0.5), (0.6, 0.75), (0.85, 0.4)),),
    "cross": (((0.5, 0.15), (0.5, 0.85)), ((0.2, 0.5), (0.8, 0.5))),
    "hook": (((0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.45, 0.85)),),
    "snail": (((0.8, 0.75), (0.35, 0.8), (0.2, 0.5), (0.45, 0.2), (0.7, 0.4), (0.5, 0.55)),),
}


@dataclass(frozen=True)
class SDEditSettings:
    """``indices``: start indices among the levels of ``steps`` steps; ``trips``: steps of the inversions."""

    pixels: PixelPreset = field(default_factory=PixelPreset)
    indices: tuple[int, ...] = (20, 10, 7, 5, 3, 1)
    steps: int = 30
    tested: int = 100
    guidance: float = 3.0
    trips: tuple[int, ...] = (10, 20, 40, 80)
    colour: PixelPreset = field(default_factory=lambda: PixelPreset(width=64, steps=150, batch=64))
    colour_tested: int = 10


def edit_from(
    context: StudyContext,
    pipeline: Pipeline,
    images: Tensor,
    starts: Mapping[K, int],
    sampling: Sampling,
    *,
    label: Sequence[int] | Sequence[str] | None = None,
) -> dict[K, Tensor]:
    """SDEdit of images [n, C, H, W] in [-1, 1] from each of the levels ``starts``."""
    return {
        name: sdedit(pipeline, images, t, settings=sampling, label=label, seed=context.seed).images
        for name, t in starts.items()
    }


def drawing(strokes: Sequence[Stroke], shape: Sequence[int]) -> Tensor:
    """White strokes on black, as thick as handwriting: an image float32 [1, C, H, W] in [-1, 1]."""
    channels, height, width = shape
    scale = 8
    picture = Image.new("L", (scale * width, scale * height))
    pen = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = [(x * scale * width, y * scale * height) for x, y in stroke]
        pen.line(points, fill=255, width=scale * height // 12, joint="curve")
    small = torch.from_numpy(np.array(picture.resize((width, height), Image.Resampling.BOX))).float()
    return (small / 127.5 - 1).expand(1, channels, height, width)


def study(context: StudyContext, settings: SDEditSettings) -> Report:
    """Test digits and drawings from several start indices, towards the next class, and inversion."""
    pipeline = pixel_model(context, settings.pixels, latents=True)
    sampling, metrics = Sampling(steps=settings.steps), PairedMetrics.of(context)
    images, labels = context.test_images(settings.tested)
    starts = {k: level_at(pipeline, sampling, k) for k in settings.indices}
    titles = {k: f"index {k}\nt = {t}" for k, t in starts.items()}

    def stages(
        name: str,
        first: str,
        inputs: Tensor,
        edits: Mapping[int, Tensor],
        text: str,
        names: Sequence[str] = (),
    ) -> Picture:
        found = [(first, inputs), *((titles[k], x) for k, x in edits.items())]
        notes = {titles[k]: metrics.pairs(x, inputs).notes for k, x in edits.items()}
        return context.stages(name, found, text, names=names, notes=notes, legend=metrics.legend)

    with context.part("edits"):
        edits = edit_from(context, pipeline, images, starts, sampling)
        scores = {k: metrics.pairs(x, images) for k, x in edits.items()}
        reader, kept = ClassReader.of(context), {}
        if reader is not None and labels is not None:
            kept = {k: reader.accuracy(x, labels) for k, x in edits.items()}
        shape = pipeline.codec.image_shape
        drawings = torch.cat([drawing(strokes, shape) for strokes in DRAWINGS.values()])
        drawn = edit_from(context, pipeline, drawings, starts, sampling)
    cells = [((k, starts[k]), [pairs]) for k, pairs in scores.items()]
    last = {"class kept": list(kept.values())} if kept else {}
    blocks = (
        stages("digits", "input", images, edits, "Test digits, no class given."),
        stages("drawings", "drawn", drawings, drawn, "Drawings that are no digits, edited."),
        metrics.table("edits", ("start index", "t"), cells, "Edits against their input.", **last),
    )
    sections = [Section("From little to much", ABOUT, *blocks)]
    if pipeline.classes:
        with context.part("towards a class"):
            first, guided = images[:SHOWN], Sampling(steps=settings.steps, guidance=settings.guidance)
            targets = [(k + 1) % len(pipeline.classes) for k in range(len(first))]
            towards = edit_from(context, pipeline, first, starts, guided, label=targets)
        names = [f"to {pipeline.classes[k]}" for k in targets]
        text = "Each image conditioned on the next class."
        picture = stages("classes", "input", first, towards, text, names)
        sections.append(Section("Towards a class", TOWARDS.format(w=settings.guidance), picture))
    with context.part("inversion"):
        trips, section = _inverted(context, settings, pipeline, images[:SHOWN])
    return Report(_findings(scores, kept, trips), *sections, section, *_colour(context, settings))


ABOUT = (
    "SDEdit noises an image to some level and denoises it from there (Meng et al. 2022): detail below the"
    " noise is sampled anew, the rest is kept. The start index counts the sampler's levels from the noisiest"
    " one, so a small index is much noise."
)
TOWARDS = (
    "The same, conditioned on the next class (guidance {w:g}). With enough noise the image changes class, and"
    " over some levels it keeps what does not depend on it (of a digit slant and stroke width)."
)


def _colour(context: StudyContext, settings: SDEditSettings) -> Iterator[Section]:
    """Edits of colour pictures, in their own class and towards the next one."""
    part = colour_part(context, settings.colour, settings.colour_tested)
    pipeline, images, labels = part.pipeline, part.images, part.labels
    plain, guided = Sampling(steps=settings.steps), Sampling(steps=settings.steps, guidance=settings.guidance)
    starts = {k: level_at(pipeline, plain, k) for k in settings.indices}
    with context.part("colour: edits"):
        edits = edit_from(context, pipeline, images, starts, plain, label=labels)
        cells = [((k, starts[k]), [part.metrics.pairs(x, images)]) for k, x in edits.items()]
        about = "Edits of colour pictures against their input."
        titles = {k: f"index {k}\nt = {t}" for k, t in starts.items()}
        found = [("input", images), *((titles[k], x) for k, x in edits.items())]
        notes = {titles[k]: part.metrics.pairs(x, images).notes for k, x in edits.items()}
        text = "Colour pictures, edited as what they are."
        picture = context.stages("colour", found, text, notes=notes, legend=part.metrics.legend)
        table = part.metrics.table("colour-edits", ("start index", "t"), cells, about)
    yield Section("Colour pictures", part.about, picture, table)
    if labels is None:
        return
    with context.part("colour: towards a class"):
        targets = [(k + 1) % len(pipeline.classes) for k in labels]
        towards = edit_from(context, pipeline, images, starts, guided, label=targets)
        found = [("input", images), *((titles[k], x) for k, x in towards.items())]
        names = [f"to {pipeline.classes[k]}" for k in targets]
        text = "Each picture conditioned on the class at its left."
        picture = context.stages("colour-classes", found, text, names=names)
    yield Section("Colour pictures, towards a class", TOWARDS.format(w=settings.guidance), picture)


INVERSION = (
    "DDIM can be run backwards: from an image to the noise that it would be sampled from. Each step of the"
    " inversion evaluates its estimate one level away from where the step back evaluates it, which is the"
    " error of the round trip. For a denoiser that is smooth in x and t the error would fall as one over the"
    " number of steps (dashed); the fitted exponent is in the findings above."
)


def _inverted(
    context: StudyContext, settings: SDEditSettings, pipeline: Pipeline, images: Tensor
) -> tuple[dict[int, Tensor], Section]:
    """The relative error of each image's round trip through DDIM inversion, by number of steps."""
    errors, rows = {}, [("input", images)]
    best = pipeline.reconstruct(images)
    for steps in settings.trips:
        sampling = Sampling(steps=steps)
        back = from_noise(pipeline, invert(pipeline, images, settings=sampling), settings=sampling).images
        errors[steps] = relative_error(back, best).double()
        rows.append((f"{steps} steps", back))
    means = {steps: float(error.mean()) for steps, error in errors.items()}
    law = [next(iter(means.values())) * next(iter(means)) / steps for steps in means]
    curves = [
        Curve("round trips", list(means), list(means.values()), "marked"),
        Curve("one over the steps", list(means), law, "dashed"),
    ]
    panel = Panel("error of a round trip", "steps", "relative error", curves, log_x=True, log_y=True)
    picture = context.stages("inversion", rows, "Inverted and sampled again.")
    plot = context.plot("round-trips", [panel], "The error of a round trip by number of steps.")
    return errors, Section("Inversion", INVERSION, picture, plot)


def exponent(trips: Mapping[int, Tensor]) -> Difference:
    """The power of the number of steps that errors float64 [n] scale with, and its interval over the images:
    the slope of the errors' logarithms, fitted to each image.
    """
    steps = torch.tensor([math.log(count) for count in trips], dtype=torch.float64)
    logs = torch.stack([error.clamp_min(1e-300).log() for error in trips.values()])  # [steps, images]
    centred = steps - steps.mean()
    slopes = centred @ logs / centred.square().sum()
    return comparison.paired(slopes, torch.zeros_like(slopes))


def _findings(
    scores: Mapping[int, PairedScores], kept: Mapping[int, float], trips: Mapping[int, Tensor]
) -> Iterator[str]:
    little, much = max(scores), min(scores)
    classes = f"; the class is kept in {kept[little]:.0%} and {kept[much]:.0%}" if kept else ""
    yield (
        f"The PSNR against the input is {scores[little].psnr:.3g} dB from start index {little} and"
        f" {scores[much].psnr:.3g} dB from {much}{classes}."
    )
    few, many = min(trips), max(trips)
    power = f"; the error scales as the number of steps to the power of {exponent(trips).text()}"
    yield (
        f"A round trip of inversion has a relative error of {float(trips[few].mean()):.2g} with {few} steps"
        f" and of {float(trips[many].mean()):.2g} with {many}{power if len(trips) > 1 else ''}."
    )


STUDY = Study(
    quick=SDEditSettings(),
    full=SDEditSettings(
        pixels=LONG_PIXELS,
        tested=500,
        trips=(10, 20, 40, 80, 160, 320),
        colour=LONG_COLOUR,
        colour_tested=30,
    ),
    run=study,
)
