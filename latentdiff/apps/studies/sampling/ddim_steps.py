"""Study `ddim-steps`: the same starting noise with few and many steps, with and without noise on the way."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.colour import COLOUR, known_model, trains_colour
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import latent_model, students_of
from latentdiff.apps.studies.kit.presets import MLPPreset, VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, draw_uint8, metric_cells, score_cell
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Block, Paragraph, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.errors import counted
from latentdiff.evaluate import Resampling, SampleScores
from latentdiff.evaluate.interval_score import Score, mean_score
from latentdiff.metrics.names import frechet_name
from latentdiff.metrics.pairs import rmse
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10  # images in a row
STUDENT = "student"


@dataclass(frozen=True)
class DDIMStepsSettings:
    """``steps`` with every one of ``etas``, ``solver_steps`` with DPM-Solver++(2M), ``samples`` of each.

    Images that no model of the package fits: ``vae`` and ``denoiser`` are trained, and of that denoiser
    ``students`` of so many calls, from so many ``trajectories``, in ``student_steps``.
    """

    vae: VAEPreset = field(default_factory=lambda: VAEPreset(steps=400))
    denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=1000))
    students: tuple[int, ...] = ()
    trajectories: int = 60_000
    student_steps: int = 7000
    steps: tuple[int, ...] = (1, 2, 3, 5, 10, 50, 1000)
    etas: tuple[float, ...] = (0.0, 0.5, 1.0)
    solver_steps: tuple[int, ...] = (2, 3, 5, 10, 50)
    samples: int = 1000
    resamples: int = 100
    colour_vae: VAEPreset = field(default_factory=lambda: VAEPreset("64", steps=300, batch=64))
    colour_denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=800))
    colour_steps: tuple[int, ...] = (1, 2, 3, 5, 10, 50)
    colour_samples: int = 0  # scored; 0: pictures and times only

    def variants(self, steps: tuple[int, ...]) -> list[SamplerVariant]:
        """DDIM with ``steps`` and every eta, and the solver with at most as many."""
        variants = [SamplerVariant("ddim", eta, n) for eta in self.etas for n in steps]
        return variants + [SamplerVariant("dpm++", 0.0, n) for n in self.solver_steps if n <= max(steps)]


class SamplerVariant(NamedTuple):
    """A sampler with its number of steps; the sampler "student" is a network of so many calls."""

    sampler: str
    eta: float
    steps: int

    @property
    def family(self) -> str:
        if self.sampler == STUDENT:
            return STUDENT
        return "DPM-Solver++(2M)" if self.sampler == "dpm++" else f"DDIM, η = {self.eta:g}"


class VariantResults(NamedTuple):
    """Images of a variant, seconds an image, their mean RMSE to those of the most steps, and their scores."""

    images: Tensor
    seconds: float
    moved: Score
    scores: SampleScores | None


def study(context: StudyContext, settings: DDIMStepsSettings) -> Report:
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    colour_scorer = None
    if context.colour is not None and settings.colour_samples:
        colour_scorer = SampleScorer.of(context, data=context.colour, resamples=settings.resamples)
    pipeline, origin, students = _model(context, settings)
    with context.part("samples"):
        ways = _ways(pipeline, settings.variants(settings.steps), students)
        found = _draw_all(ways, settings.samples, scorer.resampling, scorer)
        baseline = scorer.real_baseline(settings.samples)
    return Report(
        _findings(found, baseline),
        Section(
            "Digits",
            origin,
            SAME_NOISE,
            *([STUDENTS] if students else ()),
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
STUDENTS = (
    "A student is another network, trained on where many steps of this one lead from the same noise"
    " (`latentdiff distill`)."
)

UNSCORED = "At this budget the colour samples are shown and timed, not scored: there are too few."


def _model(
    context: StudyContext, settings: DDIMStepsSettings
) -> tuple[Pipeline, Paragraph, Sequence[Pipeline]]:
    """The model for the images of the study, its origin as text, and its students."""
    known = latent_model(context)
    if known is not None:
        return known
    preset = settings.denoiser
    with context.part("VAE"):
        encoder = presets.train_vae(context, "vae", settings.vae)
    with context.part("denoiser"):
        pipeline = pipeline_of(context, presets.train_denoiser(context, "denoiser", preset, vae=encoder))
    students = []
    if settings.students:
        with context.part("students"):
            plan = {"trajectories": settings.trajectories, "steps": settings.student_steps}
            found = presets.train_students(context, pipeline, settings.students, **plan)
            students = [pipeline_of(context, student) for student in found]
    origin = f"A VAE and an MLP, trained for this page ({preset.steps:,} steps of {preset.batch} images)."
    return pipeline, Paragraph(origin), students


DrawnBy = Mapping[SamplerVariant, tuple[Pipeline, Sampling]]


def _ways(pipeline: Pipeline, variants: Sequence[SamplerVariant], students: Sequence[Pipeline]) -> DrawnBy:
    """What draws each variant: the model, or one of its students."""
    ways = {variant: (pipeline, Sampling(**variant._asdict())) for variant in variants}
    for student in students:
        assert student.student is not None
        ways[SamplerVariant(STUDENT, 0.0, student.student.calls)] = (student, Sampling())
    return ways


def _draw_all(
    ways: DrawnBy, n: int, resampling: Resampling, scorer: SampleScorer | None
) -> dict[SamplerVariant, VariantResults]:
    """Samples of every variant from the same noise, and their distances to :func:`_exact`."""
    images, seconds, seed = {}, {}, resampling.seed
    first: dict[int, tuple[Pipeline, Sampling]] = {}
    for way in ways.values():
        first.setdefault(id(way[0]), way)
    for pipeline, sampling in first.values():
        draw_uint8(pipeline, min(n, 8), seed=seed, sampling=sampling)  # warm-up
    for variant, (pipeline, sampling) in ways.items():
        begun = time.perf_counter()
        images[variant] = draw_uint8(pipeline, n, seed=seed, sampling=sampling)
        seconds[variant] = (time.perf_counter() - begun) / n
    exact = images[_exact(ways)]
    found = {}
    for variant, (pipeline, _) in ways.items():
        scores = None
        if scorer is not None:
            scores = scorer.score(images[variant], pipeline.class_labels(n))
        moved = mean_score(rmse(images[variant], exact), resampling)
        found[variant] = VariantResults(images[variant], seconds[variant], moved, scores)
    return found


def _exact(variants: Iterable[SamplerVariant]) -> SamplerVariant:
    """Deterministic DDIM with the most steps."""
    return max((each for each in variants if each.family == "DDIM, η = 0"), key=lambda each: each.steps)


def _families(found: Mapping[SamplerVariant, VariantResults]) -> dict[str, list[SamplerVariant]]:
    families: dict[str, list[SamplerVariant]] = {}
    for variant in found:
        families.setdefault(variant.family, []).append(variant)
    return families


def _pictures(
    context: StudyContext, name: str, found: Mapping[SamplerVariant, VariantResults]
) -> Iterator[Picture]:
    families = _families(found)
    students = families.pop(STUDENT, [])
    for place, (family, variants) in enumerate(families.items()):
        rows = [(counted(variant.steps, "step"), found[variant].images[:SHOWN]) for variant in variants]
        if place == 0:  # without noise, as students draw
            rows += [
                (f"student, {counted(each.steps, 'call')}", found[each].images[:SHOWN]) for each in students
            ]
        yield context.rows(f"{name}-{place + 1}", rows, f"{family}.", about={"sampler": family})


def _table(name: str, found: Mapping[SamplerVariant, VariantResults], baseline: SampleScores | None) -> Table:
    exact = _exact(found)
    heads = ("sampler", "steps", "ms an image", f"RMSE to DDIM-{exact.steps}")
    rows = []
    for variant, made in found.items():
        scores = metric_cells(made.scores).values() if made.scores is not None else ()
        rows.append((variant.family, variant.steps, 1000 * made.seconds, score_cell(made.moved), *scores))
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
        moved.append(Curve(family, steps, [found[variant].moved.value for variant in variants], "marked"))
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


def _colour_model(
    context: StudyContext, settings: DDIMStepsSettings
) -> tuple[Pipeline, str, Sequence[Pipeline]]:
    """The model of colour images, what it is, and its students: given, of the package, or trained for
    --data-colour.
    """
    data = context.colour
    if data is None or not trains_colour(context):
        pipeline, name = known_model(context)
        _, height, width = pipeline.codec.image_shape
        students = [] if context.run_colour is not None else students_of(context, COLOUR)
        return pipeline, f"The model: {name}, {height} × {width} pixels.", students
    with context.part("colour: VAE and denoiser"):
        encoder = presets.train_vae(context, "colour-vae", settings.colour_vae, data=data)
        denoiser = presets.train_denoiser(
            context, "colour-denoiser", settings.colour_denoiser, vae=encoder, data=data, labels=False
        )
    about = (
        f"{data.name}: {len(data.train):,} training images of {data.height} × {data.width} pixels, an"
        " unconditional model."
    )
    return pipeline_of(context, denoiser), about, ()


def _colour(
    context: StudyContext, settings: DDIMStepsSettings, scorer: SampleScorer | None
) -> Iterator[Block]:
    pipeline, about, students = _colour_model(context, settings)
    with context.part("colour: samples"):
        n, variants = settings.colour_samples or 4 * SHOWN, settings.variants(settings.colour_steps)
        resampling = Resampling(settings.resamples, seed=context.seed)
        found = _draw_all(_ways(pipeline, variants, students), n, resampling, scorer)
        yield Paragraph(about)
        yield from _pictures(context, "colour", found)
        yield Paragraph(UNSCORED, "warning") if scorer is None else scorer.caveats(n)
        yield _table("colour", found, None if scorer is None else scorer.real_baseline(n))


def _findings(found: Mapping[SamplerVariant, VariantResults], baseline: SampleScores) -> Iterator[str]:
    fd = {variant: made.scores.fd for variant, made in found.items() if made.scores is not None}
    plain = sorted(variant for variant in fd if variant.sampler == "ddim" and variant.eta == 0)
    students = [variant for variant in fd if variant.sampler == STUDENT]
    few, middle, most = plain[0], plain[len(plain) // 2], plain[-1]
    yield comparison.ordered(
        "FD without noise on the way (η = 0) by number of steps",
        {counted(variant.steps, "step"): fd[variant] for variant in plain},
    )
    if students:
        others = {
            f"the student in {counted(each.steps, 'call')}": comparison.unpaired(
                fd[each], fd[most], comparisons=len(students)
            )
            for each in students
        }
        yield comparison.against("FD", f"{most.steps} steps (FD {fd[most].value:.3g})", others)
    for steps in dict.fromkeys((middle.steps, most.steps)):
        same = {
            variant.family: score
            for variant, score in fd.items()
            if variant.steps == steps and variant not in students
        }
        yield comparison.ordered(f"FD with {counted(steps, 'step')}", same)
    yield (
        f"Real images score {baseline.fd.value:.3g} at the same number; the time of"
        f" {counted(few.steps, 'step')} with η = 0 is {found[few].seconds / found[most].seconds:.1%} of that"
        f" of {most.steps}."
    )


FULL = DDIMStepsSettings(
    vae=VAEPreset(steps=6000),
    denoiser=MLPPreset(width=512, depth=4, steps=12_000),
    students=(1, 2, 4),
    samples=10_000,
    resamples=200,
    colour_vae=VAEPreset("64", steps=6000),
    colour_denoiser=MLPPreset(width=1024, depth=6, steps=20_000),
    colour_samples=300,
)
STUDY = Study(quick=DDIMStepsSettings(), full=FULL, run=study)
