"""Studies `hybrids` and `text-hybrids`: images whose frequency or colour bands show different content."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

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
from latentdiff.apps.studies.kit.context import StudyContext, colour_missing
from latentdiff.apps.studies.kit.model import (
    THINGS_MODEL,
    colour_model,
    larger_section,
    pixel_model,
    readable_scenes,
    text_model,
)
from latentdiff.apps.studies.kit.presets import LONG_COLOUR, LONG_PIXELS, PixelPreset, TextPreset
from latentdiff.apps.studies.kit.scoring import ClassReader
from latentdiff.apps.studies.report.blocks import Block, Cell, Paragraph, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.data.classes import indices_by_class
from latentdiff.diffusion.illusions.views import Band, brightness_and_colour, frequencies
from latentdiff.edit import hybrid
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.rows import folded

REAL = 500  # test digits that are mixed for comparison
THREE_SIGMAS = (3.0, 1.0)  # blurs that cut three bands
DIGITS = (0, 7, 4)  # classes of the three bands


BY_DISTANCE = (
    ("a large black zero on a white background", "a large black four on a white background"),
    ("a large white one on a blue background", "a large white eight on a blue background"),
    ("a large red seven on a black background", "a large red two on a black background"),
    ("a large yellow nine on a purple background", "a large yellow five on a purple background"),
)
"""Low and high frequencies; of the same colours, as the low band alone decides these."""
BY_COLOUR = (
    ("a large white three on a black background", "a large red seven on a green background"),
    ("a large black zero on a white background", "a large orange one on a blue background"),
    ("a large white four on a black background", "a large yellow eight on a purple background"),
    ("a large black two on a white background", "a large green six on a red background"),
)
"""Brightness and colour."""
THINGS = (
    ("a large black circle on a white background", "a large black star on a white background"),
    ("a large red heart on a white background", "a large red letter e on a white background"),
    ("a large black ring on a white background", "a large black letter k on a white background"),
    ("a large blue square on a yellow background", "a large blue cross on a yellow background"),
)
"""Low and high frequencies of larger pictures."""
THINGS_SIGMA = 3.0  # pixels
THREE_PROMPTS = (
    "a large white zero on a black background",
    "a large white seven on a black background",
    "a large white four on a black background",
)


class RealMixture(NamedTuple):
    """Shares of real digits that are recognised at a cut: blurred ones, and both of two mixed ones."""

    blurred: float
    both: float


@dataclass(frozen=True)
class HybridSettings:
    """``sigma``: the blur in pixels that cuts the bands; ``sigmas``: others for the ten pairs."""

    pixels: PixelPreset = field(default_factory=PixelPreset)
    sigma: float = 1.5
    sigmas: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    seeds: int = 5
    shown: int = 5
    steps: int = 20
    guidance: float = 4.0
    colour: PixelPreset = field(default_factory=lambda: PixelPreset(width=64, steps=300, batch=64))


@dataclass(frozen=True)
class TextHybridSettings:
    """``sigma``: the blur in pixels that cuts the bands in the figures; ``sigmas``: all that are tried."""

    counts: tuple[int, int, int] = (20_000, 500, 500)
    text: TextPreset | None = None
    sigma: float = 1.5
    sigmas: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    seeds: int = 20
    shown: int = 6
    steps: int = 25
    guidance: float = 5.0


@dataclass(frozen=True, eq=False)
class HybridSampler:
    """Draws hybrids of a model, image k with the seed of the study + k, and figures of them."""

    context: StudyContext
    pipeline: Pipeline
    sampling: Sampling

    @property
    def shape(self) -> tuple[int, int, int]:
        """[channels, height, width] of the images."""
        channels, height, width = self.pipeline.codec.image_shape
        return channels, height, width

    def draw(self, contents: Sequence[Content], bands: Sequence[Band], n: int) -> Tensor:
        """Images [n, C, H, W], each band with its content."""
        parts = list(zip(contents, bands, strict=True))
        return hybrid(self.pipeline, parts, n, settings=self.sampling, seed=self.context.seed).images

    def cut(self, contents: Sequence[Content], sigma: float, n: int) -> Tensor:
        """Images [n, C, H, W] of two contents, cut by a blur of ``sigma`` pixels."""
        return self.draw(contents, frequencies(self.shape, (sigma,)), n)

    def blurred(self, images: Tensor, sigma: float) -> Tensor:
        """The low frequencies of images [n, C, H, W]."""
        return frequencies(self.shape, (sigma,))[0](images)

    def three(self, contents: Sequence[Content], n: int) -> Picture:
        """The figure of three contents in three frequency bands."""
        images = self.draw(contents, frequencies(self.shape, THREE_SIGMAS), n)
        bands = {f"blurred by {sigma:g}": stretched(self.blurred(images, sigma)) for sigma in THREE_SIGMAS}
        bands["unblurred"] = images
        rows = [
            (folded(f"{head}: {content}", 26), band)
            for content, (head, band) in zip(contents, bands.items(), strict=True)
        ]
        cuts = " and ".join(f"{sigma:g}" for sigma in THREE_SIGMAS)
        return self.context.rows("triple", rows, f"Three bands of three contents, cut at {cuts} pixels.")

    def far_and_near(self, name: str, drawn: Mapping[str, Tensor], sigma: float, n: int) -> Picture:
        """The figure of the first ``n`` images of each row, blurred and unblurred."""
        rows = [
            (title, torch.cat([stretched(self.blurred(images[:n], sigma)), images[:n]]))
            for title, images in drawn.items()
        ]
        caption = f"The first {n} seeds of each pair: blurred, with the contrast stretched, and unblurred."
        return self.context.rows(name, rows, caption, columns=[*["afar"] * n, *["near"] * n])


def stretched(images: Tensor) -> Tensor:
    """Images [n, C, H, W] stretched to [-1, 1] one by one, as the strokes of a blurred image are grey."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return ((images - low) / (high - low).clamp_min(1e-6) * 2 - 1).clamp(-1, 1)


