"""Shared by the training commands: reading of the data, the run folder, resuming, the dry run, the result."""

from __future__ import annotations

import datetime
import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import click
import torch
import yaml
from torch import nn

from latentdiff.apps.cli.shared.find import place_of
from latentdiff.apps.cli.shared.options import build, given
from latentdiff.apps.cli.shared.progress import (
    TrainingBar,
    note,
    note_kernels,
    print_report,
    result,
    together,
)
from latentdiff.config.base import parse
from latentdiff.config.data import DataOptions
from latentdiff.config.loop import BUDGETS, LoopOptions, RunOptions
from latentdiff.data import Dataset, ImageData, TrainData, is_streamed, load_dataset, stream_dataset
from latentdiff.errors import InputError, counted
from latentdiff.files.paths import expanded
from latentdiff.nn import ExternalModel
from latentdiff.parallel.device import resolve_device
from latentdiff.parallel.processes import Ranks
from latentdiff.pipeline.checkpoint.folder import Checkpoint
from latentdiff.pipeline.checkpoint.runs import LOCK, Run, exists_already, locate, resumable
from latentdiff.pipeline.components import config_of
from latentdiff.train.backward import check_batch
from latentdiff.train.latent_dataset import EncodedData, is_encoded, load_encoded
from latentdiff.train.loop import Trainer, other_data
from latentdiff.train.progress import TrainResult
from latentdiff.train.state import load_train_state
from latentdiff.train.task import Task

O = TypeVar("O", bound=LoopOptions)  # noqa: E741

PART_OF_TRAIN = "latentdiff.train"  # in a context: the training is one of `latentdiff train`, which goes on
REPORTED = "latentdiff.reported"  # in a context: the report of its data was printed by the training before
# Paths, which may have changed when a run is resumed: what they hold is compared
PLACES = {"data", "vae", "text_encoder", "perceptual_weights", "run", "trajectories_folder"}
FREE_ON_RESUME = {  # options that may differ when a run is resumed: they do not change what is learned
    "steps",
    "epochs",
    "minutes",
    "log_every",
    "save_every",
    "save_minutes",
    "sample_every",
    "quick_samples",
    "quick_share",
    "checkpoints_total_limit",
    "tensorboard",
    "data_root",
    "image_cache",
    "shard",
    "device",
    "threads",
    "workers",
}


@dataclass(frozen=True)
class Training(Generic[O]):
    """A training before its data is read: its ``options`` are those of the run that it resumes, if any."""

    kind: str
    options: O
    place: RunOptions
    resume: Checkpoint | None
    data: str  # where the data is: that of a run may be named from another folder
    device: torch.device
    ranks: Ranks

    @property
    def first(self) -> Checkpoint | None:
        """The checkpoint of --init-from."""
        return None if self.place.init_from is None else self.locate(self.place.init_from)

    def locate(self, run: str) -> Checkpoint:
        """The checkpoint of a run by name or path."""
        return locate(Path(run), Path(self.place.runs))


def begin(kind: str, options: O, place: RunOptions) -> Training[O]:
    """Settle the options of a training and the settings of its process; notes missing kernels."""
    resume, data = None, str(options.model_dump().get("data", ""))
    if place.resume is not None:
        options, resume, data = _resumed(kind, options, place)
    note_kernels()
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    ranks, device = together(resolve_device(options.device), "every batch")
    return Training(kind, options, place, resume, data, device, ranks)


def _resumed(kind: str, options: O, place: RunOptions) -> tuple[O, Checkpoint, str]:
    """The options of the run to resume, with what was given anew; its checkpoint, and where its data is."""
    if place.name is not None or place.init_from is not None:
        raise click.UsageError(
            "--resume continues a run under its own name and weights: give neither --name nor --init-from"
        )
    checkpoint, damage = resumable(Path(str(place.resume)), Path(place.runs))
    for line in damage:
        note(f"{line}; going on from {checkpoint.folder}")
    progress = load_train_state(checkpoint)
    if progress.kind != kind:
        raise InputError(
            f"{checkpoint.folder}: is a {progress.kind} training, expected a {kind} training; use `latentdiff"
            f" {_command(progress.kind)}`"
        )
    saved = parse(type(options), progress.options, f"{checkpoint.folder}/training/state.json")
    update = {name: getattr(options, name) for name in given(type(options).model_fields)}
    for name, new in sorted(update.items()):
        old = getattr(saved, name)
        recorded = name in progress.options  # older runs do not record all
        fixed = name not in FREE_ON_RESUME and (name not in PLACES or "own" in (old, new))
        if old != new and recorded and fixed:
            raise click.UsageError(
                f"--{name.replace('_', '-')}: the resumed run has {old}, got {new}; resume continues the same"
                " training"
            )
    here = "data" in update and expanded(update["data"]).exists()
    if any(update.get(name) is not None for name in BUDGETS):
        update = {name: update.get(name) for name in BUDGETS} | update
    if update.get("steps") is not None and update["steps"] < progress.step:
        raise click.UsageError(
            f"--steps: the resumed run has made {progress.step} steps already, got {update['steps']}"
        )
    options = build(type(saved), saved.model_dump() | update)
    data = str(options.model_dump().get("data", ""))
    return options, checkpoint, data if here or not data else place_of(checkpoint, data, "--data")


