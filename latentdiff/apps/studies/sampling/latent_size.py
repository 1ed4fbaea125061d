"""Study `latent-size`: what a VAE keeps with 8 or 32 numbers, and what that means for diffusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import MLPPreset, VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, class_grid, distance, score_cell, score_table
from latentdiff.apps.studies.kit.training import Trained, pipeline_of, vae_of
from latentdiff.apps.studies.report.blocks import Cell, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.apps.studies.sampling.interpolation import (
    InterpolationPaths,
    interpolated,
    measure_paths,
    pairs_of,
)
from latentdiff.apps.studies.sampling.latent_bound import LatentBound, bound_section
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_float
from latentdiff.data.classes import indices_by_class, one_of_each_class
from latentdiff.evaluate import Reference, SampleScores, VAEScores, encode_all, score_vae
from latentdiff.evaluate.interval_score import Resampling, mean_score
from latentdiff.metrics.features import perceptual_network
from latentdiff.nn import VAE

SHOWN = 12
FRAMES = 11  # of an interpolation, in the figure
PATHS = {
    "length": "length of the path",
    "detour": "length / straight distance",
    "jump": "largest step / mean step",
}
PERCEPTUAL = ("mnist", "efficientnet-lite0")  # networks that also compare images position by position


class VAEVariant(NamedTuple):
    """A VAE to compare: latent size and weight of the KL term; ``diffused``: a denoiser is trained on it."""

    latent: str
    beta: float
    diffused: bool

    @property
    def name(self) -> str:
        return f"latent {self.latent}, KL weight {self.beta:g}"


@dataclass(frozen=True)
class LatentSizeSettings:
    """``variants`` are (latent, KL weight, whether a denoiser is trained).

    Paths have ``points`` between ``pairs`` of images, fewer where there are fewer test images.
    """

    variants: tuple[tuple[str, float, bool], ...] = (("8", 0.5, True), ("32", 0.5, True), ("32", 5.0, False))
    vae: VAEPreset = field(default_factory=lambda: VAEPreset(steps=400))
    denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=1000))
    pairs: int = 100
    points: int = 32
    samples: int = 500
    steps: int = 50
    resamples: int = 100


class VAEResults(NamedTuple):
    """What one variant gave."""

    trained: Trained
    vae: VAE
    scores: VAEScores
    copies: Tensor
    paths: InterpolationPaths


class DenoiserResults(NamedTuple):
    """What the denoiser on it gave."""

    trained: Trained
    loss: float
    images: Tensor
    scores: SampleScores


def study(context: StudyContext, settings: LatentSizeSettings) -> Report:
    variants = [VAEVariant(*values) for values in settings.variants]
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    images, labels, name = context.data.test.images, context.data.test.labels, context.data.name
    test = Reference.from_images(images, scorer.network, labels=labels, name=f"{name} test images")
    found, sampled = {}, {}
    for variant in variants:
        with context.part(f"VAE: {variant.name}"):
            found[variant] = _vae(context, settings, variant, scorer, test)
    for variant in (variant for variant in variants if variant.diffused):
        with context.part(f"denoiser: {variant.name}"):
            sampled[variant] = _diffused(context, settings, variant, found[variant].trained, scorer)
    baseline = scorer.real_baseline(settings.samples)
    with context.part("bound"):
        bounds, rates = bound_section(context, {each.name: made.vae for each, made in found.items()})
    return Report(
        [*_findings(found, sampled, baseline), _bound_finding(rates)],
        Section("Reconstructions", _reconstructions(context, found), _quality(found, len(context.data.test))),
        bounds,
        Section(
            "From one test image to another",
            WAYS,
            *_ways(context, found),
            _lengths(found, scorer, settings.points),
            _frames(context, found),
        ),
        Section(
            "Diffusion on these latents",
            LOSSES,
            _grids(context, sampled),
            scorer.caveats(settings.samples),
            _diffusion(sampled, baseline),
            _losses(context, sampled),
        ),
    )


def _vae(
    context: StudyContext,
    settings: LatentSizeSettings,
    variant: VAEVariant,
    scorer: SampleScorer,
    test: Reference,
) -> VAEResults:
    name = f"vae-{variant.latent}-kl{variant.beta:g}"
    trained = presets.train_vae(context, name, settings.vae, latent=variant.latent, beta=variant.beta)
    vae = vae_of(context, trained)
    images = context.data.test.images
    encoded = encode_all(vae, images)
    metrics = perceptual_network(scorer.network.name) if scorer.network.name in PERCEPTUAL else None
    scores = score_vae(
        vae, images, encoded=encoded, reference=test, perceptual=metrics, resampling=scorer.resampling
    )
    pairs = pairs_of(len(images), min(settings.pairs, len(images) // 2), seed=context.seed)
    paths = measure_paths(vae, *(to_float(images[places]) for places in pairs), points=settings.points)
    return VAEResults(trained, vae, scores, encoded.copies, paths)


def _diffused(
    context: StudyContext,
    settings: LatentSizeSettings,
    variant: VAEVariant,
    encoder: Trained,
    scorer: SampleScorer,
) -> DenoiserResults:
    name = f"denoiser-{variant.latent}-kl{variant.beta:g}"
    trained = presets.train_denoiser(context, name, settings.denoiser, vae=encoder)
    pipeline = pipeline_of(context, trained)
    sampling = Sampling(steps=min(settings.steps, pipeline.schedule.T))
    loss = trained.at("val_loss", trained.marks[-1])
    return DenoiserResults(trained, loss, *scorer.sample(pipeline, settings.samples, sampling))


WAYS = (
    "The latents of two test images are joined by a straight line and every point of it is decoded. A smooth"
    " decoder turns the even steps of the latent into even steps of the image. The length of the decoded path"
    " is the sum of the distances between neighbouring frames (Euclidean, over pixels in [0, 1]); its ratio"
    " to the straight distance between the first and the last frame is 1 for a plain cross-fade and grows"
    " with every detour; the largest step over the mean step says how suddenly the image jumps."
)
LOSSES = (
    "The validation loss is the error of v for each number of the latent. Losses of different latents are of"
    " different things and do not say which samples are better; the scores of the decoded samples do."
)


def _reconstructions(context: StudyContext, found: Mapping[VAEVariant, VAEResults]) -> Picture:
    test = context.data.test
    places = indices_by_class(test, SHOWN)
    chosen = test.images[places]
    copies = {each.name: 255 * made.copies[places] for each, made in found.items()}
    rows = [
        ("original", chosen),
        *((name, images.round().to(torch.uint8)) for name, images in copies.items()),
    ]
    caption = "Test images and what each VAE makes of them."
    return context.rows("reconstructions", rows, caption, about={"test_images": places.tolist()})


def _quality(found: Mapping[VAEVariant, VAEResults], n: int) -> Table:
    first = next(iter(found.values())).scores
    seen = () if first.perceptual is None else (f"perceptual distance ({first.perceptual.network})",)
    fd = f"FD ({first.fd.features if first.fd else None})"
    heads = ("latent", "KL weight", "PSNR (dB)", "SSIM", "RMSE", *seen, fd, "FD, bias removed")
    rows = []
    for variant, made in found.items():
        scores = made.scores
        pairs = [scores.psnr, scores.ssim, scores.rmse, *([scores.perceptual] if scores.perceptual else [])]
        units = f"{scores.active_units} of {scores.latent_units}"
        cells = (*map(score_cell, pairs), *distance(scores.fd), score_cell(scores.kl_nats), units)
        rows.append((variant.latent, variant.beta, *cells))
    caption = (
        f"{n:,} test images, each against its own reconstruction; FD between the reconstructions and the same"
        " originals. Means with bootstrap intervals."
    )
    return Table("reconstruction", (*heads, "KL (nats)", "active units"), tuple(rows), caption)


def _ways(context: StudyContext, found: Mapping[VAEVariant, VAEResults]) -> Iterator[Picture]:
    images = to_float(one_of_each_class(context.data.test, 4))
    for k in range(len(images) // 2):
        a, b = images[2 * k : 2 * k + 1], images[2 * k + 1 : 2 * k + 2]
        fade = torch.stack([a[0] + (b[0] - a[0]) * u for u in torch.linspace(0, 1, FRAMES).tolist()])
        rows = [
            (each.name, interpolated(made.vae, a, b, points=FRAMES)[:, 0]) for each, made in found.items()
        ]
        rows.append(("pixels (cross-fade)", fade))
        caption = "Straight lines between the latents of two test images, decoded."
        yield context.rows(f"path-{k + 1}", rows, caption)


def _lengths(found: Mapping[VAEVariant, VAEResults], scorer: SampleScorer, points: int) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for variant, made in found.items():
        means = (mean_score(getattr(made.paths, name), scorer.resampling) for name in PATHS)
        rows.append((variant.latent, variant.beta, *map(score_cell, means)))
    pairs = len(next(iter(found.values())).paths.length)
    heads = ("latent", "KL weight", *PATHS.values())
    caption = f"Means over {pairs} pairs of test images, {points} frames a path, with bootstrap intervals."
    return Table("continuity", heads, tuple(rows), caption)


def _frames(context: StudyContext, found: Mapping[VAEVariant, VAEResults]) -> Picture:
    """How the ratios are spread over the pairs: one sorted curve for each VAE."""
    panels = []
    for name in ("detour", "jump"):
        curves = []
        for variant, made in found.items():
            ratios = getattr(made.paths, name).sort().values
            shares = (torch.arange(len(ratios)) + 0.5) / len(ratios)
            curves.append(Curve(variant.name, shares, ratios))
        title, legend = f"{name}s", name == "detour"
        panels.append(Panel(title, "share of the pairs", PATHS[name], curves, legend=legend))
    caption = "All pairs in order, from the smoothest path (left) to the roughest."
    return context.plot("continuity", panels, caption)


def _grids(context: StudyContext, sampled: Mapping[VAEVariant, DenoiserResults]) -> Picture:
    shown, across = class_grid(context.data.num_classes)
    grids = [(variant.name, made.images[:shown]) for variant, made in sampled.items()]
    return context.grids("samples", grids, "Samples, decoded.", across=across)


def _diffusion(sampled: Mapping[VAEVariant, DenoiserResults], baseline: SampleScores) -> Table:
    rows = [((each.latent, each.beta, made.loss), made.scores) for each, made in sampled.items()]
    caption = "Denoisers of one size and training on each latent, and their samples."
    return score_table("diffusion", ("latent", "KL weight", "validation loss"), rows, baseline, caption)


def _losses(context: StudyContext, sampled: Mapping[VAEVariant, DenoiserResults]) -> Picture:
    curves = []
    for k, (variant, made) in enumerate(sampled.items()):
        curves.append(Curve("", *made.trained.curve("loss"), "thin", color=k))
        curves.append(Curve(variant.name, *made.trained.curve("val_loss"), "marked", color=k))
    panel = Panel("denoisers", "optimizer step", "mean squared error of v", curves, log_y=True)
    caption = "Training (thin) and validation loss of the denoisers on each latent."
    return context.plot("loss", [panel], caption)


def _findings(
    found: Mapping[VAEVariant, VAEResults],
    sampled: Mapping[VAEVariant, DenoiserResults],
    baseline: SampleScores,
) -> Iterator[str]:
    psnr = {variant.name: made.scores.psnr for variant, made in found.items()}
    yield comparison.ordered("PSNR of the reconstructions", psnr, smaller=False, unit=" dB")
    copies = {variant.name: made.scores.fd for variant, made in found.items() if made.scores.fd is not None}
    if copies:
        yield comparison.ordered("FD of the reconstructions", copies)
    units = ", ".join(
        f"{made.scores.active_units} of {made.scores.latent_units} with {variant.name}"
        for variant, made in found.items()
    )
    collapsed = "a model" if any(made.scores.collapsed for made in found.values()) else "none"
    yield f"Active units: {units}; {collapsed} has collapsed."
    detours = {variant.name: mean_score(made.paths.detour, Resampling()) for variant, made in found.items()}
    what = (
        "Length of the decoded path from one test image to another, in straight distances (a plain"
        " cross-fade: 1)"
    )
    yield comparison.ordered(what, detours)
    scored = {variant.name: made.scores.fd for variant, made in sampled.items()}
    if len(scored) > 1:
        losses = {variant.name: made.loss for variant, made in sampled.items()}
        yield f"{comparison.ordered('FD of the samples', scored)} Real images score {baseline.fd.value:.3g}."
        yield (
            f"Validation losses: {', '.join(f'{name} {loss:.3g}' for name, loss in losses.items())}. "
            f"{comparison.disagreements(losses, scored)}"
        )


def _bound_finding(found: Mapping[str, LatentBound]) -> str:
    each = ", ".join(
        f"{name} {bound.rate:.3g} nats and {bound.bits:.3g} bits" for name, bound in found.items()
    )
    return f"KL of the posterior, and minus the bound in bits a pixel: {each}."


FULL = LatentSizeSettings(
    variants=(
        ("8", 0.05, False),
        ("8", 0.5, True),
        ("8", 5.0, False),
        ("32", 0.05, True),
        ("32", 0.5, True),
        ("32", 5.0, True),
    ),
    vae=VAEPreset(steps=3000),
    denoiser=MLPPreset(width=512, depth=4, steps=6000),
    pairs=1000,
    points=64,
    samples=5000,
    resamples=200,
)
STUDY = Study(quick=LatentSizeSettings(), full=FULL, run=study)
