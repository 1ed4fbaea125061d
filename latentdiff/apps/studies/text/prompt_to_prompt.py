"""Study `prompt-to-prompt`: words exchanged, added and weighted, against sampling anew and SDEdit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import readable_scenes, text_model
from latentdiff.apps.studies.kit.presets import FULL_TEXT, TextPreset
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.apps.studies.text.text_edits import (
    COLUMNS,
    SWAPS,
    EditScores,
    EditTask,
    exchanged,
    score,
    tasks,
)
from latentdiff.apps.studies.text.text_failures import failures
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.data.synthetic_scenes import Scene, caption, parse
from latentdiff.edit import Edit, level_of, prompt_to_prompt, sdedit
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded


@dataclass(frozen=True)
class PromptToPromptSettings:
    """``edits`` of each of the three kinds; ``shares``: of the way on which attention to words and among
    pixels is kept, the first in the pictures; SDEdit from each of the ``strengths``; ``shown`` pictures in a
    row.
    """

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextPreset | None = None
    edits: int = 20
    strengths: tuple[float, ...] = (0.4, 0.6, 0.8)
    steps: int = 25
    guidance: float = 2.0
    shares: tuple[tuple[float, float], ...] = ((0.8, 0.4), (0.4, 0.2), (1.0, 0.8))
    shown: int = 6


def study(context: StudyContext, settings: PromptToPromptSettings) -> Report:
    data = readable_scenes(context, settings.counts)
    pipeline, where = text_model(context, settings.text, data)
    wanted = tasks(settings.edits)
    with context.part("prompt-to-prompt"):
        made: dict[str, Tensor] = {}
        for share in settings.shares:
            source, made[_named(share)] = _edited(context, settings, pipeline, wanted, share)
    prompts, sampling = [caption(task.edited) for task in wanted], _sampling(settings)
    with context.part("drawn anew"):
        w, steps = settings.guidance, settings.steps
        anew = pipeline.sample(len(prompts), label=prompts, steps=steps, guidance=w, seed=context.seed)
        made["drawn anew from the same noise"] = anew
    with context.part("SDEdit"):
        for strength in settings.strengths:
            t, seed = level_of(pipeline, strength), context.seed + len(wanted)
            edited = sdedit(pipeline, source, t, settings=sampling, label=prompts, seed=seed)
            made[f"SDEdit, strength {strength:g}"] = edited.images
    scores = {
        name: {what: score(wanted, source, images, what) for what in SWAPS} for name, images in made.items()
    }
    middle = settings.strengths[len(settings.strengths) // 2]
    shown = (_named(settings.shares[0]), "drawn anew from the same noise", f"SDEdit, strength {middle:g}")
    pictures = _pictures(context, settings, wanted, source, {name: made[name] for name in shown})
    table = Table(
        "edits",
        ("", *COLUMNS),
        tuple((name, what, *each.cells()) for name, kinds in scores.items() for what, each in kinds.items()),
        "The rest: the ground for a digit or its colour, the digit's inside for the ground. All else: the"
        " other attributes, read from both pictures.",
    )
    sections = [Section("Words exchanged", ABOUT, where, *pictures, table, _balance(context, scores))]
    with context.part("added and weighted"):
        sections.append(_other_edits(context, settings, pipeline))
    with context.part("real pictures"):
        sections.append(_real(context, settings, pipeline, data))
    with context.part("where it fails"):
        n = max(settings.shown, settings.edits)
        sections.append(failures(context, pipeline, sampling=sampling, n=n, shown=settings.shown))
    edits = [[caption(task.source), caption(task.edited), task.what] for task in wanted]
    return Report(_findings(scores), *sections, edits=edits)


ABOUT = (
    "One word of each prompt is exchanged. Prompt-to-prompt (Hertz et al. 2023) samples both prompts from"
    " the same noise in one batch and copies the attention maps of the source into the edit: cross-attention"
    " to unchanged words, and self-attention. Sampling the new prompt from the same noise keeps only what"
    " the noise decides; SDEdit noises the finished image and denoises it towards the new prompt."
)


def _named(share: tuple[float, float]) -> str:
    return f"prompt-to-prompt, cross {share[0]:g}, self {share[1]:g}"


def _sampling(settings: PromptToPromptSettings) -> Sampling:
    return Sampling(steps=settings.steps, guidance=settings.guidance)


def _edited(
    context: StudyContext,
    settings: PromptToPromptSettings,
    pipeline: Pipeline,
    wanted: Sequence[EditTask],
    share: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Sources and edits [n, C, H, W], pair k from the study's seed + k."""
    pairs = []
    for k, task in enumerate(wanted):
        edit = Edit(caption(task.edited), *share)
        made = prompt_to_prompt(
            pipeline, caption(task.source), [edit], 1, settings=_sampling(settings), seed=context.seed + k
        )
        pairs.append((made.source, made.edits[0]))
    sources, edits = (torch.cat(column) for column in zip(*pairs, strict=True))
    return sources, edits


