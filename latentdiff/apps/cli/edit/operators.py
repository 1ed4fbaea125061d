"""--operator, --noise and --mask: what degrades the images of a command, or did."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from latentdiff.apps.cli.edit.driver import Values
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import build, flag_of, only_with, options_of
from latentdiff.config.restoration import MASKS, OPERATORS, MaskOptions, MeasurementOptions
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.diffusion.operators import Operator

F = TypeVar("F", bound=Callable[..., Any])
FEW, MANY = 0.005, 0.9  # missing shares outside of which a mask is likely inverted
LIGHT = 128  # grey level from which on a pixel is white


def operator_options(function: F) -> F:
    """--operator, --noise and the options of every operator."""
    operator = option(
        "--operator",
        cls=Several,
        default="blur",
        show_default=True,
        help=(
            f"Degradation of the images; {', '.join(OPERATORS)}, or several, as blur,downsample, one after"
            " the other."
        ),
    )
    of_each = [info.options for info in OPERATORS.values()]
    return operator(options_of(MeasurementOptions, *of_each)(function))


def check_operators(values: Values) -> list[str]:
    """The names of --operator; UsageError for unknown ones, and for options of others."""
    build(MeasurementOptions, values)
    names = [name.strip() for name in values["operator"].split(",")]
    if unknown := [name for name in names if name not in OPERATORS]:
        raise click.UsageError(f"--operator: expected {', '.join(OPERATORS)}, got {unknown[0]!r}")
    for name, info in OPERATORS.items():
        flags = {field: flag_of(field) for field in info.options.model_fields}
        only_with("operator", name, names, flags)
        if name in names:
            build(info.options, values)
    if "mask" in names:
        check_mask(values)
    if set(names) == {"noise"} and not values["noise"]:
        raise click.UsageError(
            "--operator noise: expected a --noise above 0, got none; there is nothing to restore"
        )
    return names


class OperatorChoice(NamedTuple):
    """An operator; its ``mask`` [H, W] if it is one; ``last_mask``: that of the last to act, if it is one."""

    operator: Operator
    mask: Tensor | None
    last_mask: Tensor | None


def operator_of(values: Values, shape: Sequence[int]) -> OperatorChoice:
    """The operators of the options on images [C, H, W], one after the other.

    UsageError for options that do not fit them; InputError for a mask that cannot be read.
    """
    from latentdiff.diffusion.operators import identity, make_operator

    total, mask = identity(tuple(shape)), None
    names = check_operators(values)
    for k, name in enumerate(names):
        here = total.measured_shape
        options = build(OPERATORS[name].options, values).model_dump()
        mask = mask_of(values, here) if name == "mask" else None
        try:
            part = make_operator(name, here, **(options if mask is None else {"mask": mask}))
        except ValueError as error:
            raise click.UsageError(f"--operator {name}: {error}") from None
        total = part.after(total) if k else part
    return OperatorChoice(total, mask if len(names) == 1 else None, mask)


def check_mask(values: Values) -> MaskOptions:
    """The options of --mask; UsageError for those that do not fit one another."""
    options = build(MaskOptions, values)
    for kind, name in MASKS.items():
        only_with("mask", kind, [options.mask], {name: f"--{name}"})
    _box(options.box)
    if options.mask == "random" and not options.missing:
        raise click.UsageError("--missing: expected a share above 0, got 0; there is nothing to fill in")
    if options.mask not in MASKS and not Path(options.mask).exists():
        raise click.UsageError(f"--mask: expected {', '.join(MASKS)} or an image file, got {options.mask!r}")
    return options


def mask_of(values: Values, shape: Sequence[int]) -> Tensor:
    """The mask [H, W] of the options for images [C, H, W]: 1 known, 0 missing.

    UsageError for options that do not fit one another; InputError for a file that cannot be read.
    """
    options, (_, height, width) = check_mask(values), shape
    if options.mask in MASKS:
        light = _drawn(options, height, width, seed=values["seed"])
    else:
        light = _mask_from_file(Path(options.mask), height, width, values)
    mask = 1 - light if options.invert_mask else light
    _report(options.mask, mask, invert=options.invert_mask)
    return mask


def _report(kind: str, mask: Tensor, *, invert: bool) -> None:
    """Notes what a file hides, and warns where that is nearly all or nothing; InputError for nothing."""
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


def _drawn(options: MaskOptions, height: int, width: int, *, seed: int) -> Tensor:
    """A mask of ``MASKS``; UsageError where its options do not fit the images."""
    from latentdiff.diffusion import operators

    try:
        if options.mask == "box":
            return _drawn_box(options.box, height, width)
        if options.mask == "half":
            return operators.half(height, width, options.side)
        return operators.scattered(height, width, missing=options.missing, seed=seed)
    except ValueError as error:
        raise click.UsageError(f"--mask {options.mask}: {error}") from None


def _drawn_box(text: str | None, height: int, width: int) -> Tensor:
    """The mask of --box; UsageError where it does not lie in the images."""
    from latentdiff.diffusion.operators import box

    size, corner = _box(text)
    try:
        return box(height, width, size=size, corner=corner)
    except ValueError:
        raise click.UsageError(f"--box {text}: expected one within {height}x{width} pixels") from None


def _mask_from_file(path: Path, height: int, width: int, values: Values) -> Tensor:
    """A mask [height, width] from an image, resized as the images are: light pixels are 1, dark ones 0.

    Transparent pixels count as white, unless all others are white: then they are the hole. InputError for a
    file that is no image.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.data.decode import RefusedImage, decode_file
    from latentdiff.data.resize import resized, set_channels

    found = decode_file(path)
    if isinstance(found, RefusedImage):
        raise InputError(f"--mask {path}: {found.reason}")
    pixels = found.pixels
    if "alpha" in found.conversions and int(set_channels(pixels, 1).min()) >= LIGHT:
        with Image.open(path) as image:
            opacity = ImageOps.exif_transpose(image).convert("RGBA").getchannel("A")
        pixels = np.asarray(opacity)[..., None]
        note(f"mask {path}: its pixels are white or transparent, transparent ones count as black")
    if values["fit"] == "smart" and pixels.shape[0] * width != pixels.shape[1] * height:
        raise InputError(
            f"--mask {path}: --fit smart shows another part of each image, expected a mask of the"
            f" aspect ratio of {height}x{width}; --fit crop or pad treats image and mask alike"
        )
    if pixels.shape[:2] != (height, width):
        got = "x".join(map(str, pixels.shape[:2]))
        note(
            f"mask: {path} has {got} pixels (height x width), brought to {height}x{width} by --fit"
            f" {values['fit']}"
        )
    light = set_channels(resized(pixels, (height, width), values["fit"], values["resize"]), 1)[..., 0]
    return torch.from_numpy((light >= LIGHT).astype(np.float32))


def _box(text: str | None) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """ "12x10" or "12x10+3+4" as ((12, 10), (3, 4))."""
    if text is None:
        return None, None
    match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})(?:\+([0-9]{1,4})\+([0-9]{1,4}))?", text)
    if match is None:
        raise click.UsageError(
            f"--box: expected a size such as 12x10, or with a corner 12x10+3+4, got {text!r}"
        )
    h, w, y, x = match.groups()
    return (int(h), int(w)), None if y is None else (int(y), int(x))
