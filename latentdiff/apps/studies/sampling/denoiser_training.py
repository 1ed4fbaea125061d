"""Study `denoiser-training`: loss and samples from epoch to epoch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.presets import VAENumbers
from latentdiff.apps.studies.kit.scoring import (
    SampleScorer,
    columns,
    drawn,
    labels_of,
    measured,
    row,
    sampling,
)
from latentdiff.apps.studies.kit.training import Trained, epochs_in_steps, pipeline_of, train_denoiser
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table, Words
from latentdiff.apps.studies.report.figures import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.training import TrainDenoiser
from latentdiff.evaluate import SampleScores
from latentdiff.metrics.features.names import frechet_name

SHOWN = 10


@dataclass(frozen=True)
class Numbers:
    """The denoiser is looked at after ``epochs``; the learning rate is constant, so that every one is a whole
    training.
    """

    vae: VAENumbers = field(default_factory=VAENumbers)
    epochs: tuple[int, ...] = (1, 5, 10, 15, 60)
    width: int = 512
    depth: int = 4
    batch: int = 128
    lr: float = 1e-3
    samples: int = 500
    steps: int = 50
    resamples: int = 100


def study(lab: StudyContext, numbers: Numbers) -> Report:
    judge = SampleScorer.of(lab, resamples=numbers.resamples)
    with lab.part("VAE"):
        encoder = presets.vae(lab, "vae", numbers.vae)
    with lab.part("denoiser"):
        trained, marks = _train(lab, numbers, encoder)
    rows, scores = [], {}
    with lab.part("samples"):
        for epoch, mark in marks.items():
            pipeline = pipeline_of(lab, trained, mark)
            images = drawn(
                pipeline,
                numbers.samples,
                seed=lab.seed,
                settings=sampling(steps=min(numbers.steps, pipeline.schedule.T)),
            )
            rows.append((f"epoch {epoch}", images[:SHOWN]))
            scores[epoch] = judge.score(images, labels_of(pipeline, numbers.samples))
        floor = judge.floor(numbers.samples)
    grid = lab.rows(
        "samples",
        rows,
        f"Samples after each of these epochs, from the same noise (DDIM, {numbers.steps} steps).",
        about={"seed": lab.seed},
    )
    return Report(
        tuple(_findings(trained, marks, scores, floor)),
        (
            Section("Loss", (Words(LOSSES), _curves(lab, trained, marks, scores, floor))),
            Section(
                "Samples through training",
                (grid, judge.words(numbers.samples), _table(trained, marks, scores, floor)),
            ),
        ),
    )


LOSSES = (
    "The loss is the mean squared error of the predicted v at one random noise level for each image."
    " Validation uses held-out images, levels spread evenly, the same noise every time, and the moving"
    " average of the weights, which is also what samples. Training values are means over some steps of the"
    " weights themselves, on latents drawn from the VAE's posterior where validation takes its mode: that is"
    " why validation can lie below training."
)


def _train(lab: StudyContext, numbers: Numbers, encoder: Trained) -> tuple[Trained, dict[int, int]]:
    """The training, and the optimizer step of each epoch looked at."""
    size = len(lab.data.train)
    marks = {epoch: epochs_in_steps(epoch, size=size, batch=numbers.batch) for epoch in numbers.epochs}
    options = TrainDenoiser.model_validate(
        {
            "data": lab.data.name,
            "width": numbers.width,
            "depth": numbers.depth,
            "batch": numbers.batch,
            "lr": numbers.lr,
            "decay": "constant",
            "time_sampling": (
                "stratified"
            ),  # as in validation, so that the two losses are means over the same levels
            "validate_every": max(1, epochs_in_steps(1, size=size, batch=numbers.batch)),
            "seed": lab.seed,
            "device": str(lab.device),
        }
    )
    return train_denoiser(lab, "denoiser", options, vae=encoder, marks=tuple(marks.values())), marks


def _curves(
    lab: StudyContext,
    trained: Trained,
    marks: Mapping[int, int],
    scores: Mapping[int, SampleScores],
    floor: SampleScores,
) -> Picture:
    a_step = max(marks) / trained.marks[-1]  # epochs
    curves = []
    for name, label, style in (("loss", "training", "thin"), ("val_loss", "validation", "line")):
        steps, values = trained.curve(name)
        curves.append(Curve(label, [step * a_step for step in steps], values, style))  # type: ignore[arg-type]
    epochs = list(scores)
    fd = Curve("samples", epochs, [scores[epoch].fd.value for epoch in epochs], "marked")
    panels = [
        Panel("loss", "epoch", "mean squared error of v", curves, log_y=True),
        Panel(
            "quality of samples",
            "epoch",
            frechet_name(floor.features.name),
            [fd],
            log_x=True,
            log_y=True,
            levels=(("real images", floor.fd.value),),
        ),
    ]
    return lab.plot(
        "loss", panels, "Training and validation loss, and the Fréchet distance of samples, over the epochs."
    )


def _table(
    trained: Trained, marks: Mapping[int, int], scores: Mapping[int, SampleScores], floor: SampleScores
) -> Table:
    rows = [
        (
            f"epoch {epoch}",
            marks[epoch],
            trained.at("loss", marks[epoch]),
            trained.at("val_loss", marks[epoch]),
            measured(found.accuracy),
            *row(found),
        )
        for epoch, found in scores.items()
    ]
    rows.append((f"real images ({floor.n:,})", None, None, None, measured(floor.accuracy), *row(floor)))
    heads = ("", "optimizer steps", "training loss", "validation loss", "class accuracy", *columns(floor))
    return Table(
        "epochs",
        heads,
        tuple(rows),
        "Losses and scores of the samples after each of the epochs. Accuracy: how often the network sees the"
        " class that was asked for.",
    )


def _findings(
    trained: Trained, marks: Mapping[int, int], scores: Mapping[int, SampleScores], floor: SampleScores
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
        f"Between the last two looks (epochs {middle} and {last}) the loss changed by"
        f" {loss[last] / loss[middle] - 1:+.0%} and the FD by"
        f" {comparison.unpaired(fd[last], fd[middle]).text()}; real images score {floor.fd.value:.3g}."
    )
    gap = loss[last] - trained.at("loss", marks[last])
    _, values = trained.curve("val_loss")
    yield (
        f"At the end validation lies {abs(gap):.2g} {'above' if gap > 0 else 'below'} training"
        f" ({loss[last]:.3g} against {trained.at('loss', marks[last]):.3g}); its lowest value on the way was"
        f" {min(values):.3g}."
    )


FULL = Numbers(vae=VAENumbers(steps=6000), epochs=(1, 5, 10, 15), batch=256, samples=10_000, resamples=200)
STUDY = Study(quick=Numbers(), full=FULL, run=study)
