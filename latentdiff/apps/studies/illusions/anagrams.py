"""Studies `anagrams` and `text-anagrams`: images of one content upright, another in a view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.illusions.subjects import (
    PAIRS,
    ClassSubject,
    Content,
    Pair,
    SceneSubject,
    Subject,
    average,
    easiest,
    matrix,
    mean,
    share_panel,
    shares,
)
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixel_model, readable_scenes, text_model
from latentdiff.apps.studies.kit.presets import FULL_TEXT, PixelPreset, TextPreset
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.diffusion.illusions.views import view
from latentdiff.edit import anagram
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded

VIEWS = ("rotate180", "rotate90", "flip", "mirror", "patches", "negative")
TRIED = 10**6  # added to the study's seed for the samples that choose a view


class AnagramPair(NamedTuple):
    """The content upright, the content through the view, and the view's name."""

    upright: Content
    seen: Content
    view: str


PROMPT_PAIRS = tuple(
    AnagramPair(f"a {upright} background", f"a {seen} background", name)
    for upright, seen, name in (
        ("large red six on a white", "large red nine on a white", "rotate180"),
        ("large blue one on a yellow", "large blue seven on a yellow", "rotate180"),
        ("large black two on a white", "large black five on a white", "flip"),
        ("large orange four on a black", "large orange seven on a black", "rotate180"),
        ("large white two on a black", "large black two on a white", "negative"),
        ("large yellow eight on a blue", "large blue eight on a yellow", "negative"),
        ("large green five on a black", "large green five on a black", "rotate180"),
        ("large purple zero on a white", "large purple eight on a white", "rotate90"),
        (
            "small red one in the top left corner on a white",
            "small red one in the bottom right corner on a white",
            "rotate180",
        ),
    )
)
"""Chosen before a model had drawn them: digits that turn into each other, negative colours, other corners."""


class AnagramShares(NamedTuple):
    """Shares of the attributes right upright and through the view, and of images with all right in both."""

    upright: float
    through: float
    both: float


@dataclass(frozen=True)
class AnagramSettings:
    """``seeds`` anagrams of each of ten pairs, ``tried`` others choose its view, ``every`` of all pairs."""

    pixels: PixelPreset | None = None
    view: str = "rotate180"
    seeds: int = 10
    tried: int = 5
    every: int = 4
    shown: int = 5
    steps: int = 20
    guidance: float = 8.0
    weights: tuple[float, ...] = (0.35, 0.65)


