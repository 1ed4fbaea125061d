"""What the commands that work on images share: the model, the classes, and the figure with its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.shared.help import Texts, option
from latentdiff.apps.cli.shared.inputs import read_input, settle_resize
from latentdiff.apps.cli.shared.options import (
    build,
    device_option,
    options_of,
    out_option,
    run_options,
    seed_option,
)
from latentdiff.apps.cli.shared.outputs import IMAGE_FOLDER, Output, overwrite_option, running
from latentdiff.apps.cli.shared.prompts import in_turn, needs_of, note_texts, prompt_options, prompts_of
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.config.restoration import Restoration
    from latentdiff.evaluate.pairs import PairScores
    from latentdiff.pipeline.capabilities import Kind
    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])
OWN = ("own",)  # --label own: the label of each image
ACROSS = 10  # images side by side in a figure
SOLVER_NEEDS: dict[str, Kind] = {
    "replacement": "grid",
    "repaint": "grid",
    "psld": "latents",
}  # the others take any


def model_options(function: F) -> F:
    """--run, --runs, --device and --seed."""
    seed = seed_option("Image k has the noise of seed + k; whatever the batch.")
    return run_options()(device_option(seed(function)))


def sampling_options(function: F) -> F:
    """The sampler's options, --label and --prompt."""
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
    return options_of(Sampling, skip=("compile",))(label(prompt_options(function)))


def check_moves(how: Restoration, values: dict[str, Any]) -> None:
    """A usage error for sampler options that a solver with moves of its own has no use for."""
    if unused := how.unused(build(Sampling, values)):
        raise click.UsageError(f"--{unused}: {how.solver} makes moves of its own; leave it out")


def output_options(out: str) -> Callable[[F], F]:
    """--out, --files and --overwrite."""

    def decorate(function: F) -> F:
        options = [
            out_option(Output(".png"), out),
            option(
                "--files",
                group="Output",
                type=IMAGE_FOLDER,
                default=None,
                help=(
                    "Also write each result as a PNG into this folder; where there are several results of"
                    " each image, into one folder for each, as strength=0.3."
                ),
            ),
            overwrite_option,
        ]
        return _all(function, options)

    return decorate


def _all(function: F, options: Sequence[Callable[[F], F]]) -> F:
    for each in reversed(options):
        function = each(function)
    return function


@dataclass(frozen=True, eq=False)
class EditModel:
    """The model that a command works with, and how it is sampled."""

    checkpoint: Checkpoint
    pipeline: Pipeline
    settings: Sampling


@dataclass(frozen=True, eq=False)
class EditInputs(EditModel):
    """What a command works with: the model, ``images`` float32 [n, C, H, W] in [-1, 1], and their classes."""

    images: Tensor
    source: str
    own: list[int] | None


def model_of(values: dict[str, Any]) -> EditModel:
    """The model of --run, or the newest that can do what the options ask for; InputError where it cannot."""
    from latentdiff.apps.cli.shared.find import find_denoiser, load_checked
    from latentdiff.pipeline.capabilities import Need

    settings, prompts = build(Sampling, values), prompts_of(values)
    needs = needs_of(values, prompts, settings)
    if values.get("to") is not None:
        needs.append(Need("condition", f"--to {values['to']}"))
    if (kind := SOLVER_NEEDS.get(values.get("solver", ""))) is not None:
        needs.append(Need(kind, f"--solver {values['solver']}", "--solver dps"))
    checkpoint = find_denoiser(values["run"], values["runs"], needs=needs, pixels=True)
    pipeline = load_checked(
        checkpoint, needs=needs, prediction=None, device=values["device"], dtype="float32"
    )
    note_texts(pipeline, [*prompts, settings.negative_prompt, *filter(None, [values.get("to")])])
    classes_asked(pipeline, values.get("label"))
    if "resize" in values:
        settle_resize(checkpoint, values)
    return EditModel(checkpoint, pipeline, settings)


