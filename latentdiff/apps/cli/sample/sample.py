"""`latentdiff sample`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, get_args

import click

from latentdiff.apps.cli.shared.help import Several, Texts, option
from latentdiff.apps.cli.shared.options import (
    build,
    cli_command,
    device_option,
    merge_v_pred,
    number_option,
    options_of,
    out_option,
    run_options,
    v_pred_option,
)
from latentdiff.apps.cli.shared.outputs import IMAGE_FOLDER, Output, overwrite_option
from latentdiff.apps.cli.shared.prompts import (
    first_classes,
    in_turn,
    knows,
    names_of,
    needs_of,
    note_texts,
    prompt_options,
    prompts_of,
)
from latentdiff.apps.cli.shared.reuse import find_like, like_option, recipe_of
from latentdiff.config.diffusion import Prediction
from latentdiff.config.recipe import SampleOptions
from latentdiff.config.sampling import DEFAULT_STEPS, Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.pipeline.checkpoint.pretrained import Shipped
    from latentdiff.pipeline.pipeline import Pipeline


@cli_command(
    "sample",
    "latentdiff sample",
    "latentdiff sample --label 7 --guidance 2 --seed 3 -n 16 --out sevens.png",
    "latentdiff sample --sampler dpm++ --steps 10,15,25",
)
@run_options()
@number_option(1, 1_000_000, 64, "Number of images.")
@option(
    "--label",
    cls=Texts,
    group="Images",
    help=(
        "Class to draw, by name or index; several, as 3,5,8 or by repeating the option, are taken in turn"
        " (default: all classes in turn)."
    ),
)
@prompt_options
@options_of(SampleOptions)
@options_of(Sampling, skip=("steps",))
@option(
    "--steps",
    cls=Several,
    group="Sampling",
    help=(
        "Number of steps, or several such as 10,15,25; these give a side-by-side figure from the same noise"
        f" (default: {DEFAULT_STEPS})."
    ),
)
@option(
    "--prediction",
    type=click.Choice(get_args(Prediction)),
    group="Diffusion",
    advanced=True,
    help="Prediction type that the model must have; an error if it was trained with another.",
)
@v_pred_option
@out_option(
    Output(".png", ".npz"),
    "samples.png",
    "A grid (.png) or all images (.npz); uint8 array images [N, H, W(, 3)], int64 labels [N].",
)
@option(
    "--files",
    type=IMAGE_FOLDER,
    group="Output",
    help="Also write each image as a PNG into this folder.",
)
@option(
    "--trajectory",
    type=Output(".png", ".gif"),
    group="Output",
    help="Also write the reverse process (.gif or .png); an animation or a strip, rows x_t and x_0 estimate.",
)
@option(
    "--frames",
    type=click.IntRange(2, 1000),
    group="Output",
    advanced=True,
    help="Frames of the trajectory (default: 10 in a strip, 40 in an animation).",
)
@overwrite_option
@device_option
@like_option
def command(*, as_json: bool, **values: Any) -> int:
    """Draw images from a trained model.

    Takes the newest run, or --run. A class-conditional model draws all classes in turn unless --label names
    some, a text-conditional model draws --prompt; --guidance 0 ignores either. The same seed gives the same
    image in any batch. A PNG holds its settings: `latentdiff inspect` reads them and --like repeats them.
    """
    merge_v_pred(values)
    like = recipe_of(values)
    counts = _counts(values.pop("steps"))
    settings = [build(Sampling, values | {"steps": count}) for count in counts]
    build(SampleOptions, values)
    interpolate = values["interpolate"]
    _check_combination(values, len(counts))
    prompts = prompts_of(values)

    from latentdiff.apps.cli.sample import output
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.find import find_denoiser, load_checked
    from latentdiff.apps.cli.shared.progress import note, result, together
    from latentdiff.errors import counted
    from latentdiff.parallel.device import resolve_device
    from latentdiff.parallel.processes import processes

    _check_shared(values, processes(), len(counts))
    ranks, device = together(resolve_device(values["device"]), "the images")
    needs = needs_of(values, prompts, settings[0])
    if like is None:
        fits = _fitting(values, [*prompts, settings[0].negative_prompt])
        checkpoint = find_denoiser(values["run"], values["runs"], needs=needs, fits=fits)
    else:
        checkpoint = find_like(like, values["run"], values["runs"])
    pipeline = load_checked(
        checkpoint, needs=needs, prediction=values["prediction"], device=str(device), dtype=values["dtype"]
    )
    note_texts(pipeline, [*prompts, settings[0].negative_prompt])
    one = interpolate is not None
    labels = (
        _texts(values, prompts, settings[0], one=one)
        if pipeline.tokenizer
        else _labels(values, pipeline, settings[0], one=one)
    )
    outputs.settle(values)
    names = ("n", "seed", "out", "files", "batch", "columns", "trajectory", "frames")
    request = output.SampleRequest(
        **{name: values[name] for name in names},
        labels=labels,
        recipe=output.recipe(checkpoint, pipeline, values, prompts, settings),
    )
    if settings[0].compile:
        note("compiling for this batch size first: seconds on a GPU, 10 seconds to 2 minutes on a CPU")
    written = [str(request.out)]
    if len(counts) > 1:
        images = output.compare(pipeline, request, settings)
    elif interpolate is not None:
        images = output.interpolated(pipeline, request, settings[0], interpolate)
        output.write(images, request, pipeline.classes, columns=request.columns or min(request.n, 16))
    else:
        drawn = output.draw(pipeline, request, settings[0], ranks)
        if not ranks.first:
            return 0
        images = drawn.images
        output.write(images, request, pipeline.classes, columns=output.columns(pipeline, request))
        if request.trajectory is not None:
            output.write_trajectory(drawn.frames, request.trajectory)
            written.append(str(request.trajectory))
    if request.files is not None:
        written.append(str(request.files))
    unguided, eta = 1.0 if labels is None else None, None if interpolate is None else 0.0
    resolved = [pipeline.with_defaults(each, guidance=unguided, eta=eta) for each in settings]
    answer = {
        "run": str(checkpoint.folder),
        "n": len(images),
        "seed": request.seed,
        "labels": names_of(pipeline, labels),
        "wrote": written,
        "interpolated_to": interpolate,
        "settings": [each.model_dump() for each in resolved],
    }
    result(
        answer,
        as_json=as_json,
        text=f"{counted(len(images), 'image')} from {checkpoint.folder}: {', '.join(written)}",
    )
    return 0


def _counts(text: str | None) -> list[int | None]:
    """--steps as numbers: "50" or "10,25,50"."""
    if text is None:
        return [None]
    parts = str(text).split(",")
    if not all(re.fullmatch("[0-9]{1,6}", part.strip()) and int(part) > 0 for part in parts):
        raise click.UsageError(
            f"--steps: expected a number of 1 or more, or several such as 10,25,50, got {text!r}"
        )
    return [int(part) for part in parts]


def _check_combination(values: dict[str, Any], counts: int) -> None:
    """Usage errors for options that would have no effect together."""
    given = [name for name in ("interpolate", "trajectory", "files") if values[name] is not None]
    if counts > 1 and (given or values["out"].suffix.lower() == ".npz"):
        with_ = f"--{given[0]}" if given else f"an .npz ({values['out']})"
        raise click.UsageError(f"--steps with several numbers draws one figure, it does not go with {with_}")
    if values["interpolate"] is not None and values["trajectory"] is not None:
        raise click.UsageError("--trajectory shows the samples of --seed, it does not go with --interpolate")
    for name in ("label", "interpolate"):
        if values["class_balance"] != "equal" and values[name] is not None:
            raise click.UsageError(
                f"--class-balance sets the class frequencies, it does not go with --{name}"
            )
    if values["frames"] is not None and values["trajectory"] is None:
        raise click.UsageError("--frames is the length of a trajectory, it needs --trajectory FILE")


def _check_shared(values: dict[str, Any], processes: int, counts: int) -> None:
    """InputError for what several processes cannot draw together."""
    whole = counts > 1 or values["interpolate"] is not None or values["trajectory"] is not None
    if processes > 1 and whole:
        raise InputError(
            f"{processes} processes share plain samples: expected neither several --steps, --interpolate nor"
            " --trajectory"
        )
    if processes > values["n"]:
        raise InputError(
            f"{processes} processes share the images: expected as many or more, got -n {values['n']}"
        )


def _fitting(values: dict[str, Any], texts: Sequence[str]) -> Callable[[Shipped], bool]:
    """Whether a model of the package has the names of --label, the words of the texts and the type of
    --prediction.
    """
    from latentdiff.pipeline.checkpoint.folder import INDEX, open_checkpoint
    from latentdiff.pipeline.components import load_diffusion

    label, prediction, known = values["label"], values["prediction"], knows(texts)

    def fits(model: Shipped) -> bool:
        checkpoint = open_checkpoint(model.folder)
        index = checkpoint.json(INDEX)
        if not set(label or ()) <= set(index["classes"] or ()) or not known(model):
            return False
        return prediction in (None, load_diffusion(checkpoint, index).prediction)

    return fits


def _texts(values: dict[str, Any], prompts: list[str], settings: Sampling, *, one: bool) -> list[str] | None:
    """The text of each image: the prompts in turn, or none."""
    from latentdiff.apps.cli.shared.progress import note

    n = values["n"]
    if settings.guidance == 0:
        if prompts:
            note("--guidance 0 ignores the text, --prompt has no effect")
        return None
    if not prompts:
        if settings.guidance not in (None, 1):
            raise click.UsageError(f"--guidance {settings.guidance:g} needs a --prompt")
        note("no --prompt given: drawing unconditional samples")
        return None
    if one and len(prompts) > 1:
        raise click.UsageError(f"--interpolate draws one text along the way, got {len(prompts)}")
    return in_turn(prompts, n, "--prompt")


def _labels(values: dict[str, Any], pipeline: Pipeline, settings: Sampling, *, one: bool) -> list[int] | None:
    """The class of each image: those of --label in turn, else all (or ``one``, the first), else none."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data.classes import class_indices
    from latentdiff.nn import ExternalModel

    label, n, balance = values["label"], values["n"], values["class_balance"]
    text = None if label is None else ",".join(label)
    if not pipeline.classes:
        if settings.guidance == 0:
            note("--guidance 0 has no effect, this model is unconditional")
        return None
    if settings.guidance == 0:
        for option, given in (
            ("--label", text),
            ("--class-balance", None if balance == "equal" else balance),
        ):
            if given is not None:
                note(f"--guidance 0 ignores the class, {option} {given} has no effect")
        return None
    if label is None and balance == "data":
        drawn = pipeline.class_labels(n, balance)
        note("drawing classes as often as in the training data")
        return None if drawn is None else drawn.tolist()
    if label is None:
        chosen = list(range(1 if one else len(pipeline.classes)))[:n]
        null = "" if isinstance(pipeline.network, ExternalModel) else ", --guidance 0 ignores them"
        note(f"drawing {first_classes(pipeline.classes, len(chosen))}; --label chooses{null}")
    else:
        chosen = class_indices(pipeline.classes, label)
    if one and len(chosen) > 1:
        raise click.UsageError(f"--interpolate draws one class along the way, got --label {text}")
    return in_turn(chosen, n, "--label")