@dataclass(frozen=True)
class TextAnagramSettings:
    """``seeds`` anagrams of each pair; the middle one of the guidance ``scales`` is in the tables."""

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextPreset | None = None
    seeds: int = 20
    shown: int = 8
    steps: int = 25
    scales: tuple[float, ...] = (2.0, 5.0, 8.0)
    pairs: tuple[AnagramPair, ...] = PROMPT_PAIRS

    @property
    def guidance(self) -> float:
        return self.scales[len(self.scales) // 2]


@dataclass(frozen=True, eq=False)
class AnagramSampler:
    """Draws anagrams of a model and measures what they show."""

    pipeline: Pipeline
    subject: Subject
    steps: int
    seed: int

    def draw(
        self, pair: AnagramPair, n: int, *, guidance: float, offset: int = 0, weight: float = 0.5
    ) -> Tensor:
        """Anagrams [n, C, H, W], image k of ``seed`` + ``offset`` + k. ``weight``: of the upright view."""
        parts = [(pair.upright, view("identity")), (pair.seen, view(pair.view))]
        settings, weights = Sampling(steps=self.steps, guidance=guidance), (weight, 1 - weight)
        seed = self.seed + offset
        return anagram(self.pipeline, parts, n, weights=weights, settings=settings, seed=seed).images

    def read(self, images: Tensor, pair: AnagramPair) -> AnagramShares:
        """What images [n, C, H, W] show of both contents of the pair."""
        return read_anagrams(self.subject, images, pair)


def read_anagrams(subject: Subject, images: Tensor, pair: AnagramPair) -> AnagramShares:
    """What images [n, C, H, W] show upright and through the view of the pair."""
    turned = view(pair.view)(images)
    return AnagramShares(*shares(subject.hits(images, pair.upright), subject.hits(turned, pair.seen)))


class PairSamples(NamedTuple):
    """The anagrams of two classes through the view that suits them, and their shares."""

    view: str
    images: Tensor
    shares: AnagramShares


def study(context: StudyContext, settings: AnagramSettings) -> Report:
    """Ten pairs of classes, each through the view that suits it; all pairs through one view; weights."""
    reader, classes = ClassReader.of_ten_classes(context, "anagrams")
    pipeline = pixel_model(context, settings.pixels, latents=True)
    sampler = AnagramSampler(pipeline, ClassSubject(reader), settings.steps, context.seed)
    w = settings.guidance
    tried: dict[str, dict[Pair, float]] = {}
    pictures = []
    with context.part("which view"):
        for name in VIEWS:
            images, tried[name] = {}, {}
            for pair in PAIRS:
                each = AnagramPair(*pair, name)
                images[pair] = sampler.draw(each, settings.tried, guidance=w, offset=TRIED)
                tried[name][pair] = sampler.read(images[pair], each).both
            pictures.append(_tried_rows(context, name, classes, images))
    with context.part("ten pairs"):
        ten = {}
        for pair in PAIRS:
            best = AnagramPair(*pair, max(VIEWS, key=lambda name: tried[name][pair]))
            drawn = sampler.draw(best, settings.seeds, guidance=w)
            ten[pair] = PairSamples(best.view, drawn, sampler.read(drawn, best))
    with context.part("all pairs"):
        every = {}
        for a, b in combinations(range(len(classes)), 2):
            each = AnagramPair(a, b, settings.view)
            every[a, b] = sampler.read(sampler.draw(each, settings.every, guidance=w), each).both
    with context.part("weights"):
        by_weight = {0.5: average(made.shares for made in ten.values())}
        for weight in settings.weights:
            each_pair = [AnagramPair(*pair, made.view) for pair, made in ten.items()]
            by_weight[weight] = average(
                sampler.read(sampler.draw(each, settings.tried, guidance=w, weight=weight), each)
                for each in each_pair
            )
    test = context.data.test
    assert test.labels is not None
    accuracy = reader.share(to_float(test.images), test.labels)
    labels = {"both": "both", "upright": "upright", "through": "through the view"}
    panel = share_panel(
        dict(sorted(by_weight.items())), labels, "what is read", "weight of the upright view", percent=False
    )
    caption = "The ten pairs, with other weights of the two views; equal ones elsewhere on this page."
    about = ABOUT.format(w=w, tried=settings.tried, seeds=settings.seeds)
    all_caption = ALL_PAIRS.format(view=settings.view, seeds=settings.every)
    ten_rows, ten_table = _ten_rows(context, settings, classes, ten), _ten_table(classes, ten)
    all_pairs = matrix("pairs", classes, every, all_caption, corner="upright, turned")
    return Report(
        _findings(settings, ten, every, tried, accuracy, len(classes)),
        Section("Ten pairs", about, ten_rows, ten_table),
        Section("Which view suits which pair", _views_table(settings, classes, tried), *pictures),
        Section("All pairs through one view", all_pairs),
        Section("Which view counts more", context.plot("weights", [panel], caption)),
        pairs=[list(pair) for pair in PAIRS],
    )


ABOUT = (
    "Each sampling step estimates the clean image twice, upright with one class and through a view with"
    " another, and continues from the mean of both (Geng et al. 2024). The view must map Gaussian noise to"
    " Gaussian noise: it has to be orthogonal. The ten pairs were fixed before any image was drawn. The view"
    " of a pair is the one in which both digits were recognised most often in {tried} samples, whose seeds"
    " differ from the {seeds} of the results. The guidance scale is {w:g}: averaging halves it for each"
    " digit."
)
ALL_PAIRS = (
    "Share of {seeds} seeds in which a classifier recognises both: the row's digit upright and the column's"
    " through the view {view}. The other half of the table is that of the same images, turned."
)


def _names(classes: tuple[str, ...], pairs: Iterable[Pair]) -> list[str]:
    return [f"{classes[a]} | {classes[b]}" for a, b in pairs]


def _ten_rows(
    context: StudyContext,
    settings: AnagramSettings,
    classes: tuple[str, ...],
    ten: Mapping[Pair, PairSamples],
) -> Picture:
    n, rows = settings.shown, []
    for name, made in zip(_names(classes, ten), ten.values(), strict=True):
        first = made.images[:n]
        rows.append((f"{name}, {made.view}", torch.cat([first, view(made.view)(first)])))
    caption = f"The first {n} seeds of each pair upright, and the same images through the view."
    return context.rows("pairs", rows, caption, columns=[*["upright"] * n, *["seen"] * n])


def _tried_rows(
    context: StudyContext, name: str, classes: tuple[str, ...], images: Mapping[Pair, Tensor]
) -> Picture:
    upright = torch.cat([each[:1] for each in images.values()])
    rows, seed = [("upright", upright), (name, view(name)(upright))], context.seed + TRIED
    caption = f"The first of the samples that chose, view {name}."
    return context.rows(f"view-{name}", rows, caption, columns=_names(classes, images), about={"seed": seed})


def _ten_table(classes: tuple[str, ...], ten: Mapping[Pair, PairSamples]) -> Table:
    def cells(each: AnagramShares) -> tuple[str, ...]:
        return tuple(f"{share:.0%}" for share in (each.both, each.upright, each.through))

    rows: list[tuple[Cell, ...]] = [
        (name, made.view, *cells(made.shares))
        for name, made in zip(_names(classes, ten), ten.values(), strict=True)
    ]
    rows.append(("all ten", "", *cells(average(made.shares for made in ten.values()))))
    heads = ("pair", "view", "both read", "the first, upright", "the second, through the view")
    return Table("ten", heads, tuple(rows), "Shares that a classifier recognises, each pair in its view.")


def _views_table(
    settings: AnagramSettings, classes: tuple[str, ...], tried: Mapping[str, Mapping[Pair, float]]
) -> Table:
    rows = tuple(
        (name, f"{mean(found.values()):.0%}", *(f"{found[pair]:.0%}" for pair in PAIRS))
        for name, found in tried.items()
    )
    caption = f"Both digits recognised in {settings.tried} samples of each pair; these chose the views."
    return Table("views", ("view", "ten pairs", *_names(classes, PAIRS)), rows, caption)


def _findings(
    settings: AnagramSettings,
    ten: Mapping[Pair, PairSamples],
    every: Mapping[Pair, float],
    tried: Mapping[str, Mapping[Pair, float]],
    accuracy: float,
    classes: int,
) -> Iterator[str]:
    both = {pair: made.shares.both for pair, made in ten.items()}
    yield (
        f"Both digits are recognised in {mean(both.values()):.0%} of the seeds of the ten pairs, each"
        f" through its view; in {mean(tried[settings.view].values()):.0%} if all are drawn through"
        f" {settings.view}, and in {mean(every.values()):.0%} of all pairs. A random guess would find both"
        f" in {1 / classes**2:.0%}; the classifier recognises {accuracy:.1%} of real test images."
    )
    yield from easiest(both, settings.seeds, lambda pair: f"{pair[0]} with {pair[1]} by {ten[pair].view}")


SELDOM = 0.25  # largest share of plain images with both contents at which a pair counts as an illusion


def text_study(context: StudyContext, settings: TextAnagramSettings) -> Report:
    """Nine pairs of prompts over guidance scales, against plain images of the first prompt."""
    data = readable_scenes(context, settings.counts)
    pipeline, origin = text_model(context, settings.text, data)
    sampler = AnagramSampler(pipeline, SceneSubject(), settings.steps, context.seed)
    w, n = settings.guidance, settings.seeds
    with context.part("anagrams"):
        drawn = {
            scale: {pair: sampler.draw(pair, n, guidance=scale) for pair in settings.pairs}
            for scale in settings.scales
        }
    with context.part("plain pictures"):
        plain = {}
        for pair in settings.pairs:
            images = pipeline.sample(
                n, label=pair.upright, steps=settings.steps, guidance=w, seed=context.seed
            )
            plain[pair] = sampler.read(images, pair)
    found = {
        scale: {pair: sampler.read(images, pair) for pair, images in every.items()}
        for scale, every in drawn.items()
    }
    labels = {
        "upright": "attributes, upright",
        "through": "attributes, through the view",
        "both": "pictures with all of both",
    }
    averages = {scale: average(every.values()) for scale, every in found.items()}
    panel = share_panel(averages, labels, "right over all pairs", "guidance", percent=True)
    pictures = _text_rows(context, settings, drawn[w])
    plot = context.plot("guidance", [panel], "Averaging halves the scale for each text.")
    return Report(
        _text_findings(settings, found, plain),
        Section("Two texts in one picture", TEXT_ABOUT, origin, *pictures, _text_table(found[w], plain, w)),
        Section("Guidance", plot),
        pairs=[pair._asdict() for pair in settings.pairs],
    )


TEXT_ABOUT = (
    "Each sampling step estimates the clean image twice, upright with one prompt and through a view with"
    " another, and continues from the mean of both (Geng et al. 2024). The view must map Gaussian noise to"
    " Gaussian noise: a rotation, a reflection, the negative. A view of a latent is not the view of its"
    " image, so a latent model keeps one latent for each prompt; their decoded images are averaged, and each"
    " latent is moved towards that average (Kim et al. 2024, SyncTweedies). Attributes are read upright and"
    " through the view. Plain images of the first prompt alone are read in the same way."
)


def _text_rows(
    context: StudyContext, settings: TextAnagramSettings, drawn: Mapping[AnagramPair, Tensor]
) -> Iterator[Picture]:
    pairs, half = list(drawn), len(drawn) // 2
    caption = (
        f"The first {settings.shown} seeds, guidance {settings.guidance:g}: upright, and below that the same"
        " images through the view."
    )
    for k, few in enumerate((pairs[:half], pairs[half:])):
        rows = []
        for pair in few:
            images = drawn[pair][: settings.shown]
            rows.append((folded(str(pair.upright), 26), images))
            rows.append((folded(f"{pair.view}: {pair.seen}", 26), view(pair.view)(images)))
        if rows:
            yield context.rows(f"pairs-{k + 1}", rows, caption)


def _text_table(
    found: Mapping[AnagramPair, AnagramShares], plain: Mapping[AnagramPair, AnagramShares], w: float
) -> Table:
    columns = (
        *("upright", "seen through the view", "view"),
        *("upright right, %", "through the view right, %", "all of both right, %", "of plain pictures, %"),
    )
    rows: list[tuple[Cell, ...]] = [
        (*pair, *(100 * share for share in each), 100 * plain[pair].both) for pair, each in found.items()
    ]
    caption = (
        f"Shares of the attributes (digit, colour, background, size, corner) that are right, guidance {w:g},"
        " and of images with all of both right; last: the same share of plain images of the first text."
    )
    return Table("pairs", columns, tuple(rows), caption)


def _text_findings(
    settings: TextAnagramSettings,
    found: Mapping[float, Mapping[AnagramPair, AnagramShares]],
    plain: Mapping[AnagramPair, AnagramShares],
) -> Iterator[str]:
    every = found[settings.guidance]
    total, base = average(every.values()), average(plain.values())
    both, base_both = (comparison.share(each.both, settings.seeds * len(every)) for each in (total, base))
    difference = comparison.unpaired(both, base_both).text(" points", times=100)
    yield (
        f"With guidance {settings.guidance:g}, {total.upright:.0%} of the attributes are right upright and"
        f" {total.through:.0%} through the view. All of both are right in {total.both:.0%} of the anagrams"
        f" and {base.both:.0%} of plain images of the first text, a difference of {difference}."
    )
    hidden = [pair for pair in every if plain[pair].both <= SELDOM]
    if hidden:
        yield (
            f"The {len(hidden)} pairs that plain images show in at most {SELDOM:.0%}"
            f" ({mean(plain[pair].both for pair in hidden):.0%} on average) are in"
            f" {mean(every[pair].both for pair in hidden):.0%} of their anagrams."
        )
    yield from easiest(
        {pair: each.both for pair, each in every.items()},
        settings.seeds,
        lambda pair: f"“{pair.upright}” with “{pair.seen}” by {pair.view}",
    )


STUDY = Study(
    quick=AnagramSettings(),
    full=AnagramSettings(pixels=PixelPreset(width=64, steps=10_000), seeds=100, tried=30, every=30, steps=50),
    run=study,
)
TEXT_STUDY = Study(
    quick=TextAnagramSettings(),
    full=TextAnagramSettings(
        counts=(40_000, 2_000, 2_000),
        text=FULL_TEXT,
        seeds=100,
        steps=50,
        scales=(1.0, 2.0, 3.0, 5.0, 8.0, 12.0),
    ),
    run=text_study,
)
