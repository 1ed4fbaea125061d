"""Pictures as files: grids and strips of images (PNG), animations (GIF)."""

from __future__ import annotations

import math
import os
import struct
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional as F

from latentdiff.config.recipe import CommandRecipe, MadeWith, Recipe, recipe_from
from latentdiff.data import to_uint8
from latentdiff.data.written import KEYWORD, SOFTWARE
from latentdiff.errors import InputError
from latentdiff.files.writing import write_whole

Pixels = NDArray[np.uint8]
PAD = 2  # pixels between images, before enlargement
GROUND = 128  # grey: neither the ground of digits nor that of photographs
LEGIBLE = 640  # small grids are enlarged by a whole factor up to about this many pixels


def pixels_of(images: Tensor) -> Pixels:
    """Images [N, C, H, W] (uint8, or float in [-1, 1]) as uint8 [N, H, W, C]."""
    return (images if images.dtype == torch.uint8 else to_uint8(images)).cpu().permute(0, 2, 3, 1).numpy()


def image_grid(images: Tensor, *, columns: int | None = None, scale: int | None = None) -> Pixels:
    """Images [N, C, H, W] (uint8, or float in [-1, 1]) as one picture, uint8 [height, width, 3], row by row.

    ``columns`` defaults to about the square root of N; ``scale`` enlarges by a whole factor, by default so
    that small grids can be looked at.
    """
    n, channels, height, width = images.shape
    if n == 0 or channels not in (1, 3):
        raise ValueError(f"expected images [N >= 1, 1 or 3, H, W], got {list(images.shape)}")
    columns = min(n, columns or int(np.ceil(np.sqrt(n))))
    rows = -(-n // columns)
    canvas = np.full((PAD + rows * (height + PAD), PAD + columns * (width + PAD), 3), GROUND, dtype=np.uint8)
    for k, image in enumerate(pixels_of(images)):
        y, x = PAD + k // columns * (height + PAD), PAD + k % columns * (width + PAD)
        canvas[y : y + height, x : x + width] = image
    factor = scale or max(1, round(LEGIBLE / max(canvas.shape[:2])))
    return canvas.repeat(factor, 0).repeat(factor, 1)


def class_columns(n: int, classes: int) -> int | None:
    """Columns for ``n`` images of classes in turn: whole turns, about square; None if too wide."""
    return classes * max(1, round(n**0.5 / classes)) if 1 < classes <= 20 else None


def pair_grid(originals: Tensor, copies: Tensor, *, columns: int = 8) -> Pixels:
    """Images [N, C, H, W] in rows, each row followed by the row of their counterparts."""
    columns = min(columns, len(originals))
    blank = originals.new_zeros(-len(originals) % columns, *originals.shape[1:])  # grey in [-1, 1]
    sides = [torch.cat([images, blank]).split(columns) for images in (originals, copies)]
    return image_grid(torch.cat([row for pair in zip(*sides, strict=True) for row in pair]), columns=columns)


def save_image(pixels: Pixels, path: str | Path, *, recipe: Recipe | None = None, command: str = "") -> None:
    """Write uint8 [H, W, 3] or [H, W] as PNG, whole or not at all, with the recipe that :func:`read_recipe`
    reads.

    ``command``: the name of the command that writes it. InputError where the place cannot be written.
    """
    about = PngInfo()
    for key, value in text_chunks(recipe, command).items():
        about.add_text(key, value)
    write_whole(path, lambda temporary: Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=about))


def text_chunks(recipe: MadeWith | None, command: str = "") -> dict[str, str]:
    """The text chunks of a PNG by keyword: what wrote it, and its recipe if not too long."""
    text = "" if recipe is None else recipe.text()
    return {"Software": f"{SOFTWARE} {command}".rstrip()} | ({KEYWORD: text} if text else {})


