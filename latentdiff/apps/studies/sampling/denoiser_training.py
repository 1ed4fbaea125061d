"""Study `denoiser-training`: loss and samples from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import VAEPreset
from latentdiff.apps.studies.kit.scoring import SampleScorer, score_table
from latentdiff.apps.studies.kit.training import Trained, pipeline_of
from latentdiff.apps.studies.report.blocks import Picture, Report, Section
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.sampling import Sampling
from latentdiff.evaluate import SampleScores
from latentdiff.metrics.names import frechet_name

SHOWN = 10


@dataclass(frozen=True)
class DenoiserTrainingSettings:
    """The denoiser is scored after ``epochs``, each a whole training, as the learning rate is constant."""

    vae: VAEPreset = field(default_factory=VAEPreset)
    epochs: tuple[int, ...] = (1, 5, 10, 15, 60)
    width: int = 512
    depth: int = 4
    batch: int = 128
    lr: float = 1e-3
    samples: int = 500
    steps: int = 50
    resamples: int = 100


def study(context: StudyContext, settings: DenoiserTrainingSettings) -> Report:
    scorer = SampleScorer.of(context, resamples=settings.resamples)
    with context.part("VAE"):
        encoder = presets.train_vae(context, "vae", settings.vae)
    values = {"width": settings.width, "depth": settings.depth, "batch": settings.batch, "lr": settings.lr}
    with context.part("denoiser"):
        trained, marks = presets.train_epochs(context, "denoiser", settings.epochs, values, vae=encoder)
    rows, scores = [], {}
    with context.part("samples"):
        for epoch, mark in marks.items():
            pipeline = pipeline_of(context, trained, mark)
            sampling = Sampling(steps=min(settings.steps, pipeline.schedule.T))
            images, scores[epoch] = scorer.sample(pipeline, settings.samples, sampling)
            rows.append((f"epoch {epoch}", images[:SHOWN]))
        baseline = scorer.real_baseline(settings.samples)
    caption = f"Samples after each of these epochs, from the same noise (DDIM, {settings.steps} steps)."
    grid = context.rows("samples", rows, caption)
    table = score_table(
        "epochs",
        ("", "optimizer steps", "training loss", "validation loss"),
        [
            ((f"epoch {epoch}", mark, trained.at("loss", mark), trained.at("val_loss", mark)), scores[epoch])
            for epoch, mark in marks.items()
        ],
        baseline,
        "Losses and scores of the samples after each of the epochs. Accuracy: the share of samples whose"
        " predicted class is the condition.",
    )
    return Report(
        _findings(trained, marks, scores, baseline),
        Section("Loss", LOSSES, _curves(context, trained, marks, scores, baseline)),
        Section("Samples through training", grid, scorer.caveats(settings.samples), table),
    )


LOSSES = (
    "The loss is the mean squared error of the predicted v at one random noise level for each image."
    " Validation uses held-out images, levels spread evenly, the same noise every time, and the moving"
    " average of the weights, which is also what samples. Training values are means over some steps of the"
    " weights themselves, on latents drawn from the VAE's posterior where validation takes its mode: that is"
    " why validation can lie below training."
)


def _curves(
    context: StudyContext,
    trained: Trained,
    marks: Mapping[int, int],
    scores: Mapping[int, SampleScores],
    baseline: SampleScores,
) -> Picture:
    epochs = list(scores)
    fd = Curve("samples", epochs, [scores[epoch].fd.value for epoch in epochs], "marked")
    y, real = frechet_name(baseline.features.name), (("real images", baseline.fd.value),)
    panels = [
        trained.loss_panel("loss", max(marks), "mean squared error of v"),
        Panel("quality of samples", "epoch", y, [fd], log_x=True, log_y=True, levels=real),
    ]
    caption = "Training and validation loss, and the Fréchet distance of samples, over the epochs."
    return context.plot("loss", panels, caption)


def _findings(
    trained: Trained, marks: Mapping[int, int], scores: Mapping[int, SampleScores], baseline: SampleScores
) -> Iterator[str]:
    first, last = min(marks), max(marks)
    loss = {epoch: trained.at("val_loss", mark) for epoch, mark in marks.items()}
    fd = {epoch: found.fd for epoch, found in scores.items()}
    yield (
        f"From epoch {first} to {last} the validation loss went from {loss[first]:.3g} to {loss[last]:.3g},"
        f" and the FD of the samples from {fd[first].value:.3g} to {fd[last].value:.3g}, by"
        f" {comparison.unpaired(fd[last], fd[first]).text()}."
    )
    middle = sorted(marks)[-2] if len(marks) > 1 else first
    yield (
        f"Between the last two checkpoints (epochs {middle} and {last}) the loss changed by"
        f" {loss[last] / loss[middle] - 1:+.0%} and the FD by"
        f" {comparison.unpaired(fd[last], fd[middle]).text()}; real images score {baseline.fd.value:.3g}."
    )
    gap = loss[last] - trained.at("loss", marks[last])
    _, values = trained.curve("val_loss")
    yield (
        f"At the end validation lies {abs(gap):.2g} {'above' if gap > 0 else 'below'} training"
        f" ({loss[last]:.3g} against {trained.at('loss', marks[last]):.3g}); its lowest value on the way was"
        f" {min(values):.3g}."
    )


FULL = DenoiserTrainingSettings(
    vae=VAEPreset(steps=4000), epochs=(1, 5, 10, 15, 60, 240), samples=5000, resamples=200
)
STUDY = Study(quick=DenoiserTrainingSettings(), full=FULL, run=study)
