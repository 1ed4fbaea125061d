"""Study `prompt-to-prompt`: words exchanged, added and weighted, against drawing anew and against SDEdit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import FULL_TEXTS, TextNumbers
from latentdiff.apps.studies.kit.text_model import model_of_texts, scenes_to_read
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.apps.studies.text.text_edits import SWAPS, EditTask, Scores, exchanged, score, tasks
from latentdiff.apps.studies.text.text_failures import failures
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.data.synthetic_scenes import Scene, caption, parse
from latentdiff.edit import Edit, level_of, prompt_to_prompt, sdedit
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded


@dataclass(frozen=True)
class Numbers:
    """``edits`` of each of the three kinds; ``shares``: of the way on which attention to words and among
    pixels is kept, the first in the pictures; SDEdit from each of the ``strengths``; ``shown`` pictures in a
    row.
    """

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextNumbers | None = None
    edits: int = 20
    strengths: tuple[float, ...] = (0.4, 0.6, 0.8)
    steps: int = 25
    guidance: float = 2.0
    shares: tuple[tuple[float, float], ...] = ((0.8, 0.4), (0.4, 0.2), (1.0, 0.8))
    shown: int = 6


def study(lab: StudyContext, numbers: Numbers) -> Report:
    data = scenes_to_read(lab, numbers.counts)
    pipeline, where = model_of_texts(lab, numbers.text, data)
    wanted = tasks(numbers.edits)
    with lab.part("prompt-to-prompt"):
        made: dict[str, Tensor] = {}
        for share in numbers.shares:
            source, made[_named(share)] = _edited(lab, numbers, pipeline, wanted, share)
    with lab.part("drawn anew"):
        made["drawn anew from the same noise"] = _anew(lab, numbers, pipeline, wanted)
    with lab.part("SDEdit"):
        for strength in numbers.strengths:
            made[f"SDEdit, strength {strength:g}"] = _sdedit(lab, numbers, pipeline, wanted, source, strength)
    scores = {
        name: {what: score(wanted, source, images, what) for what in SWAPS} for name, images in made.items()
    }
    pictures = _pictures(lab, numbers, wanted, source, {name: made[name] for name in _few(numbers, made)})
    sections = [
        Section("Words exchanged", (Words(ABOUT), where, *pictures, _table(scores), _balance(lab, scores)))
    ]
    with lab.part("added and weighted"):
        sections.append(_other_edits(lab, numbers, pipeline))
    with lab.part("real pictures"):
        sections.append(_real(lab, numbers, pipeline, data))
    with lab.part("where it fails"):
        settings, n = _settings(numbers), max(numbers.shown, numbers.edits)
        sections.append(failures(lab, pipeline, settings=settings, n=n, shown=numbers.shown))
    return Report(tuple(_findings(scores)), tuple(sections), {"edits": [_words(task) for task in wanted]})


ABOUT = (
    "One word of each text is exchanged. Prompt-to-prompt (Hertz et al. 2023) draws both texts from the same"
    " noise in one batch and gives the edit the attention of the source: to the words that stay, and among"
    " pixels. Drawing the new text from the same noise keeps only what the noise decides; SDEdit noises the"
    " finished picture and denoises it towards the new text."
)


def _words(task: EditTask) -> list[str]:
    return [caption(task.source), caption(task.edited), task.what]


def _named(share: tuple[float, float]) -> str:
    return f"prompt-to-prompt, cross {share[0]:g}, self {share[1]:g}"


def _few(numbers: Numbers, made: Mapping[str, Tensor]) -> list[str]:
    """The methods in the pictures: one of each kind."""
    middle = numbers.strengths[len(numbers.strengths) // 2]
    return [
        _named(numbers.shares[0]),
        *(name for name in made if name.startswith("drawn") or name.endswith(f" {middle:g}")),
    ]


def _settings(numbers: Numbers) -> Sampling:
    return Sampling(steps=numbers.steps, guidance=numbers.guidance)


def _edited(
    lab: StudyContext,
    numbers: Numbers,
    pipeline: Pipeline,
    wanted: Sequence[EditTask],
    share: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Sources and edits [n, C, H, W], pair k from the study's seed + k."""
    pairs = []
    for k, task in enumerate(wanted):
        edit = Edit(caption(task.edited), *share)
        made = prompt_to_prompt(
            pipeline, caption(task.source), [edit], 1, settings=_settings(numbers), seed=lab.seed + k
        )
        pairs.append((made.source, made.edits[0]))
    sources, edits = (torch.cat(column) for column in zip(*pairs, strict=True))
    return sources, edits


def _anew(lab: StudyContext, numbers: Numbers, pipeline: Pipeline, wanted: Sequence[EditTask]) -> Tensor:
    texts = [caption(task.edited) for task in wanted]
    return pipeline.sample(
        len(texts), label=texts, steps=numbers.steps, guidance=numbers.guidance, seed=lab.seed
    )


def _sdedit(
    lab: StudyContext,
    numbers: Numbers,
    pipeline: Pipeline,
    wanted: Sequence[EditTask],
    source: Tensor,
    strength: float,
) -> Tensor:
    texts, t = [caption(task.edited) for task in wanted], level_of(pipeline, strength)
    made = sdedit(pipeline, source, t, settings=_settings(numbers), label=texts, seed=lab.seed + len(wanted))
    return made.images


