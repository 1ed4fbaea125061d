"""Sizes and channels: one image or a batch to the shape of the options."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentdiff.errors import InputError

RESIZE_MODES = ("crop", "stretch", "pad")
CLASS_FOLDERS = ("auto", "only", "ignore")
MOST_CHANGED = 2.0  # an aspect ratio that changes by more is counted
MAX_SIDE = 4096
_HEAVY = {
    "crop": "cropped to less than half",
    "stretch": "stretched to more than twice the aspect ratio",
    "pad": "padded to more than twice the area",
}
_RESAMPLE = Image.Resampling.BICUBIC


@dataclass(frozen=True)
class Fit:
    """The options of reading: size (height, width) and channels (None: the images' own), mode, folders."""

    size: tuple[int, int] | None = None
    channels: int | None = None
    resize: str = "crop"
    class_folders: str = "auto"

    def __post_init__(self) -> None:
        if self.channels not in (None, 1, 3):
            raise InputError(f"`channels`: expected 1 (grey) or 3 (RGB), found {self.channels!r}")
        if self.resize not in RESIZE_MODES:
            raise InputError(f"`resize`: expected one of {', '.join(RESIZE_MODES)}, found {self.resize!r}")
        if self.class_folders not in CLASS_FOLDERS:
            modes = ", ".join(CLASS_FOLDERS)
            raise InputError(f"`class_folders`: expected one of {modes}, found {self.class_folders!r}")


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


def flatten_alpha(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Composite RGBA pixels [..., 4] on white: [..., 3], rounded to nearest."""
    alpha = images[..., 3:].astype(np.uint32)
    mixed = images[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def set_channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """[..., C] to 1 (ITU-R 601 luma, as Pillow rounds it) or 3 channels (the grey value three times)."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    weights = np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((images @ weights + 0x8000) >> 16).astype(np.uint8)[..., None]


def resized(image: NDArray[np.uint8], size: tuple[int, int], mode: str) -> NDArray[np.uint8]:
    """One image [H, W, C] at (height, width) `size`, bicubic with antialiasing.

    crop: the largest centered region of the target's shape; stretch: the whole image, distorted; pad: the
    whole image, centered, its border pixels repeated outwards.
    """
    (height, width), (h, w) = image.shape[:2], size
    if (height, width) == (h, w):
        return image
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    box, target = (0.0, 0.0, float(width), float(height)), (w, h)
    if mode == "crop":
        scale = min(width / w, height / h)
        left, top = (width - w * scale) / 2, (height - h * scale) / 2
        box = (max(left, 0.0), max(top, 0.0), min(left + w * scale, width), min(top + h * scale, height))
    elif mode == "pad":
        scale = min(w / width, h / height)
        target = max(1, round(width * scale)), max(1, round(height * scale))
    pixels = np.asarray(picture.resize(target, _RESAMPLE, box=box)).reshape(target[1], target[0], -1)
    x, y = w - target[0], h - target[1]
    return np.pad(pixels, ((y // 2, y - y // 2), (x // 2, x - x // 2), (0, 0)), mode="edge")


def resize_effects(shape: Sequence[int], size: tuple[int, int], mode: str) -> tuple[str, ...]:
    """What :func:`resized` does to an image [H, W, ...] beyond making it smaller; () in most cases."""
    (height, width), (h, w) = shape[:2], size
    if (height, width) == (h, w):
        return ()
    effects = []
    scales = (h / height, w / width)
    if (max(scales) if mode != "pad" else min(scales)) > 1:
        effects.append("enlarged")
    if max(scales) > MOST_CHANGED * min(scales):
        effects.append(_HEAVY[mode])
    return tuple(effects)
