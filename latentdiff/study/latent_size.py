"""Study `latent-size`: what a VAE keeps with 8 or 32 numbers, and what that means for the diffusion on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from latentdiff.data import to_float
from latentdiff.evaluate import Reference, SampleScores, VAEScores, encode_all, score_vae
from latentdiff.features import perceptual_network
from latentdiff.nn import VAE
from latentdiff.study import latent_pages, recipes
from latentdiff.study.judge import Judge, drawn, labels_of, sampling
from latentdiff.study.lab import Lab
from latentdiff.study.make import Study
from latentdiff.study.paths import Paths, measure_paths, pairs_of
from latentdiff.study.recipes import MLPNumbers, VAENumbers
from latentdiff.study.report import Report
from latentdiff.study.training import Trained, pipeline_of, vae_of

SHOWN = 12
GRID = 64
FRAMES = 11  # of an interpolation, in the figure
PERCEPTUAL = ("mnist", "efficientnet-lite0")  # networks that also compare images position by position


class Variant(NamedTuple):
    """A VAE to compare: latent size and weight of the KL term; ``diffused``: a denoiser is trained on it."""

    latent: str
    beta: float
    diffused: bool

    @property
    def name(self) -> str:
        return f"latent {self.latent}, KL weight {self.beta:g}"


@dataclass(frozen=True)
class Numbers:
    """``variants`` are (latent, KL weight, whether a denoiser is trained); paths have ``points`` between ``pairs`` of images,
    fewer where there are fewer test images."""

    variants: tuple[tuple[str, float, bool], ...] = (("8", 0.5, True), ("32", 0.5, True), ("32", 5.0, False))
    vae: VAENumbers = field(default_factory=lambda: VAENumbers(steps=400))
    denoiser: MLPNumbers = field(default_factory=lambda: MLPNumbers(steps=1000))
    pairs: int = 100
    points: int = 32
    samples: int = 500
    steps: int = 50
    resamples: int = 100


class Found(NamedTuple):
    """What one variant gave."""

    trained: Trained
    vae: VAE
    scores: VAEScores
    copies: Tensor
    paths: Paths


class Sampled(NamedTuple):
    """What the denoiser on it gave."""

    trained: Trained
    loss: float
    images: Tensor
    scores: SampleScores


def study(lab: Lab, numbers: Numbers) -> Report:
    variants = [Variant(*values) for values in numbers.variants]
    judge = Judge.of(lab, resamples=numbers.resamples)
    test = Reference.of(
        lab.data.test.images, judge.network, labels=lab.data.test.labels, name=f"{lab.data.name} test images"
    )
    found, sampled = {}, {}
    for variant in variants:
        with lab.part(f"VAE: {variant.name}"):
            found[variant] = _vae(lab, numbers, variant, judge, test)
    for variant in (variant for variant in variants if variant.diffused):
        with lab.part(f"denoiser: {variant.name}"):
            sampled[variant] = _diffused(lab, numbers, variant, found[variant].trained, judge)
    floor = judge.floor(numbers.samples)
    return latent_pages.report(lab, found, sampled, floor, judge, numbers.points)


def _vae(lab: Lab, numbers: Numbers, variant: Variant, judge: Judge, test: Reference) -> Found:
    name = f"vae-{variant.latent}-kl{variant.beta:g}"
    plan = VAENumbers(variant.latent, numbers.vae.steps, numbers.vae.batch, numbers.vae.width)
    trained = recipes.vae(lab, name, plan, beta=variant.beta)
    vae = vae_of(lab, trained)
    images = lab.data.test.images
    encoded = encode_all(vae, images)
    eye = perceptual_network(judge.network.name) if judge.network.name in PERCEPTUAL else None
    scores = score_vae(vae, images, encoded=encoded, reference=test, perceptual=eye, resampling=judge.resampling)
    a, b = (
        to_float(images[places])
        for places in pairs_of(len(images), min(numbers.pairs, len(images) // 2), seed=lab.seed)
    )
    paths = measure_paths(vae, a, b, points=numbers.points)
    return Found(trained, vae, scores, encoded.copies, paths)


def _diffused(lab: Lab, numbers: Numbers, variant: Variant, encoder: Trained, judge: Judge) -> Sampled:
    trained = recipes.mlp(lab, f"denoiser-{variant.latent}-kl{variant.beta:g}", encoder, numbers.denoiser)
    pipeline = pipeline_of(lab, trained)
    images = drawn(
        pipeline, numbers.samples, seed=lab.seed, settings=sampling(steps=min(numbers.steps, pipeline.schedule.T))
    )
    loss = trained.at("val_loss", trained.marks[-1])
    return Sampled(trained, loss, images, judge.score(images, labels_of(pipeline, numbers.samples)))


FULL = Numbers(
    variants=(
        ("8", 0.05, False),
        ("8", 0.5, True),
        ("8", 5.0, False),
        ("32", 0.05, True),
        ("32", 0.5, True),
        ("32", 5.0, True),
    ),
    vae=VAENumbers(steps=6000),
    denoiser=MLPNumbers(width=512, depth=4, steps=12_000, batch=512),
    pairs=1000,
    points=64,
    samples=10_000,
    resamples=200,
)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
