"""The emoji of study `text-to-image`: images for prompts, above their nearest training images."""

from __future__ import annotations

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import GIVEN, StudyContext, colour_missing
from latentdiff.apps.studies.kit.model import load_given
from latentdiff.apps.studies.kit.presets import TextPreset
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Paragraph, Section, Table
from latentdiff.data import to_float
from latentdiff.viz.rows import folded

TEXTS = (
    "grinning face with smiling eyes",
    "tiger face",
    "red apple",
    "birthday cake",
    "green heart",
    "large red circle",
    "pouting cat face",
    "smiling face with heart-shaped eyes",
)
"""Four of them name an emoji of the training set; four, of the other splits, put its words together anew."""
GUIDANCE = 1.0
WORDS = (
    "Emoji with their names, a few thousand captions. Good samples are often copies: the rows below them show"
    " the nearest training images. New texts combine words of the training captions."
)


def emoji_section(context: StudyContext, preset: TextPreset, *, steps: int, shown: int) -> Section:
    """A model of captioned colour images, its pictures for TEXTS and their nearest training images."""
    data = context.colour
    if data is None:
        return Section("Emoji", colour_missing(context))
    if data.train.captions is None:
        return Section("Emoji", Paragraph(f"{data.name} has no captions: nothing to draw.", "warning"))
    with context.part("emoji"):
        if context.run_colour is not None:
            pipeline = load_given(context, context.run_colour, data, name=GIVEN[1], texts=True)
        else:
            pipeline = pipeline_of(context, presets.texts(context, "emoji", preset, data=data))
    train, rows, distances = to_float(data.train.images), [], []
    known = set(data.train.captions)
    for text in TEXTS:
        images = pipeline.sample(shown, label=text, steps=steps, guidance=GUIDANCE, seed=context.seed)
        near, distance = nearest(images, train)
        seen = "seen" if text in known else "new"
        rows += [(folded(f"{text} ({seen})"), images), ("most like them", train[near])]
        distances.append(
            (text, seen, float(distance.mean()), data.train.captions[int(near[distance.argmin()])])
        )
    picture = context.rows(
        "emoji",
        rows,
        f"Guidance {GUIDANCE:g}; texts that name a training image (seen) and texts that do not (new); below"
        " each row the training images with the least squared distance.",
    )
    table = Table(
        "copies",
        (
            "text",
            "in training",
            "mean RMS distance to the nearest training image",
            "caption of the nearest of all",
        ),
        tuple(distances),
        "Pixels in [-1, 1]. A picture that is a copy has a distance near that of the VAE's reconstructions.",
    )
    return Section("Emoji", WORDS, picture, table)


def nearest(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Places in ``train`` [N, C, H, W] of the image nearest to each of [n, C, H, W], and RMS distances."""
    a, b = images.flatten(1).double(), train.flatten(1).double()
    square = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
    least, place = square.min(1)
    return place, torch.sqrt(least / a.shape[1])
