"""The options that name an operator or a mask, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from latentdiff.cli.options import only_with
from latentdiff.cli.targets import Finite
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.operators import Operator

F = TypeVar("F", bound=Callable[..., Any])
MASKS = ("box", "half", "random")
INEXACT = 0.05  # noise that stands for how far an operator is from what happened to an image
OPERATORS = ("blur", "motion", "downsample", "mask", "noise")


def mask_options(function: F) -> F:
    """--mask and its numbers."""
    options = [
        click.option(
            "--mask",
            default="box",
            show_default=True,
            help="What is missing: box, half, random, or an image file that is white where pixels are known and black where not.",
        ),
        click.option(
            "--box",
            "box_size",
            default=None,
            metavar="HxW[+Y+X]",
            help="Size of the missing box in pixels, and its corner (default: half of each side, in the middle).",
        ),
        click.option(
            "--half",
            "side",
            type=click.Choice(["top", "bottom", "left", "right"]),
            default="bottom",
            show_default=True,
            help="Which half is missing.",
        ),
        click.option(
            "--missing",
            type=Finite(0, 1),
            default=0.5,
            show_default=True,
            help="Share of pixels that a random mask hides.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


OF_MASK = {"box": {"box_size": "--box"}, "half": {"side": "--half"}, "random": {"missing": "--missing"}}
OF_OPERATOR = {
    "blur": {"blur_sigma": "--blur-sigma"},
    "motion": {"motion_length": "--motion-length", "motion_angle": "--motion-angle"},
    "downsample": {"factor": "--factor"},
    "mask": {"mask": "--mask", "box_size": "--box", "side": "--half", "missing": "--missing"},
}
"""Options that mean something with one kind of mask or operator only."""


def mask_of(values: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """The mask [H, W] of the options for images [C, H, W]: 1 known, 0 missing. UsageError, InputError."""
    from latentdiff import operators

    for known, flags in OF_MASK.items():
        only_with("mask", known, [values["mask"]], flags)

    _, height, width = shape
    kind = values["mask"]
    try:
        if kind == "box":
            size, corner = _box(values["box_size"])
            return operators.box(height, width, size=size, corner=corner)
        if kind == "half":
            return operators.half(height, width, values["side"])
        if kind == "random":
            if not values["missing"]:
                raise click.UsageError("--missing: expected a share above 0, got 0; there is nothing to fill in")
            return operators.scattered(height, width, missing=values["missing"], seed=values["seed"])
    except ValueError as error:
        raise click.UsageError(f"--mask {kind}: {error}") from None
    return mask_from_file(Path(kind), height, width, values["resize"])


def mask_from_file(path: Path, height: int, width: int, resize: str = "crop") -> Tensor:
    """A mask [height, width] from an image: light pixels are known. One of another size is brought to this one as the images are.

    InputError for what is no image, or hides nothing.
    """
    import torch

    from latentdiff.cli.report import note
    from latentdiff.data.decode import Refused, decode_file
    from latentdiff.data.fit import resized, set_channels

    if not path.exists():
        raise click.UsageError(f"--mask: expected {', '.join(MASKS)} or an image file, got {str(path)!r}")
    found = decode_file(path)
    if isinstance(found, Refused):
        raise InputError(f"--mask {path}: {found.reason}")
    if found.pixels.shape[:2] != (height, width):
        got = "x".join(map(str, found.pixels.shape[:2]))
        note(f"mask: {path} has {got} pixels (height x width), brought to {height}x{width} by --resize {resize}")
    light = set_channels(resized(found.pixels, (height, width), resize), 1)[..., 0]
    mask = (torch.from_numpy(light.copy()) >= 128).float()
    if mask.all():
        raise InputError(
            f"--mask {path}: expected dark pixels where something is missing, found none (what is transparent counts as white)"
        )
    return mask


def _box(text: str | None) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """ "12x10" or "12x10+3+4" as ((12, 10), (3, 4))."""
    import re

    if text is None:
        return None, None
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})(?:\+([0-9]{1,4})\+([0-9]{1,4}))?", text)
    if match is None:
        raise click.UsageError(f"--box: expected a size such as 12x10, or with a corner 12x10+3+4, got {text!r}")
    h, w, y, x = match.groups()
    return (int(h), int(w)), None if y is None else (int(y), int(x))


def operator_options(function: F) -> F:
    """--operator and its numbers."""
    options = [
        click.option(
            "--operator",
            default="blur",
            show_default=True,
            help=f"What degraded the images: {', '.join(OPERATORS)}; several as blur,downsample act one after the other.",
        ),
        click.option(
            "--noise",
            "sigma",
            type=Finite(0, 10),
            default=None,
            help=f"Standard deviation of the noise on what is measured, pixels lie in [-1, 1] (default: 0; {INEXACT:g} with --degraded, as no operator fits such images exactly).",
        ),
        click.option("--blur-sigma", type=Finite(0.1, 100), default=1.5, show_default=True, help="Blur, in pixels."),
        click.option("--motion-length", type=Finite(1, 200), default=7.0, show_default=True, help="Motion, in pixels."),
        click.option(
            "--motion-angle",
            type=Finite(-360, 360),
            default=45.0,
            show_default=True,
            help="Direction of the motion, in degrees.",
        ),
        click.option(
            "--factor", type=click.IntRange(1, 64), default=2, show_default=True, help="Downsampling along each side."
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return mask_options(function)


class Measuring(NamedTuple):
    """An operator; its ``mask`` where it is one and nothing else; ``seen``: the mask that acts last, if one does."""

    operator: Operator
    mask: Tensor | None
    seen: Tensor | None


def operator_of(values: dict[str, Any], shape: Sequence[int]) -> Measuring:
    """The operator of the options on images [C, H, W]. UsageError, InputError."""
    from latentdiff import operators

    names = [name.strip() for name in values["operator"].split(",")]
    if unknown := [name for name in names if name not in OPERATORS]:
        raise click.UsageError(f"--operator: expected {', '.join(OPERATORS)}, got {unknown[0]!r}")
    for known, flags in OF_OPERATOR.items():
        only_with("operator", known, names, flags)
    if set(names) == {"noise"} and not values["sigma"]:
        raise click.UsageError("--operator noise: expected a --noise above 0, got none; there is nothing to restore")
    total: Operator | None = None
    mask: Tensor | None = None
    for name in names:
        here = tuple(shape) if total is None else total.measured_shape
        mask = mask_of(values, here) if name == "mask" else mask
        try:
            if mask is not None and name == "mask":
                part = operators.masked(here, mask)  # type: ignore[arg-type]
            elif name == "blur":
                part = operators.gaussian_blur(here, sigma=values["blur_sigma"])  # type: ignore[arg-type]
            elif name == "motion":
                part = operators.motion_blur(here, length=values["motion_length"], angle=values["motion_angle"])  # type: ignore[arg-type]
            elif name == "downsample":
                part = operators.downsample(here, values["factor"])  # type: ignore[arg-type]
            else:
                part = operators.identity(here)
        except ValueError as error:
            raise click.UsageError(f"--operator {name}: {error}") from None
        total = part if total is None else part.after(total)
    assert total is not None  # splitting a text gives one name or more
    seen = mask if names[-1] == "mask" else None
    return Measuring(total, seen if len(names) == 1 else None, seen)
