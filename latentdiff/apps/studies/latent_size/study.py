"""Study `latent-size`: what a VAE keeps with 8 or 32 numbers, and what that means for the diffusion on
them.
"""

from __future__ import annotations

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import MLPNumbers, VAENumbers
from latentdiff.apps.studies.kit.scoring import SampleScorer, drawn, labels_of, sampling
from latentdiff.apps.studies.kit.training import Trained, pipeline_of, vae_of
from latentdiff.apps.studies.latent_size import page
from latentdiff.apps.studies.latent_size.interpolation import measure_paths, pairs_of
from latentdiff.apps.studies.latent_size.results import Numbers, Results, Sampled, Variant
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.runner import Study
from latentdiff.data import to_float
from latentdiff.evaluate import Reference, encode_all, score_vae
from latentdiff.metrics.features import perceptual_network

SHOWN = 12
GRID = 64
FRAMES = 11  # of an interpolation, in the figure
PERCEPTUAL = ("mnist", "efficientnet-lite0")  # networks that also compare images position by position


def study(lab: StudyContext, numbers: Numbers) -> Report:
    variants = [Variant(*values) for values in numbers.variants]
    judge = SampleScorer.of(lab, resamples=numbers.resamples)
    test = Reference.from_images(
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
    return page.report(lab, found, sampled, floor, judge, numbers.points)


def _vae(
    lab: StudyContext, numbers: Numbers, variant: Variant, judge: SampleScorer, test: Reference
) -> Results:
    name = f"vae-{variant.latent}-kl{variant.beta:g}"
    plan = VAENumbers(variant.latent, numbers.vae.steps, numbers.vae.batch, numbers.vae.width)
    trained = presets.vae(lab, name, plan, beta=variant.beta)
    vae = vae_of(lab, trained)
    images = lab.data.test.images
    encoded = encode_all(vae, images)
    eye = perceptual_network(judge.network.name) if judge.network.name in PERCEPTUAL else None
    scores = score_vae(
        vae, images, encoded=encoded, reference=test, perceptual=eye, resampling=judge.resampling
    )
    a, b = (
        to_float(images[places])
        for places in pairs_of(len(images), min(numbers.pairs, len(images) // 2), seed=lab.seed)
    )
    paths = measure_paths(vae, a, b, points=numbers.points)
    return Results(trained, vae, scores, encoded.copies, paths)


def _diffused(
    lab: StudyContext, numbers: Numbers, variant: Variant, encoder: Trained, judge: SampleScorer
) -> Sampled:
    trained = presets.mlp(lab, f"denoiser-{variant.latent}-kl{variant.beta:g}", encoder, numbers.denoiser)
    pipeline = pipeline_of(lab, trained)
    images = drawn(
        pipeline,
        numbers.samples,
        seed=lab.seed,
        settings=sampling(steps=min(numbers.steps, pipeline.schedule.T)),
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
