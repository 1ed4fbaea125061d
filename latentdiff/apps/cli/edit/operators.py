"""The options that name an operator or a mask, and what they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import only_with
from latentdiff.apps.cli.shared.types import Finite
from latentdiff.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from latentdiff.diffusion.operators import Operator

F = TypeVar("F", bound=Callable[..., Any])
MASKS = ("box", "half", "random")
FEW, MANY = 0.005, 0.9  # shares that a mask hides, outside of which it is likely the wrong way round
LIGHT = 128  # grey level from which on a pixel is white
INEXACT = 0.05  # noise that stands for how far an operator is from what happened to an image
OPERATORS = ("blur", "motion", "downsample", "mask", "noise")


def mask_options(function: F) -> F:
    """--mask and its numbers."""
    options = [
        option(
            "--mask",
            default="box",
            show_default=True,
            help=(
                "What is missing: box, half, random, or an image file: white is known and kept, black is"
                " filled in (diffusers and AUTOMATIC1111 fill in white: add --invert-mask)."
            ),
        ),
        option(
            "--invert-mask",
            is_flag=True,
            help=(
                "Exchange what is known and what is missing: a file whose white is filled in, or all but a"
                " box."
            ),
        ),
        option(
            "--box",
            "box_size",
            default=None,
            metavar="HxW[+Y+X]",
            help=(
                "Size of the missing box in pixels, and its corner (default: half of each side, in the"
                " middle)."
            ),
        ),
        option(
            "--half",
            "side",
            type=click.Choice(["top", "bottom", "left", "right"]),
            default="bottom",
            show_default=True,
            help="Which half is missing.",
        ),
        option(
            "--missing",
            type=Finite(0, 1),
            default=0.5,
            show_default=True,
            help="Share of pixels that a random mask hides.",
        ),
    ]
    for each in reversed(options):
        function = each(function)
    return function


OF_MASK = {"box": {"box_size": "--box"}, "half": {"side": "--half"}, "random": {"missing": "--missing"}}
OF_OPERATOR = {
    "blur": {"blur_sigma": "--blur-sigma"},
    "motion": {"motion_length": "--motion-length", "motion_angle": "--motion-angle"},
    "downsample": {"factor": "--factor"},
    "mask": {
        "mask": "--mask",
        "box_size": "--box",
        "side": "--half",
        "missing": "--missing",
        "invert_mask": "--invert-mask",
    },
}
"""Options that mean something with one kind of mask or operator only."""


def mask_of(values: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """The mask [H, W] of the options for images [C, H, W]: 1 known, 0 missing. UsageError, InputError."""
    for known, flags in OF_MASK.items():
        only_with("mask", known, [values["mask"]], flags)

    kind, invert, (_, height, width) = values["mask"], values["invert_mask"], shape
    if kind in MASKS:
        light = _drawn(kind, values, shape)
    else:
        light = mask_from_file(Path(kind), height, width, values["resize"])
    mask = 1 - light if invert else light
    _check_mask(kind, mask, invert=invert)
    return mask


def _check_mask(kind: str, mask: Tensor, *, invert: bool) -> None:
    """InputError for a mask without a missing pixel; says what a file means, and warns where it hides nearly
    all or nothing.
    """
    from latentdiff.apps.cli.shared.progress import note

    missing = float((mask == 0).float().mean())
    kept, filled = ("black", "white") if invert else ("white", "black")
    convention = f"{filled} is filled in and {kept} is kept"
    turn = "without --invert-mask" if invert else "with --invert-mask (as in diffusers and AUTOMATIC1111)"
    way_out = f"{turn} it is the other way round"
    if not missing:
        raise InputError(
            f"--mask {kind}: hides no pixel, there is nothing to fill in; {convention}, {way_out}"
        )
    if kind not in MASKS:
        odd = not FEW < missing < MANY
        note(
            f"{'warning: ' if odd else ''}mask {kind}: hides {missing:.1%} of the pixels; {convention},"
            f" {way_out}"
        )
    elif missing == 1:
        note(f"warning: mask {kind}: hides every pixel; nothing of the image is known")


def _drawn(kind: str, values: dict[str, Any], shape: Sequence[int]) -> Tensor:
    """A mask of a known kind; UsageError where its numbers do not fit."""
    from latentdiff.diffusion import operators

    _, height, width = shape
    try:
        if kind == "box":
            size, corner = _box(values["box_size"])
            return operators.box(height, width, size=size, corner=corner)
        if kind == "half":
            return operators.half(height, width, values["side"])
        if not values["missing"]:
            raise click.UsageError("--missing: expected a share above 0, got 0; there is nothing to fill in")
        return operators.scattered(height, width, missing=values["missing"], seed=values["seed"])
    except ValueError as error:
        raise click.UsageError(f"--mask {kind}: {error}") from None


def mask_from_file(path: Path, height: int, width: int, resize: str = "crop") -> Tensor:
    """A mask [height, width] from an image: light pixels are 1, dark ones 0. One of another size is brought
    to this one as the images are.

    Transparent pixels count as white, unless all others are: then they are the hole. InputError for what is
    no image.
    """
    import numpy as np
    import torch

    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data.decode import Refused, decode_file
    from latentdiff.data.resize import resized, set_channels

    if not path.exists():
        raise click.UsageError(f"--mask: expected {', '.join(MASKS)} or an image file, got {str(path)!r}")
    found = decode_file(path)
    if isinstance(found, Refused):
        raise InputError(f"--mask {path}: {found.reason}")
    pixels = found.pixels
    if "alpha" in found.conversions and int(set_channels(pixels, 1).min()) >= LIGHT:
        pixels = _opacity(path)
        note(f"mask {path}: its pixels are white or transparent, transparent ones count as black")
    if pixels.shape[:2] != (height, width):
        got = "x".join(map(str, pixels.shape[:2]))
        note(
            f"mask: {path} has {got} pixels (height x width), brought to {height}x{width} by --resize"
            f" {resize}"
        )
    light = set_channels(resized(pixels, (height, width), resize), 1)[..., 0]
    return torch.from_numpy((light >= LIGHT).astype(np.float32))


def _opacity(path: Path) -> NDArray[np.uint8]:
    """The alpha channel uint8 [H, W, 1] of an image that was decoded without a complaint."""
    import numpy as np
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGBA").getchannel("A"))[..., None]


def _box(text: str | None) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """ "12x10" or "12x10+3+4" as ((12, 10), (3, 4))."""
    import re

    if text is None:
        return None, None
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})(?:\+([0-9]{1,4})\+([0-9]{1,4}))?", text)
    if match is None:
        raise click.UsageError(
            f"--box: expected a size such as 12x10, or with a corner 12x10+3+4, got {text!r}"
        )
    h, w, y, x = match.groups()
    return (int(h), int(w)), None if y is None else (int(y), int(x))


def operator_options(function: F) -> F:
    """--operator and its numbers."""
    options = [
        option(
            "--operator",
            cls=Several,
            default="blur",
            show_default=True,
            help=(
                f"What degraded the images: {', '.join(OPERATORS)}; several as blur,downsample act one after"
                " the other."
            ),
        ),
        option(
            "--noise",
            "sigma",
            type=Finite(0, 10),
            default=None,
            help=(
                "Standard deviation of the noise on what is measured, pixels lie in [-1, 1] (default: 0;"
                f" {INEXACT:g} with --degraded, as no operator fits such images exactly)."
            ),
        ),
        option(
            "--blur-sigma", type=Finite(0.1, 100), default=1.5, show_default=True, help="Blur, in pixels."
        ),
        option(
            "--motion-length", type=Finite(1, 200), default=7.0, show_default=True, help="Motion, in pixels."
        ),
        option(
            "--motion-angle",
            type=Finite(-360, 360),
            default=45.0,
            show_default=True,
            help="Direction of the motion, in degrees.",
        ),
        option(
            "--factor",
            type=click.IntRange(1, 64),
            default=2,
            show_default=True,
            help="Downsampling along each side.",
        ),
    ]
    for each in reversed(options):
        function = each(function)
    return mask_options(function)


class OperatorChoice(NamedTuple):
    """An operator; its ``mask`` where it is one and nothing else; ``seen``: the mask that acts last, if one
    does.
    """

    operator: Operator
    mask: Tensor | None
    seen: Tensor | None


def operator_of(values: dict[str, Any], shape: Sequence[int]) -> OperatorChoice:
    """The operator of the options on images [C, H, W]. UsageError, InputError."""
    from latentdiff.diffusion import operators

    names = [name.strip() for name in values["operator"].split(",")]
    if unknown := [name for name in names if name not in OPERATORS]:
        raise click.UsageError(f"--operator: expected {', '.join(OPERATORS)}, got {unknown[0]!r}")
    for known, flags in OF_OPERATOR.items():
        only_with("operator", known, names, flags)
    if set(names) == {"noise"} and not values["sigma"]:
        raise click.UsageError(
            "--operator noise: expected a --noise above 0, got none; there is nothing to restore"
        )
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
                part = operators.motion_blur(
                    here,  # type: ignore[arg-type]
                    length=values["motion_length"],
                    angle=values["motion_angle"],
                )
            elif name == "downsample":
                part = operators.downsample(here, values["factor"])  # type: ignore[arg-type]
            else:
                part = operators.identity(here)
        except ValueError as error:
            raise click.UsageError(f"--operator {name}: {error}") from None
        total = part if total is None else part.after(total)
    assert total is not None  # splitting a text gives one name or more
    seen = mask if names[-1] == "mask" else None
    return OperatorChoice(total, seen if len(names) == 1 else None, seen)
