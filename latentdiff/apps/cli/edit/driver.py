"""The one course of every editing command: its options, its model and images, the figure and the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.shared.help import Command, Texts, option
from latentdiff.apps.cli.shared.inputs import image_options, read_input, settle_fit
from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    device_option,
    options_of,
    out_option,
    run_options,
    seed_option,
)
from latentdiff.apps.cli.shared.outputs import IMAGE_FOLDER, Output, overwrite_option, running, settle
from latentdiff.apps.cli.shared.pair_scores import notes_legend, score_notes, scores_of
from latentdiff.apps.cli.shared.prompts import (
    in_turn,
    knows,
    names_of,
    needs_of,
    note_texts,
    prompt_options,
    prompts_of,
)
from latentdiff.apps.cli.shared.reuse import (
    check_input,
    checkpoint_of_like,
    like_command_option,
    recipe_of_command,
)
from latentdiff.config.restoration import SOLVERS, Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.config.recipe import CommandRecipe
    from latentdiff.diffusion.trajectory import Frame
    from latentdiff.evaluate.images import PairScores
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
Stage = tuple[str, "Tensor"]  # of an edit: its name, images [n, C, H, W]
Values = dict[str, Any]  # of a command's options, by parameter
EditFunction = Callable[[Values], "EditResult"]  # the work of a command
OWN = ("own",)  # --label own: the label of each image
FRAMES = 5  # moments of the sampling in a figure


def model_options(function: F) -> F:
    """--run, --runs, --device and --seed."""
    seed = seed_option("Image k has the noise of seed + k; whatever the batch.")
    return run_options()(device_option(seed(function)))


def condition_options(function: F) -> F:
    """--label, --prompt and --prompt-file."""
    label = option(
        "--label",
        group="Images",
        cls=Texts,
        default=None,
        help=(
            "Class by name or index; several, as 3,5,8 or by repeating the option, go to the images in turn;"
            " `own` takes the label of each image (default: no class)."
        ),
    )
    return label(prompt_options(function))


def output_options(out: str) -> Callable[[F], F]:
    """--out, --files and --overwrite."""
    files = option(
        "--files",
        group="Output",
        type=IMAGE_FOLDER,
        default=None,
        help=(
            "Also write each result as a PNG into this folder; where there are several results of"
            " each image, into one folder for each, as strength=0.3."
        ),
    )
    return lambda function: out_option(Output(".png"), out)(files(overwrite_option(function)))


def edit_command(
    name: str,
    *examples: str,
    title: str,
    out: str,
    inputs: Sequence[Callable[[Any], Any]] = (image_options, condition_options),
    sampling: type[Sampling] = Sampling,
) -> Callable[[Callable[[Values], EditFunction]], Command]:
    """A decorator that makes a command of a function that checks the option values and returns the edit.

    ``title``: of its own options; ``out``: the name of its figure; ``inputs``: the options of what is edited.
    Outputs are checked before any work.
    """

    def decorate(check: Callable[[Values], EditFunction]) -> Command:
        @wraps(check)
        def command(*, as_json: bool, **values: Any) -> int:
            check_input(values)
            build(sampling, values)
            edit = check(values)
            kept = dict(values)
            settle(values)
            _report(edit(values), values, kept, as_json=as_json)
            return 0

        settings = options_of(sampling, skip=("compile",))
        shared: list[Callable[[Any], Any]] = [like_command_option, model_options, *inputs, settings]
        made = output_options(out)(command)
        for options in reversed(shared):
            made = options(made)
        return cli_command(name, *examples, title=title)(made)

    return decorate


@dataclass(frozen=True, eq=False)
class EditModel:
    """The model of a command, the settings of its sampler, and the seed of the first image."""

    checkpoint: Checkpoint
    pipeline: Pipeline
    settings: Sampling
    seed: int

    @property
    def conditions(self) -> dict[str, Any]:
        """The keywords that every edit takes."""
        return {"settings": self.settings, "seed": self.seed}

    def run(self, title: str, edit: Callable[..., T], *inputs: Any, frames: Any = 0, **options: Any) -> T:
        """``edit`` of the pipeline with a progress bar; ``frames``: the moments that it records."""
        from latentdiff.apps.cli.shared.progress import SamplingBar
        from latentdiff.edit import Recorder

        with SamplingBar(title) as bar:
            recorder = Recorder(frames=frames, progress=bar.update)
            return edit(self.pipeline, *inputs, recorder=recorder, **self.conditions | options)


@dataclass(frozen=True, eq=False)
class EditInputs(EditModel):
    """The model and the images of a command.

    ``images``: float32 [n, C, H, W] in [-1, 1]; ``source``: the name of --input; ``labels``: the class or
    prompt of each image, None without.
    """

    images: Tensor
    source: str
    labels: list[int] | list[str] | None

    @property
    def conditions(self) -> dict[str, Any]:
        """The keywords that every edit of images takes."""
        return super().conditions | {"label": self.labels}

    def scores(self, found: Tensor) -> PairScores:
        """The scores of results [n, C, H, W] against the images."""
        return scores_of(found, self.images, self.pipeline.classes)


@dataclass(frozen=True, eq=False, kw_only=True)
class EditResult:
    """The outcome of a command.

    ``stages``: the columns of the figure, (name, images [n, C, H, W]), the first of them at the left of every
    band; ``bands``: further ones, below; ``scores``: of stages by their names; ``images``: the results for
    --files, or several by variant; ``facts``: the command's own keys of --json; ``title`` and ``lines``: of
    the text, by default the input; ``labels``: the classes or prompts of the images, by default the inputs';
    ``wrote``: further files.
    """

    model: EditModel
    stages: Sequence[Stage]
    images: Tensor | Mapping[str, Tensor]
    facts: dict[str, Any]
    bands: Sequence[Sequence[Stage]] = ()
    scores: Mapping[str, PairScores] = field(default_factory=dict)
    title: str = ""
    lines: Sequence[str] = ()
    labels: Sequence[int | str] | None = None
    wrote: Sequence[str] = ()


def _report(done: EditResult, values: Values, kept: Values, *, as_json: bool) -> None:
    """Writes the figure and the files of a command, and prints its result; ``kept``: the option values as
    they were given, which the figure keeps.
    """
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.errors import counted

    model, n, labels, title, source = done.model, values["n"], done.labels, done.title, {}
    if isinstance(model, EditInputs):
        n, labels, source = len(model.images), labels or model.labels, {"input": model.source}
        title = title or f"{counted(n, 'image')} from {model.source}"
    of_inputs = model.labels if isinstance(model, EditInputs) and done.labels is None else None
    written = save_stages(
        [done.stages, *done.bands],
        values,
        done.images,
        scores=done.scores,
        recipe=recipe_of_command(model.checkpoint, kept),
        names=names_of(model.pipeline, of_inputs) or (),
    )
    answer = {
        "run": str(model.checkpoint.folder),
        **source,
        "n": n,
        "seed": values["seed"],
        "labels": names_of(model.pipeline, labels),
        "settings": model.pipeline.with_defaults(model.settings, guidance=1.0, eta=0.0).model_dump(),
        **done.facts,
        "wrote": [*written, *done.wrote],
    }
    lines = [f"{title}: {', '.join(answer['wrote'])}", *(f"  {line}" for line in done.lines)]
    result(answer, as_json=as_json, text="\n".join(lines))


def load_model(values: Values, *, needs: Sequence[Need] = ()) -> EditModel:
    """The model of --run, or the newest with the capabilities that the options and ``needs`` require.

    InputError where there is none.
    """
    from latentdiff.apps.cli.shared.find import find_denoiser, load_checked
    from latentdiff.pipeline.capabilities import Need

    settings, prompts = build(Sampling, values), prompts_of(values)
    needs = [*needs, *needs_of(values, prompts, settings), Need("levels", "--run", None)]
    target = values.get("to")
    if target is not None:
        needs.append(Need("condition", f"--to {target}"))
    if "solver" in values and (kind := SOLVERS[values["solver"]].needs) is not None:
        needs.append(Need(kind, f"--solver {values['solver']}", "--solver dps"))
    texts = [*prompts, settings.negative_prompt, *filter(None, [target])]
    checkpoint = checkpoint_of_like(values) or find_denoiser(
        values["run"], values["runs"], needs=needs, pixels=True, fits=knows(texts) if any(texts) else None
    )
    pipeline = load_checked(
        checkpoint, needs=needs, prediction=None, device=values["device"], dtype="float32"
    )
    note_texts(pipeline, texts)
    class_labels(pipeline, values.get("label"))
    if "fit" in values:
        settle_fit(checkpoint, values)
    return EditModel(checkpoint, pipeline, settings, values["seed"])


def load_inputs(
    values: Values, model: EditModel | None = None, *, shape: Sequence[int] | None = None
) -> EditInputs:
    """The images of --input with their labels, and the model (that of --run by default).

    Images have the model's size, or ``shape`` [C, H, W]. InputError for a model or images that cannot be
    read; UsageError for labels that do not fit.
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
    labels = _labels(values, model, len(chosen), own, found.name)
    return EditInputs(**vars(model), images=to_float(found.images[chosen]), source=found.name, labels=labels)


