"""Study `ddim-steps`: the same starting noise with few and many steps, with and without noise on the way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext, colour_missing
from latentdiff.apps.studies.kit.presets import MLPNumbers, VAENumbers
from latentdiff.apps.studies.kit.scoring import SampleScorer, columns, drawn, labels_of, row, sampling
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Block, Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset
from latentdiff.evaluate import SampleScores
from latentdiff.metrics.features.names import frechet_name
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10  # images in a row


@dataclass(frozen=True)
class Numbers:
    """``steps`` with every one of ``etas``, ``solver_steps`` with DPM-Solver++(2M); ``samples`` are scored
    for each.
    """

    vae: VAENumbers = field(default_factory=lambda: VAENumbers(steps=400))
    denoiser: MLPNumbers = field(default_factory=lambda: MLPNumbers(steps=1000))
    steps: tuple[int, ...] = (10, 20, 50, 100, 1000)
    etas: tuple[float, ...] = (0.0, 0.5, 1.0)
    solver_steps: tuple[int, ...] = (10, 20, 50, 100)
    samples: int = 450
    resamples: int = 100
    colour_vae: VAENumbers = field(default_factory=lambda: VAENumbers("64", steps=300, batch=64))
    colour_denoiser: MLPNumbers = field(default_factory=lambda: MLPNumbers(steps=800))
    colour_steps: tuple[int, ...] = (10, 20, 50, 100)
    colour_samples: int = 0  # scored; 0: pictures and times only


class Variant(NamedTuple):
    """A sampler with its number of steps."""

    sampler: str
    eta: float
    steps: int

    @property
    def family(self) -> str:
        return "DPM-Solver++(2M)" if self.sampler == "dpm++" else f"DDIM, η = {self.eta:g}"

    def settings(self) -> Sampling:
        return sampling(sampler=self.sampler, eta=self.eta, steps=self.steps)


class DrawnVariant(NamedTuple):
    """What a way gave: the images, seconds an image, how far they are from those of the most steps, and their
    scores.
    """

    images: Tensor
    seconds: float
    moved: float
    scores: SampleScores | None


def study(lab: StudyContext, numbers: Numbers) -> Report:
    judge = SampleScorer.of(lab, resamples=numbers.resamples)
    colour_judge = None
    if lab.colour is not None and numbers.colour_samples:
        colour_judge = SampleScorer.of(lab, data=lab.colour, resamples=numbers.resamples)
    with lab.part("VAE"):
        encoder = presets.vae(lab, "vae", numbers.vae)
    with lab.part("denoiser"):
        denoiser = presets.mlp(lab, "denoiser", encoder, numbers.denoiser)
    with lab.part("samples"):
        ways = [Variant("ddim", eta, steps) for eta in numbers.etas for steps in numbers.steps]
        ways += [Variant("dpm++", 0.0, steps) for steps in numbers.solver_steps]
        found = _draw_all(pipeline_of(lab, denoiser), ways, numbers.samples, lab.seed, judge)
        floor = judge.floor(numbers.samples)
    blocks: list[Block] = [Words(SAME_NOISE), *_pictures(lab, "digits", found), judge.words(numbers.samples)]
    blocks += [_table("digits", found, floor), _curves(lab, found, floor)]
    sections = [
        Section("Digits", tuple(blocks)),
        Section("Colour images", tuple(_colour(lab, numbers, colour_judge))),
    ]
    return Report(tuple(_findings(found, floor)), tuple(sections), {"floor": floor.as_dict()})


SAME_NOISE = (
    "Every row starts from the same noise: image k has the seed of the study plus k. With η = 0 nothing is"
    " drawn on the way, so a column shows one sample becoming more exact as steps are added; with η above 0"
    " fresh noise changes it from row to row."
)


def _draw_all(
    pipeline: Pipeline, ways: Sequence[Variant], n: int, seed: int, judge: SampleScorer | None
) -> dict[Variant, DrawnVariant]:
    """All ways from the same noise; distances are to the way of the same family with the most steps."""
    drawn(
        pipeline, min(n, 8), seed=seed, settings=ways[0].settings()
    )  # the first call pays for what is set up once
    images, seconds = {}, {}
    for way in ways:
        begun = time.perf_counter()
        images[way] = drawn(pipeline, n, seed=seed, settings=way.settings())
        seconds[way] = (time.perf_counter() - begun) / n
    exact = max((way for way in ways if way.sampler == "ddim" and way.eta == 0), key=lambda way: way.steps)
    labels = labels_of(pipeline, n)
    return {
        way: DrawnVariant(
            images[way],
            seconds[way],
            _rmse(images[way], images[exact]),
            None if judge is None else judge.score(images[way], labels),
        )
        for way in ways
    }


def _rmse(a: Tensor, b: Tensor) -> float:
    """Root mean squared difference of uint8 images, for pixels in [0, 1]."""
    return float((a.double() - b.double()).square().mean().sqrt() / 255)


def _families(found: Mapping[Variant, DrawnVariant]) -> dict[str, list[Variant]]:
    families: dict[str, list[Variant]] = {}
    for way in found:
        families.setdefault(way.family, []).append(way)
    return families


def _pictures(lab: StudyContext, name: str, found: Mapping[Variant, DrawnVariant]) -> Iterator[Picture]:
    for place, (family, ways) in enumerate(_families(found).items()):
        rows = [(f"{way.steps} steps", found[way].images[:SHOWN]) for way in ways]
        yield lab.rows(f"{name}-{place + 1}", rows, f"{family}.", about={"sampler": family, "seed": lab.seed})


def _table(name: str, found: Mapping[Variant, DrawnVariant], floor: SampleScores | None) -> Table:
    exact = max((way for way in found if way.sampler == "ddim" and way.eta == 0), key=lambda way: way.steps)
    heads = ("sampler", "steps", "ms an image", f"RMSE to DDIM-{exact.steps}")
    rows = []
    for way, made in found.items():
        scores = row(made.scores) if made.scores is not None else ()
        rows.append((way.family, way.steps, 1000 * made.seconds, made.moved, *scores))
    if floor is not None:
        rows.append((f"real images ({floor.n:,})", None, None, None, *row(floor)))
    caption = (
        f"{len(next(iter(found.values())).images):,} samples a row. Time is wall time of sampling and"
        " decoding; RMSE is the distance of each image (pixels in [0, 1]) to the one that deterministic DDIM"
        f" with {exact.steps} steps makes of the same noise."
    )
    return Table(name, (*heads, *(() if floor is None else columns(floor))), tuple(rows), caption)


def _curves(lab: StudyContext, found: Mapping[Variant, DrawnVariant], floor: SampleScores) -> Picture:
    quality, speed, moved = [], [], []
    for family, ways in _families(found).items():
        steps = [way.steps for way in ways]
        scores = [scored.fd for way in ways if (scored := found[way].scores) is not None]
        fd = [score.value for score in scores]
        quality.append(Curve(family, steps, fd, "marked"))
        speed.append(Curve(family, [1000 * found[way].seconds for way in ways], fd, "marked"))
        moved.append(Curve(family, steps, [found[way].moved for way in ways], "marked"))
    real = (("real images", floor.fd.value),)
    panels = [
        Panel(
            "quality by steps",
            "steps",
            frechet_name(floor.features.name),
            quality,
            log_x=True,
            log_y=True,
            levels=real,
        ),
        Panel(
            "quality by time",
            "ms an image",
            frechet_name(floor.features.name),
            speed,
            log_x=True,
            log_y=True,
            legend=False,
            levels=real,
        ),
        Panel(
            "how far a sample moves",
            "steps",
            "RMSE to the most steps, η = 0",
            moved,
            log_x=True,
            legend=False,
        ),
    ]
    return lab.plot(
        "quality",
        panels,
        "Fréchet distance against steps and against time, and how far samples are from those of the most"
        " steps.",
    )


def _colour(lab: StudyContext, numbers: Numbers, judge: SampleScorer | None) -> Iterator[Block]:
    if lab.colour is None:
        yield colour_missing(lab)
        return
    with lab.part("colour: VAE and denoiser"):
        encoder = presets.vae(lab, "colour-vae", numbers.colour_vae, data=lab.colour)
        # whatever the classes are: these models are shown, so one kind of sample is enough
        denoiser = presets.mlp(
            lab, "colour-denoiser", encoder, numbers.colour_denoiser, data=lab.colour, labels=False
        )
    with lab.part("colour: samples"):
        yield from _coloured(lab, numbers, lab.colour, pipeline_of(lab, denoiser), judge)


def _coloured(
    lab: StudyContext, numbers: Numbers, data: Dataset, pipeline: Pipeline, judge: SampleScorer | None
) -> Iterator[Block]:
    ways = [Variant("ddim", eta, steps) for eta in numbers.etas for steps in numbers.colour_steps]
    ways += [
        Variant("dpm++", 0.0, steps) for steps in numbers.solver_steps if steps <= max(numbers.colour_steps)
    ]
    found = _draw_all(pipeline, ways, numbers.colour_samples or 4 * SHOWN, lab.seed, judge)
    yield Words(
        f"{data.name}: {len(data.train):,} training images of {data.height} × {data.width} pixels, an"
        " unconditional model."
    )
    yield from _pictures(lab, "colour", found)
    if judge is None:
        yield Words(
            "At this budget the colour samples are looked at and timed, not scored: too few were drawn.",
            "warning",
        )
        yield _table("colour", found, None)
        return
    floor = judge.floor(numbers.colour_samples)
    yield judge.words(numbers.colour_samples)
    yield _table("colour", found, floor)


def _findings(found: Mapping[Variant, DrawnVariant], floor: SampleScores) -> Iterator[str]:
    fd = {way: made.scores.fd for way, made in found.items() if made.scores is not None}
    plain = sorted((way for way in fd if way.sampler == "ddim" and way.eta == 0), key=lambda way: way.steps)
    few, most = plain[0], plain[-1]
    yield comparison.ordered(
        "FD without noise on the way (η = 0) by number of steps", {f"{way.steps}:": fd[way] for way in plain}
    )
    for steps in dict.fromkeys((few.steps, most.steps)):
        same = {way.family: score for way, score in fd.items() if way.steps == steps}
        yield comparison.ordered(f"FD with {steps} steps", same)
    yield (
        f"Real images score {floor.fd.value:.3g} at the same number; with η = 0 {few.steps} steps take "
        f"{found[few].seconds / found[most].seconds:.1%} of the time of {most.steps}."
    )


QUICK = Numbers()
FULL = Numbers(
    vae=VAENumbers(steps=6000),
    denoiser=MLPNumbers(width=512, depth=4, steps=12_000, batch=512),
    samples=10_000,
    resamples=200,
    colour_vae=VAENumbers("64", steps=6000),
    colour_denoiser=MLPNumbers(width=1024, depth=6, steps=20_000),
    colour_steps=(10, 20, 50, 100, 1000),
    colour_samples=1000,
)
STUDY = Study(quick=QUICK, full=FULL, run=study)
