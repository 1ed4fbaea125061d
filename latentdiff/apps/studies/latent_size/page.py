"""The tables, figures and words of study `latent-size`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch

from latentdiff.apps.studies.kit import comparison
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import SampleScorer, class_grid, columns, distance, measured, row
from latentdiff.apps.studies.latent_size.interpolation import InterpolationPaths, interpolated
from latentdiff.apps.studies.latent_size.results import DenoiserResults, VAEResults, VAEVariant
from latentdiff.apps.studies.report.blocks import (
    Cell,
    IntervalCell,
    Paragraph,
    Picture,
    Report,
    Section,
    Table,
)
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.data import to_float
from latentdiff.data.select import indices_by_class, one_of_each_class
from latentdiff.evaluate import SampleScores
from latentdiff.evaluate.interval_score import Resampling, mean_score

SHOWN = 12
FRAMES = 11  # of an interpolation, in the figure


def report(
    context: StudyContext,
    found: Mapping[VAEVariant, VAEResults],
    sampled: Mapping[VAEVariant, DenoiserResults],
    floor: SampleScores,
    scorer: SampleScorer,
    points: int,
) -> Report:
    return Report(
        tuple(_findings(found, sampled, floor)),
        (
            Section(
                "Reconstructions", (_reconstructions(context, found), _quality(found, len(context.data.test)))
            ),
            Section(
                "From one test image to another",
                (
                    Paragraph(WAYS),
                    *_ways(context, found),
                    _lengths(found, scorer, points),
                    _frames(context, found),
                ),
            ),
            Section(
                "Diffusion on these latents",
                (
                    Paragraph(LOSSES),
                    _grids(context, sampled),
                    scorer.words(len(next(iter(sampled.values())).images)),
                    _diffusion(sampled, floor),
                    _losses(context, sampled),
                ),
            ),
        ),
    )


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
    rows = [("original", chosen)]
    rows += [
        (variant.name, (255 * made.copies[places]).round().to(torch.uint8)) for variant, made in found.items()
    ]
    return context.rows(
        "reconstructions",
        rows,
        "Test images and what each VAE makes of them.",
        about={"test_images": places.tolist()},
    )


def _quality(found: Mapping[VAEVariant, VAEResults], n: int) -> Table:
    first = next(iter(found.values())).scores
    heads = [
        "latent",
        "KL weight",
        "PSNR (dB)",
        "SSIM",
        "RMSE",
        f"FD ({first.fd.features if first.fd else None})",
        "FD, bias removed",
        "KL (nats)",
        "active units",
    ]
    if first.perceptual is not None:
        heads.insert(5, f"perceptual distance ({first.perceptual.network})")
    rows = []
    for variant, made in found.items():
        scores = made.scores
        cells = [
            variant.latent,
            variant.beta,
            *(measured(score) for score in (scores.psnr, scores.ssim, scores.rmse)),
        ]
        if scores.perceptual is not None:
            cells.append(measured(scores.perceptual))
        rows.append(
            (
                *cells,
                *distance(scores.fd),
                measured(scores.kl_nats),
                f"{scores.active_units} of {scores.latent_units}",
            )
        )
    caption = (
        f"{n:,} test images, each against its own reconstruction; FD between the reconstructions and the same"
        " originals. Means with bootstrap intervals."
    )
    return Table("reconstruction", tuple(heads), tuple(rows), caption)


def _ways(context: StudyContext, found: Mapping[VAEVariant, VAEResults]) -> Iterator[Picture]:
    images = to_float(one_of_each_class(context.data.test, 4))
    for k in range(len(images) // 2):
        a, b = images[2 * k : 2 * k + 1], images[2 * k + 1 : 2 * k + 2]
        fade = torch.stack([a[0] + (b[0] - a[0]) * u for u in torch.linspace(0, 1, FRAMES).tolist()])
        rows = [
            (variant.name, interpolated(made.vae, a, b, points=FRAMES)[:, 0])
            for variant, made in found.items()
        ]
        rows.append(("pixels (cross-fade)", fade))
        yield context.rows(
            f"path-{k + 1}", rows, "Straight lines between the latents of two test images, decoded."
        )


def _lengths(found: Mapping[VAEVariant, VAEResults], scorer: SampleScorer, points: int) -> Table:
    rows = [
        (variant.latent, variant.beta, *_smoothness(made.paths, scorer)) for variant, made in found.items()
    ]
    pairs = len(next(iter(found.values())).paths.length)
    heads = (
        "latent",
        "KL weight",
        "length of the path",
        "length / straight distance",
        "largest step / mean step",
    )
    caption = f"Means over {pairs} pairs of test images, {points} frames a path, with bootstrap intervals."
    return Table("continuity", heads, tuple(rows), caption)


def _smoothness(paths: InterpolationPaths, scorer: SampleScorer) -> tuple[IntervalCell | None, ...]:
    return tuple(
        measured(mean_score(values, scorer.resampling)) for values in (paths.length, paths.detour, paths.jump)
    )


def _frames(context: StudyContext, found: Mapping[VAEVariant, VAEResults]) -> Picture:
    """How the ratios are spread over the pairs: one sorted curve for each VAE."""
    share = {
        variant: (torch.arange(len(made.paths.detour)) + 0.5) / len(made.paths.detour)
        for variant, made in found.items()
    }
    panels = [
        Panel(
            title,
            "share of the pairs",
            label,
            [
                Curve(variant.name, share[variant].tolist(), getattr(made.paths, name).sort().values.tolist())
                for variant, made in found.items()
            ],
            legend=name == "detour",
        )
        for title, label, name in (
            ("detours", "length / straight distance", "detour"),
            ("jumps", "largest step / mean step", "jump"),
        )
    ]
    return context.plot(
        "continuity", panels, "All pairs in order, from the smoothest path (left) to the roughest."
    )


def _grids(context: StudyContext, sampled: Mapping[VAEVariant, DenoiserResults]) -> Picture:
    shown, across = class_grid(context.data.num_classes)
    grids = [(variant.name, made.images[:shown]) for variant, made in sampled.items()]
    return context.grids("samples", grids, "Samples, decoded.", across=across)


def _diffusion(sampled: Mapping[VAEVariant, DenoiserResults], floor: SampleScores) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (variant.latent, variant.beta, made.loss, measured(made.scores.accuracy), *row(made.scores))
        for variant, made in sampled.items()
    ]
    rows.append((f"real images ({floor.n:,})", None, None, measured(floor.accuracy), *row(floor)))
    heads = ("latent", "KL weight", "validation loss", "class accuracy", *columns(floor))
    return Table(
        "diffusion",
        heads,
        tuple(rows),
        "Denoisers of one size and training on each latent, and their samples.",
    )


def _losses(context: StudyContext, sampled: Mapping[VAEVariant, DenoiserResults]) -> Picture:
    curves = []
    for k, (variant, made) in enumerate(sampled.items()):
        curves.append(Curve("", *made.trained.curve("loss"), "thin", color=k))
        curves.append(Curve(variant.name, *made.trained.curve("val_loss"), "marked", color=k))
    panel = Panel("denoisers", "optimizer step", "mean squared error of v", curves, log_y=True)
    return context.plot(
        "loss", [panel], "Training (thin) and validation loss of the denoisers on each latent."
    )


def _findings(
    found: Mapping[VAEVariant, VAEResults], sampled: Mapping[VAEVariant, DenoiserResults], floor: SampleScores
) -> Iterator[str]:
    psnr = {variant.name: made.scores.psnr for variant, made in found.items()}
    yield comparison.ordered("PSNR of the reconstructions", psnr, smaller=False, unit=" dB")
    copies = {variant.name: made.scores.fd for variant, made in found.items() if made.scores.fd is not None}
    if copies:
        yield comparison.ordered("FD of the reconstructions", copies)
    yield (
        "Active units: "
        + ", ".join(
            f"{made.scores.active_units} of {made.scores.latent_units} with {variant.name}"
            for variant, made in found.items()
        )
        + (
            "; none has collapsed."
            if not any(made.scores.collapsed for made in found.values())
            else "; a model has collapsed."
        )
    )
    detours = {variant.name: mean_score(made.paths.detour, Resampling()) for variant, made in found.items()}
    what = (
        "Length of the decoded path from one test image to another, in straight distances (a plain"
        " cross-fade: 1)"
    )
    yield comparison.ordered(what, detours)
    scored = {variant.name: made.scores.fd for variant, made in sampled.items()}
    if len(scored) > 1:
        losses = {variant.name: made.loss for variant, made in sampled.items()}
        yield f"{comparison.ordered('FD of the samples', scored)} Real images score {floor.fd.value:.3g}."
        yield (
            f"Validation losses: {', '.join(f'{name} {loss:.3g}' for name, loss in losses.items())}. "
            f"{comparison.disagreements(losses, scored)}"
        )