def _pictures(
    lab: StudyContext,
    numbers: Numbers,
    wanted: Sequence[EditTask],
    source: Tensor,
    made: Mapping[str, Tensor],
) -> list[Picture]:
    """For each kind the first edits: the source above what each method makes of it."""
    found = []
    for what in SWAPS:
        rows = [k for k, task in enumerate(wanted) if task.what == what][: numbers.shown]
        columns = [folded(caption(wanted[k].edited), 12) for k in rows]
        grid = [
            ("source", source[rows]),
            *((folded(name, 22), images[rows]) for name, images in made.items()),
        ]
        texts = "; ".join(f"“{caption(wanted[k].source)}” to “{caption(wanted[k].edited)}”" for k in rows)
        found.append(lab.rows(what, grid, f"{what} exchanged: {texts}.", about={"columns": columns}))
    return found


def _table(scores: Mapping[str, Mapping[str, Scores]]) -> Table:
    columns = (
        "",
        "exchanged",
        "new word right, %",
        "all else kept, %",
        "PSNR of the rest, dB",
        "overlap of the shape",
    )
    rows = tuple(
        (name, what, *each.cells()) for name, kinds in scores.items() for what, each in kinds.items()
    )
    return Table(
        "edits",
        columns,
        rows,
        "The rest: the ground for a digit or its colour, the digit's inside for the ground. All else: the"
        " other attributes, read from both pictures.",
    )


def _balance(lab: StudyContext, scores: Mapping[str, Mapping[str, Scores]]) -> Picture:
    """How much is kept against how often the edit succeeds: the mean over the three kinds, a curve for each
    method.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for name, kinds in scores.items():
        success, decibels = (_mean(kinds, what) for what in ("success", "psnr"))
        points.setdefault(name.split(",")[0], []).append((100 * success, decibels))
    curves = [
        Curve(name, [x for x, _ in sorted(found)], [y for _, y in sorted(found)], "marked")
        for name, found in points.items()
    ]
    panel = Panel("what an edit changes and keeps", "new word right, percent", "PSNR of the rest, dB", curves)
    return lab.plot(
        "balance",
        [panel],
        "Up and to the right is better. Points: shares of the way, or strengths of SDEdit.",
    )


def _mean(kinds: Mapping[str, Scores], what: str) -> float:
    return sum(float(getattr(each, what)) for each in kinds.values()) / len(kinds)


def _other_edits(lab: StudyContext, numbers: Numbers, pipeline: Pipeline) -> Section:
    """Words added and words weighted."""
    settings, n = _settings(numbers), numbers.shown

    def rows(source: str, edits: Mapping[str, Edit], name: str, text: str) -> Picture:
        made = prompt_to_prompt(pipeline, source, list(edits.values()), n, settings=settings, seed=lab.seed)
        grid = [(folded(source), made.source)]
        grid += [(folded(title), images) for title, images in zip(edits, made.edits, strict=True)]
        return lab.rows(name, grid, text, about={"seed": lab.seed})

    plain = "a red seven"
    added = {text: Edit(text) for text in ("a large red seven", "a red seven on a yellow background")}
    base = "a large red seven on a blue background"
    weighted = {
        f"{word} x {factor:g}": Edit(base, factors={word: factor})
        for word in ("red", "seven")
        for factor in (-1, 0, 3)
    }
    return Section(
        "Words added and weighted",
        (
            Words(
                "Added words keep their own attention, all others that of the source. Weights multiply the"
                " attention to a word; 0 takes it away, below 0 drives it out."
            ),
            rows(plain, added, "added", "Words added to a short text."),
            rows(base, weighted, "weighted", f"“{base}” with the attention to one word multiplied."),
        ),
    )


def _real(lab: StudyContext, numbers: Numbers, pipeline: Pipeline, data: Dataset) -> Section:
    """Test pictures edited by their own captions."""
    captions = data.test.captions or ()
    known = [
        (k, scene) for k, scene in ((k, parse(text)) for k, text in enumerate(captions)) if _plain(scene)
    ]
    chosen = known[: numbers.shown]
    rows: dict[str, list[Tensor]] = {"picture": [], "source": [], **{what: [] for what in SWAPS}}
    errors = []
    for place, (k, scene) in enumerate(chosen):
        images = to_float(data.test.images[k : k + 1])
        edits = [Edit(caption(exchanged(scene, what, place)), *numbers.shares[0]) for what in SWAPS]
        made = prompt_to_prompt(pipeline, caption(scene), edits, images=images, settings=_settings(numbers))
        rows["picture"].append(images)
        rows["source"].append(made.source)
        errors.append(float((made.source - pipeline.reconstruct(images)).abs().max()))
        for what, image in zip(SWAPS, made.edits, strict=True):
            rows[what].append(image)
    grid = [(name, torch.cat(images)) for name, images in rows.items()]
    words = Words(
        "Pictures that the model has not drawn: DDIM inversion finds their latents on the way to noise, and"
        " the source keeps to these (Ju et al. 2024). What comes back of the picture itself differs by at"
        f" most {max(errors):.1g} from what the VAE makes of it."
    )
    texts = "; ".join(caption(scene) for _, scene in chosen)
    return Section("Real pictures", (words, lab.rows("real", grid, f"Test pictures, edited: {texts}.")))


def _plain(scene: Scene) -> bool:
    return len(scene.things) == 1 and scene.background is not None and scene.things[0].size == "large"


def _findings(scores: Mapping[str, Mapping[str, Scores]]) -> Iterator[str]:
    for name, kinds in scores.items():
        success, others, decibels = (_mean(kinds, what) for what in ("success", "others", "psnr"))
        yield (
            f"{name}: the new word is right in {success:.0%}, all else is kept in {others:.0%}, the rest of"
            f" the picture at {decibels:.1f} dB."
        )


FULL = Numbers(
    counts=(40_000, 2_000, 2_000),
    text=FULL_TEXTS,
    edits=167,
    strengths=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    steps=50,
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