def _pictures(
    context: StudyContext,
    settings: PromptToPromptSettings,
    wanted: Sequence[EditTask],
    source: Tensor,
    made: Mapping[str, Tensor],
) -> list[Picture]:
    """The first edits of each kind, the source above the edit of each method."""
    found = []
    for what in SWAPS:
        rows = [k for k, task in enumerate(wanted) if task.what == what][: settings.shown]
        columns = [folded(caption(wanted[k].edited), 12) for k in rows]
        grid = [
            ("source", source[rows]),
            *((folded(name, 22), images[rows]) for name, images in made.items()),
        ]
        texts = "; ".join(f"“{caption(wanted[k].source)}” to “{caption(wanted[k].edited)}”" for k in rows)
        found.append(context.rows(what, grid, f"{what} exchanged: {texts}.", about={"columns": columns}))
    return found


def _balance(context: StudyContext, scores: Mapping[str, Mapping[str, EditScores]]) -> Picture:
    """How much is kept against how often the edit succeeds, a curve for each method, mean of three kinds."""
    points: dict[str, list[tuple[float, float]]] = {}
    for name, kinds in scores.items():
        success, decibels = (_mean(kinds, what) for what in ("success", "psnr"))
        points.setdefault(name.split(",")[0], []).append((100 * success, decibels))
    curves = [
        Curve(name, [x for x, _ in sorted(found)], [y for _, y in sorted(found)], "marked")
        for name, found in points.items()
    ]
    panel = Panel("what an edit changes and keeps", "new word right, percent", "PSNR of the rest, dB", curves)
    return context.plot(
        "balance",
        [panel],
        "Up and to the right is better. Points: shares of the way, or strengths of SDEdit.",
    )


def _mean(kinds: Mapping[str, EditScores], what: str) -> float:
    return sum(float(getattr(each, what)) for each in kinds.values()) / len(kinds)


def _other_edits(context: StudyContext, settings: PromptToPromptSettings, pipeline: Pipeline) -> Section:
    """Words added and words weighted."""
    sampling, n = _sampling(settings), settings.shown

    def rows(source: str, edits: Mapping[str, Edit], name: str, text: str) -> Picture:
        made = prompt_to_prompt(
            pipeline, source, list(edits.values()), n, settings=sampling, seed=context.seed
        )
        grid = [(folded(source), made.source)]
        grid += [(folded(title), images) for title, images in zip(edits, made.edits, strict=True)]
        return context.rows(name, grid, text)

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
        "Added words have their own attention maps, all others those of the source. A weight multiplies the"
        " attention to a word; 0 removes it, a negative one reverses it.",
        rows(plain, added, "added", "Words added to a short text."),
        rows(base, weighted, "weighted", f"“{base}” with the attention to one word multiplied."),
    )


def _real(
    context: StudyContext, settings: PromptToPromptSettings, pipeline: Pipeline, data: Dataset
) -> Section:
    """Test pictures edited by their own captions."""
    captions = data.test.captions or ()
    known = [
        (k, scene) for k, scene in ((k, parse(text)) for k, text in enumerate(captions)) if _plain(scene)
    ]
    chosen = known[: settings.shown]
    rows: dict[str, list[Tensor]] = {"picture": [], "source": [], **{what: [] for what in SWAPS}}
    errors = []
    for place, (k, scene) in enumerate(chosen):
        images = to_float(data.test.images[k : k + 1])
        edits = [Edit(caption(exchanged(scene, what, place)), *settings.shares[0]) for what in SWAPS]
        made = prompt_to_prompt(pipeline, caption(scene), edits, images=images, settings=_sampling(settings))
        rows["picture"].append(images)
        rows["source"].append(made.source)
        errors.append(float((made.source - pipeline.reconstruct(images)).abs().max()))
        for what, image in zip(SWAPS, made.edits, strict=True):
            rows[what].append(image)
    grid = [(name, torch.cat(images)) for name, images in rows.items()]
    texts = "; ".join(caption(scene) for _, scene in chosen)
    return Section(
        "Real pictures",
        "Test images: DDIM inversion gives the latents of their trajectory, and the source follows these (Ju"
        f" et al. 2024). The source that comes back differs by at most {max(errors):.1g} from its"
        " reconstruction by the VAE.",
        context.rows("real", grid, f"Test pictures, edited: {texts}."),
    )


def _plain(scene: Scene) -> bool:
    return len(scene.things) == 1 and scene.background is not None and scene.things[0].size == "large"


def _findings(scores: Mapping[str, Mapping[str, EditScores]]) -> Iterator[str]:
    for name, kinds in scores.items():
        success, others, decibels = (_mean(kinds, what) for what in ("success", "others", "psnr"))
        yield (
            f"{name}: the new word is right in {success:.0%}, all else is kept in {others:.0%}, the rest of"
            f" the picture at {decibels:.1f} dB."
        )


FULL = PromptToPromptSettings(
    counts=(40_000, 2_000, 2_000),
    text=FULL_TEXT,
    edits=167,
    strengths=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    steps=50,
)
STUDY = Study(quick=PromptToPromptSettings(), full=FULL, run=study)
