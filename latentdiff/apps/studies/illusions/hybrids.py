"""Study `hybrids`: one digit from afar, another from close up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.illusions.anagrams import PAIRS, Pair
from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.classifier import ClassReader, matrix, mean
from latentdiff.apps.studies.kit.context import StudyContext, colour_missing
from latentdiff.apps.studies.kit.model import colours_to_look_at, pixels_to_look_at
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.report.blocks import Block, Picture, Report, Section, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.data.select import indices_by_class
from latentdiff.diffusion.illusions.bands import brightness_and_colour, frequencies
from latentdiff.edit import hybrid
from latentdiff.errors import InputError
from latentdiff.pipeline.pipeline import Pipeline

REAL = 500  # test digits that say how much room there is
Shape = tuple[int, int, int]
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Numbers:
    """``sigma``: the blur in pixels that cuts the bands; ``sigmas``: others that are tried on the ten
    pairs.
    """

    pixels: PixelNumbers | None = None
    sigma: float = 1.5
    sigmas: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    seeds: int = 5
    shown: int = 5
    steps: int = 20
    guidance: float = 4.0
    colour: PixelNumbers = field(default_factory=lambda: PixelNumbers(width=64, steps=300, batch=64))


def study(lab: StudyContext, numbers: Numbers) -> Report:
    if not lab.data.classes or len(lab.data.classes) < 10:
        raise InputError(f"{lab.data.name}: hybrids is a study of ten classes, found {lab.data.num_classes}")
    pipeline = pixels_to_look_at(lab, numbers.pixels, latents=True)
    reader, classes = ClassReader.of(lab), lab.data.classes
    if reader is None:
        raise InputError(f"{lab.data.name}: hybrids needs a feature network that knows its classes")
    shape = (lab.data.channels, lab.data.height, lab.data.width)
    drawn: dict[Pair, Tensor] = {}
    with lab.part("all pairs"):
        for far in range(len(classes)):
            for near in range(len(classes)):
                if far != near:
                    drawn[far, near] = _drawn(lab, numbers, pipeline, (far, near), numbers.sigma)
        low = frequencies(shape, (numbers.sigma,))[0]
        shares = {pair: _both(reader, images, pair, low) for pair, images in drawn.items()}
        seen = {pair: _both(reader, drawn[pair], pair, lambda x: stretched(low(x))) for pair in PAIRS}
    with lab.part("other bands"):
        curve = {
            sigma: mean(
                [
                    _both(
                        reader,
                        _drawn(lab, numbers, pipeline, pair, sigma),
                        pair,
                        frequencies(shape, (sigma,))[0],
                    )
                    for pair in PAIRS
                ]
            )
            for sigma in numbers.sigmas
        }
    with lab.part("real digits"):
        real = _real(lab, reader, shape, numbers.sigmas)
    panel = Panel(
        "both digits read",
        "sigma of the blur (pixels)",
        "share of seeds",
        [
            Curve("hybrids, ten pairs", list(curve), list(curve.values()), "marked"),
            Curve(
                "real digits put together by the same bands",
                list(curve),
                [each.both for each in real.values()],
                "marked",
            ),
            Curve(
                "real digits blurred, read at all",
                list(curve),
                [each.blurred for each in real.values()],
                "dashed",
            ),
        ],
    )
    caption = (
        f"How many of {numbers.seeds} seeds a classifier reads as both: the row's digit in the image blurred"
        f" by {numbers.sigma:g} pixels, the column's in the image itself."
    )
    return Report(
        tuple(_findings(numbers, shares, curve, seen, real)),
        (
            Section(
                "Ten pairs",
                (
                    Words(ABOUT.format(sigma=numbers.sigma, w=numbers.guidance)),
                    _picture(lab, numbers, classes, {pair: drawn[pair] for pair in PAIRS}, low),
                    lab.plot(
                        "sigmas",
                        [panel],
                        "Where the bands are cut, and what a classifier can read of real digits there.",
                    ),
                ),
            ),
            Section("All pairs", (matrix("pairs", classes, shares, caption, corner="from afar, close up"),)),
            Section("Three in one", (_triple(lab, numbers, pipeline),)),
            Section("Brightness and colour", _colour(lab, numbers)),
        ),
        {"pairs": [list(pair) for pair in PAIRS]},
    )


ABOUT = (
    "At every step the low frequencies of the estimate (the image blurred by {sigma:g} pixels) are taken from"
    " one digit and the rest from another (Geng et al. 2024, Factorized Diffusion). From afar, or small, one"
    " sees the first, close up the second. The ten pairs are those of the anagrams, fixed before anything was"
    " drawn; guidance {w:g}."
)


def _drawn(lab: StudyContext, numbers: Numbers, pipeline: Pipeline, pair: Pair, sigma: float) -> Tensor:
    bands = frequencies((lab.data.channels, lab.data.height, lab.data.width), (sigma,))
    settings = Sampling(steps=numbers.steps, guidance=numbers.guidance)
    return hybrid(
        pipeline, list(zip(pair, bands, strict=True)), numbers.seeds, settings=settings, seed=lab.seed
    ).images


def _both(reader: ClassReader, images: Tensor, pair: Pair, afar: Map) -> float:
    """The share of images that are read as the first class from afar and themselves as the second."""
    far = reader.classes(afar(images).clamp(-1, 1))
    return float(((far == pair[0]) & (reader.classes(images) == pair[1])).float().mean())


class Real(NamedTuple):
    """What is read of real digits at a cut: blurred ones, and pairs whose bands were put together, as
    both.
    """

    blurred: float
    both: float


def _real(lab: StudyContext, reader: ClassReader, shape: Shape, sigmas: Sequence[float]) -> dict[float, Real]:
    """Test images against those of the next class in turn."""
    labels = lab.data.test.labels
    assert labels is not None
    places = indices_by_class(lab.data.test, REAL)
    images, classes = to_float(lab.data.test.images[places]), labels[places]
    other, others = images.roll(-1, 0), classes.roll(-1)
    differ, found = classes != others, {}
    for sigma in sigmas:
        low, high = frequencies(shape, (sigma,))
        mixed = (low(images) + high(other)).clamp(-1, 1)
        both = (reader.classes(low(mixed)) == classes) & (reader.classes(mixed) == others)
        found[sigma] = Real(reader.share(low(images), classes), float(both[differ].double().mean()))
    return found


def stretched(images: Tensor) -> Tensor:
    """Each image [n, C, H, W] stretched to the range [-1, 1], as an eye adapts: a blurred stroke is grey."""
    low, high = (x.view(-1, 1, 1, 1) for x in (images.flatten(1).amin(1), images.flatten(1).amax(1)))
    return ((images - low) / (high - low).clamp_min(1e-6) * 2 - 1).clamp(-1, 1)


def _picture(
    lab: StudyContext, numbers: Numbers, classes: tuple[str, ...], drawn: Mapping[Pair, Tensor], low: object
) -> Picture:
    assert callable(low)
    rows = []
    for (far, near), images in drawn.items():
        first = images[: numbers.shown]
        rows.append((f"{classes[far]} | {classes[near]}", torch.cat([stretched(low(first)), first])))
    return lab.rows(
        "pairs",
        rows,
        f"The first {numbers.shown} seeds of each pair: blurred (what one sees from afar; the contrast is"
        " stretched for the eye), and as they are.",
        columns=[*["afar"] * numbers.shown, *["near"] * numbers.shown],
        about={"seed": lab.seed},
    )


def _triple(lab: StudyContext, numbers: Numbers, pipeline: Pipeline) -> Picture:
    shape = (lab.data.channels, lab.data.height, lab.data.width)
    sigmas, classes = (3.0, 1.0), (0, 7, 4)
    bands = frequencies(shape, sigmas)
    settings = Sampling(steps=numbers.steps, guidance=numbers.guidance)
    images = hybrid(
        pipeline, list(zip(classes, bands, strict=True)), 10, settings=settings, seed=lab.seed
    ).images
    far, middle = (stretched(frequencies(shape, (sigma,))[0](images)) for sigma in sigmas)
    rows = [
        (f"blurred by {sigmas[0]:g}: 0", far),
        (f"blurred by {sigmas[1]:g}: 7", middle),
        ("as it is: 4", images),
    ]
    return lab.rows("triple", rows, "Three bands of three digits.", about={"seed": lab.seed})


def _colour(lab: StudyContext, numbers: Numbers) -> tuple[Block, ...]:
    """Hybrids whose brightness is of one class and whose colour is of another, by a model of colour images
    with classes.
    """
    data = lab.colour
    if data is None:
        return (colour_missing(lab),)
    if not data.classes or len(data.classes) < 2 or data.train.labels is None:
        return (
            Words(
                f"{data.name} has no classes to take the brightness of one and the colour of another from.",
                "warning",
            ),
        )
    pipeline = colours_to_look_at(lab, numbers.colour, data)
    bands = brightness_and_colour(data.shape)
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    first, second = counts.argsort(descending=True)[:2].tolist()
    settings, rows = Sampling(steps=numbers.steps, guidance=numbers.guidance), []
    with lab.part("colour: hybrids"):
        for grey, colour in ((first, second), (second, first)):
            parts = list(zip((grey, colour), bands, strict=True))
            images = hybrid(pipeline, parts, numbers.shown, settings=settings, seed=lab.seed).images
            rows.append((f"brightness of {data.classes[grey]}, colour of {data.classes[colour]}", images))
            rows.append(("its brightness alone", bands[0](images)))
    about = {"seed": lab.seed, "data": data.name}
    return (
        lab.rows(
            "colour",
            rows,
            "What one sees in grey is of the first class, the colours are of the second.",
            about=about,
        ),
    )


def _findings(
    numbers: Numbers,
    shares: Mapping[Pair, float],
    curve: Mapping[float, float],
    seen: Mapping[Pair, float],
    real: Mapping[float, Real],
) -> Iterator[str]:
    ten = {pair: shares[pair] for pair in PAIRS}
    yield (
        f"Both digits are read in {mean(list(ten.values())):.0%} of the seeds over the ten pairs fixed in"
        f" advance, and in {mean(list(shares.values())):.0%} over all ordered pairs; with the contrast of the"
        f" blurred image stretched in {mean(list(seen.values())):.0%} of the ten."
    )
    found = comparison.extremes({pair: comparison.share(share, numbers.seeds) for pair, share in ten.items()})
    if found is not None:
        worst, best = found
        yield (
            f"Beyond the {comparison.WITHIN} of their difference {best[0]} from afar with {best[1]}"
            f" ({ten[best]:.0%}) is easier than {worst[0]} with {worst[1]} ({ten[worst]:.0%})."
        )
    cuts = {
        f"{sigma:g} pixels:": comparison.share(share, numbers.seeds * len(PAIRS))
        for sigma, share in curve.items()
    }
    yield comparison.ordered(
        "Both digits read of the ten pairs, by blur", cuts, smaller=False, times=100, unit="%"
    )
    yield (
        "Of real test digits the classifier reads "
        + ", ".join(f"{each.blurred:.0%} blurred by {cut:g} pixels" for cut, each in real.items())
        + "; of two real digits put together by the same bands it reads both in "
        + ", ".join(f"{each.both:.0%} ({cut:g} pixels)" for cut, each in real.items())
        + "."
    )


FULL = Numbers(
    pixels=PixelNumbers(width=64, steps=10_000),
    seeds=100,
    steps=50,
    colour=PixelNumbers(width=96, steps=20_000, patch=2),
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
