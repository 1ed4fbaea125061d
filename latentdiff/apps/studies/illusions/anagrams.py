"""Studies `anagrams` and `text-anagrams`: images of one content upright, another in a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.illusions.subjects import (
    PAIRS,
    Content,
    Hits,
    Pair,
    Shares,
    average,
    class_hits,
    easiest,
    matrix,
    mean,
    scene_hits,
    share_panel,
)
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import (
    THINGS_MODEL,
    larger_section,
    pixel_model,
    readable_scenes,
    text_model,
)
from latentdiff.apps.studies.kit.presets import LONG_PIXELS, PixelPreset, TextPreset
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
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


THINGS = (
    AnagramPair(
        "a large red letter n on a white background", "a large red letter z on a white background", "rotate90"
    ),
    AnagramPair(
        "a large blue letter a on a yellow background",
        "a large blue letter v on a yellow background",
        "rotate180",
    ),
    AnagramPair(
        "a large black letter m on a white background",
        "a large black letter w on a white background",
        "rotate180",
    ),
    AnagramPair(
        "a large red heart on a white background", "a large red letter a on a white background", "rotate180"
    ),
    AnagramPair(
        "a large red six on a white background", "a large red nine on a white background", "rotate180"
    ),
    AnagramPair(
        "a large black heart on a white background", "a large white heart on a black background", "negative"
    ),
)
"""Pairs of larger pictures."""


@dataclass(frozen=True)
class AnagramSettings:
    """``seeds`` anagrams of each of ten pairs, ``tried`` others choose its view, ``every`` of all pairs."""

    pixels: PixelPreset = field(default_factory=PixelPreset)
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


class Anagrams(NamedTuple):
    """Anagrams [n, C, H, W] of a pair, and what they show upright and through the view."""

    pair: AnagramPair
    images: Tensor
    shares: Shares

    @classmethod
    def read(cls, hits: Hits, images: Tensor, pair: AnagramPair) -> Anagrams:
        turned = view(pair.view)(images)
        return cls(pair, images, Shares.of(hits(images, pair.upright), hits(turned, pair.seen)))


@dataclass(frozen=True, eq=False)
class AnagramSampler:
    """Draws anagrams of a model and measures what they show."""

    pipeline: Pipeline
    hits: Hits
    sampling: Sampling
    seed: int

    def __call__(self, pair: AnagramPair, n: int, *, offset: int = 0, weight: float = 0.5) -> Anagrams:
        """Anagram k of ``n`` has the seed ``seed`` + ``offset`` + k. ``weight``: of the upright view."""
        parts = [(pair.upright, view("identity")), (pair.seen, view(pair.view))]
        weights, seed = (weight, 1 - weight), self.seed + offset
        made = anagram(self.pipeline, parts, n, weights=weights, settings=self.sampling, seed=seed)
        return Anagrams.read(self.hits, made.images, pair)


def study(context: StudyContext, settings: AnagramSettings) -> Report:
    """Ten pairs of classes, each through the view that suits it; all pairs through one view; weights."""
    reader, classes = ClassReader.of_ten_classes(context, "anagrams")
    pipeline = pixel_model(context, settings.pixels, latents=True)
    sampling = Sampling(steps=settings.steps, guidance=settings.guidance)
    draw = AnagramSampler(pipeline, class_hits(reader), sampling, context.seed)
    with context.part("which view"):
        tried = {
            name: [draw(AnagramPair(*pair, name), settings.tried, offset=TRIED) for pair in PAIRS]
            for name in VIEWS
        }
    with context.part("ten pairs"):
        best = [max(views, key=lambda made: made.shares.both) for views in zip(*tried.values(), strict=True)]
        ten = [draw(made.pair, settings.seeds) for made in best]
    with context.part("all pairs"):
        every = {
            pair: draw(AnagramPair(*pair, settings.view), settings.every).shares.both
            for pair in combinations(range(len(classes)), 2)
        }
    with context.part("weights"):
        by_weight = {0.5: _average(ten)}
        for weight in settings.weights:
            by_weight[weight] = _average([draw(made.pair, settings.tried, weight=weight) for made in ten])
    test = context.data.test
    assert test.labels is not None
    accuracy = reader.accuracy(to_float(test.images), test.labels)
    labels = {"both": "both", "first": "upright", "second": "through the view"}
    panel = share_panel(
        dict(sorted(by_weight.items())), labels, "what is read", "weight of the upright view", percent=False
    )
    caption = "The ten pairs, with other weights of the two views; equal ones elsewhere on this page."
    about = ABOUT.format(w=settings.guidance, tried=settings.tried, seeds=settings.seeds)
    all_caption = ALL_PAIRS.format(view=settings.view, seeds=settings.every)
    all_pairs = matrix("pairs", classes, every, all_caption, corner="upright, turned")
    names = [f"{classes[a]} | {classes[b]}" for a, b in PAIRS]
    return Report(
        _findings(settings, ten, every, tried, accuracy, len(classes)),
        Section("Ten pairs", about, *_ten(context, names, ten, settings.shown)),
        Section("Which view suits which pair", *_tried(context, names, tried, settings.tried)),
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


def _average(every: Sequence[Anagrams]) -> Shares:
    return average(made.shares for made in every)


def _ten(
    context: StudyContext, names: Sequence[str], ten: Sequence[Anagrams], n: int
) -> tuple[Picture, Table]:
    def cells(each: Shares) -> tuple[str, ...]:
        return tuple(f"{share:.0%}" for share in (each.both, each.first, each.second))

    pictures, rows = [], []
    for name, made in zip(names, ten, strict=True):
        first, through = made.images[:n], made.pair.view
        pictures.append((f"{name}, {through}", torch.cat([first, view(through)(first)])))
        rows.append((name, through, *cells(made.shares)))
    rows.append(("all ten", "", *cells(_average(ten))))
    heads = ("pair", "view", "both read", "the first, upright", "the second, through the view")
    caption = f"The first {n} seeds of each pair upright, and the same images through the view."
    return (
        context.rows("pairs", pictures, caption, columns=[*["upright"] * n, *["seen"] * n]),
        Table("ten", heads, tuple(rows), "Shares that a classifier recognises, each pair in its view."),
    )


def _tried(
    context: StudyContext, names: Sequence[str], tried: Mapping[str, Sequence[Anagrams]], n: int
) -> Iterator[Table | Picture]:
    rows = tuple(
        (name, *(f"{share:.0%}" for share in (_average(every).both, *(made.shares.both for made in every))))
        for name, every in tried.items()
    )
    caption = f"Both digits recognised in {n} samples of each pair; these chose the views."
    yield Table("views", ("view", "ten pairs", *names), rows, caption)
    about = {"seed": context.seed + TRIED}
    for name, every in tried.items():
        upright = torch.cat([made.images[:1] for made in every])
        images = [("upright", upright), (name, view(name)(upright))]
        caption = f"The first of the samples that chose, view {name}."
        yield context.rows(f"view-{name}", images, caption, columns=names, about=about)


def _findings(
    settings: AnagramSettings,
    ten: Sequence[Anagrams],
    every: Mapping[Pair, float],
    tried: Mapping[str, Sequence[Anagrams]],
    accuracy: float,
    classes: int,
) -> Iterator[str]:
    yield (
        f"Both digits are recognised in {_average(ten).both:.0%} of the seeds of the ten pairs, each"
        f" through its view; in {_average(tried[settings.view]).both:.0%} if all are drawn through"
        f" {settings.view}, and in {mean(every.values()):.0%} of all pairs. A random guess would find both"
        f" in {1 / classes**2:.0%}; the classifier recognises {accuracy:.1%} of real test images. It"
        " has to choose one of the digits: a reader, who may see none, recognises fewer pairs."
    )
    both = {made.pair: made.shares.both for made in ten}
    yield from easiest(both, settings.seeds, lambda pair: f"{pair.upright} with {pair.seen} by {pair.view}")


SELDOM = 0.25  # largest share of plain images with both contents at which a pair counts as an illusion


def text_study(context: StudyContext, settings: TextAnagramSettings) -> Report:
    """Nine pairs of prompts over guidance scales, against plain images of the first prompt."""
    data = readable_scenes(context, settings.counts)
    pipeline, origin = text_model(context, settings.text, data)
    w, n, hits = settings.guidance, settings.seeds, scene_hits()
    with context.part("anagrams"):
        found = {}
        for scale in settings.scales:
            sampling = Sampling(steps=settings.steps, guidance=scale)
            draw = AnagramSampler(pipeline, hits, sampling, context.seed)
            found[scale] = [draw(pair, n) for pair in settings.pairs]
    with context.part("plain pictures"):
        plain = []
        for pair in settings.pairs:
            images = pipeline.sample(
                n, label=pair.upright, steps=settings.steps, guidance=w, seed=context.seed
            )
            plain.append(Anagrams.read(hits, images, pair))
    labels = {
        "first": "attributes, upright",
        "second": "attributes, through the view",
        "both": "pictures with all of both",
    }
    averages = {scale: _average(every) for scale, every in found.items()}
    panel = share_panel(averages, labels, "right over all pairs", "guidance", percent=True)
    pictures = _text_rows(context, settings, found[w])
    plot = context.plot("guidance", [panel], "Averaging halves the scale for each text.")
    return Report(
        _text_findings(settings, found[w], plain),
        Section("Two texts in one picture", TEXT_ABOUT, origin, *pictures, _text_table(found[w], plain, w)),
        Section("Guidance", plot),
        *larger_section(
            *(context, THINGS_MODEL, "Larger pictures", THINGS_WORDS),
            lambda pipeline: _things(context, settings, pipeline),
        ),
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


THINGS_WORDS = "Letters, shapes and digits, each row twice: upright, and the same pictures through the view."


def _things(context: StudyContext, settings: TextAnagramSettings, pipeline: Pipeline) -> Iterator[Picture]:
    """Anagrams of larger pictures."""
    sampling, n = Sampling(steps=settings.steps, guidance=settings.guidance), settings.shown // 2
    rows = []
    for pair in THINGS:
        parts = [(pair.upright, view("identity")), (pair.seen, view(pair.view))]
        images = anagram(pipeline, parts, n, settings=sampling, seed=context.seed).images
        title = folded(f"{pair.upright} | {pair.view}: {pair.seen}", 40)
        rows.append((title, torch.cat([images, view(pair.view)(images)])))
    caption = f"The first {n} seeds, guidance {settings.guidance:g}: upright, and the same through the view."
    columns = [*["upright"] * n, *["seen"] * n]
    yield context.rows("things", rows, caption, columns=columns)


def _text_rows(
    context: StudyContext, settings: TextAnagramSettings, every: Sequence[Anagrams]
) -> Iterator[Picture]:
    half = len(every) // 2
    caption = (
        f"The first {settings.shown} seeds, guidance {settings.guidance:g}: upright, and below that the same"
        " images through the view."
    )
    for k, few in enumerate((every[:half], every[half:])):
        rows = []
        for pair, images, _ in few:
            first = images[: settings.shown]
            rows.append((folded(str(pair.upright), 26), first))
            rows.append((folded(f"{pair.view}: {pair.seen}", 26), view(pair.view)(first)))
        if rows:
            yield context.rows(f"pairs-{k + 1}", rows, caption)


def _text_table(found: Sequence[Anagrams], plain: Sequence[Anagrams], w: float) -> Table:
    columns = (
        *("upright", "seen through the view", "view"),
        *("upright right, %", "through the view right, %", "all of both right, %", "of plain pictures, %"),
    )
    rows = tuple(
        (*made.pair, *(100 * share for share in (*made.shares, other.shares.both)))
        for made, other in zip(found, plain, strict=True)
    )
    caption = (
        f"Shares of the attributes (digit, colour, background, size, corner) that are right, guidance {w:g},"
        " and of images with all of both right; last: the same share of plain images of the first text."
    )
    return Table("pairs", columns, rows, caption)


def _text_findings(
    settings: TextAnagramSettings, found: Sequence[Anagrams], plain: Sequence[Anagrams]
) -> Iterator[str]:
    total, base = _average(found), _average(plain)
    both, base_both = (comparison.share(each.both, settings.seeds * len(found)) for each in (total, base))
    difference = comparison.unpaired(both, base_both).text(" points", times=100)
    yield (
        f"With guidance {settings.guidance:g}, {total.first:.0%} of the attributes are right upright and"
        f" {total.second:.0%} through the view. All of both are right in {total.both:.0%} of the anagrams"
        f" and {base.both:.0%} of plain images of the first text, a difference of {difference}."
    )
    hidden = [pair for pair in zip(plain, found, strict=True) if pair[0].shares.both <= SELDOM]
    if hidden:
        plainly, drawn = (_average(every).both for every in zip(*hidden, strict=True))
        yield (
            f"The {len(hidden)} pairs that plain images show in at most {SELDOM:.0%}"
            f" ({plainly:.0%} on average) are in {drawn:.0%} of their anagrams."
        )
    yield from easiest(
        {made.pair: made.shares.both for made in found},
        settings.seeds,
        lambda pair: f"“{pair.upright}” with “{pair.seen}” by {pair.view}",
    )


STUDY = Study(
    quick=AnagramSettings(),
    full=AnagramSettings(pixels=LONG_PIXELS, seeds=40, tried=12, every=12, steps=50),
    run=study,
)
TEXT_STUDY = Study(
    quick=TextAnagramSettings(),
    full=TextAnagramSettings(
        seeds=50,
        steps=50,
        scales=(1.0, 2.0, 5.0, 8.0, 12.0),
    ),
    run=text_study,
)
