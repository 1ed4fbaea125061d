"""Study `noise-schedule-study`: one network, four schedules, and why no test loss says which samples best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentdiff.apps.studies.kit import comparison, presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.scoring import (
    SampleScorer,
    concatenated,
    distance,
    distances,
    draw_uint8,
    random_split,
    score_cell,
)
from latentdiff.apps.studies.kit.training import Trained, pipeline_of
from latentdiff.apps.studies.process.noise_measures import (
    IDLE,
    at_equal_noise,
    common_span,
    idle_share,
    linear_guess,
    log_snr,
)
from latentdiff.apps.studies.report.blocks import Cell, Paragraph, Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.diffusion import ScheduleKind
from latentdiff.config.sampling import Sampling
from latentdiff.data import Dataset, Split, permutation, to_float, to_uint8
from latentdiff.edit import sdedit
from latentdiff.errors import InputError
from latentdiff.evaluate import (
    LevelLoss,
    Reconstruction,
    ReconstructionScores,
    SampleScores,
    loss_by_level,
    reconstruct_from,
    score_reconstruction,
)
from latentdiff.metrics.names import frechet_name
from latentdiff.pipeline.pipeline import Pipeline

TRAINING_SHARE = 0.8
NOISE = 0.01  # the signal that is left, from which a last level is more than noise
SHOWN = 12  # samples and reconstructions in a row
GRID = 64  # samples at the end
PAIRED = ("RMSE", "SSIM", "PSNR (dB)")
LEVELS = (10, 4, 2)  # reconstructions start at T / 10, T / 4 and T / 2


class NoiseProcess(NamedTuple):
    """A schedule under test; None leaves the betas to the kind."""

    name: str
    kind: ScheduleKind
    T: int
    beta: float | None = None


PROCESSES = (
    NoiseProcess("constant 0.001 (T = 2000)", "constant", 2000, 0.001),
    NoiseProcess("constant 0.1 (T = 200)", "constant", 200, 0.1),
    NoiseProcess("linear (T = 1000)", "linear", 1000),
    NoiseProcess("cosine (T = 1000)", "cosine", 1000),
)


@dataclass(frozen=True)
class NoiseScheduleSettings:
    """``side``: images are resized to it (None: as they are).

    ``ema``: decay of the weights' average (0: off). ``steps``: of DDPM (None: every level).
    """

    side: int | None = 14
    epochs: tuple[int, ...] = (1, 5, 20)
    batch: int = 16  # many steps for few images
    lr: float = 3e-3
    ema: float = 0.995
    width: int | None = None
    samples: int = 500
    steps: int | None = 64
    tested: int = 250
    levels: int = 40
    resamples: int = 100


class EpochImages(NamedTuple):
    """What a network gives at an epoch: samples, and test images brought back from the three levels."""

    samples: Tensor
    back: tuple[Reconstruction, ...]


@dataclass(frozen=True, eq=False)
class ProcessResults:
    """Everything about one process; ``epoch_images`` by epoch, the figures at the last one.

    ``power`` is the mean square of a pixel.
    """

    process: NoiseProcess
    power: float
    trained: Trained
    marks: Mapping[int, int]
    pipeline: Pipeline
    epoch_images: Mapping[int, EpochImages]
    samples: Tensor
    scores: SampleScores
    back: tuple[ReconstructionScores, ...]
    by_level: LevelLoss
    from_images: SampleScores | None  # of samples that start from noised images, where these are no noise

    @property
    def test_loss(self) -> float:
        """The loss on the held-out images at the end, as the training measures it."""
        return self.trained.at("val_loss", self.trained.marks[-1])

    @property
    def train_loss(self) -> float:
        return self.trained.at("loss", self.trained.marks[-1])

    @property
    def signal(self) -> float:
        """alpha-bar at the last level."""
        return float(self.pipeline.schedule.alpha[-1] ** 2)

    @property
    def log_snrs(self) -> list[float]:
        """The log-SNRs of the levels at which the test error was measured."""
        of_level = log_snr(self.pipeline.schedule, self.power).tolist()
        return [of_level[t - 1] for t in self.by_level.levels]

    def at_equal_noise(self, span: tuple[float, float]) -> float:
        """The test error of eps over noise levels that are the same for every process."""
        return at_equal_noise(self.log_snrs, self.by_level.eps, span)


def study(context: StudyContext, settings: NoiseScheduleSettings) -> Report:
    data = pooled(context.load(settings.side), share=TRAINING_SHARE, seed=context.seed)
    scorer = SampleScorer.of(context, data=data, resamples=settings.resamples)
    power = float(to_float(data.train.images[:1000]).mul(0.5).square().mean())
    found = []
    for process in PROCESSES:
        with context.part(f"training: {process.name}"):
            name, options = f"{process.kind}-{process.T}", _options(settings, process)
            training = presets.train_epochs(context, name, settings.epochs, options, vae=None, data=data)
        with context.part("samples, reconstructions and losses"):
            found.append(_evaluate(context, settings, process, power, *training, data, scorer))
    return _report(context, settings, found, scorer, data)


def _options(settings: NoiseScheduleSettings, process: NoiseProcess) -> dict[str, Any]:
    """The small CNN on pixels in [-0.5, 0.5], trained by plain Adam."""
    network = {"pixel": True, "pixel_scale": 0.5, "network": "cnn", "width": settings.width, "labels": False}
    noise = {"schedule": process.kind, "T": process.T, "beta_start": process.beta}
    loss = {"prediction": "eps", "time_sampling": "uniform"}
    adam = {"lr": settings.lr, "weight_decay": 0.0, "warmup": 0, "clip_grad": 1e6, "ema": settings.ema}
    return {**network, **noise, **loss, **adam, "batch": settings.batch}


def _evaluate(
    context: StudyContext,
    settings: NoiseScheduleSettings,
    process: NoiseProcess,
    power: float,
    trained: Trained,
    marks: Mapping[int, int],
    data: Dataset,
    scorer: SampleScorer,
) -> ProcessResults:
    sampling = Sampling(sampler="ddpm", steps=settings.steps and min(settings.steps, process.T))
    shown, epoch_images = data.test.images[:SHOWN], {}
    for epoch, mark in marks.items():
        pipeline = pipeline_of(context, trained, mark)
        epoch_images[epoch] = EpochImages(
            draw_uint8(pipeline, SHOWN, seed=context.seed, sampling=sampling),
            _back(context, pipeline, shown, sampling),
        )
    tested = data.test.images[: settings.tested]
    back = _back(context, pipeline, tested, sampling)
    samples, scores = scorer.sample(pipeline, settings.samples, sampling)
    return ProcessResults(
        process=process,
        power=power,
        trained=trained,
        marks=marks,
        pipeline=pipeline,
        epoch_images=epoch_images,
        samples=samples,
        scores=scores,
        back=tuple(score_reconstruction(tested, made, resampling=scorer.resampling) for made in back),
        by_level=loss_by_level(pipeline, tested, levels=settings.levels, seed=context.seed),
        from_images=_from_images(context, pipeline, settings.samples, sampling, data, scorer),
    )


def _from_images(
    context: StudyContext, pipeline: Pipeline, n: int, sampling: Sampling, data: Dataset, scorer: SampleScorer
) -> SampleScores | None:
    """Scores of ``n`` samples that start from held-out images at the last level instead of from pure noise
    (again from the first, where there are fewer); None where a signal below NOISE is left there.
    """
    T = pipeline.schedule.T
    if float(pipeline.schedule.alpha[-1] ** 2) < NOISE:
        return None
    held = random_split(data.test, n, seed=context.seed).images  # training images are in the reference
    images = to_float(held[torch.arange(n) % len(held)])
    return scorer.score(to_uint8(sdedit(pipeline, images, T, settings=sampling, seed=context.seed).images))


def _back(
    context: StudyContext, pipeline: Pipeline, images: Tensor, sampling: Sampling
) -> tuple[Reconstruction, ...]:
    """Images noised to the three levels and brought back by the sampler."""
    T = pipeline.schedule.T
    return tuple(
        reconstruct_from(pipeline, images, max(1, T // share), settings=sampling, seed=context.seed)
        for share in LEVELS
    )


def pooled(data: Dataset, *, share: float, seed: int) -> Dataset:
    """All images cut anew: ``share`` of them, in an order by ``seed``, for training, the rest held out.

    The rest is both validation and test. InputError if a part would be empty.
    """
    pool = concatenated(data.train, data.val, data.test)
    order, count = permutation(len(pool), seed=seed, epoch=0), round(share * len(pool))
    if not 0 < count < len(pool):
        raise InputError(
            f"{data.name}: expected images for a training and a held-out part, found {len(pool)}"
        )
    train, held = (
        Split(pool.images[places], None if pool.labels is None else pool.labels[places])
        for places in (order[:count], order[count:])
    )
    return Dataset(data.name, train, held, held, data.classes)


def _report(
    context: StudyContext,
    settings: NoiseScheduleSettings,
    found: Sequence[ProcessResults],
    scorer: SampleScorer,
    data: Dataset,
) -> Report:
    span = common_span([each.log_snrs for each in found])
    sizes = {"train": len(data.train), "test": len(data.test), "h": data.height, "w": data.width}
    averaged = AVERAGED.format(ema=settings.ema) if settings.ema else ""
    setting = SETTING.format(lr=settings.lr, ema=averaged, **sizes)
    n = len(found[0].samples)
    baseline = scorer.real_baseline(n)
    return Report(
        _findings(found, baseline, span),
        Section("The four schedules", setting, _alphas(context, found)),
        Section("Losses", LOSSES, _losses(context, found)),
        Section(
            "Samples and scores at the end",
            _grids(context, found),
            scorer.caveats(n),
            _scores(found, baseline, span),
        ),
        Section(
            "Why a low test loss does not mean good samples",
            WHY,
            _explained(context, found),
            *_reasons(found, span),
        ),
        Section("Samples through training", *_through(context, found)),
        Section("Reconstructions", BACK, *_reconstructions(context, found, data), _pairs(found)),
        data_power=found[0].power,
        floor=baseline.as_dict(),
    )


AVERAGED = " (validated and sampled with a moving average of the weights, decay {ema:g})"
SETTING = (
    "A CNN of five convolutions (1-16-32-32-16-1 channels), conditioned on the time by sines and cosines,"
    " trained to predict ε by Adam with a learning rate of {lr:g}{ema}; all images pooled and cut 80:20"
    " ({train:,} for training, {test:,} held out, {h} × {w} pixels), pixels in [−0.5, 0.5]. Only the schedule"
    " differs: constant β = 0.001 over 2000 levels, constant β = 0.1 over 200, and the usual linear and"
    " cosine ones."
)
LOSSES = (
    "Mean squared error of ε at uniformly drawn levels of each process. The held-out images only report it;"
    " nothing was chosen by them. Because each process draws other levels, these curves must not be compared"
    " with each other: see below."
)
WHY = (
    "At high noise x_t is nearly ε itself, so returning the input is a nearly perfect prediction without any"
    " knowledge of images. The left figure shows the test error by log-SNR = log(ᾱ_t P / (1 − ᾱ_t)), with P"
    " the mean square of a pixel: at equal noise the networks are much alike. The middle figure shows how the"
    " levels of each process are spread over log-SNR, and with them the weights of its average. “Best linear"
    " guess” is the error of the best multiple of x_t, ᾱ_t P / (ᾱ_t P + 1 − ᾱ_t)."
)
BACK = (
    "Held-out images are noised to T/10, T/4 and T/2 and brought back by the sampler from there. The same"
    " share of T is very different noise in each process: ᾱ_t is given. RMSE, SSIM and PSNR pair every image"
    " with its own reconstruction."
)


def _grids(context: StudyContext, found: Sequence[ProcessResults]) -> Picture:
    grids = []
    for each in found:
        fd = f"{frechet_name(each.scores.features.name)} {each.scores.fd.value:.3g}"
        grids.append((f"{each.process.name} ({fd})", each.samples[:GRID]))
    caption = "64 samples of each, from the same seeds, after the last epoch."
    return context.grids("grids", grids, caption, columns=2)


def _paired(scores: ReconstructionScores) -> tuple[Cell, ...]:
    """RMSE, SSIM and PSNR of images brought back by the sampler."""
    made = scores.iterative
    return tuple(score_cell(score) for score in (made.rmse, made.ssim, made.psnr))


def _scores(found: Sequence[ProcessResults], baseline: SampleScores, span: tuple[float, float]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            each.process.name,
            each.signal,
            *distance(each.scores.fd),
            each.test_loss,
            each.train_loss,
            each.at_equal_noise(span),
            *_paired(each.back[1]),
        )
        for each in found
    ]
    rows += [
        (f"{each.process.name}, from noised images", each.signal, *distance(each.from_images.fd), *[None] * 6)
        for each in found
        if each.from_images is not None
    ]
    rows.append((f"real images ({baseline.n:,})", None, *distance(baseline.fd), *[None] * 6))
    losses = ("test loss", "training loss", "test loss at equal noise")
    columns = ("schedule", "ᾱ_T", *distances(baseline), *losses, *PAIRED)
    caption = (
        "FD of samples; losses of ε at the end; RMSE, SSIM and PSNR of held-out images noised to T/4 and"
        " brought back, each with its own original. “At equal noise”: averaged evenly over the log-SNRs that"
        f" all processes have, {span[0]:.2g} to {span[1]:.2g}, instead of over the levels of each."
    )
    return Table("scores", columns, tuple(rows), caption)


def _alphas(context: StudyContext, found: Sequence[ProcessResults]) -> Picture:
    curves = []
    for each in found:
        t = np.unique(np.linspace(0, each.process.T, 401).round().astype(int))
        name, alpha_bar = (
            f"{each.process.name}: ᾱ_T = {each.signal:.3g}",
            each.pipeline.schedule.alpha.square(),
        )
        curves.append(Curve(name, t / each.process.T, alpha_bar[t]))
    panel = Panel("signal that is left", "t / T", "ᾱ", curves)
    caption = (
        "ᾱ_t of the four processes over their own levels. Sampling starts from pure noise, as if ᾱ_T were 0."
    )
    return context.plot("alpha-bar", [panel], caption)


def _losses(context: StudyContext, found: Sequence[ProcessResults]) -> Picture:
    panels = []
    for name, title in (("loss", "training"), ("val_loss", "held-out images")):
        curves = [each.trained.loss_curve(name, each.process.name, max(each.marks)) for each in found]
        panels.append(
            Panel(title, "epoch", "mean squared error of ε", curves, log_y=True, legend=name == "val_loss")
        )
    caption = "Loss on training images (means over a few steps) and on held-out images (after each epoch)."
    return context.plot("losses", panels, caption)


def _explained(context: StudyContext, found: Sequence[ProcessResults]) -> Picture:
    by_noise, spread, by_level = [], [], []
    for k, each in enumerate(found):
        name, errors = each.process.name, each.by_level.eps
        at = log_snr(each.pipeline.schedule, each.power)
        order = torch.linspace(0, len(at) - 1, min(len(at), 400)).round().long()
        levels = torch.tensor(each.by_level.levels) / each.process.T
        by_noise.append(Curve(name, each.log_snrs, errors, "marked", color=k))
        spread.append(Curve(name, at[order], (order + 1) / len(at), color=k))
        by_level.append(Curve(name, levels, errors, "line", color=k))
    grid = np.linspace(-12, 8, 200)
    by_noise.append(Curve("best linear guess", grid, 1 / (1 + np.exp(-grid)), "dashed"))
    x, error = "log-SNR (noise left, signal right)", "mean squared error of ε"
    panels = [
        Panel("error at equal noise", x, error, by_noise, log_y=True),
        Panel("where the levels are", "log-SNR", "share of the levels above", spread, legend=False),
        Panel("error as in the loss", "t / T (uniformly drawn)", error, by_level, log_y=True, legend=False),
    ]
    caption = (
        "Test error by noise, the spread of the levels, and the error by level, whose mean is the test loss."
    )
    return context.plot("why", panels, caption)


def _reasons(found: Sequence[ProcessResults], span: tuple[float, float]) -> Iterator[Paragraph]:
    for each in found:
        noise = (each.pipeline.schedule, each.power)
        yield Paragraph(
            f"{each.process.name}: {idle_share(*noise):.0%} of the levels lie below a"
            f" log-SNR of {IDLE:g}, where the image is invisible. A multiple of the input alone"
            " (the dashed line of the figure) has a loss of"
            f" {linear_guess(*noise):.3g}; the network's is {each.test_loss:.3g}, and"
            f" {each.at_equal_noise(span):.3g} at equal noise. FD {each.scores.fd.value:.3g}.",
            "finding",
        )


def _through(context: StudyContext, found: Sequence[ProcessResults]) -> Iterator[Picture]:
    for k, each in enumerate(found):
        rows = [(f"epoch {epoch}", made.samples) for epoch, made in each.epoch_images.items()]
        caption = f"{each.process.name}: the same seeds after each of these epochs."
        yield context.rows(f"samples-{k + 1}", rows, caption)


def _reconstructions(
    context: StudyContext, found: Sequence[ProcessResults], data: Dataset
) -> Iterator[Picture]:
    caption = "held-out images, noised to three levels t, and brought back after each of the epochs."
    for k, each in enumerate(found):
        epochs = each.epoch_images
        rows = [("original", data.test.images[:SHOWN])]
        for place, first in enumerate(next(iter(epochs.values())).back):
            rows.append((f"t = {first.t}, ᾱ = {first.alpha_bar:.2g}", 2 * first.noised - 1))
            back = {epoch: made.back[place].iterative for epoch, made in epochs.items()}
            rows += [(f"back, epoch {epoch}", 2 * images - 1) for epoch, images in back.items()]
        yield context.rows(f"back-{k + 1}", rows, f"{each.process.name}: {caption}")


def _pairs(found: Sequence[ProcessResults]) -> Table:
    rows = [(each.process.name, it.t, it.alpha_bar, *_paired(it)) for each in found for it in each.back]
    columns = ("schedule", "from t", "ᾱ_t", *PAIRED)
    caption = (
        f"{found[0].back[0].iterative.n:,} held-out images after the last epoch, each with its own"
        " reconstruction."
    )
    return Table("reconstructions", columns, tuple(rows), caption)


def _findings(
    found: Sequence[ProcessResults], baseline: SampleScores, span: tuple[float, float]
) -> Iterator[str]:
    fd = {each.process.name: each.scores.fd for each in found}
    losses = {each.process.name: each.test_loss for each in found}
    yield comparison.ordered("FD of the samples", fd)
    yield comparison.disagreements(losses, fd)
    listed = (
        f"{each.test_loss:.3g} and {each.at_equal_noise(span):.3g} ({each.process.name})" for each in found
    )
    yield (
        "Test losses over the levels of each process, and at equal noise (log-SNR"
        f" {span[0]:.2g} to {span[1]:.2g}, which all processes have): {', '.join(listed)}."
    )
    most = max(found, key=lambda each: each.signal)
    text = (
        f"ᾱ_T is {most.signal:.3g} with {most.process.name}, the largest of the four: there the start of"
        " sampling, pure noise, differs most from the last level of training. Its FD is"
        f" {most.scores.fd.value:.3g}; real images score {baseline.fd.value:.3g}."
    )
    if most.from_images is not None:
        start = comparison.unpaired(most.scores.fd, most.from_images.fd)
        text += (
            f" From held-out images at that level instead of pure noise the same network draws at"
            f" {most.from_images.fd.value:.3g}: what ᾱ_T costs is {start.text()}."
        )
    yield text


FULL = NoiseScheduleSettings(
    side=None,
    epochs=(5, 15, 30, 45),
    batch=16,
    lr=2e-3,
    ema=0.999,
    samples=1000,
    steps=250,
    tested=500,
    levels=100,
    resamples=200,
)
STUDY = Study(quick=NoiseScheduleSettings(), full=FULL, run=study)
