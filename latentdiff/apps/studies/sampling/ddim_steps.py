"""Study `ddim-steps`: the same starting noise with few and many steps, with and without noise on the way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.colour import known_model, trains_colour
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import MLPPreset, VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, draw_uint8, metric_cells
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Block, Paragraph, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.evaluate import SampleScores
from latentdiff.metrics.names import frechet_name
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10  # images in a row


@dataclass(frozen=True)
class DDIMStepsSettings:
    """``steps`` with every one of ``etas``, ``solver_steps`` with DPM-Solver++(2M), ``samples`` of each."""

    vae: VAEPreset = field(default_factory=lambda: VAEPreset(steps=400))
    denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=1000))
    steps: tuple[int, ...] = (10, 20, 50, 100, 1000)
    etas: tuple[float, ...] = (0.0, 0.5, 1.0)
    solver_steps: tuple[int, ...] = (10, 20, 50, 100)
    samples: int = 450
    resamples: int = 100
    colour_vae: VAEPreset = field(default_factory=lambda: VAEPreset("64", steps=300, batch=64))
    colour_denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=800))
    colour_steps: tuple[int, ...] = (10, 20, 50, 100)
    colour_samples: int = 0  # scored; 0: pictures and times only

    def variants(self, steps: tuple[int, ...]) -> list[SamplerVariant]:
        """DDIM with ``steps`` and every eta, and the solver with at most as many."""
        variants = [SamplerVariant("ddim", eta, n) for eta in self.etas for n in steps]
        return variants + [SamplerVariant("dpm++", 0.0, n) for n in self.solver_steps if n <= max(steps)]


class SamplerVariant(NamedTuple):
    """A sampler with its number of steps."""

    sampler: str
    eta: float
    steps: int

    @property
    def family(self) -> str:
        return "DPM-Solver++(2M)" if self.sampler == "dpm++" else f"DDIM, η = {self.eta:g}"


class VariantResults(NamedTuple):
    """Images of a variant, seconds an image, their RMSE to those of the most steps, and their scores."""

    images: Tensor
    seconds: float
    moved: float
    scores: SampleScores | None


def study(context: StudyContext, settings: DDIMStepsSettings) -> Report:
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    colour_scorer = None
    if context.colour is not None and settings.colour_samples:
        colour_scorer = SampleScorer.of(context, data=context.colour, resamples=settings.resamples)
    with context.part("VAE"):
        encoder = presets.train_vae(context, "vae", settings.vae)
    with context.part("denoiser"):
        denoiser = presets.train_denoiser(context, "denoiser", settings.denoiser, vae=encoder)
    with context.part("samples"):
        variants, pipeline = settings.variants(settings.steps), pipeline_of(context, denoiser)
        found = _draw_all(pipeline, variants, settings.samples, context.seed, scorer)
        baseline = scorer.real_baseline(settings.samples)
    return Report(
        _findings(found, baseline),
        Section(
            "Digits",
            SAME_NOISE,
            *_pictures(context, "digits", found),
            scorer.caveats(settings.samples),
            _table("digits", found, baseline),
            _curves(context, found, baseline),
        ),
        Section("Colour images", *_colour(context, settings, colour_scorer)),
        floor=baseline.as_dict(),
    )


SAME_NOISE = (
    "Every row starts from the same noise: image k has the seed of the study plus k. With η = 0 nothing is"
    " drawn on the way, so a column shows one sample becoming more exact as steps are added; with η above 0"
    " fresh noise changes it from row to row."
)

UNSCORED = "At this budget the colour samples are shown and timed, not scored: there are too few."


def _draw_all(
    pipeline: Pipeline, variants: Sequence[SamplerVariant], n: int, seed: int, scorer: SampleScorer | None
) -> dict[SamplerVariant, VariantResults]:
    """Samples of every variant from the same noise, and their distances to :func:`_exact`."""
    draw_uint8(pipeline, min(n, 8), seed=seed, sampling=Sampling(**variants[0]._asdict()))  # warm-up
    images, seconds = {}, {}
    for variant in variants:
        sampling, begun = Sampling(**variant._asdict()), time.perf_counter()
        images[variant] = draw_uint8(pipeline, n, seed=seed, sampling=sampling)
        seconds[variant] = (time.perf_counter() - begun) / n
    exact, labels = images[_exact(variants)], pipeline.class_labels(n)
    return {
        variant: VariantResults(
            images[variant],
            seconds[variant],
            _rmse(images[variant], exact),
            None if scorer is None else scorer.score(images[variant], labels),
        )
        for variant in variants
    }


def _exact(variants: Iterable[SamplerVariant]) -> SamplerVariant:
    """Deterministic DDIM with the most steps."""
    return max((each for each in variants if each.family == "DDIM, η = 0"), key=lambda each: each.steps)


def _rmse(a: Tensor, b: Tensor) -> float:
    """Root mean squared difference of uint8 images, for pixels in [0, 1]."""
    return float((a.double() - b.double()).square().mean().sqrt() / 255)


def _families(found: Mapping[SamplerVariant, VariantResults]) -> dict[str, list[SamplerVariant]]:
    families: dict[str, list[SamplerVariant]] = {}
    for variant in found:
        families.setdefault(variant.family, []).append(variant)
    return families


def _pictures(
    context: StudyContext, name: str, found: Mapping[SamplerVariant, VariantResults]
) -> Iterator[Picture]:
    for place, (family, variants) in enumerate(_families(found).items()):
        rows = [(f"{variant.steps} steps", found[variant].images[:SHOWN]) for variant in variants]
        yield context.rows(f"{name}-{place + 1}", rows, f"{family}.", about={"sampler": family})


def _table(name: str, found: Mapping[SamplerVariant, VariantResults], baseline: SampleScores | None) -> Table:
    exact = _exact(found)
    heads = ("sampler", "steps", "ms an image", f"RMSE to DDIM-{exact.steps}")
    rows = []
    for variant, made in found.items():
        scores = metric_cells(made.scores).values() if made.scores is not None else ()
        rows.append((variant.family, variant.steps, 1000 * made.seconds, made.moved, *scores))
    if baseline is not None:
        rows.append((f"real images ({baseline.n:,})", None, None, None, *metric_cells(baseline).values()))
    caption = (
        f"{len(next(iter(found.values())).images):,} samples a row. Time is wall time of sampling and"
        " decoding; RMSE is the distance of each image (pixels in [0, 1]) to the one that deterministic DDIM"
        f" with {exact.steps} steps makes of the same noise."
    )
    return Table(name, (*heads, *(() if baseline is None else metric_cells(baseline))), tuple(rows), caption)


def _curves(
    context: StudyContext, found: Mapping[SamplerVariant, VariantResults], baseline: SampleScores
) -> Picture:
    quality, speed, moved = [], [], []
    for family, variants in _families(found).items():
        steps = [variant.steps for variant in variants]
        scores = [scored.fd for variant in variants if (scored := found[variant].scores) is not None]
        fd = [score.value for score in scores]
        quality.append(Curve(family, steps, fd, "marked"))
        speed.append(Curve(family, [1000 * found[variant].seconds for variant in variants], fd, "marked"))
        moved.append(Curve(family, steps, [found[variant].moved for variant in variants], "marked"))
    y, real = frechet_name(baseline.features.name), (("real images", baseline.fd.value),)
    distance = "RMSE to the most steps, η = 0"
    panels = [
        Panel("quality by steps", "steps", y, quality, log_x=True, log_y=True, levels=real),
        Panel("quality by time", "ms an image", y, speed, log_x=True, log_y=True, legend=False, levels=real),
        Panel("how far a sample moves", "steps", distance, moved, log_x=True, legend=False),
    ]
    caption = (
        "Fréchet distance against steps and against time, and the distance to the samples of most steps."
    )
    return context.plot("quality", panels, caption)


def _colour_model(context: StudyContext, settings: DDIMStepsSettings) -> tuple[Pipeline, str]:
    """The model of colour images and what it is: given, of the package, or trained for --data-colour."""
    data = context.colour
    if data is None or not trains_colour(context):
        pipeline, name = known_model(context)
        _, height, width = pipeline.codec.image_shape
        return pipeline, f"The model: {name}, {height} × {width} pixels."
    with context.part("colour: VAE and denoiser"):
        encoder = presets.train_vae(context, "colour-vae", settings.colour_vae, data=data)
        denoiser = presets.train_denoiser(
            context, "colour-denoiser", settings.colour_denoiser, vae=encoder, data=data, labels=False
        )
    about = (
        f"{data.name}: {len(data.train):,} training images of {data.height} × {data.width} pixels, an"
        " unconditional model."
    )
    return pipeline_of(context, denoiser), about


def _colour(
    context: StudyContext, settings: DDIMStepsSettings, scorer: SampleScorer | None
) -> Iterator[Block]:
    pipeline, about = _colour_model(context, settings)
    with context.part("colour: samples"):
        n, variants = settings.colour_samples or 4 * SHOWN, settings.variants(settings.colour_steps)
        found = _draw_all(pipeline, variants, n, context.seed, scorer)
        yield Paragraph(about)
        yield from _pictures(context, "colour", found)
        yield Paragraph(UNSCORED, "warning") if scorer is None else scorer.caveats(n)
        yield _table("colour", found, None if scorer is None else scorer.real_baseline(n))


def _findings(found: Mapping[SamplerVariant, VariantResults], baseline: SampleScores) -> Iterator[str]:
    fd = {variant: made.scores.fd for variant, made in found.items() if made.scores is not None}
    plain = sorted(variant for variant in fd if variant.sampler == "ddim" and variant.eta == 0)
    few, most = plain[0], plain[-1]
    yield comparison.ordered(
        "FD without noise on the way (η = 0) by number of steps",
        {f"{variant.steps}:": fd[variant] for variant in plain},
    )
    for steps in dict.fromkeys((few.steps, most.steps)):
        same = {variant.family: score for variant, score in fd.items() if variant.steps == steps}
        yield comparison.ordered(f"FD with {steps} steps", same)
    yield (
        f"Real images score {baseline.fd.value:.3g} at the same number; with η = 0 {few.steps} steps take "
        f"{found[few].seconds / found[most].seconds:.1%} of the time of {most.steps}."
    )


FULL = DDIMStepsSettings(
    vae=VAEPreset(steps=6000),
    denoiser=MLPPreset(width=512, depth=4, steps=12_000, batch=512),
    samples=10_000,
    resamples=200,
    colour_vae=VAEPreset("64", steps=6000),
    colour_denoiser=MLPPreset(width=1024, depth=6, steps=20_000),
    colour_steps=(10, 20, 50, 100, 1000),
    colour_samples=1000,
)
STUDY = Study(quick=DDIMStepsSettings(), full=FULL, run=study)