def read_stretched(hits: Hits, first: Tensor, second: Tensor, pair: tuple[Content, Content]) -> Shares:
    """What two bands of images [n, C, H, W], each of them stretched, show of a pair."""
    return Shares.of(hits(stretched(first), pair[0]), hits(stretched(second), pair[1]))


def study(context: StudyContext, settings: HybridSettings) -> Report:
    """All ordered pairs of classes; other cuts; real digits mixed in the same way; three bands; colour."""
    pipeline = pixel_model(context, settings.pixels, latents=True)
    reader, classes = ClassReader.of_ten_classes(context, "hybrids")
    sampler = HybridSampler(context, pipeline, Sampling(steps=settings.steps, guidance=settings.guidance))
    hits, sigma, seeds = class_hits(reader), settings.sigma, settings.seeds

    def both(pair: Pair, far: Tensor, images: Tensor) -> float:
        return Shares.of(hits(far.clamp(-1, 1), pair[0]), hits(images, pair[1])).both

    with context.part("all pairs"):
        drawn = {pair: sampler.cut(pair, sigma, seeds) for pair in permutations(range(len(classes)), 2)}
        blurred = {pair: sampler.blurred(images, sigma) for pair, images in drawn.items()}
        found = {pair: both(pair, blurred[pair], images) for pair, images in drawn.items()}
        contrast = {pair: both(pair, stretched(blurred[pair]), drawn[pair]) for pair in PAIRS}
    with context.part("other bands"):
        cuts = {}
        for cut in settings.sigmas:
            images = {pair: sampler.cut(pair, cut, seeds) for pair in PAIRS}
            cuts[cut] = mean(both(pair, sampler.blurred(x, cut), x) for pair, x in images.items())
    with context.part("real digits"):
        real = _real(context, reader, settings.sigmas)
    curves = [
        Curve("hybrids, ten pairs", list(cuts), list(cuts.values()), "marked"),
        Curve("real digits, mixed", list(cuts), [each.both for each in real.values()], "marked"),
        Curve("real digits, blurred", list(cuts), [each.blurred for each in real.values()], "dashed"),
    ]
    panel = Panel("both digits read", "sigma of the blur (pixels)", "share of seeds", curves)
    titled = {f"{classes[far]} | {classes[near]}": drawn[far, near] for far, near in PAIRS}
    caption = (
        f"Share of {seeds} seeds in which a classifier recognises both: the row's digit in the image"
        f" blurred by {sigma:g} pixels, the column's in the image itself."
    )
    return Report(
        _findings(settings, found, cuts, contrast, real),
        Section(
            "Ten pairs",
            ABOUT.format(sigma=sigma, w=settings.guidance),
            sampler.far_and_near("pairs", titled, sigma, settings.shown),
            context.plot("sigmas", [panel], "Recognised digits by the blur that cuts the bands."),
        ),
        Section("All pairs", matrix("pairs", classes, found, caption, corner="from afar, close up")),
        Section("Three in one", sampler.three(DIGITS, 10)),
        Section("Brightness and colour", _colour(context, settings, sampler.sampling)),
        pairs=[list(pair) for pair in PAIRS],
    )


ABOUT = (
    "Each sampling step takes the low frequencies of the estimate (the image blurred by {sigma:g} pixels)"
    " from one digit and the rest from another (Geng et al. 2024, Factorized Diffusion). From afar one sees"
    " the first, close up the second. The ten pairs are those of the anagrams, fixed before any image was"
    " drawn; guidance {w:g}."
)


