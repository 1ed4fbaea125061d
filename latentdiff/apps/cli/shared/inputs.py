"""--input: the images of a command, and a warning where they are far from those of the model's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.shared.find import saved_images, saved_options
from latentdiff.apps.cli.shared.help import combined, option
from latentdiff.apps.cli.shared.options import build, number_option, options_of, split_option
from latentdiff.config.data import FITTING, LABELLING, DataOptions
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.data import ImageSet
    from latentdiff.data.brightness import Brightness
    from latentdiff.pipeline.checkpoint.folder import Checkpoint

# Of the options of data: those that are the model's, or that --input stands for
OTHERS = tuple(set(DataOptions.model_fields) - {*FITTING, *LABELLING, "image_cache"})
BLACK, PAPER = 0.1, 0.4  # brightness of the border, of a model of strokes at most, of paper at least
FINER = 8  # times as large drawings are read as they become
DEGRADED = 0.35  # margin of brightness for degraded images: noise alone moves the mean by a fifth


image_options = combined(
    option(
        "--input",
        "source",
        group="Images",
        help=(
            "Images to edit; a PNG, JPEG or WEBP file, a folder, an .npz or the name of a data set"
            " (default: the data of the run)."
        ),
    ),
    number_option(1, 1000, 8, "Number of images; of labelled data one of each class in turn."),
    split_option("Split of the data set."),
    options_of(DataOptions, skip=OTHERS, of_run=True),
    option(
        "--drawing",
        type=click.Choice(["auto", "on", "off"]),
        default="auto",
        group="Data",
        advanced=True,
        help=(
            "Make pen drawings on paper, or photos of them, light strokes on black, levelled and centred as"
            " MNIST is; auto: where the model learned such images and most of --input are dark on light."
        ),
    ),
    option(
        "--negate",
        is_flag=True,
        group="Data",
        advanced=True,
        help=("Invert the images; for dark drawings on white paper and models of light ones on black."),
    ),
)


def read_input(checkpoint: Checkpoint, shape: Sequence[int], values: dict[str, Any]) -> ImageSet:
    """The images of --input, or of the data that the run was trained on, in the shape of the model's."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data.brightness import MARGIN
    from latentdiff.pipeline.checkpoint.pretrained import about
    from latentdiff.train.brightness import brightness_of

    settle_fit(checkpoint, values)
    source, shipped = values["source"], about(checkpoint.folder)
    if source is None and shipped and shipped.get("images") is None:
        found = _drawn(checkpoint, shape, values["n"])
    else:
        found = _read(checkpoint, shape, values, source or shipped.get("images"))
    known = None if source is None else brightness_of(checkpoint)
    if source is not None and _is_drawing(values, shape, known, found.images):
        found = _as_strokes(found, checkpoint, shape, values, source)
    if values["negate"]:
        found = replace(found, images=255 - found.images)
    if known is not None:
        degraded = values.get("degraded", False)
        if not (degraded and "mask" in values["operator"]):  # the values of missing pixels are arbitrary
            for line in distance(known, found.images, margin=DEGRADED if degraded else MARGIN):
                note(line)
    return found


def _read(
    checkpoint: Checkpoint,
    shape: Sequence[int],
    values: dict[str, Any],
    source: str | None,
    *,
    report: bool = True,
) -> ImageSet:
    """The images of ``source``, or of the data that the run was trained on."""
    from latentdiff.apps.cli.shared.progress import print_report
    from latentdiff.data import read_images
    from latentdiff.data.resize import Fit

    root = None
    chosen = {name: values[name] for name in (*FITTING, *LABELLING, "image_cache")}
    if source is None:
        if not saved_options(checkpoint):
            raise InputError(
                f"{checkpoint.folder}: does not say which data it was trained on; expected --input"
            )
        saved = saved_images(checkpoint, "--input")
        source, root = str(saved["data"]), saved.get("data_root")
        chosen |= {name: saved.get(name) for name in LABELLING if chosen[name] is None}
    channels, height, width = shape
    fit = Fit(**build(DataOptions, chosen).reading() | {"size": (height, width), "channels": channels})
    found = read_images(source, split=values["split"], fit=fit, root=None if root is None else Path(root))
    if report:
        print_report(found.report)
    return found


def _is_drawing(
    values: Mapping[str, Any], shape: Sequence[int], known: Brightness | None, images: Tensor
) -> bool:
    """Whether images uint8 [N, C, H, W] are to be made strokes, by --drawing."""
    from latentdiff.data.brightness import measured

    if values["drawing"] != "auto" or values["negate"] or values.get("degraded", False):
        return bool(values["drawing"] == "on")
    if known is None or shape[0] != 1 or known.border[1] > BLACK:
        return False
    return float(measured(images)[1].median()) > PAPER


def _as_strokes(
    found: ImageSet, checkpoint: Checkpoint, shape: Sequence[int], values: dict[str, Any], source: str
) -> ImageSet:
    """The images, read once more in several times their size, as light strokes on black; with a note."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data.drawings import as_strokes

    channels, height, width = shape
    if channels != 1:
        raise InputError(f"--drawing on: is for models of grey images, this one has {channels} channels")
    large = (1, FINER * height, FINER * width)
    whole = _read(checkpoint, large, values | {"fit": "pad"}, source, report=False)
    note("drawings on paper: made light strokes on black, levelled, scaled and centred (--drawing off: not)")
    return replace(found, images=as_strokes(whole.images, (height, width)))


def _drawn(checkpoint: Checkpoint, shape: Sequence[int], n: int) -> ImageSet:
    """``n`` pictures that a model of the package draws, of its classes in turn: it has no other images."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data import ImageSet, to_uint8
    from latentdiff.edit.originals import originals
    from latentdiff.pipeline.pipeline import from_checkpoint

    pipeline, name = from_checkpoint(checkpoint), checkpoint.folder.name
    if tuple(shape) != tuple(pipeline.codec.image_shape):
        raise InputError(f"{name}: its training images are not in the package; expected --input")
    note(f"no --input: pictures that {name} draws itself")
    images, labels = originals(pipeline, n)
    return ImageSet(f"pictures of {name}", to_uint8(images), labels, pipeline.classes)


def settle_fit(checkpoint: Checkpoint, values: dict[str, Any]) -> None:
    """--fit, --resize and --background, by default those of the run: into ``values``, for images and masks
    alike.
    """
    saved = saved_options(checkpoint)
    chosen = {name: saved.get(name) if values[name] is None else values[name] for name in FITTING}
    values.update(build(DataOptions, chosen).model_dump(include=set(FITTING)))


def distance(known: Brightness, images: Tensor, *, margin: float) -> list[str]:
    """A warning if most of the images uint8 [N, C, H, W] are far from the training's, and a remedy."""
    from latentdiff.data.brightness import measured

    if float(known.far(images, margin=margin).double().mean()) <= 0.5:
        return []
    mean, border = (float(each.median()) for each in measured(images))
    warning = (
        "warning: these images are far from those that the model was trained on: their brightness is"
        f" {mean:.2f} and {border:.2f} at the border (0 black, 1 white), in training {known.mean[0]:.2f} to"
        f" {known.mean[1]:.2f} and {known.border[0]:.2f} to {known.border[1]:.2f}"
    )
    if float(known.far(255 - images, margin=margin).double().mean()) <= 0.5:
        return [f"{warning}; their negatives are not: --negate takes those"]
    return [f"{warning}; expect poor results"]
