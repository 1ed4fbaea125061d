"""Trainings of a study, in run folders named by a hash of what determines them, so that they are reused."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentdiff._version import __version__
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.config.loop import LoopOptions
from latentdiff.config.training import TrainCold, TrainDenoiser, TrainStudent, TrainVAE
from latentdiff.data import Dataset
from latentdiff.data.types import TrainData
from latentdiff.errors import InputError
from latentdiff.nn import VAE, build
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint, open_checkpoint
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.pipeline.codec import Codec, IdentityCodec
from latentdiff.pipeline.cold import ColdModel, cold_from
from latentdiff.pipeline.components import load_codec, load_vae
from latentdiff.pipeline.pipeline import Pipeline, from_checkpoint
from latentdiff.train.build import cold_config_of, denoiser_config_of, tokenizer_of, vae_config_of
from latentdiff.train.cold import ColdTask
from latentdiff.train.denoiser import DenoiserTask
from latentdiff.train.distill import StudentTask, student_network
from latentdiff.train.log import read_log
from latentdiff.train.loop import Trainer
from latentdiff.train.state import load_train_state
from latentdiff.train.task import Task
from latentdiff.train.trajectories import TrajectoryData, draw_trajectories, splits_of, teacher_steps
from latentdiff.train.vae import VAETask

NEVER = 10**6
SAVE_EVERY = 2000  # steps
LOGGED = 40  # lines of the log, at least
# Options that do not change the trained weights, left out of a run's name
INCIDENTAL = (
    "device",
    "threads",
    "workers",
    "data_root",
    "tensorboard",
    "log_every",
    "sample_every",
    "save_every",
    "checkpoints_total_limit",
    "quick_samples",
    "quick_share",
)


class StoppedTraining(Exception):
    """A signal ended a training; the next call of the study resumes it."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


