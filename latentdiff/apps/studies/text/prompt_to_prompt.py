"""Study `prompt-to-prompt`: words exchanged, added and weighted, against sampling anew and SDEdit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from latentdiff.apps.studies.kit.presets import TextPreset
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
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
    tasks,
)
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float, to_uint8
from latentdiff.data.synthetic_scenes import caption, parse
from latentdiff.edit import Edit, Edited, level_of, prompt_to_prompt, sdedit
from latentdiff.edit.p2p import SHARES, THING_SHARES
from latentdiff.evaluate.alignment import attributes, read
from latentdiff.pipeline.pipeline import Pipeline

USUAL = (
    f"cross {THING_SHARES[0]:g} and self {THING_SHARES[1]:g} where a thing is exchanged, {SHARES[0]:g} and"
    f" {SHARES[1]:g} elsewhere"
)
"""The shares of the way on which attention is kept by default."""
ANEW = "drawn anew from the same noise"
TWO = "a red three left of a green five on a white background"
EDITS = {
    "colour 1": "a blue three left of a green five on a white background",
    "digit 1": "a red six left of a green five on a white background",
    "relation": "a red three above a green five on a white background",
}
"""The edited prompt by the attribute that it exchanges."""

SHORT = "a red seven"
ADDED = ("a red seven on a yellow background", "a red seven on a white background")
ONE = "a large red seven on a blue background"
SIZES = (
    "a small red seven in the top left corner on a blue background",
    "a small red seven in the bottom right corner on a blue background",
)
"""A small digit is in a corner in every picture of the training."""
WEIGHTS = {"red": (-3.0, -1.0, 3.0), "blue": (-1.0, 0.0, 3.0)}
"""Factors of the attention to words of ONE."""
ABSTRACT = (
    "a happy large red seven on a blue background",
    "a lucky large red seven on a blue background",
    "a large red seven on a quiet background",
)
"""Words without a visible meaning; the last one in the place of a colour."""


THINGS = (
    ("a large squirrel on a green background", "a large lion on a green background"),
    ("a large cat on a blue background", "a large tiger on a blue background"),
    ("a large red star on a yellow background", "a large red heart on a yellow background"),
    ("a small pig on a white background", "a large pig on a white background"),
    ("a large red letter n on a white background", "a large blue letter n on a white background"),
    ("a large fox on a white background", "a large fox on a purple background"),
)
"""Prompts of larger pictures and their edits: a thing, the size, a colour or the ground."""
PHOTOS = (
    ("a blue dress", "a red dress"),
    ("a grey t-shirt", "a green t-shirt"),
    ("a black pullover", "a white pullover"),
    ("blue pants", "blue shorts"),
    ("black shoes", "brown shoes"),
    ("a red t-shirt", "a red pullover"),
)
"""Prompts of photos and their edits: a colour or a kind."""
LARGER_GUIDANCE = 3.0
WEIGHTED = {
    "things": ("a large red star on a yellow background", "red"),
    "photos": ("a red dress", "red"),
}
"""Prompts and words with the attention to the word multiplied, by figure."""
FACTORS = (-1.0, 0.0, 0.5, 3.0)


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
    shares: tuple[tuple[float, float], ...] = ((0.8, 0.4), (0.4, 0.2), (0.2, 0.1))
    shown: int = 6


@dataclass(frozen=True, eq=False)
class PromptEditor:
    """Edits prompts with the model of a study and draws figures of the edits."""

    context: StudyContext
    pipeline: Pipeline
    sampling: Sampling
    shown: int

    def edit(self, source: str, edits: Sequence[Edit], n: int, *, offset: int = 0) -> Edited:
        """``n`` pictures of a prompt and of its edits, picture k of the study's seed + ``offset`` + k."""
        seed = self.context.seed + offset
        return prompt_to_prompt(self.pipeline, source, edits, n, settings=self.sampling, seed=seed)

    def plain(self, prompts: Sequence[str] | str, n: int, *, offset: int = 0) -> Tensor:
        """``n`` pictures of prompts without any editing."""
        steps, guidance = self.sampling.steps, self.sampling.guidance
        seed = self.context.seed + offset
        return self.pipeline.sample(n, label=prompts, steps=steps, guidance=guidance, seed=seed)

    def stages(self, name: str, titles: Sequence[str], made: Edited, text: str) -> Picture:
        """The source beside its edits."""
        images = (made.source[: self.shown], *(each[: self.shown] for each in made.edits))
        return self.context.stages(name, list(zip(titles, images, strict=True)), text)


