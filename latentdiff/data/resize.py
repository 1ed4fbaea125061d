"""Sizes and channels: one image or a batch to the shape of the options."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentdiff.data.background import WHITE, Color, border_color, parse_color
from latentdiff.errors import InputError

_HEAVY = {
    "crop": "cropped to less than half",
    "smart": "cropped to less than half",
    "pad": "padded to more than twice the area",
    "edge": "padded to more than twice the area",
    "stretch": "stretched to more than twice the aspect ratio",
}
"""The ways to bring an image to another aspect ratio, with what is said where the ratio changes much."""
FITS = tuple(_HEAVY)
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FILTERS = tuple(_FILTERS)
CLASS_FOLDERS = ("auto", "only", "ignore")
LABELS_FROM, CAPTIONS_FROM = ("folder", "name", "none"), ("text", "name", "none")
MOST_CHANGED = 2.0  # an aspect ratio that changes by more is counted
MAX_SIDE = 4096
_OVERSAMPLED = 4  # pixels of a decoded image for one of the result, along a side
_THUMBNAIL = 128  # pixels of the shorter side that a window is chosen by


@dataclass(frozen=True)
class Fit:
    """The options of reading.

    size: (height, width) in pixels, channels: 1 or 3, None for the images' own; ``fit``: how another aspect
    ratio is brought to the size, of :data:`FITS`; ``resize``: the filter, of :data:`FILTERS`; ``background``:
    a colour as :func:`latentdiff.data.background.parse_color` takes it, None for white under transparent
    pixels and the border's colour around padded images; ``class_folders``, ``labels_from`` and
    ``captions_from`` as of :func:`latentdiff.data.load_dataset`; ``image_cache``: the folder of decoded
    images, "off", or None for the default. InputError for other values.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "crop"
    class_folders: str = "auto"
    resize: str = "bicubic"
    background: str | None = None
    labels_from: str = "folder"
    captions_from: str = "text"
    image_cache: str | None = None

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise InputError(f"`channels`: expected 1 (grey) or 3 (RGB), found {self.channels!r}")
        for name, known in _CHOICES.items():
            if (found := getattr(self, name)) not in known:
                hint = " (these are values of `fit`)" if name == "resize" and found in FITS else ""
                raise InputError(f"`{name}`: expected one of {', '.join(known)}, found {found!r}{hint}")
        parse_color(self.background)
        if self.class_folders == "only" and self.labels_from != "folder":
            raise InputError(f"`class_folders` only needs `labels_from` folder, found {self.labels_from}")

    @property
    def under(self) -> Color:
        """The colour under transparent pixels."""
        return parse_color(self.background) or WHITE

    @property
    def least(self) -> int:
        """The smallest side, in pixels, of an image that is as good as the whole for :meth:`resized`.

        0 for images as they are: without a size, and with the nearest pixel.
        """
        if self.size is None or self.resize == "nearest":
            return 0
        return max(_OVERSAMPLED * max(self.size), _THUMBNAIL)

    def resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image [H, W, C] as :func:`resized` brings it to ``size``; unchanged without a size."""
        if self.size is None:
            return image
        return resized(image, self.size, self.fit, self.resize, parse_color(self.background))

    def effects(self, shape: Sequence[int]) -> tuple[str, ...]:
        """As :func:`resize_effects`, of an image [H, W, ...]; () without a size."""
        return () if self.size is None else resize_effects(shape, self.size, self.fit)


_CHOICES = {
    "fit": FITS,
    "resize": FILTERS,
    "class_folders": CLASS_FOLDERS,
    "labels_from": LABELS_FROM,
    "captions_from": CAPTIONS_FROM,
}


@dataclass(frozen=True)
class ReadOptions:
    """The arguments of the ``read`` of a named data set: its name, ``seed`` of what it draws, ``root`` of
    downloaded files (None: the default), ``split``: the one that is needed (None: all).
    """

    name: str
    fit: Fit
    seed: int = 0
    root: Path | None = None
    split: str | None = None


def parse_size(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    """(height, width) in pixels from one side or a pair; InputError unless both are integers in 1..4096."""
    if size is None:
        return None
    pair: tuple[object, ...] = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(pair) != 2 or any(
        isinstance(s, bool) or not isinstance(s, int) or not 1 <= s <= MAX_SIDE for s in pair
    ):
        raise InputError(f"`size`: expected 1..{MAX_SIDE} pixels or a pair (height, width), found {size!r}")
    height, width = (int(str(side)) for side in pair)
    return height, width


def set_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[..., C] to 1 (ITU-R 601 luma, as Pillow rounds it) or 3 channels (the grey value three times)."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((images @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]


def resized(
    image: NDArray[np.uint8],
    size: tuple[int, int],
    fit: str,
    resize: str = "bicubic",
    background: Color | None = None,
) -> NDArray[np.uint8]:
    """One image [H, W, C] at (height, width) ``size``, with a filter of :data:`FILTERS`; all but nearest
    smooth before they make an image smaller.

    ``fit``: crop: the largest centered region of the target's shape; smart: the region of that size with the
    most edges; stretch: the whole image, distorted; pad: the whole image, centered on ``background`` (None:
    the median of its border, in each channel); edge: the same, its border pixels repeated outwards. A grey
    image on a colour gets three channels.
    """
    (height, width), (h, w) = image.shape[:2], size
    if (height, width) == (h, w):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    box, target = (0.0, 0.0, float(width), float(height)), (w, h)
    if fit in ("crop", "smart"):
        scale = min(width / w, height / h)
        spare = max(width - w * scale, 0.0), max(height - h * scale, 0.0)
        left, top = smart_window(picture, spare) if fit == "smart" else (spare[0] / 2, spare[1] / 2)
        if resize == "nearest":  # whole pixels, so that each is repeated as often as the others
            left, top = float(int(left)), float(int(top))
        box = (left, top, min(left + w * scale, width), min(top + h * scale, height))
    elif fit in ("pad", "edge"):
        scale = min(w / width, h / height)
        target = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(picture.resize(target, _FILTERS[resize], box=box)).reshape(target[1], target[0], -1)
    x, y = w - target[0], h - target[1]
    sides = ((y // 2, y - y // 2), (x // 2, x - x // 2))
    if fit == "pad" and (x or y):
        return _padded(pixels, sides, background or border_color(image))
    return np.pad(pixels, (*sides, (0, 0)), mode="edge")


def _padded(
    pixels: NDArray[np.uint8], sides: tuple[tuple[int, int], tuple[int, int]], color: Sequence[int]
) -> NDArray[np.uint8]:
    """Pixels [H, W, C] with so many rows and columns of a colour before and after them."""
    if pixels.shape[2] == 1 and len(set(color)) > 1:
        pixels = np.repeat(pixels, 3, axis=2)
    (above, below), (before, after) = sides
    height, width, channels = pixels.shape
    whole = np.empty((above + height + below, before + width + after, channels), dtype=np.uint8)
    whole[:] = np.array(color[:channels], dtype=np.uint8)
    whole[above : above + height, before : before + width] = pixels
    return whole


def smart_window(picture: Image.Image, spare: tuple[float, float]) -> tuple[float, float]:
    """The left and top of the window of an image with the most edges, if it may move by ``spare`` pixels to
    the right and down; of equal ones the most central.

    Edges are the absolute differences of neighboring grey values in an image of about 128 pixels on the
    shorter side, added up; only one of the two numbers in ``spare`` may be above 0.
    """
    across = spare[0] >= spare[1]
    room = spare[0] if across else spare[1]
    grey = picture.convert("L")
    factor = max(1, min(grey.size) // _THUMBNAIL)
    values = np.asarray(grey.reduce(factor)).astype(np.int64)
    along = values if across else values.T  # [across the way, along the way]
    edges = np.zeros(along.shape[1], dtype=np.int64)
    edges[1:] += np.abs(np.diff(along, axis=1)).sum(axis=0)
    edges += np.abs(np.diff(along, axis=0)).sum(axis=0)
    length = (picture.width if across else picture.height) - room
    reach = max(1, min(len(edges), round(length / factor)))
    sums = np.convolve(edges, np.ones(reach, dtype=np.int64), mode="valid")
    best = np.flatnonzero(sums == sums.max())
    middle = (len(sums) - 1) / 2
    chosen = int(best[np.argmin(np.abs(best - middle))])
    at = room / 2 if len(sums) == 1 else room * chosen / (len(sums) - 1)
    return (at, spare[1]) if across else (spare[0], at)


def resize_effects(shape: Sequence[int], size: tuple[int, int], fit: str) -> tuple[str, ...]:
    """What :func:`resized` does to an image [H, W, ...] beyond making it smaller; () in most cases."""
    (height, width), (h, w) = shape[:2], size
    if (height, width) == (h, w):
        return ()
    effects = []
    scales = (h / height, w / width)
    if (min(scales) if fit in ("pad", "edge") else max(scales)) > 1:
        effects.append("enlarged")
    if max(scales) > MOST_CHANGED * min(scales):
        effects.append(_HEAVY[fit])
    return tuple(effects)
