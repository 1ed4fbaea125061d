"""Study `text-hybrids`: pictures of one text from afar and of another close up, or in grey and in colour."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.illusions.hybrids import stretched
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
from latentdiff.diffusion.illusions.bands import Band, brightness_and_colour, frequencies
from latentdiff.edit import hybrid
from latentdiff.evaluate.scenes import read
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded


class Pair(NamedTuple):
    """The texts of the first and of the second band."""

    first: str
    second: str


BY_DISTANCE = (
    Pair("a large black zero on a white background", "a large black four on a white background"),
    Pair("a large white one on a blue background", "a large white eight on a blue background"),
    Pair("a large red seven on a black background", "a large red two on a black background"),
    Pair("a large yellow nine on a purple background", "a large yellow five on a purple background"),
)
"""From afar, and close up; in the same colours, as these are decided by the low band alone."""
BY_COLOUR = (
    Pair("a large white three on a black background", "a large red seven on a green background"),
    Pair("a large black zero on a white background", "a large orange one on a blue background"),
    Pair("a large white four on a black background", "a large yellow eight on a purple background"),
    Pair("a large black two on a white background", "a large green six on a red background"),
)
"""In grey, and in colour."""
THREE = (
    "a large white zero on a black background",
    "a large white seven on a black background",
    "a large white four on a black background",
)


@dataclass(frozen=True)
class Numbers:
    """``sigma``: the blur in pixels that cuts near from far in the pictures; ``sigmas``: all that are tried;
    ``seeds`` pictures of a pair.
    """

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextNumbers | None = None
    sigma: float = 1.5
    sigmas: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    seeds: int = 20
    shown: int = 6
    steps: int = 25
    guidance: float = 5.0


class Seen(NamedTuple):
    """Shares of pictures whose first band, second band and both show the digits of their texts."""

    first: float
    second: float
    both: float


def study(lab: StudyContext, numbers: Numbers) -> Report:
    pipeline, where = model_of_texts(lab, numbers.text, scenes_to_read(lab, numbers.counts))
    shape = _shape(pipeline)
    with lab.part("near and far"):
        drawn = {
            s: {pair: _drawn(lab, numbers, pipeline, pair, frequencies(shape, (s,))) for pair in BY_DISTANCE}
            for s in numbers.sigmas
        }
    with lab.part("grey and colour"):
        bands = brightness_and_colour(shape)
        coloured = {pair: _drawn(lab, numbers, pipeline, pair, bands) for pair in BY_COLOUR}
    with lab.part("three bands"):
        triple = _triple(lab, numbers, pipeline)
    far = {
        s: {pair: seen_in(frequencies(shape, (s,))[0](x), x, pair) for pair, x in every.items()}
        for s, every in drawn.items()
    }
    grey = {pair: seen_in(bands[0](x), bands[1](x), pair) for pair, x in coloured.items()}
    return Report(
        tuple(_findings(numbers, far, grey)),
        (
            Section(
                "From afar and close up",
                (
                    Words(ABOUT.format(sigma=numbers.sigma, w=numbers.guidance)),
                    where,
                    _by_distance(lab, numbers, drawn[numbers.sigma], shape),
                    _table("distance", far[numbers.sigma], ("from afar", "close up")),
                    _cuts(lab, far),
                ),
            ),
            Section(
                "In grey and in colour",
                (
                    Words(COLOUR),
                    _by_colour(lab, numbers, coloured, bands),
                    _table("colour", grey, ("in grey", "in colour")),
                ),
            ),
            Section("Three in one", (triple,)),
        ),
        {
            "by_distance": [list(pair) for pair in BY_DISTANCE],
            "by_colour": [list(pair) for pair in BY_COLOUR],
        },
    )


ABOUT = (
    "At every step the low frequencies of the estimate (the picture blurred by {sigma:g} pixels) are taken"
    " from one text and the rest from another (Geng et al. 2024, Factorized Diffusion), guidance {w:g}; of"
    " latents, each text has its own, which are led back to that one picture. From afar, or small, one sees"
    " the first, close up the second."
)
COLOUR = (
    "The same with another split: the mean of the three channels from one text, what is left from another. A"
    " black-and-white print shows the first, the colours alone show the second."
)


def _shape(pipeline: Pipeline) -> tuple[int, int, int]:
    channels, height, width = pipeline.codec.image_shape
    return channels, height, width


def _drawn(
    lab: StudyContext, numbers: Numbers, pipeline: Pipeline, texts: Sequence[str], bands: Sequence[Band]
) -> Tensor:
    settings = Sampling(steps=numbers.steps, guidance=numbers.guidance)
    return hybrid(
        pipeline, list(zip(texts, bands, strict=True)), numbers.seeds, settings=settings, seed=lab.seed
    ).images


def seen_in(first: Tensor, second: Tensor, pair: Pair) -> Seen:
    """Which digits two parts of pictures [n, 3, H, W] show, each stretched to the full range as an eye
    adapts.
    """
    hits = []
    for text, shown in zip(pair, (first, second), strict=True):
        scene = parse(text)
        readings = read(to_uint8(stretched(shown)), [scene] * len(shown))
        hits.append(
            [
                (thing := reading.things[0]) is not None and thing.digit == scene.things[0].digit
                for reading in readings
            ]
        )
    both = [a and b for a, b in zip(*hits, strict=True)]
    return Seen(*(mean([float(hit) for hit in each]) for each in (*hits, both)))


def _by_distance(
    lab: StudyContext, numbers: Numbers, drawn: Mapping[Pair, Tensor], shape: tuple[int, int, int]
) -> Picture:
    low = frequencies(shape, (numbers.sigma,))[0]
    rows = []
    for pair, images in drawn.items():
        first = images[: numbers.shown]
        rows.append((folded(f"{pair.first} | {pair.second}", 34), torch.cat([stretched(low(first)), first])))
    columns = [*["afar"] * numbers.shown, *["near"] * numbers.shown]
    return lab.rows(
        "distance",
        rows,
        "The first seeds of each pair: blurred (what one sees from afar, its contrast stretched), and as they"
        " are.",
        columns=columns,
        about={"seed": lab.seed},
    )


def _by_colour(
    lab: StudyContext, numbers: Numbers, drawn: Mapping[Pair, Tensor], bands: tuple[Band, Band]
) -> Picture:
    rows = []
    for pair, images in drawn.items():
        first = images[: numbers.shown // 2 + 1]
        rows.append(
            (
                folded(f"{pair.first} | {pair.second}", 34),
                torch.cat([first, bands[0](first), stretched(bands[1](first))]),
            )
        )
    n = numbers.shown // 2 + 1
    columns = [*["picture"] * n, *["in grey"] * n, *["colours"] * n]
    return lab.rows(
        "colour",
        rows,
        "Pictures, their brightness alone, and their colours alone (stretched).",
        columns=columns,
        about={"seed": lab.seed},
    )


def _triple(lab: StudyContext, numbers: Numbers, pipeline: Pipeline) -> Picture:
    sigmas, shape = (3.0, 1.0), _shape(pipeline)
    images = _drawn(lab, numbers, pipeline, THREE, frequencies(shape, sigmas))[: numbers.shown]
    far, middle = (stretched(frequencies(shape, (sigma,))[0](images)) for sigma in sigmas)
    rows = [
        (folded(f"blurred by {s:g}: {text}", 26), x)
        for s, text, x in zip((*sigmas, 0), THREE, (far, middle, images), strict=True)
    ]
    return lab.rows(
        "triple", rows, "Three bands of three texts, cut at 3 and 1 pixels.", about={"seed": lab.seed}
    )


def _table(name: str, found: Mapping[Pair, Seen], how: tuple[str, str]) -> Table:
    columns = (how[0], how[1], f"digit read {how[0]}, %", f"digit read {how[1]}, %", "both, %")
    rows: list[tuple[Cell, ...]] = [(*pair, *(100 * share for share in seen)) for pair, seen in found.items()]
    return Table(name, columns, tuple(rows), "Shares of the seeds; a classifier reads the digits.")


def _cuts(lab: StudyContext, found: Mapping[float, Mapping[Pair, Seen]]) -> Picture:
    curves = [
        Curve(
            title,
            list(found),
            [100 * mean([seen[k] for seen in every.values()]) for every in found.values()],
            "marked",
        )
        for k, title in enumerate(("from afar", "close up", "both"))
    ]
    return lab.plot(
        "cuts",
        [Panel("digits read", "sigma of the blur (pixels)", "percent", curves)],
        "Where the bands are cut, over all pairs.",
    )


def _findings(
    numbers: Numbers, far: Mapping[float, Mapping[Pair, Seen]], grey: Mapping[Pair, Seen]
) -> Iterator[str]:
    shares = {s: mean([seen.both for seen in every.values()]) for s, every in far.items()}
    n = numbers.seeds * len(far[numbers.sigma])
    cuts = {f"{s:g} pixels:": comparison.share(share, n) for s, share in shares.items()}
    yield comparison.ordered(
        "One digit read from afar and another close up, by blur", cuts, smaller=False, times=100, unit="%"
    )
    first, second, both = (mean([seen[k] for seen in grey.values()]) for k in range(3))
    yield (
        f"Split by colour, the digit in grey is read in {first:.0%}, the one in the colours in {second:.0%},"
        f" both in {both:.0%}."
    )


FULL = Numbers(counts=(40_000, 2_000, 2_000), text=FULL_TEXTS, seeds=100, steps=50)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
