"""Study `anagrams`: digits that are other digits when they are turned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.edit import anagram
from latentdiff.errors import InputError
from latentdiff.pipeline import Pipeline
from latentdiff.study import recipes
from latentdiff.study.figures import Curve, Panel
from latentdiff.study.lab import Lab
from latentdiff.study.make import Study
from latentdiff.study.reading import Reader, matrix, mean
from latentdiff.study.recipes import PixelNumbers
from latentdiff.study.report import Picture, Report, Section, Table, Words
from latentdiff.study.training import pipeline_of
from latentdiff.views import view

Pair = tuple[int, int]
PAIRS: tuple[Pair, ...] = ((0, 1), (0, 8), (1, 4), (1, 7), (2, 3), (2, 5), (3, 5), (4, 7), (5, 8), (7, 8))
"""Fixed before anything was drawn: neither 6 with 9 nor a class with itself."""
OTHERS = ("rotate90", "flip", "negative", "patches")


@dataclass(frozen=True)
class Numbers:
    """``seeds`` anagrams of every pair of classes, ``shown`` in the figures."""

    pixels: PixelNumbers = field(default_factory=lambda: PixelNumbers(steps=700))
    view: str = "rotate180"
    seeds: int = 10
    shown: int = 6
    steps: int = 30
    guidance: float = 2.0
    weights: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7)


def study(lab: Lab, numbers: Numbers) -> Report:
    if not lab.data.classes or len(lab.data.classes) < 10:
        raise InputError(f"{lab.data.name}: anagrams is a study of ten classes, found {lab.data.num_classes}")
    with lab.part("model of pixels"):
        pipeline = pipeline_of(lab, recipes.pixels(lab, "pixels", numbers.pixels))
    reader = Reader.of(lab)
    if reader is None:
        raise InputError(f"{lab.data.name}: anagrams needs a feature network that knows its classes")
    shares: dict[str, dict[Pair, float]] = {numbers.view: {}}
    rows, classes = [], lab.data.classes
    with lab.part("all pairs"):
        for a in range(len(classes)):
            for b in range(a + 1, len(classes)):
                images = _drawn(lab, numbers, pipeline, (a, b), numbers.view)
                shares[numbers.view][a, b] = _both(reader, images, (a, b), numbers.view)
                if (a, b) in PAIRS:
                    rows.append(((a, b), images))
    pictures = [_picture(lab, numbers, classes, rows)]
    with lab.part("other views"):
        for other in OTHERS:
            found = {pair: _drawn(lab, numbers, pipeline, pair, other) for pair in PAIRS}
            shares[other] = {pair: _both(reader, images, pair, other) for pair, images in found.items()}
            pictures.append(_other(lab, other, classes, found))
    with lab.part("weights"):
        curve = _weights(lab, numbers, pipeline, reader)
    known = _known(lab, reader)
    table = matrix(
        "pairs",
        classes,
        shares[numbers.view],
        CAPTION.format(view=numbers.view, seeds=numbers.seeds),
        corner="upright, turned",
    )
    return Report(
        tuple(_findings(numbers, shares, known)),
        (
            Section("Ten pairs", (Words(ABOUT.format(view=numbers.view, w=numbers.guidance)), pictures[0])),
            Section("All pairs", (table,)),
            Section("Which view counts more", (curve,)),
            Section("Other views", (_views(shares), *pictures[1:])),
        ),
        {"pairs": [list(pair) for pair in PAIRS]},
    )


ABOUT = (
    "At every step the model estimates the clean image twice, upright as one digit and seen through the view ({view}) as another, and goes on with the mean of both "
    "(Geng et al. 2024). That works for views that turn noise into noise: orthogonal ones. The ten pairs were fixed before anything was drawn; guidance {w:g}."
)
CAPTION = (
    "How many of {seeds} seeds a classifier reads as both: the row's digit upright and the column's through the view {view}. The other half of the table is "
    "that of the same images, turned."
)


def _weights(lab: Lab, numbers: Numbers, pipeline: Pipeline, reader: Reader) -> Picture:
    """What is read over the ten pairs if the upright view counts more or less."""
    seen, found = view(numbers.view), []
    for weight in numbers.weights:
        hits = []
        for pair in PAIRS:
            images = _drawn(lab, numbers, pipeline, pair, numbers.view, weights=(weight, 1 - weight))
            first, second = reader.classes(images) == pair[0], reader.classes(seen(images)) == pair[1]
            hits.append(torch.stack([first & second, first, second]).double().mean(1))
        found.append(torch.stack(hits).mean(0).tolist())
    curves = [
        Curve(name, list(numbers.weights), [row[k] for row in found], "marked")
        for k, name in enumerate(("both", "upright", "turned"))
    ]
    panel = Panel("what is read", "weight of the upright view", "share of seeds", curves)
    return lab.plot(
        "weights", [panel], "The ten pairs, with other weights of the two views; equal ones elsewhere on this page."
    )


def _drawn(
    lab: Lab, numbers: Numbers, pipeline: Pipeline, pair: Pair, name: str, *, weights: tuple[float, float] | None = None
) -> Tensor:
    parts = [(pair[0], view("identity")), (pair[1], view(name))]
    settings = Sampling(steps=numbers.steps, guidance=numbers.guidance)
    return anagram(pipeline, parts, numbers.seeds, weights=weights, settings=settings, seed=lab.seed).images


def _both(reader: Reader, images: Tensor, pair: Pair, name: str) -> float:
    """The share of images in which both classes are read."""
    upright, turned = reader.classes(images), reader.classes(view(name)(images))
    return float(((upright == pair[0]) & (turned == pair[1])).float().mean())


def _known(lab: Lab, reader: Reader) -> float:
    """How well the classifier reads real test images."""
    labels = lab.data.test.labels
    assert labels is not None
    seen = reader.classes(lab.data.test.images.float() / 127.5 - 1)
    return float((seen == labels).float().mean())


def _picture(lab: Lab, numbers: Numbers, classes: tuple[str, ...], rows: list[tuple[Pair, Tensor]]) -> Picture:
    seen = view(numbers.view)
    shown = []
    for (a, b), images in rows:
        first = images[: numbers.shown]
        shown.append((f"{classes[a]} | {classes[b]}", torch.cat([first, seen(first)])))
    return lab.rows(
        "pairs",
        shown,
        f"The first {numbers.shown} seeds of each pair upright, and the very same images through the view ({numbers.view}) to the right of them.",
        columns=[*["upright"] * numbers.shown, *["turned"] * numbers.shown],
        about={"seed": lab.seed},
    )


def _other(lab: Lab, name: str, classes: tuple[str, ...], found: Mapping[Pair, Tensor]) -> Picture:
    upright = torch.cat([images[:1] for images in found.values()])
    columns = [f"{classes[a]} | {classes[b]}" for a, b in found]
    rows = [("upright", upright), (name, view(name)(upright))]
    return lab.rows(
        f"view-{name}",
        rows,
        f"The first seed of each of the ten pairs, view {name}.",
        columns=columns,
        about={"seed": lab.seed},
    )


def _views(shares: Mapping[str, Mapping[Pair, float]]) -> Table:
    rows = tuple((name, f"{mean([found[pair] for pair in PAIRS]):.0%}") for name, found in shares.items())
    return Table("views", ("view", "both read, over the ten pairs"), rows, "Views compared on the ten pairs.")


def _findings(numbers: Numbers, shares: Mapping[str, Mapping[Pair, float]], known: float) -> Iterator[str]:
    found = shares[numbers.view]
    ten = [found[pair] for pair in PAIRS]
    yield (
        f"Through the view {numbers.view} both digits are read in {mean(ten):.0%} of the seeds over the ten pairs fixed in advance, and in {mean(list(found.values())):.0%} over all pairs; "
        f"the classifier reads {known:.1%} of real test images."
    )
    best, worst = max(PAIRS, key=found.__getitem__), min(PAIRS, key=found.__getitem__)
    yield f"The easiest of the ten is {best[0]} with {best[1]} ({found[best]:.0%}), the hardest {worst[0]} with {worst[1]} ({found[worst]:.0%})."


FULL = Numbers(pixels=PixelNumbers(width=64, steps=10_000), seeds=100, steps=50)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