def read_recipe(path: str | Path) -> Recipe | CommandRecipe:
    """What the PNG at ``path`` was made with.

    The file is not trusted: InputError, one line, for what holds no valid recipe.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a FIFO would be waited for
        raise InputError(f"{path}: cannot be read (expected a PNG file, found something else)")
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=("PNG",)) as image:
            text = image.info.get(KEYWORD)  # chunks before the pixels, which are not decoded
    except OSError as error:
        reason = "not a PNG" if isinstance(error, UnidentifiedImageError) else error.strerror or "damaged"
        raise InputError(f"{path}: cannot be read ({reason})") from None
    except Image.DecompressionBombError:
        raise InputError(f"{path}: cannot be read (too large)") from None
    except (ValueError, SyntaxError, struct.error, zlib.error):
        raise InputError(f"{path}: cannot be read (damaged)") from None
    if not isinstance(text, str):
        raise InputError(
            f"{path}: holds no settings, expected a picture of `latentdiff sample`, of an editing command or"
            " of `latentdiff ui`"
        )
    return recipe_from(text, str(path))


def save_gif(frames: Sequence[Pixels], path: str | Path, *, milliseconds: int = 120) -> None:
    """Write frames uint8 [H, W, 3] as a looping GIF that rests on its last frame."""
    pictures = [Image.fromarray(frame).quantize(64, dither=Image.Dither.NONE) for frame in frames]
    durations = [milliseconds] * (len(frames) - 1) + [max(1500, milliseconds)]
    write_whole(
        path,
        lambda temporary: pictures[0].save(
            temporary, format="GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0
        ),
    )


def save_npz(
    images: Tensor, path: str | Path, *, labels: Sequence[int] | Sequence[str] | None = None
) -> None:
    """Write uint8 images [N, C, H, W] as the array ``images`` [N, H, W] or [N, H, W, 3], with their labels if
    given: int64 ``labels`` [N], or texts ``captions`` [N].
    """
    pixels = pixels_of(images)
    arrays: dict[str, NDArray[Any]] = {"images": pixels[..., 0] if pixels.shape[3] == 1 else pixels}
    if labels is not None and len(labels) and isinstance(labels[0], str):
        arrays["captions"] = np.array(labels, dtype=np.str_)
    elif labels is not None:
        arrays["labels"] = np.array(labels, dtype=np.int64)

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_whole(path, write)


def side_by_side(*pictures: Pixels) -> Pixels:
    """Pictures beside each other; lower ones end in white."""
    height = max(len(picture) for picture in pictures)
    parts: list[Pixels] = []
    for picture in pictures:
        parts += [np.full((height, 8, 3), 255, dtype=np.uint8)] if parts else []
        below = ((0, height - len(picture)), (0, 0), (0, 0))
        parts.append(np.pad(picture, below, constant_values=255))
    return np.concatenate(parts, axis=1)


def latent_pictures(x: Tensor) -> Tensor:
    """Latents [n, L] or [n, C, H, W] as grey pictures [n, 1, H, W] in [-1, 1], three deviations wide.

    The numbers of a vector stand in rows of about as many as there are rows, the channels of a grid beside
    one another; what is left over is black.
    """
    parts = x.float()[:, :, None, None] if x.dim() == 2 else x.float()
    count, height, width = parts.shape[1:]
    across = math.ceil(math.sqrt(count))
    down = math.ceil(count / across)
    whole = F.pad(parts / 3, (0, 0, 0, 0, 0, across * down - count), value=-1.0).clamp(-1, 1)
    rows: Tensor = whole.unflatten(1, (down, across)).permute(0, 1, 3, 2, 4)
    return rows.reshape(len(x), 1, down * height, across * width)


def check_place(path: str | Path) -> None:
    """InputError for a file that cannot be written, before the work that makes its content."""
    path = Path(path)
    if os.path.isdir(path):  # Path.is_dir raises for names that are too long
        raise InputError(f"{path}: cannot be written (it is a folder)")
    if os.path.exists(path) and not os.path.isfile(path):
        raise InputError(
            f"{path}: cannot be written (expected a file or nothing there, found something special)"
        )
    probe = path.with_name(f".probe-{os.getpid()}".ljust(len(os.fsencode(path.name)), "-"))  # as long a name
    try:
        write_whole(probe, lambda temporary: temporary.touch())
    except InputError as error:
        raise InputError(str(error).replace(str(probe), str(path), 1)) from None
    probe.unlink()
