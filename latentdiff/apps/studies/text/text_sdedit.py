"""Study `text-sdedit`: images, drawings and photos noised to a level and denoised towards a prompt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import (
    PHOTOS_MODEL,
    THINGS_MODEL,
    larger_section,
    readable_scenes,
    text_model,
)
from latentdiff.apps.studies.kit.paired import PairedMetrics
from latentdiff.apps.studies.kit.presets import TextPreset
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel, Style
from latentdiff.apps.studies.restoration.sdedit import DRAWINGS, drawing, edit_from
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
from latentdiff.edit import level_of
from latentdiff.edit.originals import FIRST_SEED
from latentdiff.pipeline.pipeline import Pipeline

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
PHOTOS = (
    ("a blue dress", "a red dress"),
    ("a grey t-shirt", "a green t-shirt"),
    ("a white t-shirt", "a black pullover"),
    ("blue pants", "blue shorts"),
    ("a black skirt", "a red skirt"),
    ("a blue t-shirt", "a red t-shirt"),
)
"""The prompts of photos, and of their edits."""


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


def painted(strokes: Tensor, ink: str, ground: str) -> Tensor:
    """White strokes on black [1, 1, H, W] in two colours: [1, 3, H, W] in [-1, 1]."""
    cover = (strokes + 1) / 2
    first, second = (torch.tensor(COLOURS[name]).view(1, 3, 1, 1) / 127.5 - 1 for name in (ink, ground))
    return cover * first + (1 - cover) * second


Edits = Mapping[tuple[float, float], Mapping[str, EditScores]]  # by guidance scale, strength and attribute


def study(context: StudyContext, settings: TextSDEditSettings) -> Report:
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
        _findings(settings, scores),
        Section("Pictures edited towards another text", ABOUT, origin, *pictures),
        Section("What changes and what is kept", _curves(context, settings, scores), table),
        Section("From a drawing", DRAWN, picture),
        *larger_section(
            *(context, THINGS_MODEL, "From a drawing, larger", DRAWN),
            lambda pipeline: [_drawings(context, settings, pipeline, "drawings-things", THINGS)],
        ),
        *larger_section(
            *(context, PHOTOS_MODEL, "Photos", PHOTOS_WORDS),
            lambda pipeline: [_photos(context, settings, pipeline)],
        ),
        edits=[task.listed() for task in tasks],
    )


ABOUT = (
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


PHOTOS_WORDS = (
    "Photos of clothes towards another colour, another kind, or both, with the text beside each row. At low"
    " strengths the photo stays, from the middle on it changes while the ground and the place of the thing"
    " stay for a while, and near 1 nothing of it is left. Where kind and colour change together, the"
    " strengths between show neither. The photos are drawn by the model itself, so that its prior is the"
    " right one."
)


def _photos(context: StudyContext, settings: TextSDEditSettings, pipeline: Pipeline) -> Picture:
    """Photos that the model draws for a prompt, and their edits towards another from each strength."""
    sampling = Sampling(steps=settings.steps, guidance=settings.scales[-1])
    prompts, targets = (list(texts) for texts in zip(*PHOTOS, strict=True))
    seed = context.seed + FIRST_SEED
    photos = pipeline.sample(len(prompts), label=prompts, settings=sampling, seed=seed)
    starts = {s: level_of(pipeline, s) for s in settings.strengths}
    edits = edit_from(context, pipeline, photos, starts, sampling, label=targets)
    metrics = PairedMetrics.of(context, images=photos)
    stages = [("photo", photos), *((f"strength {s:g}", x) for s, x in edits.items())]
    notes = {f"strength {s:g}": metrics.pairs(x, photos).notes for s, x in edits.items()}
    names = [f"{prompt} → {target}" for prompt, target in PHOTOS]
    text = f"Photos and their edits, guidance {sampling.guidance:g}."
    return context.stages("photos", stages, text, names=names, notes=notes, legend=metrics.legend)


def edit_tasks(data: Dataset, n: int) -> tuple[list[EditTask], Tensor]:
    """``n`` edits of each kind of test images with complete captions, and the images [3 n, 3, H, W]."""
    tasks, rows = [], []
    for what in SWAPS:
        for place, (k, scene) in enumerate(complete(data)[:n]):
            tasks.append(EditTask(scene, exchanged(scene, what, place), what))
            rows.append(k)
    return tasks, to_float(data.test.images[rows])


def _curves(context: StudyContext, settings: TextSDEditSettings, scores: Edits) -> Picture:
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


def _findings(settings: TextSDEditSettings, scores: Edits) -> Iterator[str]:
    w, strengths = settings.scales[-1], settings.strengths
    for s in (min(strengths), max(strengths)):
        kinds = scores[w, s]
        success, others, psnr = (mean_score(kinds, name) for name in ("success", "others", "psnr"))
        yield (
            f"At strength {s:g}, guidance {w:g}, the new word is right in {success:.0%} and all else is kept"
            f" in {others:.0%} of the edits; the PSNR of the rest is {psnr:.1f} dB."
        )


STUDY = Study(
    quick=TextSDEditSettings(),
    full=TextSDEditSettings(
        edits=100,
        strengths=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
        scales=(1.0, 2.0, 3.0),
        steps=50,
    ),
    run=study,
)
