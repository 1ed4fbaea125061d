"""Study `anagrams`: digits that are other digits when they are turned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.classifier import ClassReader, matrix, mean
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixels_to_look_at
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.illusions.views import view
from latentdiff.edit import anagram
from latentdiff.errors import InputError
from latentdiff.pipeline.pipeline import Pipeline

Pair = tuple[int, int]
PAIRS: tuple[Pair, ...] = ((0, 1), (0, 8), (1, 4), (1, 7), (2, 3), (2, 5), (3, 5), (4, 7), (5, 8), (7, 8))
"""Fixed before anything was drawn: neither 6 with 9 nor a class with itself."""
VIEWS = ("rotate180", "rotate90", "flip", "mirror", "patches", "negative")
TRIED = 10**6  # the seeds that choose a view are those of the study and this, the results have others


@dataclass(frozen=True)
class Numbers:
    """``seeds`` anagrams of every one of the ten pairs, ``tried`` others choose its view, ``every`` are drawn
    of all pairs; ``shown`` in the figures.
    """

    pixels: PixelNumbers | None = None
    view: str = "rotate180"
    seeds: int = 10
    tried: int = 5
    every: int = 4
    shown: int = 5
    steps: int = 20
    guidance: float = 8.0
    weights: tuple[float, ...] = (0.35, 0.65)


@dataclass(frozen=True, eq=False)
class Artist:
    """Draws anagrams and reads them back."""

    lab: StudyContext
    numbers: Numbers
    pipeline: Pipeline
    reader: ClassReader

    def draw(self, pair: Pair, name: str, n: int, *, more: int = 0, weight: float = 0.5) -> Tensor:
        """Anagrams [n, C, H, W] of a pair; image k has the study's seed + ``more`` + k, ``weight`` is that of
        the upright view.
        """
        parts = [(pair[0], view("identity")), (pair[1], view(name))]
        settings = Sampling(steps=self.numbers.steps, guidance=self.numbers.guidance)
        seed, weights = self.lab.seed + more, (weight, 1 - weight)
        return anagram(self.pipeline, parts, n, weights=weights, settings=settings, seed=seed).images

    def read(self, images: Tensor, pair: Pair, name: str) -> tuple[float, float, float]:
        """The shares of images in which both classes are read, the first upright, the second through the
        view.
        """
        first = self.reader.classes(images) == pair[0]
        second = self.reader.classes(view(name)(images)) == pair[1]
        both, upright, seen = (float(hits.double().mean()) for hits in (first & second, first, second))
        return both, upright, seen


@dataclass(frozen=True)
class Drawn:
    """The anagrams of a pair through the view that suits it: what was read of them."""

    view: str
    images: Tensor
    both: float
    upright: float
    seen: float


def study(lab: StudyContext, numbers: Numbers) -> Report:
    classes = lab.data.classes
    if not classes or len(classes) < 10:
        raise InputError(f"{lab.data.name}: anagrams is a study of ten classes, found {lab.data.num_classes}")
    reader = ClassReader.of(lab)
    if reader is None:
        raise InputError(f"{lab.data.name}: anagrams needs a feature network that knows its classes")
    pipeline = pixels_to_look_at(lab, numbers.pixels, latents=True)
    artist = Artist(lab, numbers, pipeline, reader)
    with lab.part("which view"):
        shares, pictures = _tried(lab, artist, classes)
    with lab.part("ten pairs"):
        drawn = {pair: _best(artist, pair, shares) for pair in PAIRS}
    with lab.part("all pairs"):
        every = {
            (a, b): artist.read(artist.draw((a, b), numbers.view, numbers.every), (a, b), numbers.view)[0]
            for a in range(len(classes))
            for b in range(a + 1, len(classes))
        }
    with lab.part("weights"):
        curve = _weights(lab, artist, drawn)
    about = Words(ABOUT.format(w=numbers.guidance, tried=numbers.tried, seeds=numbers.seeds))
    caption = CAPTION.format(view=numbers.view, seeds=numbers.every)
    table = matrix("pairs", classes, every, caption, corner="upright, turned")
    return Report(
        tuple(_findings(numbers, drawn, every, shares, _known(lab, reader), len(classes))),
        (
            Section("Ten pairs", (about, _picture(lab, numbers, classes, drawn), _table(classes, drawn))),
            Section("Which view suits which pair", (_views(numbers, classes, shares), *pictures)),
            Section("All pairs through one view", (table,)),
            Section("Which view counts more", (curve,)),
        ),
        {"pairs": [list(pair) for pair in PAIRS]},
    )


ABOUT = (
    "At every step the model estimates the clean image twice, upright as one digit and seen through a view as"
    " another, and goes on with the mean of both (Geng et al. 2024). That works for views that turn noise"
    " into noise: orthogonal ones. The ten pairs were fixed before anything was drawn. Each is drawn through"
    " the view that suits it best: the one in which both digits were read most often in {tried} samples from"
    " other seeds than the {seeds} of the results. Guidance is {w:g}: of the mean of two estimates half of it"
    " is left for each digit."
)
CAPTION = (
    "How many of {seeds} seeds a classifier reads as both: the row's digit upright and the column's through"
    " the view {view}. The other half of the table is that of the same images, turned."
)


def _tried(
    lab: StudyContext, artist: Artist, classes: tuple[str, ...]
) -> tuple[dict[str, dict[Pair, float]], list[Picture]]:
    """What is read of each pair through every view, from seeds that take no part in the results; and the
    first anagrams.
    """
    shares: dict[str, dict[Pair, float]] = {}
    pictures = []
    for name in VIEWS:
        found = {pair: artist.draw(pair, name, artist.numbers.tried, more=TRIED) for pair in PAIRS}
        shares[name] = {pair: artist.read(images, pair, name)[0] for pair, images in found.items()}
        pictures.append(_other(lab, name, classes, found))
    return shares, pictures


def _best(artist: Artist, pair: Pair, shares: Mapping[str, Mapping[Pair, float]]) -> Drawn:
    """New anagrams of a pair through the view that did best before."""
    name = max(VIEWS, key=lambda each: shares[each][pair])
    images = artist.draw(pair, name, artist.numbers.seeds)
    return Drawn(name, images, *artist.read(images, pair, name))


def _weights(lab: StudyContext, artist: Artist, drawn: Mapping[Pair, Drawn]) -> Picture:
    """What is read over the ten pairs if the upright view counts more or less."""
    n, found = artist.numbers.tried, {}
    for weight in artist.numbers.weights:
        rows = []
        for pair, made in drawn.items():
            rows.append(artist.read(artist.draw(pair, made.view, n, weight=weight), pair, made.view))
        found[weight] = tuple(map(mean, zip(*rows, strict=True)))
    found[0.5] = tuple(
        mean([getattr(made, what) for made in drawn.values()]) for what in ("both", "upright", "seen")
    )
    weights = sorted(found)
    curves = [
        Curve(name, weights, [found[weight][k] for weight in weights], "marked")
        for k, name in enumerate(("both", "upright", "through the view"))
    ]
    panel = Panel("what is read", "weight of the upright view", "share of seeds", curves)
    return lab.plot(
        "weights",
        [panel],
        "The ten pairs, with other weights of the two views; equal ones elsewhere on this page.",
    )


def _known(lab: StudyContext, reader: ClassReader) -> float:
    """How well the classifier reads real test images."""
    labels = lab.data.test.labels
    assert labels is not None
    seen = reader.classes(lab.data.test.images.float() / 127.5 - 1)
    return float((seen == labels).float().mean())


def _picture(
    lab: StudyContext, numbers: Numbers, classes: tuple[str, ...], drawn: Mapping[Pair, Drawn]
) -> Picture:
    shown = []
    for (a, b), made in drawn.items():
        first = made.images[: numbers.shown]
        shown.append(
            (f"{classes[a]} | {classes[b]}, {made.view}", torch.cat([first, view(made.view)(first)]))
        )
    return lab.rows(
        "pairs",
        shown,
        f"The first {numbers.shown} seeds of each pair upright, and the very same images through its view to"
        " the right of them.",
        columns=[*["upright"] * numbers.shown, *["seen"] * numbers.shown],
        about={"seed": lab.seed},
    )


def _other(lab: StudyContext, name: str, classes: tuple[str, ...], found: Mapping[Pair, Tensor]) -> Picture:
    upright = torch.cat([images[:1] for images in found.values()])
    columns = [f"{classes[a]} | {classes[b]}" for a, b in found]
    rows = [("upright", upright), (name, view(name)(upright))]
    return lab.rows(
        f"view-{name}",
        rows,
        f"The first of the samples that chose, view {name}.",
        columns=columns,
        about={"seed": lab.seed + TRIED},
    )


def _table(classes: tuple[str, ...], drawn: Mapping[Pair, Drawn]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            f"{classes[a]} | {classes[b]}",
            made.view,
            f"{made.both:.0%}",
            f"{made.upright:.0%}",
            f"{made.seen:.0%}",
        )
        for (a, b), made in drawn.items()
    ]
    shares = (mean([getattr(made, what) for made in drawn.values()]) for what in ("both", "upright", "seen"))
    rows.append(("all ten", "", *(f"{share:.0%}" for share in shares)))
    heads = ("pair", "view", "both read", "the first, upright", "the second, through the view")
    return Table("ten", heads, tuple(rows), "What a classifier reads, each pair through its view.")


def _views(numbers: Numbers, classes: tuple[str, ...], shares: Mapping[str, Mapping[Pair, float]]) -> Table:
    pairs = [f"{classes[a]} | {classes[b]}" for a, b in PAIRS]
    rows = tuple(
        (name, f"{mean(list(found.values())):.0%}", *(f"{found[pair]:.0%}" for pair in PAIRS))
        for name, found in shares.items()
    )
    caption = (
        f"Both digits read, {numbers.tried} samples each: these chose the views, from seeds of their own."
    )
    return Table("views", ("view", "ten pairs", *pairs), rows, caption)


def _findings(
    numbers: Numbers,
    drawn: Mapping[Pair, Drawn],
    every: Mapping[Pair, float],
    shares: Mapping[str, Mapping[Pair, float]],
    known: float,
    classes: int,
) -> Iterator[str]:
    both = {pair: made.both for pair, made in drawn.items()}
    one = shares[numbers.view]
    yield (
        f"Each through the view that suits it, both digits are read in {mean(list(both.values())):.0%} of the"
        f" seeds over the ten pairs fixed in advance; all through {numbers.view}, in"
        f" {mean(list(one.values())):.0%}, and in {mean(list(every.values())):.0%} over all pairs. The"
        f" classifier reads {known:.1%} of real test images."
    )
    yield f"By chance a classifier that guessed would read both in {1 / classes**2:.0%}."
    found = comparison.extremes({pair: comparison.share(both[pair], numbers.seeds) for pair in PAIRS})
    if found is not None:
        worst, best = found
        yield (
            f"Beyond the {comparison.WITHIN} of their difference {best[0]} with {best[1]}"
            f" ({drawn[best].view}, {both[best]:.0%}) is easier than {worst[0]} with {worst[1]}"
            f" ({drawn[worst].view}, {both[worst]:.0%})."
        )


FULL = Numbers(pixels=PixelNumbers(width=64, steps=10_000), seeds=100, tried=30, every=30, steps=50)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