def _command(kind: str) -> str:
    """The command that trains a kind."""
    return "distill" if kind == "student" else f"train-{kind}"


def _folder(kind: str, place: RunOptions) -> Path:
    """The folder of a new run, which must not have the name of an old one."""
    stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = Path(place.runs) / (place.name or f"{stamp}-{kind}")
    run = Run(folder)
    run.check_unlocked()
    if run.checkpoints():
        raise InputError(exists_already(folder))
    others = [path for path in folder.iterdir() if path.name != LOCK] if folder.is_dir() else []
    if (folder.exists() and not folder.is_dir()) or (others and not run.config.is_file()):
        raise InputError(f"{folder}: exists already and is not a run; choose another --name")
    return folder  # a run that died before its first checkpoint starts anew under its name


def read_encoded(options: DataOptions, place: str) -> EncodedData | None:
    """The latents in the folder ``place``; None where it holds images."""
    folder = expanded(place)
    if not is_encoded(folder):
        return None
    fixed = options.model_dump(include=set(DataOptions.model_fields))
    plain = DataOptions(data=options.data, data_root=options.data_root, image_cache=options.image_cache)
    if changed := [name for name, value in fixed.items() if value != getattr(plain, name)]:
        raise InputError(
            f"{folder}: its images were encoded before, --{changed[0].replace('_', '-')} comes too late"
        )
    data = load_encoded(folder)
    note(
        f"data: {len(data.train)} training images as latents {list(data.codec.latent_shape)}, of {data.name}"
    )
    print_report(data.report)
    return data


def read_training_images(options: DataOptions, place: str | None = None, *, stream: bool) -> ImageData:
    """The images to train on, at ``place`` instead of that of the options; with ``stream``, and of types
    that are always streamed, they stay on the disk.
    """
    place = place or options.data
    if not (stream or is_streamed(place)):
        return read_data(options, place)
    data = stream_dataset(place, **options.reading())
    sizes = ", ".join(f"{number} {name}" for name, number in data.sizes.items())
    later = "none is decoded yet, a damaged one is found when it is read"
    note(
        f"data: images stay on the disk ({sizes});"
        f" {'they are in the cache' if data.report.decoded else later}"
    )
    _check_read(data, options)
    return replace(data, name=options.data)


def check_same_data(training: Training[O], data: TrainData) -> None:
    """InputError where a run goes on with other images than it began with."""
    if training.resume is None or load_train_state(training.resume).data == data.fingerprint():
        return
    if PART_OF_TRAIN in click.get_current_context().meta:
        what = f"{training.resume.folder.parent}: was begun with other images; choose another --name"
        raise InputError(f"{what}, or give the --data that it has")
    raise InputError(other_data(training.resume))


def unreported_images(options: DataOptions, *, stream: bool) -> ImageData:
    """The images of the options, without their report."""
    if stream or is_streamed(options.data):
        return stream_dataset(options.data, **options.reading())
    return _loaded(options, options.data)


def _loaded(options: DataOptions, place: str) -> Dataset:
    root = None if options.data_root is None else Path(options.data_root)
    return load_dataset(place, **options.reading(), root=root)


def read_data(options: DataOptions, place: str | None = None) -> Dataset:
    """The data set of the options, at ``place`` instead of theirs; its report is printed to stderr."""
    place = place or options.data
    if is_encoded(expanded(place)):
        raise InputError(f"{place}: expected images, found latents; these are for `train-denoiser`")
    data = _loaded(options, place)
    _check_read(data, options)
    return replace(data, name=options.data)


def _check_read(data: ImageData, options: DataOptions) -> None:
    """InputError for data that cannot be trained on; notes on the others."""
    reported = REPORTED in click.get_current_context().meta
    if not reported:
        print_report(data.report)
    if data.train.captions is not None and not reported:
        found = sum(bool(caption) for caption in data.train.captions)
        note(f"data: {found} of {len(data.train)} training images have captions")
    if len(data.train) == 0 or len(data.val) == 0:
        raise InputError(
            f"{options.data}: expected training and validation images, found {len(data.train)} and"
            f" {len(data.val)}"
        )
    if options.random_shift >= min(data.height, data.width):
        raise InputError(
            f"--random-shift must be below the image side {min(data.height, data.width)},"
            f" got {options.random_shift}"
        )


def refuse_given(names: Iterable[str], source: Checkpoint, why: str) -> None:
    """A usage error for the first of the options ``names`` that was given beside --init-from."""
    if (chosen := given(names)) and (name := sorted(chosen)[0]):
        flag = name.replace("_", "-")
        raise click.UsageError(f"--{flag}: {why} --init-from {source.folder}; leave it out")


