"""Study `one-step-unet`: a denoiser trained at one noise level, tested at others and on other images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, PairedScores, difference
from latentdiff.apps.studies.kit.presets import PixelPreset
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.restoration.sdedit import DRAWINGS, drawing
from latentdiff.apps.studies.runner import Study
from latentdiff.data import to_float
from latentdiff.ops.random import Key
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10


@dataclass(frozen=True)
class OneStepSettings:
    """``sigma``: noise level of the training, pixels in [-1, 1]; ``sigmas``: those of the test."""

    pixels: PixelPreset = field(default_factory=lambda: PixelPreset(steps=400, patch=2, width=32))
    sigma: float = 0.5
    sigmas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
    tested: int = 200


def study(context: StudyContext, settings: OneStepSettings) -> Report:
    with context.part("network"):
        # x + sigma z is one level of a process that only scales it: alpha = 1 / sqrt(1 + sigma^2)
        beta = settings.sigma**2 / (1 + settings.sigma**2)
        changed: dict[str, Any] = {"T": 1, "schedule": "constant", "beta_start": beta, "labels": False}
        pipeline = pipeline_of(context, presets.pixels(context, "denoiser", settings.pixels, **changed))
    images = context.test_images(settings.tested)[0]
    others, name = _others(context, pipeline.codec.image_shape, settings.tested)
    metrics = PairedMetrics.of(context)
    with context.part("out of distribution"):
        made = {sigma: _denoised(context, pipeline, images, sigma) for sigma in settings.sigmas}
        strange = {sigma: _denoised(context, pipeline, others, sigma) for sigma in settings.sigmas}
    found = {sigma: (metrics.pairs(x, images), metrics.pairs(y, images)) for sigma, (x, y) in made.items()}
    other = {sigma: (metrics.pairs(x, others), metrics.pairs(y, others)) for sigma, (x, y) in strange.items()}
    caption = f"{name[0].upper()}{name[1:]}."
    return Report(
        _findings(settings, found, other, name),
        Section(
            "Other amounts of noise",
            ABOUT.format(sigma=settings.sigma),
            _rows(context, "digits", images, made, "Test digits with rising noise, and denoised."),
            _curves(context, settings, found, other, name),
            _table("digits", found, metrics, "Test digits."),
        ),
        Section(
            "Other images",
            f"The same with {name}, which are not in the training data.",
            _rows(context, "others", others, strange, caption),
            _table("others", other, metrics, caption),
        ),
    )


ABOUT = (
    "A UNet without conditioning on the noise level was trained to denoise digits at σ = {sigma:g} in one"
    " step. Here the noise level varies. Below it the network removes detail as if it were noise; above it,"
    " noise is left over or turned into strokes. A diffusion model is conditioned on the noise level"
    " instead."
)


@torch.no_grad()
def _denoised(
    context: StudyContext, pipeline: Pipeline, images: Tensor, sigma: float
) -> tuple[Tensor, Tensor]:
    """(noisy images, denoised images), [n, C, H, W] in [-1, 1]."""
    noise = Key.of(context.seed, len(images)).at("degrade").normal(images.shape[1:])
    noisy = images + sigma * noise
    alpha = pipeline.schedule.at(1)[0]
    return noisy.clamp(-1, 1), pipeline.decode(
        pipeline.denoiser()((alpha * noisy).to(pipeline.device), 1).x0()
    )


def _rows(
    context: StudyContext,
    name: str,
    images: Tensor,
    made: Mapping[float, tuple[Tensor, Tensor]],
    caption: str,
) -> Picture:
    rows = [("original", images)]
    for sigma, (noisy, back) in made.items():
        rows += [(f"σ = {sigma:g}", noisy), ("denoised", back)]
    return context.rows(name, rows, caption, most=SHOWN)


def _others(context: StudyContext, shape: Sequence[int], n: int) -> tuple[Tensor, str]:
    """The colour images [n, C, H, W] in the shape of the digits, drawings where there are none; a name."""
    if context.colour is None:
        drawings = torch.cat([drawing(strokes, shape) for strokes in DRAWINGS.values()])
        return drawings, "drawings that are no digits"
    images = to_float(context.colour.test.images[:n])
    if shape[0] == 1:
        images = images.mean(1, keepdim=True)
    resized = F.interpolate(
        images, size=list(shape[1:]), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.clamp(-1, 1), f"{context.colour.name}{' in grey' * (shape[0] == 1)}"


NoisyPairs = Mapping[float, tuple[PairedScores, PairedScores]]


def _curves(
    context: StudyContext, settings: OneStepSettings, found: NoisyPairs, other: NoisyPairs, name: str
) -> Picture:
    sigmas = list(found)
    curves = [
        Curve("digits, denoised", sigmas, [found[s][1].psnr for s in sigmas], "marked", color=0),
        Curve("digits, noisy", sigmas, [found[s][0].psnr for s in sigmas], "dashed", color=0),
        Curve(f"{name}, denoised", sigmas, [other[s][1].psnr for s in sigmas], "marked", color=1),
    ]
    panel = Panel(f"learned at σ = {settings.sigma:g}", "σ of the noise", "PSNR (dB)", curves)
    return context.plot("psnr", [panel], "PSNR of denoised images over the noise on them.")


def _table(name: str, found: NoisyPairs, metrics: PairedMetrics, caption: str) -> Table:
    rows = [
        ((sigma, title), [pairs])
        for sigma, both in found.items()
        for title, pairs in zip(("noisy", "denoised"), both, strict=True)
    ]
    return metrics.table(name, ("σ", ""), rows, caption)


def _findings(settings: OneStepSettings, found: NoisyPairs, other: NoisyPairs, name: str) -> Iterator[str]:
    for images, scores in (("digits", found), (name, other)):
        differences = {
            f"σ = {sigma:g}": difference([back], [noisy], "psnr", comparisons=len(scores))
            for sigma, (noisy, back) in scores.items()
        }
        learned = f"trained at σ = {settings.sigma:g}"
        yield comparison.against(
            f"PSNR of denoised {images}, {learned}", "the noisy ones", differences, smaller=False, unit=" dB"
        )


FULL = OneStepSettings(pixels=PixelPreset(steps=6000, patch=1, width=32), tested=2000)
STUDY = Study(quick=OneStepSettings(), full=FULL, run=study)
