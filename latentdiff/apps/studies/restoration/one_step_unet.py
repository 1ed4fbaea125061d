"""Study `one-step-unet`: a network that learned to take away one amount of noise, and what it does with
others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.paired import PairedMetrics, Pairs, difference
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.restoration.sdedit import DRAWINGS, drawing
from latentdiff.apps.studies.runner import Study
from latentdiff.data import to_float
from latentdiff.data.select import one_of_each_class
from latentdiff.ops.random import Key
from latentdiff.pipeline.pipeline import Pipeline

SHOWN = 10


@dataclass(frozen=True)
class Numbers:
    """``sigma``: the noise that is learned, pixels in [-1, 1]; ``sigmas``: those that are tried."""

    pixels: PixelNumbers = field(default_factory=lambda: PixelNumbers(steps=400, patch=2, width=32))
    sigma: float = 0.5
    sigmas: tuple[float, ...] = (0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0)
    tested: int = 200


def study(lab: StudyContext, numbers: Numbers) -> Report:
    with lab.part("network"):
        # x + sigma z is one level of a process that only scales it: alpha = 1 / sqrt(1 + sigma^2)
        beta = numbers.sigma**2 / (1 + numbers.sigma**2)
        changed: dict[str, Any] = {"T": 1, "schedule": "constant", "beta_start": beta, "labels": False}
        pipeline = pipeline_of(lab, presets.pixels(lab, "denoiser", numbers.pixels, **changed))
    images = to_float(one_of_each_class(lab.data.test, numbers.tested))
    others, name = _others(lab, pipeline.codec.image_shape, numbers.tested)
    eye = PairedMetrics.of(lab)
    with lab.part("out of distribution"):
        made = {sigma: _denoised(lab, pipeline, images, sigma) for sigma in numbers.sigmas}
        strange = {sigma: _denoised(lab, pipeline, others, sigma) for sigma in numbers.sigmas}
    found = {sigma: (eye.pairs(x, images), eye.pairs(y, images)) for sigma, (x, y) in made.items()}
    other = {sigma: (eye.pairs(x, others), eye.pairs(y, others)) for sigma, (x, y) in strange.items()}
    return Report(
        tuple(_findings(numbers, found, other, name)),
        (
            Section(
                "Other amounts of noise",
                (
                    Words(ABOUT.format(sigma=numbers.sigma)),
                    _rows(
                        lab,
                        "digits",
                        images,
                        made,
                        "Test digits with more and more noise, and what the network makes of them.",
                    ),
                    _curves(lab, numbers, found, other, name),
                    _table("digits", found, eye, "Test digits."),
                ),
            ),
            Section(
                "Other images",
                (
                    Words(f"The same with {name}, which the network has never seen."),
                    _rows(lab, "others", others, strange, f"{name[0].upper()}{name[1:]}."),
                    _table("others", other, eye, f"{name[0].upper()}{name[1:]}."),
                ),
            ),
        ),
    )


ABOUT = (
    "A UNet learned to give back the digit from the digit with noise of σ = {sigma:g}, in one step and told"
    " nothing of the noise. Here it meets less and more of it. Where there is less it still takes away what"
    " it is used to, where there is more it leaves some and takes noise for strokes: a diffusion model is"
    " told how much there is."
)


@torch.no_grad()
def _denoised(lab: StudyContext, pipeline: Pipeline, images: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
    """(images with noise, what the network makes of them)."""
    noise = Key.of(lab.seed, len(images)).at("degrade").normal(images.shape[1:])
    noisy = images + sigma * noise
    alpha = pipeline.schedule.at(1)[0]
    return noisy.clamp(-1, 1), pipeline.decode(
        pipeline.denoiser()((alpha * noisy).to(pipeline.device), 1).x0()
    )


def _rows(
    lab: StudyContext, name: str, images: Tensor, made: Mapping[float, tuple[Tensor, Tensor]], caption: str
) -> Picture:
    rows = [("original", images[:SHOWN])]
    for sigma, (noisy, back) in made.items():
        rows += [(f"σ = {sigma:g}", noisy[:SHOWN]), ("denoised", back[:SHOWN])]
    return lab.rows(name, rows, caption, about={"seed": lab.seed})


def _others(lab: StudyContext, shape: Sequence[int], n: int) -> tuple[Tensor, str]:
    """Images [n, C, H, W] in [-1, 1] of another data set in the shape of the digits; drawings where there is
    none.
    """
    if lab.colour is None:
        return (
            torch.cat([drawing(strokes, shape) for strokes in DRAWINGS.values()]),
            "drawings that are no digits",
        )
    images = to_float(lab.colour.test.images[:n])
    if shape[0] == 1:
        images = images.mean(1, keepdim=True)
    resized = F.interpolate(
        images, size=list(shape[1:]), mode="bilinear", antialias=True, align_corners=False
    )
    return resized.clamp(-1, 1), f"{lab.colour.name}{' in grey' * (shape[0] == 1)}"


Found = Mapping[float, tuple[Pairs, Pairs]]


def _curves(lab: StudyContext, numbers: Numbers, found: Found, other: Found, name: str) -> Picture:
    sigmas = list(found)
    curves = [
        Curve("digits, denoised", sigmas, [found[s][1].psnr for s in sigmas], "marked", color=0),
        Curve("digits, noisy", sigmas, [found[s][0].psnr for s in sigmas], "dashed", color=0),
        Curve(f"{name}, denoised", sigmas, [other[s][1].psnr for s in sigmas], "marked", color=1),
    ]
    panel = Panel(f"learned at σ = {numbers.sigma:g}", "σ of the noise", "PSNR (dB)", curves)
    return lab.plot("psnr", [panel], "PSNR of denoised images over the noise on them.")


def _table(name: str, found: Found, eye: PairedMetrics, caption: str) -> Table:
    rows = []
    for sigma, (noisy, back) in found.items():
        rows += [(sigma, "noisy", *eye.cells([noisy])), (sigma, "denoised", *eye.cells([back]))]
    return Table(name, ("σ", "", *eye.columns), tuple(rows), caption)


def _findings(numbers: Numbers, found: Found, other: Found, name: str) -> Iterator[str]:
    for images, scores in (("digits", found), (name, other)):
        differences = {
            f"σ = {sigma:g}": difference([back], [noisy], "psnr", comparisons=len(scores))
            for sigma, (noisy, back) in scores.items()
        }
        learned = f"trained at σ = {numbers.sigma:g}"
        yield comparison.against(
            f"PSNR of denoised {images}, {learned}", "the noisy ones", differences, smaller=False, unit=" dB"
        )


FULL = Numbers(pixels=PixelNumbers(steps=6000, patch=1, width=32), tested=2000)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