def bench(
    values: dict[str, Any], model: EditModel | None = None, *, shape: Sequence[int] | None = None
) -> EditInputs:
    """The model of --run, unless it is at hand, and the images of --input, brought to its size or to
    ``shape`` [C, H, W]. InputError, UsageError.
    """
    from latentdiff.data import to_float
    from latentdiff.data.classes import order_by_class

    model = model or model_of(values)
    checkpoint, pipeline = model.checkpoint, model.pipeline
    found = read_input(checkpoint, shape or pipeline.codec.image_shape, values)
    chosen = order_by_class(found.labels, len(found.images))[: values["n"]]
    labels = None
    if found.labels is not None and pipeline.classes and tuple(found.classes) == tuple(pipeline.classes):
        labels = found.labels[chosen].tolist()
    return EditInputs(
        checkpoint, pipeline, model.settings, to_float(found.images[chosen]), found.name, labels
    )


def labels_of(values: dict[str, Any], work: EditInputs) -> list[int] | list[str] | None:
    """--label as one class for each image, or --prompt as one text; None: nothing in particular."""
    label, n, prompts = values["label"], len(work.images), prompts_of(values)
    if prompts:
        return in_turn(prompts, n, "--prompt")
    if label is None:
        if work.settings.guidance != 1 and values.get("guided", True):
            option = "--label" if work.pipeline.tokenizer is None else "--prompt"
            raise click.UsageError(f"--guidance {work.settings.guidance:g} needs a {option} to exaggerate")
        return None
    if label == OWN:
        if work.own is None:
            raise InputError(f"--label own: {work.source} has no labels of this model's classes")
        return work.own
    return in_turn(classes_asked(work.pipeline, label), n, "--label")


def classes_asked(pipeline: Pipeline, label: tuple[str, ...] | None) -> list[int]:
    """The classes that --label names, none where it is not given or `own`.

    InputError for others than the model's.
    """
    from latentdiff.data.classes import class_indices

    return [] if label is None or label == OWN else class_indices(pipeline.classes, label)


def scores_of(found: Tensor, wanted: Tensor, classes: Sequence[str]) -> PairScores:
    """PSNR, SSIM, RMSE and, where its network is installed, the perceptual distance of results from the
    originals, pair by pair.
    """
    from latentdiff.data import to_uint8
    from latentdiff.evaluate.interval_score import Resampling
    from latentdiff.evaluate.pairs import score_pairs
    from latentdiff.metrics.features import default_features, perceptual_network

    try:
        eye = perceptual_network(default_features(wanted.shape[1:], classes))
    except InputError:
        eye = None
    return score_pairs(to_uint8(wanted), to_uint8(found), perceptual=eye, resampling=Resampling(count=0))


def as_json(scores: PairScores) -> dict[str, Any]:
    """The scores for --json: without the intervals, which so few images have not."""
    parts = scores.as_dict().items()
    return {name: _known(part) if isinstance(part, dict) else part for name, part in parts}


def _known(score: dict[str, Any]) -> dict[str, Any]:
    return {key: found for key, found in score.items() if key == "value" or found is not None}


def as_text(scores: PairScores) -> str:
    """The scores in one line."""
    from latentdiff.metrics.features.names import perceptual_name

    parts = [
        f"PSNR {scores.psnr.value:.2f} dB",
        f"SSIM {scores.ssim.value:.3f}",
        f"RMSE {scores.rmse.value:.3f}",
    ]
    if scores.perceptual is not None and scores.perceptual.network is not None:
        parts.append(f"{perceptual_name(scores.perceptual.network)} {scores.perceptual.value:.4f}")
    return ", ".join(parts)


def save_rows(
    rows: Sequence[tuple[str, Tensor]], values: dict[str, Any], results: Tensor | Mapping[str, Tensor]
) -> list[str]:
    """The figure with the first images of each row side by side, and the results as files; what was written.

    ``results``: images [n, C, H, W], or several of each image by variant
    (:func:`latentdiff.viz.image_folder.variant`).
    """
    from latentdiff.viz.figures import save_figure
    from latentdiff.viz.image_folder import save_images
    from latentdiff.viz.rows import draw_rows, folded

    named = [(name if "\n" in name else folded(name), images[:ACROSS]) for name, images in rows]
    save_figure(draw_rows(named), values["out"])
    written = [str(values["out"])]
    if values["files"] is not None:
        by_variant = results if isinstance(results, Mapping) else {"": results}
        images = by_variant if len(by_variant) > 1 else {"": next(iter(by_variant.values()))}
        save_images(values["files"], images, command=running())
        written.append(str(values["files"]))
    return written