def _real(context: StudyContext, reader: ClassReader, sigmas: Sequence[float]) -> dict[float, RealMixture]:
    """Bands of each test image mixed with those of the next class, by cut."""
    labels = context.data.test.labels
    assert labels is not None
    places = indices_by_class(context.data.test, REAL)
    images, classes = to_float(context.data.test.images[places]), labels[places]
    other, others = images.roll(-1, 0), classes.roll(-1)
    found = {}
    for sigma in sigmas:
        low, high = frequencies(context.data.shape, (sigma,))
        mixed = (low(images) + high(other)).clamp(-1, 1)
        both = (reader.classes(low(mixed)) == classes) & (reader.classes(mixed) == others)
        share = float(both[classes != others].double().mean())
        found[sigma] = RealMixture(reader.accuracy(low(images), classes), share)
    return found


def _colour(context: StudyContext, settings: HybridSettings, sampling: Sampling) -> Block:
    """Hybrids of the brightness of one class and the colour of another, by a model of colour images."""
    data = context.colour
    if data is None:
        return colour_missing(context)
    if not data.classes or len(data.classes) < 2 or data.train.labels is None:
        text = f"{data.name} has no classes to take the brightness of one and the colour of another from."
        return Paragraph(text, "warning")
    sampler = HybridSampler(context, colour_model(context, settings.colour, data), sampling)
    bands = brightness_and_colour(data.shape)
    counts = torch.bincount(data.train.labels, minlength=len(data.classes))
    first, second = counts.argsort(descending=True)[:2].tolist()
    rows = []
    with context.part("colour: hybrids"):
        for grey, colour in ((first, second), (second, first)):
            images = sampler.draw((grey, colour), bands, settings.shown)
            rows.append((f"brightness of {data.classes[grey]}, colour of {data.classes[colour]}", images))
            rows.append(("its brightness alone", bands[0](images)))
    caption = "The brightness is of the first class, the colours are of the second."
    return context.rows("colour", rows, caption, about={"data": data.name})


def _findings(
    settings: HybridSettings,
    found: Mapping[Pair, float],
    cuts: Mapping[float, float],
    contrast: Mapping[Pair, float],
    real: Mapping[float, RealMixture],
) -> Iterator[str]:
    ten = {pair: found[pair] for pair in PAIRS}
    yield (
        f"Both digits are recognised in {mean(ten.values()):.0%} of the seeds of the ten pairs"
        f" ({mean(contrast.values()):.0%} with the contrast of the blurred image stretched), and in"
        f" {mean(found.values()):.0%} of all ordered pairs."
    )
    yield from easiest(ten, settings.seeds, lambda pair: f"{pair[0]} from afar with {pair[1]}")
    yield _cut_finding("Both digits recognised of the ten pairs, by blur", cuts, settings.seeds * len(PAIRS))
    listed = (f"{each.blurred:.0%} and {each.both:.0%} at {sigma:g} pixels" for sigma, each in real.items())
    yield (
        f"Of real test digits the classifier recognises blurred ones, and both of two mixed ones, in"
        f" {', '.join(listed)}."
    )


def _cut_finding(what: str, cuts: Mapping[float, float], n: int) -> str:
    scores = {f"{sigma:g} pixels": comparison.share(share, n) for sigma, share in cuts.items()}
    return comparison.ordered(what, scores, smaller=False, times=100, unit="%")


