"""Study `text-sdedit`: pictures noised, and denoised towards another text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import FULL_TEXTS, TextNumbers
from latentdiff.apps.studies.kit.text_model import model_of_texts, scenes_to_read
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.restoration.sdedit import DRAWINGS, drawing
from latentdiff.apps.studies.runner import Study
from latentdiff.apps.studies.text.text_edits import SWAPS, EditTask, Scores, exchanged, score
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.data.synthetic_scenes import COLOURS, Scene, caption, parse
from latentdiff.edit import level_of, sdedit
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded


@dataclass(frozen=True)
class Numbers:
    """``edits`` of each kind, from each of the ``strengths`` with each of the ``scales`` of guidance; the
    second of these is in the pictures.
    """

    counts: tuple[int, int, int] = (20_000, 500, 1000)
    text: TextNumbers | None = None
    edits: int = 24
    strengths: tuple[float, ...] = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    scales: tuple[float, ...] = (1.0, 3.0)
    steps: int = 25
    shown: int = 8


Found = Mapping[float, Mapping[float, Tensor]]  # by scale and strength


def study(lab: StudyContext, numbers: Numbers) -> Report:
    data = scenes_to_read(lab, numbers.counts)
    pipeline, where = model_of_texts(lab, numbers.text, data)
    wanted, images = _tasks(data, numbers.edits)
    with lab.part("edits"):
        made = {
            w: {
                s: _edited(lab, numbers, pipeline, images, [caption(task.edited) for task in wanted], s, w)
                for s in numbers.strengths
            }
            for w in numbers.scales
        }
    scores = {
        (w, s): {what: score(wanted, images, made[w][s], what) for what in SWAPS}
        for w in numbers.scales
        for s in numbers.strengths
    }
    with lab.part("drawings"):
        drawn = _drawings(lab, numbers, pipeline)
    return Report(
        tuple(_findings(numbers, scores)),
        (
            Section(
                "Pictures told to be something else",
                (Words(ABOUT), where, *_pictures(lab, numbers, wanted, images, made)),
            ),
            Section("What changes and what is kept", (_curves(lab, numbers, scores), _table(scores))),
            Section("From a drawing", (Words(DRAWN), *drawn)),
        ),
        {"edits": [[caption(task.source), caption(task.edited), task.what] for task in wanted]},
    )


ABOUT = (
    "SDEdit noises a picture to some level and denoises it from there, here towards a text in which one word"
    " was exchanged (Meng et al. 2022). The strength says how high: at 1 nothing of the picture is left, with"
    " little noise the text has nothing to decide any more. Real pictures of the test set; the model has"
    " never seen them."
)
DRAWN = (
    "A few strokes in two colours, and what the model makes of them for a text: with little noise it stays a"
    " drawing, with much it becomes what the text says and keeps the place and the rough shape for a while."
)


def _tasks(data: Dataset, n: int) -> tuple[list[EditTask], Tensor]:
    """``n`` edits of each kind of test pictures of one digit whose captions say everything, and the
    pictures.
    """
    known = [(k, parse(text)) for k, text in enumerate(data.test.captions or ())]
    plain = [(k, scene) for k, scene in known if _says_everything(scene)]
    found, rows = [], []
    for what in SWAPS:
        for place, (k, scene) in enumerate(plain[:n]):
            found.append(EditTask(scene, exchanged(scene, what, place), what))
            rows.append(k)
    return found, to_float(data.test.images[rows])


def _says_everything(scene: Scene) -> bool:
    return len(scene.things) == 1 and scene.background is not None and scene.things[0].size is not None


def _edited(
    lab: StudyContext,
    numbers: Numbers,
    pipeline: Pipeline,
    images: Tensor,
    texts: Sequence[str],
    strength: float,
    w: float,
) -> Tensor:
    settings, t = Sampling(steps=numbers.steps, guidance=w), level_of(pipeline, strength)
    return sdedit(pipeline, images, t, settings=settings, label=list(texts), seed=lab.seed).images


def _pictures(
    lab: StudyContext, numbers: Numbers, wanted: Sequence[EditTask], images: Tensor, made: Found
) -> list[Picture]:
    """For each kind the first edits, from little to much noise."""
    w, found = numbers.scales[-1], []
    for what in SWAPS:
        rows = [k for k, task in enumerate(wanted) if task.what == what][: numbers.shown]
        columns = [folded(caption(wanted[k].edited), 10) for k in rows]
        grid = [("picture", images[rows]), *((f"strength {s:g}", x[rows]) for s, x in made[w].items())]
        text = f"{what.capitalize()} exchanged, guidance {w:g}; each column is told the text above it."
        found.append(lab.rows(what, grid, text, columns=columns, about={"seed": lab.seed}))
    return found


def _curves(
    lab: StudyContext, numbers: Numbers, scores: Mapping[tuple[float, float], Mapping[str, Scores]]
) -> Picture:
    def panel(title: str, label: str, name: str, scale: float) -> Panel:
        curves = [
            Curve(
                f"{what}, guidance {w:g}",
                list(numbers.strengths),
                [scale * float(getattr(scores[w, s][what], name)) for s in numbers.strengths],
                "marked" if w == numbers.scales[-1] else "dashed",
            )
            for w in numbers.scales
            for what in SWAPS
        ]
        return Panel(title, "strength", label, curves)

    panels = [
        panel("new word right", "percent", "success", 100),
        panel("all else kept", "percent", "others", 100),
        panel("pixels that the edit is not about", "PSNR (dB)", "psnr", 1),
    ]
    return lab.plot("strengths", panels, "By strength and guidance, a curve for what was exchanged.")


def _table(scores: Mapping[tuple[float, float], Mapping[str, Scores]]) -> Table:
    columns = (
        "guidance",
        "strength",
        "exchanged",
        "new word right, %",
        "all else kept, %",
        "PSNR of the rest, dB",
        "overlap of the shape",
    )
    rows = tuple(
        (w, s, what, *each.cells()) for (w, s), kinds in scores.items() for what, each in kinds.items()
    )
    return Table(
        "edits",
        columns,
        rows,
        "The rest: the ground for a digit or its colour, the digit's inside for the ground.",
    )


PAINTED = (
    ("hook", "red", "blue", "a large red seven on a blue background"),
    ("house", "black", "yellow", "a large black zero on a yellow background"),
    ("cross", "white", "green", "a large white four on a green background"),
    ("snail", "orange", "black", "a large orange six on a black background"),
    ("wave", "purple", "white", "a large purple two on a white background"),
)
"""Strokes, their colour, that of the ground, and the text they should become."""


def _drawings(lab: StudyContext, numbers: Numbers, pipeline: Pipeline) -> tuple[Picture, ...]:
    shape = pipeline.codec.image_shape
    painted = torch.cat(
        [_painted(drawing(DRAWINGS[name], (1, *shape[1:])), ink, ground) for name, ink, ground, _ in PAINTED]
    )
    texts, w = [text for *_, text in PAINTED], numbers.scales[-1]
    rows = [("drawn", painted)]
    rows += [
        (f"strength {s:g}", _edited(lab, numbers, pipeline, painted, texts, s, w)) for s in numbers.strengths
    ]
    columns = [folded(text, 10) for text in texts]
    picture = lab.rows(
        "drawings",
        rows,
        f"Drawings and what they become, guidance {w:g}.",
        columns=columns,
        about={"seed": lab.seed},
    )
    return (picture,)


def _painted(strokes: Tensor, ink: str, ground: str) -> Tensor:
    """White strokes on black [1, 1, H, W] in two colours, [1, 3, H, W] in [-1, 1]."""
    cover = (strokes + 1) / 2
    first, second = (torch.tensor(COLOURS[name]).view(1, 3, 1, 1) / 127.5 - 1 for name in (ink, ground))
    return cover * first + (1 - cover) * second


def _findings(numbers: Numbers, scores: Mapping[tuple[float, float], Mapping[str, Scores]]) -> Iterator[str]:
    w = numbers.scales[-1]
    for what in SWAPS:
        told = ", ".join(
            f"{s:g}: {scores[w, s][what].success:.0%}, {scores[w, s][what].others:.0%} and"
            f" {scores[w, s][what].psnr:.1f} dB"
            for s in dict.fromkeys(
                (
                    min(numbers.strengths),
                    numbers.strengths[len(numbers.strengths) // 2],
                    max(numbers.strengths),
                )
            )
        )
        yield (
            f"{what.capitalize()}, guidance {w:g}: how often the new word is right, how often all else is"
            f" kept, and the PSNR of the rest, by strength: {told}."
        )
    little, much = (scores[w, s] for s in (min(numbers.strengths), max(numbers.strengths)))
    success = [sum(kinds[what].success for what in SWAPS) / len(SWAPS) for kinds in (little, much)]
    yield (
        f"From strength {min(numbers.strengths):g} to {max(numbers.strengths):g} the share of right words"
        f" goes from {success[0]:.0%} to {success[1]:.0%} over all kinds."
    )


FULL = replace(
    Numbers(),
    counts=(40_000, 2_000, 2_000),
    text=FULL_TEXTS,
    edits=150,
    strengths=(0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
    scales=(1.0, 2.0, 3.0, 5.0),
    steps=50,
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
