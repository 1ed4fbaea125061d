"""Failures of prompt-to-prompt: prompts with two objects, and words of no training caption."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Section, Table
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_uint8
from latentdiff.data.synthetic_scenes import parse
from latentdiff.edit import Edit, prompt_to_prompt
from latentdiff.evaluate.alignment import attributes, read
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded

TWO = "a red three left of a green five on a white background"
EDITS = {
    "colour 1": "a blue three left of a green five on a white background",
    "digit 1": "a red six left of a green five on a white background",
    "relation": "a red three above a green five on a white background",
}
"""The edited prompt by the attribute that it exchanges."""

ONE = "a large red seven on a blue background"
ABSTRACT = (
    "a happy large red seven on a blue background",
    "a lucky large red seven on a blue background",
    "a large red seven on a quiet background",
)
"""Words without a visible meaning; the last one in the place of a colour."""


WORDS = (
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


def failures(context: StudyContext, pipeline: Pipeline, *, sampling: Sampling, n: int, shown: int) -> Section:
    """``n`` pictures of each edit, ``shown`` of them in the figures."""
    two = prompt_to_prompt(
        pipeline, TWO, [Edit(text) for text in EDITS.values()], n, settings=sampling, seed=context.seed
    )
    before = shares(two.source, TWO).all
    rows = []
    for (what, text), images in zip(EDITS.items(), two.edits, strict=True):
        found = shares(images, text, what)
        rows.append((text, 100 * found.exchanged, 100 * found.all, 100 * before))
    one = prompt_to_prompt(
        pipeline, ONE, [Edit(text) for text in ABSTRACT], n, settings=sampling, seed=context.seed
    )
    moved = [(text, _rms(images, one.source)) for text, images in zip(ABSTRACT, one.edits, strict=True)]
    plain = pipeline.sample(
        n, label=ONE, steps=sampling.steps, guidance=sampling.guidance, seed=context.seed + n
    )
    moved.append(("(other pictures of the source text)", _rms(plain, one.source)))
    pictures = [
        context.rows(
            name,
            [
                (folded(text), images[:shown])
                for text, images in zip(texts, (made.source, *made.edits), strict=True)
            ],
            about,
        )
        for name, texts, made, about in (
            ("two", (TWO, *EDITS.values()), two, "A text about two things, and one of them exchanged."),
            ("abstract", (ONE, *ABSTRACT), one, "Words that nothing in the training pictures belongs to."),
        )
    ]
    heads = ("the exchanged right", "all of the text right", "all of the source's text right in the source")
    columns = ("text", *(f"{head}, %" for head in heads))
    table = Table("two things", columns, tuple(rows), f"{n} pictures each.")
    change = Table(
        "abstract words", ("text", "RMS change from the source"), tuple(moved), "Pixels in [-1, 1]."
    )
    return Section("Where it fails", WORDS, pictures[0], table, pictures[1], change)


def _rms(a: Tensor, b: Tensor) -> float:
    return float(torch.sqrt((a - b).square().mean()))
