"""Study `denoising`: blur, one step and many steps against noise; the reverse process in three notations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import pixel_model
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores, PairMetric, against_input
from latentdiff.apps.studies.kit.presets import LONG_PIXELS, PixelPreset
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import SamplerStep, ddpm
from latentdiff.diffusion.schedule import Schedule
from latentdiff.edit import Recorder, SampleResult, add_noise, blur, one_step
from latentdiff.ops.random import Key
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 4
NOTATIONS = ("noise", "score", "x_0")


@dataclass(frozen=True)
class DenoisingSettings:
    """``levels`` of noise, ``figure`` of them shown; ``marks``: levels of steps from ``top``.

    ``sigma_data`` preconditions a model that the study trains, so that it does no harm at low levels.
    """

    pixels: PixelPreset = field(default_factory=PixelPreset)
    levels: tuple[int, ...] = (30, 100, 250, 300, 500, 750)
    figure: tuple[int, ...] = (30, 100, 250, 300, 500, 750)
    top: int = 690
    marks: tuple[int, ...] = (690, 540, 390, 240, 90)
    stride: int = 30
    tested: int = 50
    sigma: float = 1.0
    sigma_data: float = 0.2


def study(context: StudyContext, settings: DenoisingSettings) -> Report:
    pipeline = pixel_model(context, settings.pixels, sigma_data=settings.sigma_data)
    images = context.test_images(settings.tested)[0]
    metrics, found, figures = PairedMetrics.of(context), {}, []

    def strided(x: Tensor, t: int, frames: int = 0) -> SampleResult:
        """The ancestral process from x_t over every ``stride``-th level below t."""
        levels = [*range(t, 0, -settings.stride), 0]
        key, step = pipeline.key(context.seed, len(x)), ddpm(pipeline.schedule)
        return pipeline.draw(pipeline.denoiser(), x, levels, step, key, Recorder(frames=frames))

    with context.part("denoising"):
        for t in (t for t in settings.levels if t <= pipeline.schedule.T):
            x = add_noise(pipeline, images, t, seed=context.seed)
            made = {
                "noisy": pipeline.decode(x),
                "blur": blur(pipeline, x, t, sigma=settings.sigma),
                "blur, five times": blur(pipeline, x, t, sigma=settings.sigma, times=5),
                "one step": one_step(pipeline, x, t),
                "step by step": strided(x, t).images,
            }
            found[t] = {name: metrics.pairs(x, images) for name, x in made.items()}
            if t in settings.figure:
                caption = f"Noise of level t = {t} and four ways to remove it."
                notes = {name: scores.notes for name, scores in found[t].items()}
                stages = [("original", images), *made.items()]
                name, legend = f"level-{t}", metrics.legend
                picture = context.stages(name, stages, caption, notes=notes, legend=legend, most=SHOWN)
                figures.append(picture)
    with context.part("trajectory"):
        top = min(settings.top, pipeline.schedule.T)
        x = add_noise(pipeline, images[:SHOWN], top, seed=context.seed)
        process = strided(x, top, frames=top)
        stages = [("original", images[:SHOWN])]
        for mark in settings.marks:
            frame = min(process.frames, key=lambda f: abs(f.t - mark))
            stages.append((f"x_t, t = {frame.t}", frame.noisy))
            stages.append((f"estimate of x_0, t = {frame.t}", frame.estimate))
        stages.append(("result", process.images))
        caption = f"From level {top} on by steps of {settings.stride} levels, of which some are shown."
        trajectory = context.stages("trajectory", stages, caption)
    with context.part("three notations"):
        apart, notations = _notations(context, pipeline)
    cells = [((t, name), [pairs]) for t, methods in found.items() for name, pairs in methods.items()]
    return Report(
        _findings(found, apart, metrics),
        Section(
            "Three ways to denoise",
            ABOUT.format(n=len(images), sigma=settings.sigma),
            *figures,
            metrics.table("denoised", ("t", ""), cells, "Denoised images against the originals."),
            _curves(context, found, metrics),
        ),
        Section("Step by step", STEPS.format(stride=settings.stride), trajectory),
        Section("One process in three notations", SAME, notations),
        notations_apart=apart,
    )


ABOUT = (
    "{n} test images with the noise of a level on them. Blur: a Gaussian of {sigma:g} pixels over x_t / α_t,"
    " once and five times. One step: the network's estimate of x_0. It aims at the mean of all images that"
    " the noisy one could have been, which would have the smallest squared error there can be and is blurred"
    " where there are several; what the network itself is off by comes on top, and where there is little"
    " noise it can be more than the noise. Step by step: the reverse process from that level on, which ends"
    " in one of these images."
)
STEPS = (
    "The reverse process visits every {stride}th level. Left x_t, right of it the estimate of the"
    " clean image at that level."
)
SAME = (
    "The ancestral step can be written with the noise (Ho et al. 2020, eq. 11), with the score (Song et al."
    " 2021, s = −ε/σ_t) or with x_0 (the posterior mean, eq. 7). They are one step: the same network, the"
    " same noise, three formulas in float64 give samples that differ by rounding only. In the score's form"
    " the score is added: x_s = (x_t + β s)/√(1 − β) + …; a minus in front of it is an error that is copied"
    " from text to text."
)


@torch.no_grad()
def _notations(context: StudyContext, pipeline: Pipeline) -> tuple[dict[str, float], Table]:
    """The ancestral process written three ways by hand, beside the package's own, in float64."""
    schedule = pipeline.schedule
    levels = schedule.levels(min(50, schedule.T))
    key, shape = pipeline.key(context.seed, 4), pipeline.codec.latent_shape
    denoise = pipeline.denoiser()
    x_T = start(key, shape, dtype=torch.float64)
    ours = run(denoise, x_T, levels, ddpm(schedule), key)
    apart = {
        name: float((run(denoise, x_T, levels, _written(name, schedule), key) - ours).abs().max())
        for name in NOTATIONS
    }
    heads = ("written with", "largest difference of a pixel")
    caption = "Four samples by each formula against the package's step."
    return apart, Table("notations", heads, tuple(apart.items()), caption)


