"""Study `ddpm-ddim`: two samplers, and networks that predict eps against v."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import MLPPreset, VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, class_grid, random_split, score_table
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.trajectory import Recorder
from latentdiff.evaluate import LevelLoss, SampleScores, loss_by_level
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.images import latent_pictures

PREDICTIONS = ("eps", "v")
CLEAR = 0.01  # alpha-bar below which an error of x_0 is that of eps, amplified


@dataclass(frozen=True)
class DDPMDDIMSettings:
    """Both networks are of the preset ``denoiser``; ``frames`` show one sample on its way."""

    vae: VAEPreset = field(default_factory=VAEPreset)
    denoiser: MLPPreset = field(default_factory=lambda: MLPPreset(steps=1100))
    ddim_steps: tuple[int, ...] = (10, 50)
    samples: int = 500
    frames: int = 12
    levels: int = 25
    tested: int = 500
    resamples: int = 100


def study(context: StudyContext, settings: DDPMDDIMSettings) -> Report:
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    with context.part("VAE"):
        encoder = presets.train_vae(context, "vae", settings.vae)
    models: dict[str, Pipeline] = {}
    for prediction in PREDICTIONS:
        with context.part(f"denoiser that predicts {prediction}"):
            trained = presets.train_denoiser(
                context, prediction, settings.denoiser, vae=encoder, prediction=prediction
            )
            models[prediction] = pipeline_of(context, trained)
    samplers = {"DDPM, all levels": Sampling(sampler="ddpm")}
    samplers |= {f"DDIM, {steps} steps": Sampling(steps=steps) for steps in sorted(settings.ddim_steps)}
    images: dict[tuple[str, str], Tensor] = {}
    scores: dict[tuple[str, str], SampleScores] = {}
    with context.part("samples"):
        for name, sampling in samplers.items():
            for prediction, pipeline in models.items():
                key = name, prediction
                images[key], scores[key] = scorer.sample(pipeline, settings.samples, sampling)
        baseline = scorer.real_baseline(settings.samples)
    with context.part("errors by level"):
        test = random_split(context.data.test, settings.tested, seed=context.seed)
        losses = {
            kind: loss_by_level(
                pipeline, test.images, labels=test.labels, levels=settings.levels, seed=context.seed
            )
            for kind, pipeline in models.items()
        }
    clear = {kind: _clear(models[kind], loss) for kind, loss in losses.items()}
    ddpm, ddim, against = _grids(context, images, list(samplers), len(models["v"].classes))
    caption = "Samples of both networks by each sampler."
    table = score_table("scores", ("sampler", "prediction"), scores.items(), baseline, caption)
    return Report(
        _findings(scores, clear, baseline, samplers),
        Section("DDPM", DDPM, ddpm),
        Section("One sample, step by step", STEPS, _trajectory(context, models["v"], settings)),
        Section("DDIM with v-prediction", DDIM, ddim),
        Section(
            "eps against v",
            EPS_V,
            against,
            scorer.caveats(settings.samples),
            table,
            _curves(context, losses, clear),
        ),
    )


DDPM = (
    "DDPM (Ho et al. 2020) walks back through all levels and draws noise at each. One sample costs as many"
    " calls of the network as there are levels."
)
STEPS = (
    "Above x_t as the VAE decodes it, below the estimate of the clean image at that level. The"
    " coarse shape is decided at high noise; the last levels only sharpen it."
)
DDIM = (
    "DDIM (Song et al. 2021) draws no noise on the way, so it can take long steps: the same starting noise"
    " gives nearly the same image."
)
EPS_V = (
    "Both networks have the same size, steps, batches and noise; only the target differs: the noise ε, or v ="
    " α ε − σ x_0 (Salimans & Ho 2022). Their errors are compared as errors of x_0 and of ε, since those of"
    " the raw outputs are of different things."
)


def _clear(pipeline: Pipeline, loss: LevelLoss) -> list[tuple[int, float]]:
    """(level, error of x_0) where enough of the signal is left for that error to mean something."""
    alpha = pipeline.schedule.alpha
    return [
        (t, error) for t, error in zip(loss.levels, loss.x0, strict=True) if float(alpha[t] ** 2) >= CLEAR
    ]


def _grids(
    context: StudyContext, images: Mapping[tuple[str, str], Tensor], samplers: Sequence[str], classes: int
) -> tuple[Picture, Picture, Picture]:
    """Samples of DDPM, of DDIM with the most steps, and of both networks by every sampler."""
    shown, across = class_grid(classes)

    def alone(file: str, sampler: str, caption: str) -> Picture:
        grid = (f"{sampler}, v", images[sampler, "v"][:shown])
        return context.grids(file, [grid], caption, across=across)

    pairs = [
        (f"{sampler}, {kind}", images[sampler, kind][:shown]) for sampler in samplers for kind in PREDICTIONS
    ]
    caption = "The same starting noise through both networks, by every sampler."
    return (
        alone("ddpm", samplers[0], f"{samplers[0]}: every level is visited, with fresh noise at each."),
        alone("ddim", samplers[-1], f"{samplers[-1]} with v-prediction, from the same starting noise."),
        context.grids("eps-v", pairs, caption, columns=2, across=across),
    )


def _trajectory(context: StudyContext, pipeline: Pipeline, settings: DDPMDDIMSettings) -> Picture:
    label = None if not pipeline.classes else len(pipeline.classes) - 1
    key, recorder = pipeline.key(context.seed, 1), Recorder(frames=settings.frames)
    frames = pipeline.run(Sampling(sampler="ddpm"), key, label=label, recorder=recorder).frames
    rows = [("x_t", torch.cat([frame.noisy for frame in frames]))]
    if frames[0].latent.shape != frames[0].noisy.shape:  # decoded noise looks like images, which it is not
        latents = latent_pictures(torch.cat([frame.latent for frame in frames]))
        size = tuple(frames[0].noisy.shape[2:])
        rows = [("x_t, latent", F.interpolate(latents, size)), ("x_t, decoded", rows[0][1])]
    rows += [
        ("estimate of x_0", torch.cat([frame.estimate for frame in frames])),
    ]
    of_class = "" if label is None else f" of class {pipeline.classes[label]}"
    caption = f"The reverse process of one DDPM sample{of_class}, from level t = {frames[0].t} to 0."
    return context.rows(
        "trajectory", rows, caption, columns=[f"t={frame.t}" for frame in frames], about={"label": label}
    )


def _curves(
    context: StudyContext, losses: Mapping[str, LevelLoss], clear: Mapping[str, Sequence[tuple[int, float]]]
) -> Picture:
    x0 = [
        Curve(name, [t for t, _ in points], [error for _, error in points], "marked")
        for name, points in clear.items()
    ]
    eps = [Curve(name, loss.levels, loss.eps, "marked") for name, loss in losses.items()]
    panels = [
        Panel("error of x_0", "level t", "mean squared error", x0, log_y=True),
        Panel("error of ε", "level t", "mean squared error", eps, log_y=True, legend=False),
    ]
    caption = (
        "Errors of both networks on test images by noise level, expressed as errors of the clean latent"
        f" (where ᾱ is at least {CLEAR:g}; beyond, eps-prediction divides by next to nothing) and of the"
        " noise."
    )
    return context.plot("errors", panels, caption)


def _findings(
    scores: Mapping[tuple[str, str], SampleScores],
    clear: Mapping[str, Sequence[tuple[int, float]]],
    baseline: SampleScores,
    samplers: Mapping[str, Sampling],
) -> Iterator[str]:
    fd = {key: found.fd for key, found in scores.items()}
    first, last = next(iter(samplers)), list(samplers)[-1]
    yield (
        f"With v-prediction {first} reaches an FD of {fd[first, 'v'].value:.3g} and {last}"
        f" {fd[last, 'v'].value:.3g}; real images score {baseline.fd.value:.3g}."
    )
    for name in samplers:
        yield comparison.ordered(f"FD with {name}", {kind: fd[name, kind] for kind in PREDICTIONS})
    ratios = [(t, eps / v) for (t, eps), (_, v) in zip(clear["eps"], clear["v"], strict=True)]
    (low, at_low), (high, at_high) = ratios[0], ratios[-1]
    yield (
        f"The error of x_0 with eps-prediction is {at_low:.2g} times that with v at t = {low}, and"
        f" {at_high:.2g} times at t = {high}, the highest level measured where ᾱ is at least {CLEAR:g}."
    )


FULL = DDPMDDIMSettings(
    vae=VAEPreset(steps=4000),
    denoiser=MLPPreset(width=512, depth=4, steps=8000),
    ddim_steps=(10, 20, 50, 100),
    samples=5000,
    levels=50,
    tested=500,
    resamples=200,
)
STUDY = Study(quick=DDPMDDIMSettings(), full=FULL, run=study)
