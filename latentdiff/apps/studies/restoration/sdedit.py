"""Studies `sdedit` and `text-sdedit`: images noised to a level and denoised from there, also towards a class
or a prompt, and round trips of DDIM inversion.
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
from latentdiff.apps.studies.kit.model import pixel_model, readable_scenes, text_model, things_section
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores
from latentdiff.apps.studies.kit.presets import LONG_COLOUR, LONG_PIXELS, PixelPreset, TextPreset
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel, Style
from latentdiff.apps.studies.runner import Study
from latentdiff.apps.studies.text.text_edits import (
    SWAPS,
    EditScores,
    EditTask,
    complete,
    edit_table,
    exchanged,
    first_of,
    mean_score,
    scores_of,
)
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.data.synthetic_scenes import COLOURS, caption
from latentdiff.edit import from_noise, invert, level_at, level_of, relative_error, sdedit
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
PAINTED = (
    ("hook", "red", "blue", "a large red seven on a blue background"),
    ("house", "black", "yellow", "a large black zero on a yellow background"),
    ("cross", "white", "green", "a large white four on a green background"),
    ("snail", "orange", "black", "a large orange six on a black background"),
    ("wave", "purple", "white", "a large purple two on a white background"),
)
"""A drawing, the colours of its strokes and of the background, and the prompt of its edit."""
THINGS = (
    ("hook", "red", "blue", "a large red seven on a blue background"),
    ("house", "black", "yellow", "a large house on a yellow background"),
    ("cross", "white", "green", "a large white letter t on a green background"),
    ("snail", "orange", "black", "a large snail on a black background"),
    ("wave", "purple", "white", "a large snake on a white background"),
)
"""The same for larger pictures."""


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


@dataclass(frozen=True)
class TextSDEditSettings:
    """``edits`` of each kind at each of the ``strengths`` and ``scales``; the last one is in the figures."""

    counts: tuple[int, int, int] = (20_000, 500, 1000)
    text: TextPreset | None = None
    edits: int = 24
    strengths: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    scales: tuple[float, ...] = (1.0, 3.0)
    steps: int = 25
    shown: int = 8


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


def painted(strokes: Tensor, ink: str, ground: str) -> Tensor:
    """White strokes on black [1, 1, H, W] in two colours: [1, 3, H, W] in [-1, 1]."""
    cover = (strokes + 1) / 2
    first, second = (torch.tensor(COLOURS[name]).view(1, 3, 1, 1) / 127.5 - 1 for name in (ink, ground))
    return cover * first + (1 - cover) * second


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


Edits = Mapping[tuple[float, float], Mapping[str, EditScores]]  # by guidance scale, strength and attribute


def text_study(context: StudyContext, settings: TextSDEditSettings) -> Report:
    """Edits of one word of a caption over strengths and guidance scales, and edits of drawings."""
    data = readable_scenes(context, settings.counts)
    pipeline, origin = text_model(context, settings.text, data)
    tasks, images = edit_tasks(data, settings.edits)
    prompts = [caption(task.edited) for task in tasks]
    starts = {s: level_of(pipeline, s) for s in settings.strengths}
    samplings = {w: Sampling(steps=settings.steps, guidance=w) for w in settings.scales}
    w = settings.scales[-1]
    with context.part("edits"):
        edits = {
            scale: edit_from(context, pipeline, images, starts, sampling, label=prompts)
            for scale, sampling in samplings.items()
        }
    scores = {
        (scale, s): scores_of(tasks, images, x) for scale, every in edits.items() for s, x in every.items()
    }
    with context.part("drawings"):
        picture = _drawings(context, settings, pipeline, "drawings", PAINTED)
    pictures = []
    for what in SWAPS:  # the first edits of each kind, from little to much noise
        places = first_of(tasks, what, settings.shown)
        names = [prompts[k] for k in places]
        rows = [("picture", images[places]), *((f"strength {s:g}", x[places]) for s, x in edits[w].items())]
        text = f"{what.capitalize()} exchanged, guidance {w:g}; the text is beside each row."
        pictures.append(context.stages(what, rows, text, names=names))
    about = "The rest: the background for a digit or its colour, the digit's inside for the background."
    table = edit_table(("guidance", "strength"), scores.items(), about)
    return Report(
        _text_findings(settings, scores),
        Section("Pictures edited towards another text", TEXT_ABOUT, origin, *pictures),
        Section("What changes and what is kept", _text_curves(context, settings, scores), table),
        Section("From a drawing", DRAWN, picture),
        *things_section(
            context,
            "From a drawing, larger",
            DRAWN,
            lambda pipeline: [_drawings(context, settings, pipeline, "drawings-things", THINGS)],
        ),
        edits=[task.listed() for task in tasks],
    )


TEXT_ABOUT = (
    "SDEdit noises an image to some level and denoises it from there, here conditioned on a text with one"
    " word exchanged (Meng et al. 2022). The strength is the level as a share of T: at 1 nothing of the"
    " image is left, at low strengths the text hardly matters. The images are test images, unknown to the"
    " model."
)
DRAWN = (
    "A few strokes in two colours, edited towards a text: at low strengths the image stays a drawing, at high"
    " ones it shows the text and keeps the position and rough shape for a while."
)


def _drawings(
    context: StudyContext,
    settings: TextSDEditSettings,
    pipeline: Pipeline,
    name: str,
    painted_as: Sequence[tuple[str, str, str, str]],
) -> Picture:
    """Drawings in two colours, and their edits towards a prompt from each of the strengths."""
    w, shape = settings.scales[-1], (1, *pipeline.codec.image_shape[1:])
    drawings = torch.cat(
        [painted(drawing(DRAWINGS[strokes], shape), ink, ground) for strokes, ink, ground, _ in painted_as]
    )
    starts = {s: level_of(pipeline, s) for s in settings.strengths}
    sampling, targets = Sampling(steps=settings.steps, guidance=w), [text for *_, text in painted_as]
    drawn = edit_from(context, pipeline, drawings, starts, sampling, label=targets)
    stages = [("drawn", drawings), *((f"strength {s:g}", x) for s, x in drawn.items())]
    return context.stages(name, stages, f"Drawings and their edits, guidance {w:g}.", names=targets)


def edit_tasks(data: Dataset, n: int) -> tuple[list[EditTask], Tensor]:
    """``n`` edits of each kind of test images with complete captions, and the images [3 n, 3, H, W]."""
    tasks, rows = [], []
    for what in SWAPS:
        for place, (k, scene) in enumerate(complete(data)[:n]):
            tasks.append(EditTask(scene, exchanged(scene, what, place), what))
            rows.append(k)
    return tasks, to_float(data.test.images[rows])


def _text_curves(context: StudyContext, settings: TextSDEditSettings, scores: Edits) -> Picture:
    def panel(title: str, label: str, name: str, times: float) -> Panel:
        curves = []
        ends: dict[float, Style] = {settings.scales[0]: "dashed", settings.scales[-1]: "marked"}
        for w, style in ends.items():
            for k, what in enumerate(SWAPS):
                y = [times * float(getattr(scores[w, s][what], name)) for s in settings.strengths]
                curves.append(Curve(f"{what}, guidance {w:g}", list(settings.strengths), y, style, color=k))
        return Panel(title, "strength", label, curves)

    panels = [
        panel("new word right", "percent", "success", 100),
        panel("all else kept", "percent", "others", 100),
        panel("pixels that the edit is not about", "PSNR (dB)", "psnr", 1),
    ]
    return context.plot("strengths", panels, "By strength and guidance, a curve for each attribute.")


def _text_findings(settings: TextSDEditSettings, scores: Edits) -> Iterator[str]:
    w, strengths = settings.scales[-1], settings.strengths
    for s in (min(strengths), max(strengths)):
        kinds = scores[w, s]
        success, others, psnr = (mean_score(kinds, name) for name in ("success", "others", "psnr"))
        yield (
            f"At strength {s:g}, guidance {w:g}, the new word is right in {success:.0%} and all else is kept"
            f" in {others:.0%} of the edits; the PSNR of the rest is {psnr:.1f} dB."
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
TEXT_STUDY = Study(
    quick=TextSDEditSettings(),
    full=TextSDEditSettings(
        edits=100,
        strengths=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        scales=(1.0, 2.0, 3.0),
        steps=50,
    ),
    run=text_study,
)
