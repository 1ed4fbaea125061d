"""The one course of every editing command: find the model, read the images, edit, write, report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.edit.common import save_rows, scores_dict, scores_of
from latentdiff.apps.cli.shared.inputs import read_input, settle_resize
from latentdiff.apps.cli.shared.options import build
from latentdiff.apps.cli.shared.prompts import in_turn, names_of, needs_of, note_texts, prompts_of
from latentdiff.config.restoration import SOLVERS, Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.diffusion.trajectory import Frame
    from latentdiff.evaluate.images import PairScores
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.pipeline import Pipeline

T = TypeVar("T")
Labels = Sequence[int] | Sequence[str] | Sequence[int | str] | None
OWN = ("own",)  # --label own: the label of each image
FRAMES = 5  # moments of the sampling in a figure


@dataclass(frozen=True, eq=False)
class EditModel:
    """The model of a command, and the settings of its sampler."""

    checkpoint: Checkpoint
    pipeline: Pipeline
    settings: Sampling


@dataclass(frozen=True, eq=False)
class EditInputs(EditModel):
    """The model and the images of a command.

    ``images``: float32 [n, C, H, W] in [-1, 1]; ``source``: the name of --input; ``labels``: the class or
    prompt of each image, None without; ``seed``: of the first image.
    """

    images: Tensor
    source: str
    labels: list[int] | list[str] | None
    seed: int

    @property
    def conditions(self) -> dict[str, Any]:
        """The keywords that every edit takes: settings, label and seed."""
        return {"settings": self.settings, "label": self.labels, "seed": self.seed}

    def scores(self, found: Tensor) -> PairScores:
        """The scores of results [n, C, H, W] against the images."""
        return scores_of(found, self.images, self.pipeline.classes)


@dataclass(frozen=True, eq=False, kw_only=True)
class EditResult:
    """The outcome of a command.

    ``rows``: of the figure, (name, images [n, C, H, W]); ``images``: the results for --files, or several by
    variant; ``facts``: the command's own keys of --json; ``title`` and ``lines``: of the text, by default the
    input; ``labels``: the classes or prompts of the images, by default the inputs'; ``wrote``: further files.
    """

    model: EditModel
    rows: Sequence[tuple[str, Tensor]]
    images: Tensor | Mapping[str, Tensor]
    facts: dict[str, Any]
    title: str = ""
    lines: Sequence[str] = ()
    labels: Labels = None
    wrote: Sequence[str] = ()


def run_edit(edit: Callable[[dict[str, Any]], EditResult], values: dict[str, Any], *, as_json: bool) -> int:
    """Runs ``edit`` on the option values, writes its figure and files, and prints its result; the exit code.

    Outputs are checked before any work. InputError, UsageError.
    """
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import counted, result

    outputs.settle(values)
    done = edit(values)
    model, labels, title = done.model, done.labels, done.title
    n = values["n"]
    if isinstance(model, EditInputs):
        n, labels = len(model.images), labels or model.labels
        title = title or f"{counted(n, 'image')} from {model.source}"
    written = [*save_rows(done.rows, values, done.images), *done.wrote]
    answer = {
        "run": str(model.checkpoint.folder),
        **({"input": model.source} if isinstance(model, EditInputs) else {}),
        "n": n,
        "seed": values["seed"],
        "labels": names_of(model.pipeline, labels),
        "settings": model.pipeline.with_defaults(model.settings).model_dump(),
        **done.facts,
        "wrote": written,
    }
    lines = [f"{title}: {', '.join(written)}", *(f"  {line}" for line in done.lines)]
    result(answer, as_json=as_json, text="\n".join(lines))
    return 0


def load_model(values: dict[str, Any], *, needs: Sequence[Need] = ()) -> EditModel:
    """The model of --run, or the newest with the capabilities that the options and ``needs`` require.

    InputError where there is none.
    """
    from latentdiff.apps.cli.shared.find import find_denoiser, load_checked
    from latentdiff.pipeline.capabilities import Need

    settings, prompts = build(Sampling, values), prompts_of(values)
    needs = [*needs, *needs_of(values, prompts, settings)]
    target = values.get("to")
    if target is not None:
        needs.append(Need("condition", f"--to {target}"))
    if "solver" in values and (kind := SOLVERS[values["solver"]].needs) is not None:
        needs.append(Need(kind, f"--solver {values['solver']}", "--solver dps"))
    checkpoint = find_denoiser(values["run"], values["runs"], needs=needs, pixels=True)
    pipeline = load_checked(
        checkpoint, needs=needs, prediction=None, device=values["device"], dtype="float32"
    )
    note_texts(pipeline, [*prompts, settings.negative_prompt, *filter(None, [target])])
    class_labels(pipeline, values.get("label"))
    if "resize" in values:
        settle_resize(checkpoint, values)
    return EditModel(checkpoint, pipeline, settings)


def load_inputs(
    values: dict[str, Any], model: EditModel | None = None, *, shape: Sequence[int] | None = None
) -> EditInputs:
    """The images of --input with their labels, and the model (that of --run by default).

    Images have the model's size, or ``shape`` [C, H, W]. InputError, UsageError.
    """
    from latentdiff.data import to_float
    from latentdiff.data.classes import order_by_class

    model = model or load_model(values)
    pipeline = model.pipeline
    found = read_input(model.checkpoint, shape or pipeline.codec.image_shape, values)
    chosen = order_by_class(found.labels, len(found.images))[: values["n"]]
    own = None
    if found.labels is not None and pipeline.classes and tuple(found.classes) == tuple(pipeline.classes):
        own = found.labels[chosen].tolist()
    return EditInputs(
        model.checkpoint,
        pipeline,
        model.settings,
        to_float(found.images[chosen]),
        found.name,
        _labels(values, model, len(chosen), own, found.name),
        values["seed"],
    )


def _labels(
    values: dict[str, Any], model: EditModel, n: int, own: list[int] | None, source: str
) -> list[int] | list[str] | None:
    """--label as one class for each image, or --prompt as one text; None without either."""
    label, prompts, guidance = values.get("label"), prompts_of(values), model.settings.guidance
    if prompts:
        return in_turn(prompts, n, "--prompt")
    if label is None:
        if guidance != 1 and values.get("to") is None and "prompt" not in values:
            option = "--label" if model.pipeline.tokenizer is None else "--prompt"
            raise click.UsageError(f"--guidance {guidance:g} needs a {option} to exaggerate")
        return None
    if label == OWN:
        if own is None:
            raise InputError(f"--label own: {source} has no labels of this model's classes")
        return own
    return in_turn(class_labels(model.pipeline, label), n, "--label")


def class_labels(pipeline: Pipeline, label: tuple[str, ...] | None) -> list[int]:
    """The class indices of --label; none where it is not given, or `own`.

    InputError for classes that the model does not have.
    """
    from latentdiff.data.classes import class_indices

    return [] if label is None or label == OWN else class_indices(pipeline.classes, label)


def check_sampler(how: Restoration, values: dict[str, Any]) -> None:
    """UsageError for sampler options that the solver ignores because it makes steps of its own."""
    if unused := how.unused(build(Sampling, values)):
        raise click.UsageError(f"--{unused}: {how.solver} makes steps of its own; leave it out")


def with_bar(title: str, edit: Callable[..., T], *inputs: Any, frames: Any = 0, **options: Any) -> T:
    """``edit(*inputs, **options)`` with a progress bar; ``frames``: the moments that it records."""
    from latentdiff.apps.cli.shared.progress import SamplingBar
    from latentdiff.edit import Recorder

    with SamplingBar(title) as bar:
        return edit(*inputs, recorder=Recorder(frames=frames, progress=bar.update), **options)


def estimates(frames: Iterable[Frame]) -> list[tuple[str, Tensor]]:
    """Rows of the estimates of x_0 at the recorded levels."""
    return [(f"estimate, t = {frame.t}", frame.estimate) for frame in frames]


def scores_by_name(scores: Mapping[str, PairScores]) -> dict[str, Any]:
    """Scores by name, for --json."""
    return {name.replace(" ", "_"): scores_dict(each) for name, each in scores.items()}