def _written(name: str, schedule: Schedule) -> SamplerStep:
    """The ancestral step t -> s by hand, from the noise, the score or x_0."""

    def step(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> tuple[Tensor, Estimate]:
        (alpha, sigma), (alpha_s, sigma_s) = schedule.at(t), schedule.at(s)
        estimate, a = denoise(x, t), alpha / alpha_s  # a: sqrt(1 - beta) of the merged step
        beta, x0 = 1 - a**2, estimate.x0()
        eps = (x - alpha * x0) / sigma
        if name == "noise":
            mean = (x - beta / sigma * eps) / a
        elif name == "score":
            mean = (x + beta * (-eps / sigma)) / a
        else:
            mean = alpha_s * beta / sigma**2 * x0 + a * sigma_s**2 / sigma**2 * x
        z = key.normal(x.shape[1:], dtype=x.dtype)
        return torch.add(mean, z, alpha=sigma_s / sigma * beta**0.5), estimate

    return step


def _curves(
    context: StudyContext, found: Mapping[int, Mapping[str, PairedScores]], metrics: PairedMetrics
) -> Picture:
    kinds: tuple[tuple[str, PairMetric, str], ...] = (
        ("PSNR", "psnr", "dB"),
        ("distance", "distance", metrics.distance),
    )
    panels = []
    for title, what, unit in kinds:
        means = {
            name: [methods[name].mean(what) for methods in found.values()]
            for name in next(iter(found.values()))
        }
        curves = [Curve(name, list(found), values, "marked") for name, values in means.items()]
        panels.append(Panel(title, "level t", unit, curves))
    return context.plot("curves", panels, "The same as curves.")


def _findings(
    found: Mapping[int, Mapping[str, PairedScores]], apart: Mapping[str, float], metrics: PairedMetrics
) -> Iterator[str]:
    for t in sorted({min(found), max(found)}):
        methods = {name: [pairs] for name, pairs in found[t].items()}
        yield against_input(f"At t = {t}", methods, "noisy", "psnr", "PSNR", unit=" dB")
        yield against_input(f"At t = {t}", methods, "noisy", "distance", metrics.distance)
    yield (
        "The noise, score and x_0 forms of the reverse process give the same samples to"
        f" {max(apart.values()):.1g}."
    )


FULL = DenoisingSettings(pixels=LONG_PIXELS, tested=500)
STUDY = Study(quick=DenoisingSettings(), full=FULL, run=study)
