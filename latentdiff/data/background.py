"""Colours under transparent pixels and around padded images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import ImageColor

from latentdiff.errors import InputError

Color = tuple[int, int, int]
"""Red, green and blue, 0..255 each."""
WHITE: Color = (255, 255, 255)


def parse_color(text: str | None) -> Color | None:
    """The colour of a CSS name, #rgb or #rrggbb, None for None; InputError for another text."""
    if text is None:
        return None
    try:
        found: tuple[int, ...] = ImageColor.getrgb(text.strip())
    except (ValueError, AttributeError):
        found = ()
    if len(found) != 3:
        raise InputError(
            f"`background`: expected the name of a colour (white, black, red, ...) or #rrggbb, found {text!r}"
        )
    red, green, blue = found
    return red, green, blue


def flatten_alpha(images: NDArray[np.uint8], background: Color = WHITE) -> NDArray[np.uint8]:
    """Composite RGBA pixels [..., 4] on a colour: [..., 3], rounded to nearest.

    An image is composited before it is resized, which mixes no colours of invisible pixels into visible ones:
    both are linear, so the result is that of resizing premultiplied pixels (Porter & Duff 1984).
    """
    alpha = images[..., 3:].astype(np.uint32)
    mixed = images[..., :3] * alpha + np.array(background, dtype=np.uint32) * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def border_color(image: NDArray[np.uint8]) -> tuple[int, ...]:
    """The median of the outermost pixels of an image [H, W, C] in each of its C channels."""
    sides = (image[0], image[-1], image[1:-1, 0], image[1:-1, -1])
    middle = np.median(np.concatenate(sides), axis=0)
    return tuple(int(value) for value in middle)