def finish(
    training: Training[O],
    task: Task,
    data: TrainData,
    measured: Callable[[Mapping[str, float]], dict[str, str]],
    following: str | None,
    *,
    dry_run: bool,
    as_json: bool,
    shard: bool = False,
) -> int:
    """Train, or describe the training with ``dry_run``, and print the result; returns the exit code.

    ``measured``: lines about the last validation; ``following``: a command line that takes the run as its
    last word. Several processes may ``shard`` the network.
    """
    if dry_run:
        plan = _plan(training, task, data)
        result(plan, as_json=as_json, text=json.dumps(plan, indent=2))
        return 0
    outcome = _trained(training, task, data, shard=shard)
    lines = measured(outcome.metrics) if outcome.metrics else {}
    lines["pictures"] = f"{outcome.run}/samples-{outcome.step:08d}.png, loss.png"
    if isinstance(task.network, ExternalModel):
        place = json.dumps(str(outcome.checkpoint / task.kind))
        lines["in diffusers"] = f"{task.network.origin.name}.from_pretrained({place})"
    if following is not None:
        lines["next"] = f"{following} {shlex.quote(str(outcome.run))}"
    values = {
        "run": str(outcome.run),
        "checkpoint": str(outcome.checkpoint),
        "steps": outcome.step,
        "seconds": round(outcome.seconds, 2),
        "images_per_second": round(outcome.images_per_second, 1),
        "interrupted": outcome.signum is not None,
        **outcome.metrics,
    }
    if outcome.signum is not None:  # the exit code is 128 + signal
        lines = {}
        again = f"; continue with --resume {outcome.run}"
        part = PART_OF_TRAIN in click.get_current_context().meta
        note(f"stopped by a signal after step {outcome.step}{'' if part else again}")
    made = f"in {outcome.seconds:.0f} s ({outcome.images_per_second:.0f} images/s)"
    if not outcome.images_per_second:
        made = "were made before, nothing was left to do"
    text = [f"{outcome.run}: {counted(outcome.step, 'step')} {made}"]
    text += [f"  {name}: {line}" for name, line in lines.items()]
    result(values, as_json=as_json, text="\n".join(text))
    return 0 if outcome.signum is None else 128 + outcome.signum


def _plan(training: Training[O], task: Task, data: TrainData) -> dict[str, Any]:
    """The answer of --dry-run."""
    check_batch(task, training.options, training.ranks)
    labels, counts = data.train.labels, None
    if labels is not None and data.classes is not None:
        found = torch.bincount(labels, minlength=len(data.classes)).tolist()
        counts = dict(zip(data.classes, found, strict=True))
    return {
        "kind": task.kind,
        "data": {
            "name": data.name,
            **data.sizes,
            "image": list(data.shape),
            "classes": data.num_classes,
            "class_counts": counts,
            "report": data.report.as_dict(),
        },
        "network": {
            "parameters": sum(p.numel() for p in task.network.parameters()),
            "trained": sum(p.numel() for p in task.network.parameters() if p.requires_grad),
            **_described(task.network),
        },
        "batch": task.batch,
        "peak_lr": task.peak_lr,
        "steps_by_default": task.default_steps,
        "device": str(training.device),
        "options": training.options.model_dump(mode="json"),
    }


def _described(network: nn.Module) -> dict[str, Any]:
    """The class of a network and its numbers."""
    if isinstance(network, ExternalModel):
        return {"class": network.origin.name, **network.config.model_dump(mode="json")}
    return {"class": type(network).__name__, **config_of(network).model_dump(mode="json")}


def _trained(training: Training[O], task: Task, data: TrainData, *, shard: bool) -> TrainResult:
    """Train with a progress bar; the options are kept readable in config.yaml."""
    options, ranks, resume = training.options, training.ranks, training.resume
    if resume is not None:
        run = Run(resume.folder.parent)
    else:  # the first process chooses for all
        run = Run(Path(ranks.text_of_first(lambda: str(_folder(training.kind, training.place)))))
    if ranks.count > 1 and given(["workers"]):
        raise click.UsageError(f"--workers is for one process, found {ranks.count}")
    chosen = {name: value for name, value in options.model_dump(mode="json").items() if value is not None}
    trainer = Trainer(
        task,
        options,
        run,
        data=data.fingerprint(),
        device=training.device,
        reporter=TrainingBar(task.batch),
        resume=resume,
        ranks=ranks,
        shard=shard,
        about=yaml.safe_dump({_command(task.kind): chosen}, sort_keys=False),
    )
    if resume is not None and trainer.finished:
        note(f"{run.folder} is finished already, at step {trainer.step}; a larger budget continues it")
        return TrainResult(run.folder, resume.folder, trainer.step, 0.0, 0.0, None)
    known_lines = data.notes
    outcome = trainer.train()
    print_report(data.report, since=known_lines)  # of images on the disk, what was found as they were decoded
    return outcome
