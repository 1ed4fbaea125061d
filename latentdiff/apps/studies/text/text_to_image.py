"""Study `text-to-image`: which attributes of a prompt an image shows, for scenes and for emoji."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import GIVEN, StudyContext, colour_missing
from latentdiff.apps.studies.kit.model import (
    PHOTOS_MODEL,
    THINGS_MODEL,
    larger_section,
    load_given,
    readable_scenes,
    text_model,
)
from latentdiff.apps.studies.kit.presets import TextPreset, VAEPreset
from latentdiff.apps.studies.kit.scoring import score_cell
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Paragraph, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, to_float
from latentdiff.data.synthetic_scenes import Scene, caption, parse
from latentdiff.evaluate.alignment import caption_lists, in_turn, score_list
from latentdiff.evaluate.interval_score import Resampling, Score
from latentdiff.evaluate.sampling import draw_samples
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded

PROMPTS = (
    "a large red seven on a blue background",
    "a small white three in the top left corner on a green background",
    "a black three on a yellow background",
    "a green two left of a purple eight on a white background",
    "an orange one above a blue zero on a black background",
)
"""Prompts of the figure. The third is of a held-out kind; some leave size and corner open."""
EMOJI = (
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
EMOJI_GUIDANCE = 1.0
THINGS = (
    "a large lion on a blue background",
    "a large red star on a yellow background",
    "a small white seven on a purple background",
    "a large orange letter k on a black background",
    "a large squirrel on a green background",
    "a large blue moon on an orange background",
)
"""Prompts of larger pictures."""
PHOTOS = (
    "a red dress",
    "a blue t-shirt",
    "black shoes",
    "a green pullover",
    "white shorts",
    "a brown jacket",
    "a purple skirt",
    "an orange dress",
)
"""Prompts of photos; no photo of the training has the last two."""
LARGER_GUIDANCE = 3.0


@dataclass(frozen=True)
class TextToImageSettings:
    """``counts`` of scenes to train, validate and test; ``drawn`` pictures for each list of captions."""

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextPreset | None = None
    scales: tuple[float, ...] = (1.0, 2.0, 4.0)
    drawn: int = 124
    shown: int = 8
    steps: int = 25
    emoji: TextPreset | None = None


def study(context: StudyContext, settings: TextToImageSettings) -> Report:
    data = readable_scenes(context, settings.counts)
    real = _real(data)
    pipeline, where = text_model(context, settings.text, data)
    w, n, steps = settings.scales[len(settings.scales) // 2], settings.shown, settings.steps
    with context.part("pictures"):
        rows = [
            (folded(text), pipeline.sample(n, label=text, steps=steps, guidance=w, seed=context.seed))
            for text in PROMPTS
        ]
        text = f"The same seeds for every text, guidance {w:g}."
        shown = context.rows("prompts", rows, text, about={"guidance": w})
    with context.part("reading them"):
        found = {w: _drawn(context, settings, pipeline, w) for w in settings.scales}
    best = max(found, key=lambda w: sum(score["all attributes"].value for score in found[w].values()))
    caption = f"Drawn with guidance {best:g}, {settings.drawn} pictures a list."
    table = _table("attributes", found[best], caption)
    sections = [
        Section("Reading real pictures", READING, _table("reading", real, "Real pictures of the test set.")),
        Section("Pictures for texts", ABOUT, where, shown),
        Section("What the pictures show", _scales(context, found), table),
    ]
    sections += larger_section(
        *(context, THINGS_MODEL, "Larger pictures", THINGS_WORDS),
        lambda pipeline: [_larger(context, settings, pipeline, "things", THINGS)],
    )
    sections += larger_section(
        *(context, PHOTOS_MODEL, "Photos", PHOTOS_WORDS),
        lambda pipeline: [_larger(context, settings, pipeline, "photos", PHOTOS)],
    )
    if settings.emoji is not None or context.run_colour is not None:
        sections.append(_emoji(context, settings.emoji or TextPreset(), steps=steps, shown=n))
    return Report(_findings(real, found, best), *sections, prompts=list(PROMPTS))


READING = (
    "Attributes are first read from real images. Colours, size, position and relation are measured, digits"
    " are predicted by a classifier that took no part in any training. Errors here are those of the reading."
)
ABOUT = (
    "The denoiser is conditioned on word pieces, encoded by a small transformer that was trained along with"
    " it. One colour of each digit was held out of the training, so that some prompts combine known words in"
    " a new way."
)

Shares = dict[str, Score]


def _shares(images: Tensor, scenes: Sequence[Scene]) -> Shares:
    scores = score_list("", images, scenes, Resampling())
    return scores.attributes | {"all attributes": scores.mean, "whole pictures": scores.whole}


def _real(data: Dataset) -> dict[str, Shares]:
    """By number of digits."""
    known = [parse(text) for text in data.test.captions or ()]
    found = {}
    for name, count in (("one digit", 1), ("two digits", 2)):
        rows = [k for k, scene in enumerate(known) if len(scene.things) == count]
        found[name] = _shares(data.test.images[rows], [known[k] for k in rows])
    return found


def _drawn(
    context: StudyContext, settings: TextToImageSettings, pipeline: Pipeline, w: float
) -> dict[str, Shares]:
    """By list of captions, at one guidance scale."""
    sampling, found = Sampling(steps=settings.steps, guidance=w), {}
    for name, scenes in caption_lists().items():
        chosen = in_turn(scenes, settings.drawn)
        texts = [caption(scene) for scene in chosen]
        images = draw_samples(pipeline, sampling, len(chosen), texts=texts, seed=context.seed)
        found[name] = _shares(images, chosen)
    return found


def _scales(context: StudyContext, found: Mapping[float, Mapping[str, Shares]]) -> Picture:
    names = list(next(iter(found.values())))
    curves = [
        Curve(name, list(found), [100 * found[w][name]["all attributes"].value for w in found], "marked")
        for name in names
    ]
    panel = Panel("attributes that are right", "guidance", "percent", curves)
    text = "The share of all attributes that the picture shows, by guidance and list of texts."
    return context.plot("guidance", [panel], text)


def _table(name: str, found: Mapping[str, Shares], text: str) -> Table:
    names = list(dict.fromkeys(attribute for shares in found.values() for attribute in shares))
    last = [name for name in ("all attributes", "whole pictures") if name in names]
    order = [*(each for each in names if each not in last), *last]
    rows = [(each, *(score_cell(shares.get(each), times=100) for shares in found.values())) for each in order]
    return Table(name, ("percent right", *found), tuple(rows), text)


THINGS_WORDS = (
    "Digits, letters and shapes in a colour of the text, and animals and objects of OpenMoji in their own, on"
    " any ground."
)


PHOTOS_WORDS = (
    "Photos of ten kinds of clothes. The caption of a training photo is its kind and the colour that was"
    " measured in it. The last two texts combine a kind and a colour that no training photo has together."
)


def _larger(
    context: StudyContext,
    settings: TextToImageSettings,
    pipeline: Pipeline,
    name: str,
    prompts: Sequence[str],
) -> Picture:
    """Larger pictures of each of the prompts."""
    sampling = Sampling(steps=settings.steps, guidance=LARGER_GUIDANCE)
    rows = [
        (folded(text), pipeline.sample(settings.shown, label=text, settings=sampling, seed=context.seed))
        for text in prompts
    ]
    return context.rows(name, rows, f"The same seeds for every text, guidance {LARGER_GUIDANCE:g}.")


EMOJI_WORDS = (
    "Emoji with their names, a few thousand captions. Good samples are often copies: the rows below them show"
    " the nearest training images. New texts combine words of the training captions."
)


def _emoji(context: StudyContext, preset: TextPreset, *, steps: int, shown: int) -> Section:
    """A model of captioned colour images, its pictures for EMOJI and their nearest training images."""
    data = context.colour
    if data is None:
        return Section("Emoji", colour_missing(context))
    if data.train.captions is None:
        return Section("Emoji", Paragraph(f"{data.name} has no captions: nothing to draw.", "warning"))
    with context.part("emoji"):
        if context.run_colour is not None:
            pipeline = load_given(context, context.run_colour, data, name=GIVEN[1], texts=True)
        else:
            pipeline = pipeline_of(context, presets.train_texts(context, "emoji", preset, data=data))
    train, rows, distances, w = to_float(data.train.images), [], [], EMOJI_GUIDANCE
    for text in EMOJI:
        images = pipeline.sample(shown, label=text, steps=steps, guidance=w, seed=context.seed)
        near, distance = nearest(images, train)
        seen = "seen" if text in data.train.captions else "new"
        rows += [(folded(f"{text} ({seen})"), images), ("most like them", train[near])]
        alike = data.train.captions[int(near[distance.argmin()])]
        distances.append((text, seen, float(distance.mean()), alike))
    caption = (
        f"Guidance {w:g}; texts that name a training image (seen) and texts that do not (new); below"
        " each row the training images with the least squared distance."
    )
    heads = ("mean RMS distance to the nearest training image", "caption of the nearest of all")
    table = Table(
        "copies",
        ("text", "in training", *heads),
        tuple(distances),
        "Pixels in [-1, 1]. A picture that is a copy has a distance near that of the VAE's reconstructions.",
    )
    return Section("Emoji", EMOJI_WORDS, context.rows("emoji", rows, caption), table)


def nearest(images: Tensor, train: Tensor) -> tuple[Tensor, Tensor]:
    """Places in ``train`` [N, C, H, W] of the image nearest to each of [n, C, H, W], and RMS distances."""
    a, b = images.flatten(1).double(), train.flatten(1).double()
    square = (a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T).clamp_min(0)
    least, place = square.min(1)
    return place, torch.sqrt(least / a.shape[1])


def _findings(
    real: Mapping[str, Shares], found: Mapping[float, Mapping[str, Shares]], best: float
) -> Iterator[str]:
    reading = min(shares["all attributes"].value for shares in real.values())
    yield f"Of real pictures of every kind the reading finds all attributes in {reading:.1%} or more."
    seen, held, pairs = found[best].values()
    yield (
        f"With guidance {best:g} the pictures show {seen['all attributes'].value:.0%} of what texts about one"
        f" digit say, {held['all attributes'].value:.0%} where the digit's colour was held out, and"
        f" {pairs['all attributes'].value:.0%} of what texts about two digits say."
    )
    for name, shares in found[best].items():
        single = {each: shares[each] for each in shares if each not in ("all attributes", "whole pictures")}
        yield comparison.ordered(f"{name}: right by attribute", single, smaller=False, times=100, unit="%")
        yield f"{name}: everything is right in {shares['whole pictures'].value:.0%} of the pictures."


FULL = TextToImageSettings(
    scales=(1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
    drawn=496,
    steps=50,
    emoji=TextPreset(
        vae=VAEPreset(latent="4x8x8", steps=2000), network="mlp", width=512, steps=5000, batch=512
    ),
)
STUDY = Study(quick=TextToImageSettings(), full=FULL, run=study)