@dataclass(frozen=True)
class Trained:
    """A finished training: a checkpoint for each of its ``marks`` (optimizer steps), log and seconds."""

    folder: Path
    marks: tuple[int, ...]
    log: tuple[dict[str, Any], ...]
    seconds: float
    reused: bool

    def checkpoint(self, mark: int | None = None) -> Checkpoint:
        """The checkpoint at a mark, or the last one."""
        return open_checkpoint(Run(self.folder).checkpoint_folder(self.marks[-1] if mark is None else mark))

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of an entry of the log, e.g. loss or val_loss."""
        found = [(entry["step"], float(entry[name])) for entry in self.log if name in entry]
        return [step for step, _ in found], [value for _, value in found]

    def loss_panel(self, title: str, epochs: int, what: str) -> Panel:
        """Training and validation loss, which is ``what``, over the ``epochs`` of the training."""
        names = {"loss": "training", "val_loss": "validation"}
        curves = [self.loss_curve(name, label, epochs) for name, label in names.items()]
        return Panel(title, "epoch", what, curves, log_y=True)

    def loss_curve(self, name: str, label: str, epochs: int) -> Curve:
        """A loss of the log over the ``epochs`` of the training."""
        steps, values = self.curve(name)
        x = [step * epochs / self.marks[-1] for step in steps]
        return Curve(label, x, values, "thin" if name == "loss" else "marked")

    def at(self, name: str, mark: int) -> float:
        """The last value of an entry of the log at or before a mark; NaN where there is none."""
        values = [float(entry[name]) for entry in self.log if name in entry and entry["step"] <= mark]
        return values[-1] if values else math.nan


def epoch_marks(epochs: Iterable[int], *, size: int, batch: int) -> dict[int, int]:
    """The optimizer step at the end of each of ``epochs``, for a training set of ``size`` images."""
    return {epoch: math.ceil(epoch * size / batch) for epoch in epochs}


def train_vae(context: StudyContext, name: str, options: TrainVAE, *, data: Dataset | None = None) -> Trained:
    """A VAE trained for ``options.steps``."""
    data = data or context.data
    config = vae_config_of(options, data)
    assert options.steps is not None

    def task() -> Task:
        return VAETask(options, data, build(config, seed=options.seed), context.device)

    return _train(context, name, task, options, data, (options.steps,))


def train_denoiser(
    context: StudyContext,
    name: str,
    options: TrainDenoiser,
    *,
    vae: Trained | None,
    marks: Sequence[int],
    data: Dataset | None = None,
) -> Trained:
    """A denoiser on the latents of ``vae``, or on pixels; a checkpoint is kept at each of ``marks``."""
    data = data or context.data
    codec: Codec = IdentityCodec(data.shape, options.pixel_scale, options.pixel_shift)
    needs: tuple[str, ...] = ()
    if vae is not None:
        encoder = vae.checkpoint()
        codec, needs = load_codec(encoder, encoder.json(INDEX)), (_digest(encoder),)
    tokenizer = tokenizer_of(options, data)
    network = denoiser_config_of(options, data, codec, tokenizer)
    plain = options.model_copy(update={"quick_samples": 0})  # a study measures its models itself

    def task() -> Task:
        return DenoiserTask(plain, data, codec, build(network, seed=options.seed), context.device, tokenizer)

    return _train(context, name, task, options, data, marks, needs=needs)


def train_cold(
    context: StudyContext, name: str, options: TrainCold, *, marks: Sequence[int], data: Dataset | None = None
) -> Trained:
    """A cold diffusion model; a checkpoint is kept at each of ``marks``."""
    data = data or context.data
    config = cold_config_of(options, data)

    def task() -> Task:
        return ColdTask(options, data, build(config, seed=options.seed), context.device)

    return _train(context, name, task, options, data, marks)


def train_students(
    context: StudyContext, options: Mapping[str, TrainStudent], teacher: Pipeline
) -> list[Trained]:
    """Students of the ``teacher`` by name, whose options differ in the calls alone, from samples that are
    drawn first, once for all: at the levels of the most calls, of which the others are divisors.
    """
    most = max(options.values(), key=lambda each: each.calls)
    scales = (1.0 if most.guidance_low is None else most.guidance_low, most.guidance_high or 1.0)
    steps = teacher_steps(teacher, most.teacher_steps)
    train, val = (
        draw_trajectories(teacher, count, calls=most.calls, steps=steps, scales=scales, seed=first)
        for count, first in splits_of(most.trajectories, most.seed).values()
    )
    trained = []
    for name, each in options.items():
        parts = (made.of_calls(each.calls) for made in (train, val))
        data = TrajectoryData(teacher, scales, "the denoiser of this page", next(parts), next(parts))
        plain = each.model_copy(update={"quick_samples": 0})
        assert each.steps is not None

        def task(plain: TrainStudent = plain, data: TrajectoryData = data) -> Task:
            return StudentTask(plain, data, student_network(teacher, plain.seed), context.device)

        trained.append(_train(context, name, task, each, data, (each.steps,)))
    return trained


def cold_of(context: StudyContext, trained: Trained, mark: int | None = None) -> ColdModel:
    """The trained cold diffusion model at a mark."""
    return cold_from(trained.checkpoint(mark)).to(context.device)


def pipeline_of(context: StudyContext, trained: Trained, mark: int | None = None) -> Pipeline:
    """The trained denoiser (its averaged weights) at a mark, ready to sample."""
    return from_checkpoint(trained.checkpoint(mark)).to(context.device)


def vae_of(context: StudyContext, trained: Trained) -> VAE:
    """The trained VAE on the device of the study."""
    return load_vae(trained.checkpoint())[0].to(context.device).eval()


def _train(
    context: StudyContext,
    name: str,
    make_task: Callable[[], Task],
    options: LoopOptions,
    data: TrainData,
    marks: Sequence[int],
    *,
    needs: tuple[str, ...] = (),
) -> Trained:
    """Train from mark to mark, resuming exactly, or reuse the run of this name.

    StoppedTraining if a signal ends it.
    """
    if len(marks) > 1 and options.decay != "constant":
        raise ValueError(f"several marks need a constant learning rate, got decay {options.decay}")
    fingerprint = data.fingerprint()
    # a hash of everything that determines the weights
    chosen = {key: value for key, value in options.model_dump(mode="json").items() if key not in INCIDENTAL}
    key = _sha256([__version__, type(options).__name__, chosen, fingerprint, marks, needs])[:8]
    run = Run(context.out / "runs" / f"{name}-{key}")
    left = [mark for mark in marks if not _done(run.checkpoint_folder(mark))]
    if left and any(path > run.checkpoint_folder(left[0]) for path in run.checkpoints()):
        context.note(f"{run.folder}: a checkpoint is missing; training starts again")
        run.check_unlocked()
        shutil.rmtree(run.folder)
        left = list(marks)
    changed = {
        "log_every": min(options.log_every, max(1, marks[-1] // LOGGED)),
        "save_every": SAVE_EVERY,
        "sample_every": NEVER,
        "checkpoints_total_limit": NEVER,
    }
    for mark in left:
        task, leg = make_task(), options.model_copy(update=changed | {"steps": mark})
        resume, _ = run.newest_whole()  # the trainer reports damaged ones
        reporter = context.reporter(task.batch)
        trainer = Trainer(
            task, leg, run, data=fingerprint, device=context.device, reporter=reporter, resume=resume
        )
        if (signum := trainer.train().signum) is not None:
            raise StoppedTraining(signum)
        for path in run.checkpoints():  # saved only for an interruption
            if path.name not in {run.checkpoint_folder(other).name for other in marks}:
                run.remove(path)
    if not left:
        context.note(f"{run.folder} is finished already; it is used again")
    seconds = load_train_state(open_checkpoint(run.checkpoint_folder(marks[-1]))).elapsed
    trained = Trained(run.folder, tuple(marks), tuple(read_log(run.log)), seconds, not left)
    context.runs[name] = {
        "folder": str(run.folder.relative_to(context.out)),
        "seconds": seconds,
        "reused": trained.reused,
        "marks": list(marks),
        "options": options.model_dump(mode="json"),
    }
    return trained


def _done(folder: Path) -> bool:
    """Whether a whole checkpoint ends the training up to a mark there."""
    try:
        checkpoint = open_checkpoint(folder)
        checkpoint.verify()
        return load_train_state(checkpoint).finished
    except InputError:
        return False


def _digest(checkpoint: Checkpoint) -> str:
    """The hash of a checkpoint's weights, without its training state, which holds times."""
    hashes = {
        name: entry["sha256"] for name, entry in checkpoint.files.items() if not name.startswith("training/")
    }
    return _sha256(hashes)


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
