"""Study `latent-size`: what a VAE keeps with 8 or 32 numbers, and what that means for the diffusion on
them.
"""

from __future__ import annotations

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import MLPPreset, VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, draw_uint8, labels_of
from latentdiff.apps.studies.kit.training import Trained, pipeline_of, vae_of
from latentdiff.apps.studies.latent_size import page
from latentdiff.apps.studies.latent_size.interpolation import measure_paths, pairs_of
from latentdiff.apps.studies.latent_size.results import (
    DenoiserResults,
    LatentSizeSettings,
    VAEResults,
    VAEVariant,
)
from latentdiff.apps.studies.report.blocks import Report
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.evaluate import Reference, encode_all, score_vae
from latentdiff.metrics.features import perceptual_network

SHOWN = 12
GRID = 64
FRAMES = 11  # of an interpolation, in the figure
PERCEPTUAL = ("mnist", "efficientnet-lite0")  # networks that also compare images position by position


def study(context: StudyContext, settings: LatentSizeSettings) -> Report:
    variants = [VAEVariant(*values) for values in settings.variants]
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    test = Reference.from_images(
        context.data.test.images,
        scorer.network,
        labels=context.data.test.labels,
        name=f"{context.data.name} test images",
    )
    found, sampled = {}, {}
    for variant in variants:
        with context.part(f"VAE: {variant.name}"):
            found[variant] = _vae(context, settings, variant, scorer, test)
    for variant in (variant for variant in variants if variant.diffused):
        with context.part(f"denoiser: {variant.name}"):
            sampled[variant] = _diffused(context, settings, variant, found[variant].trained, scorer)
    floor = scorer.floor(settings.samples)
    return page.report(context, found, sampled, floor, scorer, settings.points)


def _vae(
    context: StudyContext,
    settings: LatentSizeSettings,
    variant: VAEVariant,
    scorer: SampleScorer,
    test: Reference,
) -> VAEResults:
    name = f"vae-{variant.latent}-kl{variant.beta:g}"
    plan = VAEPreset(variant.latent, settings.vae.steps, settings.vae.batch, settings.vae.width)
    trained = presets.vae(context, name, plan, beta=variant.beta)
    vae = vae_of(context, trained)
    images = context.data.test.images
    encoded = encode_all(vae, images)
    metrics = perceptual_network(scorer.network.name) if scorer.network.name in PERCEPTUAL else None
    scores = score_vae(
        vae, images, encoded=encoded, reference=test, perceptual=metrics, resampling=scorer.resampling
    )
    a, b = (
        to_float(images[places])
        for places in pairs_of(len(images), min(settings.pairs, len(images) // 2), seed=context.seed)
    )
    paths = measure_paths(vae, a, b, points=settings.points)
    return VAEResults(trained, vae, scores, encoded.copies, paths)


def _diffused(
    context: StudyContext,
    settings: LatentSizeSettings,
    variant: VAEVariant,
    encoder: Trained,
    scorer: SampleScorer,
) -> DenoiserResults:
    trained = presets.mlp(
        context, f"denoiser-{variant.latent}-kl{variant.beta:g}", encoder, settings.denoiser
    )
    pipeline = pipeline_of(context, trained)
    images = draw_uint8(
        pipeline,
        settings.samples,
        seed=context.seed,
        sampling=Sampling(steps=min(settings.steps, pipeline.schedule.T)),
    )
    loss = trained.at("val_loss", trained.marks[-1])
    return DenoiserResults(trained, loss, images, scorer.score(images, labels_of(pipeline, settings.samples)))


FULL = LatentSizeSettings(
    variants=(
        ("8", 0.05, False),
        ("8", 0.5, True),
        ("8", 5.0, False),
        ("32", 0.05, True),
        ("32", 0.5, True),
        ("32", 5.0, True),
    ),
    vae=VAEPreset(steps=6000),
    denoiser=MLPPreset(width=512, depth=4, steps=12_000, batch=512),
    pairs=1000,
    points=64,
    samples=10_000,
    resamples=200,
)
STUDY = Study(quick=LatentSizeSettings(), full=FULL, run=study)