def text_study(context: StudyContext, settings: TextHybridSettings) -> Report:
    """Pairs of prompts by frequency over several cuts, and by brightness and colour; three bands."""
    data = readable_scenes(context, settings.counts)
    pipeline, origin = text_model(context, settings.text, data)
    sampler = HybridSampler(context, pipeline, Sampling(steps=settings.steps, guidance=settings.guidance))
    grey, colours = brightness_and_colour(sampler.shape)
    hits, seeds, n = scene_hits("digit"), settings.seeds, settings.shown
    with context.part("near and far"):
        drawn = {
            sigma: {pair: sampler.cut(pair, sigma, seeds) for pair in BY_DISTANCE}
            for sigma in settings.sigmas
        }
    with context.part("grey and colour"):
        coloured = {pair: sampler.draw(pair, (grey, colours), seeds) for pair in BY_COLOUR}
    with context.part("three bands"):
        triple = sampler.three(THREE_PROMPTS, n)
    far = {
        sigma: {pair: read_stretched(hits, sampler.blurred(x, sigma), x, pair) for pair, x in every.items()}
        for sigma, every in drawn.items()
    }
    split = {pair: read_stretched(hits, grey(x), colours(x), pair) for pair, x in coloured.items()}
    labels = {"first": "from afar", "second": "close up", "both": "both"}
    averages = {sigma: average(every.values()) for sigma, every in far.items()}
    panel = share_panel(averages, labels, "digits read", "sigma of the blur (pixels)", percent=True)
    titled = {_title(pair): images for pair, images in drawn[settings.sigma].items()}
    few = n // 2 + 1
    parts = {_title(pair): x[:few] for pair, x in coloured.items()}
    colour_rows = [(title, torch.cat([x, grey(x), stretched(colours(x))])) for title, x in parts.items()]
    colour_columns = [*["picture"] * few, *["in grey"] * few, *["colours"] * few]
    caption = "Images, their brightness alone, and their colours alone (stretched)."
    return Report(
        _text_findings(settings, averages, average(split.values())),
        Section(
            "From afar and close up",
            TEXT_ABOUT.format(sigma=settings.sigma, w=settings.guidance),
            origin,
            sampler.far_and_near("distance", titled, settings.sigma, n),
            _text_table("distance", far[settings.sigma], ("from afar", "close up")),
            context.plot("cuts", [panel], "Recognised digits by the blur that cuts the bands."),
        ),
        Section(
            "In grey and in colour",
            COLOUR,
            context.rows("colour", colour_rows, caption, columns=colour_columns),
            _text_table("colour", split, ("in grey", "in colour")),
        ),
        Section("Three in one", triple),
        *larger_section(
            *(context, THINGS_MODEL, "Larger pictures", THINGS_WORDS),
            lambda pipeline: _things(context, settings, pipeline),
        ),
        by_distance=[list(pair) for pair in BY_DISTANCE],
        by_colour=[list(pair) for pair in BY_COLOUR],
    )


TEXT_ABOUT = (
    "Each sampling step takes the low frequencies of the estimate (the image blurred by {sigma:g} pixels)"
    " from one prompt and the rest from another (Geng et al. 2024, Factorized Diffusion), guidance {w:g}. A"
    " latent model keeps one latent for each prompt and moves both towards the combined image. From afar one"
    " sees the first, close up the second."
)


THINGS_WORDS = (
    "Pictures at their size, and at a quarter of it: small ones are seen as from afar, where the first prompt"
    " is what is left."
)


def _things(context: StudyContext, settings: TextHybridSettings, pipeline: Pipeline) -> Iterator[Picture]:
    """Hybrids of larger pictures, also at a quarter of their size."""
    sampling = Sampling(steps=settings.steps, guidance=settings.guidance)
    sampler, few = HybridSampler(context, pipeline, sampling), settings.shown // 2 + 1
    drawn = {_title(pair): sampler.cut(pair, THINGS_SIGMA, few) for pair in THINGS}
    rows = [(title, torch.cat([images, small(images)])) for title, images in drawn.items()]
    columns = [*["near"] * few, *["afar"] * few]
    yield context.rows("things", rows, f"The bands are cut at {THINGS_SIGMA:g} pixels.", columns=columns)


def small(images: Tensor) -> Tensor:
    """Images [n, C, H, W] at a quarter of their size, in the middle of a grey ground."""
    reduced = F.avg_pool2d(images, 4)
    height, width = images.shape[2:]
    below, right = height - reduced.shape[2], width - reduced.shape[3]
    return F.pad(reduced, (right // 2, right - right // 2, below // 2, below - below // 2), value=0.6)


COLOUR = (
    "The same with another split: the mean of the three channels from one prompt, the rest from another. A"
    " black-and-white print shows the first, the colours alone show the second."
)


def _title(pair: tuple[str, str]) -> str:
    return folded(" | ".join(pair), 34)


def _text_table(name: str, found: Mapping[tuple[str, str], Shares], bands: tuple[str, str]) -> Table:
    columns = (*bands, *(f"digit read {band}, %" for band in bands), "both, %")
    rows: list[tuple[Cell, ...]] = [(*pair, *(100 * share for share in each)) for pair, each in found.items()]
    return Table(
        name, columns, tuple(rows), "Shares of the seeds in which a classifier recognises the digit."
    )


def _text_findings(settings: TextHybridSettings, far: Mapping[float, Shares], split: Shares) -> Iterator[str]:
    cuts = {sigma: each.both for sigma, each in far.items()}
    n = settings.seeds * len(BY_DISTANCE)
    yield _cut_finding("Digits recognised both from afar and close up, by blur", cuts, n)
    yield (
        f"Split by colour, the digit in grey is recognised in {split.first:.0%}, the one in the colours in"
        f" {split.second:.0%}, both in {split.both:.0%}."
    )


STUDY = Study(
    quick=HybridSettings(),
    full=HybridSettings(
        pixels=LONG_PIXELS,
        seeds=20,
        steps=50,
        colour=LONG_COLOUR,
    ),
    run=study,
)
TEXT_STUDY = Study(
    quick=TextHybridSettings(),
    full=TextHybridSettings(seeds=60, steps=50),
    run=text_study,
)