def study(context: StudyContext, settings: PromptToPromptSettings) -> Report:
    data = readable_scenes(context, settings.counts)
    pipeline, where = text_model(context, settings.text, data)
    sampling = Sampling(steps=settings.steps, guidance=settings.guidance)
    editor = PromptEditor(context, pipeline, sampling, settings.shown)
    wanted = tasks(settings.edits)
    prompts = [caption(task.edited) for task in wanted]
    ways: dict[str, tuple[float | None, float | None]] = {"prompt-to-prompt": (None, None)}  # by kind of edit
    ways |= {
        f"prompt-to-prompt, cross {cross:g}, self {own:g}": (cross, own) for cross, own in settings.shares
    }
    with context.part("prompt-to-prompt"):
        made: dict[str, Tensor] = {}
        for name, share in ways.items():
            pairs = [
                editor.edit(caption(task.source), [Edit(caption(task.edited), *share)], 1, offset=k)
                for k, task in enumerate(wanted)
            ]
            source = torch.cat([pair.source for pair in pairs])
            made[name] = torch.cat([pair.edits[0] for pair in pairs])
    with context.part("drawn anew"):
        made[ANEW] = editor.plain(prompts, len(prompts))
    with context.part("SDEdit"):
        for strength in settings.strengths:
            t, seed = level_of(pipeline, strength), context.seed + len(wanted)
            edited = sdedit(pipeline, source, t, settings=sampling, label=prompts, seed=seed)
            made[f"SDEdit, strength {strength:g}"] = edited.images
    scores = {name: scores_of(wanted, source, images) for name, images in made.items()}
    middle = settings.strengths[len(settings.strengths) // 2]
    shown = {name: made[name] for name in (next(iter(ways)), ANEW, f"SDEdit, strength {middle:g}")}
    table = edit_table(
        ("",),
        (((name,), kinds) for name, kinds in scores.items()),
        "The rest: the ground for a digit or its colour, the digit's inside for the ground. All else: the"
        f" other attributes, read from both pictures. Prompt-to-prompt alone: {USUAL}.",
    )
    pictures = _pictures(editor, wanted, source, shown)
    sections = [Section("Words exchanged", ABOUT, where, *pictures, table, _balance(context, scores))]
    with context.part("added and weighted"):
        sections.append(_other_edits(editor))
    sections += larger_section(
        *(context, THINGS_MODEL, "Larger pictures", THINGS_WORDS),
        lambda pipeline: _larger(context, settings, pipeline, "things", THINGS),
    )
    sections += larger_section(
        *(context, PHOTOS_MODEL, "Photos", PHOTOS_WORDS),
        lambda pipeline: _larger(context, settings, pipeline, "photos", PHOTOS),
    )
    with context.part("real pictures"):
        sections.append(_real(editor, data))
    with context.part("where it fails"):
        sections.append(_failures(editor, max(settings.shown, settings.edits)))
    return Report(_findings(scores), *sections, edits=[task.listed() for task in wanted])


ABOUT = (
    "One word of each prompt is exchanged. Prompt-to-prompt (Hertz et al. 2023) samples both prompts from"
    " the same noise in one batch and copies the attention maps of the source into the edit: cross-attention"
    " to unchanged words, and self-attention. Sampling the new prompt from the same noise keeps only what"
    " the noise decides; SDEdit noises the finished image and denoises it towards the new prompt."
)


def _pictures(
    editor: PromptEditor, wanted: Sequence[EditTask], source: Tensor, made: Mapping[str, Tensor]
) -> Iterator[Picture]:
    """The first edits of each kind, the source above the edit of each method."""
    for what in SWAPS:
        rows = first_of(wanted, what, editor.shown)
        names = [caption(wanted[k].edited) for k in rows]
        stages = [("source", source[rows]), *((name, images[rows]) for name, images in made.items())]
        texts = "; ".join(f"“{caption(wanted[k].source)}” to “{caption(wanted[k].edited)}”" for k in rows)
        yield editor.context.stages(
            what, stages, f"{what} exchanged: {texts}. Prompt-to-prompt: {USUAL}.", names=names
        )


def _balance(context: StudyContext, scores: Mapping[str, Mapping[str, EditScores]]) -> Picture:
    """How much is kept against how often the edit succeeds, a curve for each method, mean of three kinds."""
    points: dict[str, list[tuple[float, float]]] = {}
    for name, kinds in scores.items():
        success, decibels = (mean_score(kinds, what) for what in ("success", "psnr"))
        points.setdefault(name.split(",")[0], []).append((100 * success, decibels))
    curves = [
        Curve(name, [x for x, _ in sorted(found)], [y for _, y in sorted(found)], "marked")
        for name, found in points.items()
    ]
    panel = Panel("what an edit changes and keeps", "new word right, percent", "PSNR of the rest, dB", curves)
    text = "Up and to the right is better. Points: shares of the way, or strengths of SDEdit."
    return context.plot("balance", [panel], text)


def _other_edits(editor: PromptEditor) -> Section:
    """Words added and words weighted."""

    def rows(source: str, edits: Mapping[str, Edit], name: str, text: str) -> tuple[Picture, Edited]:
        made = editor.edit(source, list(edits.values()), editor.shown)
        return editor.stages(name, (source, *edits), made, text), made

    words, sizes = ({text: Edit(text) for text in texts} for texts in (ADDED, SIZES))
    weighted = {
        f"{word} x {factor:g}": Edit(ONE, factors={word: factor})
        for word, factors in WEIGHTS.items()
        for factor in factors
    }
    picture, made = rows(ONE, weighted, "weighted", f"“{ONE}” with the attention to one word multiplied.")
    changed = tuple(
        (word, float(torch.sqrt((images - made.source).square().mean())))
        for word, images in zip(weighted, made.edits, strict=True)
    )
    about = "How much a weight changes; pixels in [-1, 1]."
    return Section(
        "Words added and weighted",
        WEIGHTING,
        rows(SHORT, words, "added", "Words added to a short text.")[0],
        rows(ONE, sizes, "sizes", "The size exchanged, and a corner added.")[0],
        picture,
        Table("weights", ("attention", "RMS change from the source"), changed, about),
    )


WEIGHTING = (
    "Added words have their own attention maps, all others those of the source. A weight multiplies the"
    " attention to a word in every layer: with 0 the pixels no longer see this word, with a negative weight"
    " its effect is reversed. Other words still hold a part of its meaning, as the text encoder mixes them,"
    " so a word of weight 0 rarely vanishes from the picture."
)


THINGS_WORDS = (
    "Larger pictures, two seeds of each. A thing is exchanged for another at the same place; where the size,"
    " a colour or the ground is exchanged, the thing stays."
)


PHOTOS_WORDS = (
    "Photos of clothes, two seeds of each. Where the colour is exchanged the cut and the place stay, where"
    " the kind is exchanged the colour and the place. Details and the ground change along with them."
)


def _larger(
    context: StudyContext,
    settings: PromptToPromptSettings,
    pipeline: Pipeline,
    name: str,
    edits: Sequence[tuple[str, str]],
) -> Iterator[Picture]:
    """Edits of larger pictures, and the attention to one of their words multiplied."""
    sampling = Sampling(steps=settings.steps, guidance=LARGER_GUIDANCE)
    editor = PromptEditor(context, pipeline, sampling, len(edits))
    made = [editor.edit(source, [Edit(edited)], 2) for source, edited in edits]
    stages = []
    for k in range(2):
        stages.append((f"source, seed {k}", torch.cat([each.source[k : k + 1] for each in made])))
        stages.append((f"edited, seed {k}", torch.cat([each.edits[0][k : k + 1] for each in made])))
    names = [f"{source} → {edited}" for source, edited in edits]
    yield context.stages(name, stages, "Two seeds of each prompt and its edit.", names=names)
    text, word = WEIGHTED[name]
    weights = editor.edit(text, [Edit(text, factors={word: factor}) for factor in FACTORS], settings.shown)
    titles = (text, *(f"{word} x {factor:g}" for factor in FACTORS))
    yield editor.stages(f"{name}-weighted", titles, weights, f"Attention to “{word}” multiplied.")


def _real(editor: PromptEditor, data: Dataset) -> Section:
    """Test pictures edited by their own captions."""
    known = [(k, scene) for k, scene in complete(data) if scene.things[0].size == "large"]
    chosen, pipeline = known[: editor.shown], editor.pipeline
    heads = ("picture", "encoded and decoded", "source", *SWAPS)
    rows: dict[str, list[Tensor]] = {head: [] for head in heads}
    errors = []
    for place, (k, scene) in enumerate(chosen):
        images = to_float(data.test.images[k : k + 1])
        edits = [Edit(caption(exchanged(scene, what, place))) for what in SWAPS]
        made = prompt_to_prompt(pipeline, caption(scene), edits, images=images, settings=editor.sampling)
        coded = pipeline.reconstruct(images)
        for row, image in zip(rows.values(), (images, coded, made.source, *made.edits), strict=True):
            row.append(image)
        errors.append(float((made.source - coded).abs().max()))
    grid = [(name, torch.cat(images)) for name, images in rows.items()]
    names = [caption(scene) for _, scene in chosen]
    texts = "; ".join(names)
    return Section(
        "Real pictures",
        "Test images: DDIM inversion gives the latents of their trajectory, and the source follows these (Ju"
        f" et al. 2024). The source that comes back differs by at most {max(errors):.1g} from its"
        " reconstruction by the VAE.",
        editor.context.stages("real", grid, f"Test pictures, edited: {texts}.", names=names),
    )


FAILURES = (
    "A prompt with two objects binds a colour to each digit. A model that mixes these up in samples also does"
    " so in edits, and the layout is decided early, in the attention maps that edits copy. A word of no"
    " training caption is split into known word pieces or becomes the unknown token, which was never trained,"
    " so its effect has no meaning."
)


class EditShares(NamedTuple):
    """Shares of pictures in which the exchanged attribute is the new one, and of those that are all right."""

    exchanged: float
    all: float


def shares(images: Tensor, text: str, what: str | None = None) -> EditShares:
    """Read pictures [n, 3, H, W] in [-1, 1] of a text; ``what`` was exchanged (None: nothing, all counts)."""
    scene = parse(text)
    found = [attributes(scene, reading) for reading in read(to_uint8(images), [scene] * len(images))]
    hits = [all(each.values()) if what is None else each[what] for each in found]
    return EditShares(sum(hits) / len(found), sum(all(each.values()) for each in found) / len(found))


def _failures(editor: PromptEditor, n: int) -> Section:
    """Edits of a prompt with two objects, and words of no training caption: ``n`` pictures of each."""
    two = editor.edit(TWO, [Edit(text) for text in EDITS.values()], n)
    before = shares(two.source, TWO).all
    rows = []
    for (what, text), images in zip(EDITS.items(), two.edits, strict=True):
        found = shares(images, text, what)
        rows.append((text, 100 * found.exchanged, 100 * found.all, 100 * before))
    one = editor.edit(ONE, [Edit(text) for text in ABSTRACT], n)
    others = (*one.edits, editor.plain(ONE, n, offset=n))
    moved = tuple(
        (text, float(torch.sqrt((images - one.source).square().mean())))
        for text, images in zip((*ABSTRACT, "(other pictures of the source text)"), others, strict=True)
    )
    heads = ("the exchanged right", "all of the text right", "all of the source's text right in the source")
    return Section(
        "Where it fails",
        FAILURES,
        editor.stages(
            "two", (TWO, *EDITS.values()), two, "A text about two things, and one of them exchanged."
        ),
        Table("two things", ("text", *(f"{head}, %" for head in heads)), tuple(rows), f"{n} pictures each."),
        editor.stages(
            "abstract", (ONE, *ABSTRACT), one, "Words that nothing in the training pictures belongs to."
        ),
        Table("abstract words", ("text", "RMS change from the source"), moved, "Pixels in [-1, 1]."),
    )


def _findings(scores: Mapping[str, Mapping[str, EditScores]]) -> Iterator[str]:
    for name, kinds in scores.items():
        success, others, decibels = (mean_score(kinds, what) for what in ("success", "others", "psnr"))
        shapes = [each.overlap for each in kinds.values() if each.overlap is not None]
        yield (
            f"{name}: the new word is right in {success:.0%}, all else is kept in {others:.0%}, the rest of"
            f" the picture at {decibels:.1f} dB, the digit's shape (where it should stay) at an overlap of"
            f" {sum(shapes) / len(shapes):.2f}."
        )


FULL = PromptToPromptSettings(
    edits=100,
    strengths=(0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    steps=50,
)
STUDY = Study(quick=PromptToPromptSettings(), full=FULL, run=study)
