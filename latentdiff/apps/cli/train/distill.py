"""`latentdiff distill`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    command_line_wins,
    dry_run_option,
    given,
    options_of,
)
from latentdiff.config.loop import BUDGETS, RunOptions
from latentdiff.config.training import TrainStudent
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.pipeline import Pipeline
    from latentdiff.train.trajectories import Trajectories, TrajectoryData

GUIDANCE = 3.0  # the largest that a student learns, where nothing is said
FEW = 16  # trajectories of a dry run


@cli_command(
    "distill",
    "latentdiff distill --run digits --calls 1",
    "latentdiff distill --run runs/NAME --calls 4 --minutes 10",
)
@options_of(TrainStudent, RunOptions, skip=("init_from",))
@dry_run_option
def command(*, dry_run: bool, as_json: bool, **values: Any) -> int:
    """Train a student that draws in a few calls of its network.

    It learns where many steps of a trained model lead, from samples that this draws first; no images are
    needed. The guidance becomes an input of the network, so that a guided picture costs one call a step. The
    run folder (runs/DATE-student) is a model like any other: `latentdiff sample` takes it.
    """
    command_line_wins(values, BUDGETS)
    options, place = build(TrainStudent, values), build(RunOptions, values | {"init_from": None})

    from latentdiff.apps.cli.shared.progress import note_loading

    note_loading()

    from latentdiff.apps.cli.shared.find import find_denoiser
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.apps.cli.train import common
    from latentdiff.nn import build as build_network
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.pipeline.checkpoint.pretrained import about, shipped_folder
    from latentdiff.pipeline.checkpoint.runs import recorded_paths
    from latentdiff.pipeline.components import load_config
    from latentdiff.pipeline.pipeline import from_checkpoint
    from latentdiff.train.distill import StudentTask, perceptual_term, student_network
    from latentdiff.train.trajectories import teacher_steps

    training = common.begin("student", options, place)
    options = training.options
    needs = [Need("levels", "--run", None)]  # of the newest run; a student that is named is a teacher, too
    elsewhere = options.run is not None and shipped_folder(options.run) is None and not given(["run"])
    if training.resume is not None and options.run is not None and elsewhere:
        where = next(iter(recorded_paths(training.resume.folder, options.run)), options.run)
        options = options.model_copy(update={"run": where})
    checkpoint = find_denoiser(options.run, place.runs, needs=needs)
    name = checkpoint.folder.name if about(checkpoint.folder) else str(checkpoint.folder)
    options = options.model_copy(update={"run": name})
    teacher = from_checkpoint(checkpoint).to(training.device)
    steps = teacher_steps(teacher, options.teacher_steps)
    options = options.model_copy(update={"teacher_steps": steps})
    training = replace(training, options=options)
    if training.resume is not None:
        config, _ = load_config(training.resume, "denoiser")
        network = build_network(config, seed=options.seed)
    else:
        network = student_network(teacher, options.seed)
    perceptual_term(teacher, options.perceptual or 0.0, training.device)  # refused before samples are drawn
    if dry_run:
        options = options.model_copy(update={"trajectories": FEW, "trajectories_folder": None})
    data = _trajectories(options, checkpoint, teacher, steps, first=training.ranks.first)
    task = StudentTask(options, data, network, training.device)
    if task.perceptual_fingerprint is not None:
        why = ":" if options.perceptual is not None else ": 28x28 grey images are taken for digits;"
        name = task.perceptual_fingerprint
        note(f"perceptual term by the network {name}{why} --perceptual 0 leaves it out")

    def measured(found: Mapping[str, float]) -> dict[str, str]:
        lines = {
            "validation": f"loss {found['val_loss']:.4f}, {found['val_end']:.3f} from the teacher's samples"
        }
        if task.quick is not None and "quick_kd" in found:
            lines["against samples of the teacher"] = task.quick.describe(found)
        return lines

    following = "latentdiff sample --run"
    return common.finish(training, task, data, measured, following, dry_run=dry_run, as_json=as_json)


def _trajectories(
    options: TrainStudent, checkpoint: Checkpoint, teacher: Pipeline, steps: int, *, first: bool
) -> TrajectoryData:
    """The teacher's trajectories of ``steps`` for training, and some for validation: those of the folder that
    keeps them, else drawn with a progress bar, and written there by the ``first`` of several processes.
    """
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.files.paths import expanded
    from latentdiff.train.trajectories import TrajectoryData
    from latentdiff.train.trajectory_folder import (
        has_trajectories,
        load_states,
        origin_of,
        save_trajectories,
    )

    prompts = _prompts(_trained_on_images(checkpoint)) if teacher.tokenizer is not None else ()
    scales = _scales(options, teacher)
    folder = None if options.trajectories_folder is None else expanded(options.trajectories_folder)
    n, seed = options.trajectories, options.seed
    origin = origin_of(teacher, n, steps=steps, scales=scales, seed=seed, prompts=prompts)
    if folder is not None and has_trajectories(folder):
        states = load_states(folder, options.calls, origin, teacher.codec.latent_shape)
        train, val = _kept(options, teacher, steps, scales, prompts, states)
        note(f"trajectories of {folder}")
    else:
        train, val = _drawn(options, teacher, steps, scales, prompts)
        if folder is not None and first:
            save_trajectories(folder, train, val, origin)
    return TrajectoryData(teacher, scales, teacher_name(checkpoint), train, val, tuple(prompts))


def _kept(
    options: TrainStudent,
    teacher: Pipeline,
    steps: int,
    scales: tuple[float, float],
    prompts: Sequence[str],
    states: Sequence[Tensor],
) -> list[Trajectories]:
    """Trajectories for training and for validation whose ``states`` were kept; InputError for other numbers
    of them.
    """
    from latentdiff.train.trajectories import Trajectories, conditions_of, splits_of, student_levels

    levels = tuple(student_levels(teacher, options.calls, steps)[0])
    made = []
    for (name, (count, seed)), found in zip(
        splits_of(options.trajectories, options.seed).items(), states, strict=True
    ):
        if len(found) != count:
            raise InputError(
                f"{options.trajectories_folder}: expected {count} trajectories for {name}, found {len(found)}"
            )
        known, _, guidance = conditions_of(teacher, count, scales=scales, seed=seed, prompts=prompts)
        made.append(Trajectories(levels, found, known, guidance))
    return made


def _scales(options: TrainStudent, teacher: Pipeline) -> tuple[float, float]:
    """The guidance that the student learns; InputError for more than a teacher that is a student has."""
    if not teacher.classes and teacher.tokenizer is None:
        return 1.0, 1.0
    low, high, known = options.guidance_low, options.guidance_high, teacher.student
    if low is None:
        low = 1.0 if known is None else known.guidance_low
    if high is None:
        high = max(GUIDANCE, teacher.guidance, low) if known is None else known.guidance_high
    if known is not None:
        for name, value in (("guidance_low", low), ("guidance_high", high)):
            if not known.guidance_low <= value <= known.guidance_high:
                raise InputError(
                    f"`{name}`: the teacher is a student that has learned {known.guidance_low:g} to"
                    f" {known.guidance_high:g}, got {value:g}"
                )
    return low, high


def _drawn(
    options: TrainStudent,
    teacher: Pipeline,
    steps: int,
    scales: tuple[float, float],
    prompts: Sequence[str],
) -> list[Trajectories]:
    """Trajectories for training and for validation, in bfloat16 where the training computes in it."""
    from latentdiff.apps.cli.shared.progress import SamplingBar
    from latentdiff.parallel.device import network_dtype
    from latentdiff.train.trajectories import draw_trajectories, splits_of

    dtype = network_dtype({"auto": "auto", "on": "bfloat16", "off": "float32"}[options.bf16], teacher.device)
    made = []
    for name, (count, seed) in splits_of(options.trajectories, options.seed).items():
        with SamplingBar(f"trajectories for {name}") as bar:
            made.append(
                draw_trajectories(
                    teacher.to(teacher.device, dtype=dtype),
                    count,
                    calls=options.calls,
                    steps=steps,
                    scales=scales,
                    seed=seed,
                    prompts=prompts,
                    progress=bar.update,
                )
            )
    return made


def teacher_name(checkpoint: Checkpoint) -> str:
    """The name of the run of a checkpoint, or of a model of the package."""
    from latentdiff.pipeline.checkpoint.pretrained import about

    folder = checkpoint.folder
    return folder.name if about(folder) else folder.parent.name


def _trained_on_images(checkpoint: Checkpoint) -> Checkpoint:
    """The model at the start of a chain of students; InputError where that is gone."""
    from pathlib import Path

    from latentdiff.apps.cli.shared.find import saved_options
    from latentdiff.pipeline.checkpoint.folder import open_checkpoint
    from latentdiff.pipeline.checkpoint.pretrained import about, shipped_folder
    from latentdiff.pipeline.checkpoint.runs import locate, recorded_paths

    seen = {checkpoint.folder}
    while not about(checkpoint.folder) and "teacher_steps" in (saved := saved_options(checkpoint)):
        run = str(saved.get("run"))
        shipped = shipped_folder(run)
        path = Path(next(iter(recorded_paths(checkpoint.folder, run)), run))
        try:
            found = locate(path) if shipped is None else open_checkpoint(shipped)
        except InputError as error:
            raise InputError(
                f"{checkpoint.folder}: expected its teacher, whose captions are needed; {error}"
            ) from error
        if found.folder in seen:
            raise InputError(f"{found.folder}: is recorded as a teacher of itself")
        checkpoint = found
        seen.add(found.folder)
    return checkpoint


def _prompts(checkpoint: Checkpoint) -> list[str]:
    """The captions that a model of texts was trained on."""
    from pathlib import Path

    from latentdiff.apps.cli.shared.find import saved_images, saved_options
    from latentdiff.data import load_dataset
    from latentdiff.pipeline.checkpoint.pretrained import about

    source, root = about(checkpoint.folder).get("images"), None
    if source is None:
        if not saved_options(checkpoint):
            raise InputError(f"{checkpoint.folder}: does not say which captions it was trained on")
        saved = saved_images(checkpoint, "--run")
        source, root = str(saved["data"]), saved.get("data_root")
    data = load_dataset(source, root=None if root is None else Path(root))
    if data.train.captions is None:
        raise InputError(f"{source}: has no captions to draw trajectories for")
    return [caption for caption in data.train.captions if caption]
