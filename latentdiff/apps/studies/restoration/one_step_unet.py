"""Study `one-step-unet`: a denoiser trained at one noise level, tested at others and on other images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

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
        pipeline = pipeline_of(context, presets.train_pixels(context, "denoiser", settings.pixels, **changed))
    images = context.test_images(settings.tested)[0]
    others, name = _others(context, pipeline.codec.image_shape, settings.tested)
    metrics, sigmas = PairedMetrics.of(context), settings.sigmas
    with context.part("out of distribution"):
        digits, strange = (_tested(context, pipeline, x, sigmas, metrics) for x in (images, others))
    caption, digit_caption = f"{name[0].upper()}{name[1:]}.", "Test digits with rising noise, and denoised."
    found = {"digits": digits.scores, name: strange.scores}
    return Report(
        _findings(settings, found),
        Section(
            "Other amounts of noise",
            ABOUT.format(sigma=settings.sigma),
            context.rows("digits", digits.rows, digit_caption, most=SHOWN),
            _curves(context, settings, found),
            _table("digits", digits.scores, metrics, "Test digits."),
        ),
        Section(
            "Other images",
            f"The same with {name}, which are not in the training data.",
            context.rows("others", strange.rows, caption, most=SHOWN),
            _table("others", strange.scores, metrics, caption),
        ),
    )


ABOUT = (
    "A UNet without conditioning on the noise level was trained to denoise digits at σ = {sigma:g} in one"
    " step. Here the noise level varies. Below it the network removes detail as if it were noise; above it,"
    " noise is left over or turned into strokes. A diffusion model is conditioned on the noise level"
    " instead."
)


NoisyPairs = Mapping[float, tuple[PairedScores, PairedScores]]


class DenoisedImages(NamedTuple):
    """Images by row of a figure, and scores of the noisy and the denoised ones by noise level."""

    rows: Sequence[tuple[str, Tensor]]
    scores: NoisyPairs


@torch.no_grad()
def _tested(
    context: StudyContext, pipeline: Pipeline, images: Tensor, sigmas: Sequence[float], metrics: PairedMetrics
) -> DenoisedImages:
    """Noise on images [n, C, H, W] in [-1, 1], and the images denoised in one step."""
    noise = Key.of(context.seed, len(images)).at("degrade").normal(images.shape[1:])
    alpha = pipeline.schedule.at(1)[0]
    rows, scores = [("original", images)], {}
    for sigma in sigmas:
        noisy = images + sigma * noise
        clean = pipeline.decode(pipeline.denoiser()((alpha * noisy).to(pipeline.device), 1).x0())
        both = (noisy.clamp(-1, 1), clean)
        rows += zip((f"σ = {sigma:g}", "denoised"), both, strict=True)
        scores[sigma] = (metrics.pairs(both[0], images), metrics.pairs(both[1], images))
    return DenoisedImages(rows, scores)


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


def _curves(context: StudyContext, settings: OneStepSettings, found: Mapping[str, NoisyPairs]) -> Picture:
    (_, digits), (name, other) = found.items()
    sigmas = list(digits)
    curves = [
        Curve("digits, denoised", sigmas, [digits[s][1].psnr for s in sigmas], "marked", color=0),
        Curve("digits, noisy", sigmas, [digits[s][0].psnr for s in sigmas], "dashed", color=0),
        Curve(f"{name}, denoised", sigmas, [other[s][1].psnr for s in sigmas], "marked", color=1),
        Curve(f"{name}, noisy", sigmas, [other[s][0].psnr for s in sigmas], "dashed", color=1),
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


def _findings(settings: OneStepSettings, found: Mapping[str, NoisyPairs]) -> Iterator[str]:
    for images, scores in found.items():
        differences = {
            f"σ = {sigma:g}": difference([back], [noisy], "psnr", comparisons=len(scores))
            for sigma, (noisy, back) in scores.items()
        }
        learned = f"trained at σ = {settings.sigma:g}"
        yield comparison.against(
            f"PSNR of denoised {images}, {learned}", "the noisy ones", differences, smaller=False, unit=" dB"
        )


FULL = OneStepSettings(pixels=PixelPreset(steps=3000, patch=2, width=32), tested=500)
STUDY = Study(quick=OneStepSettings(), full=FULL, run=study)
