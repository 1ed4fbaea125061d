"""Study `text-anagrams`: pictures that are of one text upright and of another seen through a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.classifier import mean
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import FULL_TEXTS, TextNumbers
from latentdiff.apps.studies.kit.text_model import model_of_texts, scenes_to_read
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_uint8
from latentdiff.data.synthetic_scenes import parse
from latentdiff.diffusion.illusions.views import view
from latentdiff.edit import anagram
from latentdiff.evaluate.scenes import attributes, read
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded


class Pair(NamedTuple):
    """What the picture shows upright, what it shows through the view."""

    upright: str
    seen: str
    view: str


PAIRS = (
    Pair("a large red six on a white background", "a large red nine on a white background", "rotate180"),
    Pair("a large blue one on a yellow background", "a large blue seven on a yellow background", "rotate180"),
    Pair("a large black two on a white background", "a large black five on a white background", "flip"),
    Pair(
        "a large orange four on a black background", "a large orange seven on a black background", "rotate180"
    ),
    Pair("a large white two on a black background", "a large black two on a white background", "negative"),
    Pair(
        "a large yellow eight on a blue background", "a large blue eight on a yellow background", "negative"
    ),
    Pair("a large green five on a black background", "a large green five on a black background", "rotate180"),
    Pair(
        "a large purple zero on a white background", "a large purple eight on a white background", "rotate90"
    ),
    Pair(
        "a small red one in the top left corner on a white background",
        "a small red one in the bottom right corner on a white background",
        "rotate180",
    ),
)
"""Chosen by shape before a model had drawn them: digits that turn into each other or nearly so, colours that
are each other's negative, a place that changes sides.
"""


@dataclass(frozen=True)
class Numbers:
    """``seeds`` anagrams of every pair, ``shown`` of them in the figures; ``scales`` of guidance, the middle
    one in the tables.
    """

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextNumbers | None = None
    seeds: int = 20
    shown: int = 8
    steps: int = 25
    scales: tuple[float, ...] = (2.0, 5.0, 8.0)
    pairs: tuple[Pair, ...] = field(default=PAIRS)

    @property
    def guidance(self) -> float:
        return self.scales[len(self.scales) // 2]


SELDOM = 0.25  # a share of plain pictures up to which a pair counts as an illusion


class Seen(NamedTuple):
    """Of some pictures: the shares of the attributes that are right upright and through the view, and of
    pictures with all right in both.
    """

    upright: float
    through: float
    both: float


def study(lab: StudyContext, numbers: Numbers) -> Report:
    pipeline, where = model_of_texts(lab, numbers.text, scenes_to_read(lab, numbers.counts))
    with lab.part("anagrams"):
        drawn = {
            w: {pair: _drawn(lab, numbers, pipeline, pair, w) for pair in numbers.pairs}
            for w in numbers.scales
        }
    with lab.part("plain pictures"):
        plain = {pair: _plain(lab, numbers, pipeline, pair) for pair in numbers.pairs}
    found = {w: {pair: seen_in(images, pair) for pair, images in every.items()} for w, every in drawn.items()}
    other = {pair: seen_in(images, pair) for pair, images in plain.items()}
    w = numbers.guidance
    return Report(
        tuple(_findings(numbers, found, other)),
        (
            Section(
                "Two texts in one picture",
                (Words(ABOUT), where, *_pictures(lab, numbers, drawn[w]), _table(found[w], other, w)),
            ),
            Section("Guidance", (_guidance(lab, found),)),
        ),
        {"pairs": [pair._asdict() for pair in numbers.pairs]},
    )


ABOUT = (
    "At every step the model estimates the clean picture twice, for one text as it stands and for another"
    " seen through a view, and goes on with the mean of both (Geng et al. 2024). The view has to turn noise"
    " into noise: a turn, a mirror image, the negative. Views of latents are not views of pictures: a model"
    " of latents has some for each text, their pictures are averaged, and each is led back to the mean as it"
    " sees it (Kim et al. 2024, SyncTweedies). What is read of the pictures is read twice as well, upright"
    " and through the view; beside it, what is read of plain pictures of the first text alone."
)


def _drawn(lab: StudyContext, numbers: Numbers, pipeline: Pipeline, pair: Pair, w: float) -> Tensor:
    parts = [(pair.upright, view("identity")), (pair.seen, view(pair.view))]
    settings = Sampling(steps=numbers.steps, guidance=w)
    return anagram(pipeline, parts, numbers.seeds, settings=settings, seed=lab.seed).images


def _plain(lab: StudyContext, numbers: Numbers, pipeline: Pipeline, pair: Pair) -> Tensor:
    return pipeline.sample(
        numbers.seeds, label=pair.upright, steps=numbers.steps, guidance=numbers.guidance, seed=lab.seed
    )


def seen_in(images: Tensor, pair: Pair) -> Seen:
    """What of the two texts pictures [n, 3, H, W] show, upright and through the view."""
    right = []
    for text, shown in ((pair.upright, images), (pair.seen, view(pair.view)(images))):
        scene = parse(text)
        right.append([attributes(scene, reading) for reading in read(to_uint8(shown), [scene] * len(shown))])
    upright, through = (mean([float(hit) for each in side for hit in each.values()]) for side in right)
    both = [all(first.values()) and all(second.values()) for first, second in zip(*right, strict=True)]
    return Seen(upright, through, mean([float(hit) for hit in both]))


def _pictures(lab: StudyContext, numbers: Numbers, drawn: Mapping[Pair, Tensor]) -> Iterator[Picture]:
    pairs = list(drawn)
    for k, few in enumerate((pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])):
        rows = []
        for pair in few:
            images = drawn[pair][: numbers.shown]
            rows += [
                (folded(pair.upright, 26), images),
                (folded(f"{pair.view}: {pair.seen}", 26), view(pair.view)(images)),
            ]
        if rows:
            text = (
                f"The first {numbers.shown} seeds, guidance {numbers.guidance:g}: as they are, and below that"
                " the same seen through the view."
            )
            yield lab.rows(f"pairs-{k + 1}", rows, text, about={"seed": lab.seed})


def _table(found: Mapping[Pair, Seen], plain: Mapping[Pair, Seen], w: float) -> Table:
    columns = (
        "upright",
        "seen through the view",
        "view",
        "upright right, %",
        "through the view right, %",
        "all of both right, %",
        "of plain pictures, %",
    )
    rows: list[tuple[Cell, ...]] = [
        (*pair, 100 * seen.upright, 100 * seen.through, 100 * seen.both, 100 * plain[pair].both)
        for pair, seen in found.items()
    ]
    return Table(
        "pairs",
        columns,
        tuple(rows),
        f"Shares of the attributes (digits, colours, ground, size, place) that are right, guidance {w:g}, and"
        " of pictures in which all of both is; the last column: of pictures of the first text alone, which"
        " for some pairs show both anyway.",
    )


def _guidance(lab: StudyContext, found: Mapping[float, Mapping[Pair, Seen]]) -> Picture:
    def curve(name: str, title: str) -> Curve:
        return Curve(
            title,
            list(found),
            [100 * mean([float(getattr(seen, name)) for seen in every.values()]) for every in found.values()],
            "marked",
        )

    curves = [
        curve("upright", "attributes, upright"),
        curve("through", "attributes, through the view"),
        curve("both", "pictures with all of both"),
    ]
    return lab.plot(
        "guidance",
        [Panel("right over all pairs", "guidance", "percent", curves)],
        "Half of it is left for each text: two are averaged.",
    )


def _findings(
    numbers: Numbers, found: Mapping[float, Mapping[Pair, Seen]], plain: Mapping[Pair, Seen]
) -> Iterator[str]:
    every = found[numbers.guidance]
    upright, through, both = (mean([seen[k] for seen in every.values()]) for k in range(3))
    yield (
        f"With guidance {numbers.guidance:g}, {upright:.0%} of what the texts say is right upright and"
        f" {through:.0%} through the view; all of both in {both:.0%} of the pictures, against"
        f" {mean([seen.both for seen in plain.values()]):.0%} of plain pictures of the first text."
    )
    hidden = [pair for pair in every if plain[pair].both <= SELDOM]
    if hidden:
        yield (
            f"Of the {len(hidden)} pairs that plain pictures show in at most {SELDOM:.0%}"
            f" ({mean([plain[pair].both for pair in hidden]):.0%} on average),"
            f" {mean([every[pair].both for pair in hidden]):.0%}."
        )
    found_both, plain_both = (
        comparison.share(mean([seen.both for seen in side.values()]), numbers.seeds * len(side))
        for side in (every, plain)
    )
    apart = comparison.unpaired(found_both, plain_both)
    yield f"All of both against plain pictures of the first text: {apart.text(' points', times=100)}."
    extremes = comparison.extremes(
        {pair: comparison.share(seen.both, numbers.seeds) for pair, seen in every.items()}
    )
    if extremes is not None:
        worst, best = extremes
        yield (
            f"Beyond the {comparison.WITHIN} of their difference “{best.upright}” with “{best.seen}” by"
            f" {best.view} ({every[best].both:.0%} of the seeds) is easier than “{worst.upright}” with"
            f" “{worst.seen}” by {worst.view} ({every[worst].both:.0%})."
        )


FULL = Numbers(
    counts=(40_000, 2_000, 2_000),
    text=FULL_TEXTS,
    seeds=100,
    steps=50,
    scales=(1.0, 2.0, 3.0, 5.0, 8.0, 12.0),
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