def _labels(
    values: Values, model: EditModel, n: int, own: list[int] | None, source: str
) -> list[int] | list[str] | None:
    """--label as one class for each image, or --prompt as one text; None without either."""
    label, prompts, guidance = values.get("label"), prompts_of(values), model.settings.guidance
    if prompts:
        return in_turn(prompts, n, "--prompt")
    if label is None:
        if guidance not in (None, 1) and values.get("to") is None and "prompt" not in values:
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


def check_sampler(how: Restoration, values: Values) -> None:
    """UsageError for sampler options that the solver ignores because it makes steps of its own."""
    if unused := how.unused(build(Sampling, values)):
        raise click.UsageError(f"--{unused}: {how.solver} makes steps of its own; leave it out")


def estimates(frames: Iterable[Frame]) -> list[Stage]:
    """The estimates of x_0 at the recorded levels."""
    return [(f"estimate\nt = {frame.t}", frame.estimate) for frame in frames]


def save_stages(
    bands: Sequence[Sequence[Stage]],
    values: Values,
    results: Tensor | Mapping[str, Tensor],
    *,
    scores: Mapping[str, PairScores],
    recipe: CommandRecipe,
    names: Sequence[str] = (),
) -> list[str]:
    """The figure with a row for each image, and the results as files; what was written.

    ``bands``, ``scores``: as of an :class:`EditResult`; ``results``: images [n, C, H, W], or several of each
    image by variant; ``recipe``: what the figure keeps; ``names``: of the rows.
    """
    from latentdiff.viz.figures import save_figure
    from latentdiff.viz.image_folder import save_images
    from latentdiff.viz.table import Column, draw_table

    columns = [
        [Column(name, x, score_notes(scores[name]) if name in scores else ()) for name, x in band]
        for band in bands
    ]
    figure = draw_table(columns, names=names, note=notes_legend(scores.values()))
    save_figure(figure, values["out"], recipe=recipe)
    written = [str(values["out"])]
    if values["files"] is not None:
        by_variant = results if isinstance(results, Mapping) else {"": results}
        images = by_variant if len(by_variant) > 1 else {"": next(iter(by_variant.values()))}
        save_images(values["files"], images, command=running())
        written.append(str(values["files"]))
    return written
