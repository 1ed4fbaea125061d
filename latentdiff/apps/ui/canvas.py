"""Converts uploads and paintings to the images and masks of a model, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.apps.ui.limits import SIDE
from latentdiff.data import to_float
from latentdiff.data.background import flatten_alpha
from latentdiff.data.decode import RefusedImage, decode_file
from latentdiff.data.resize import resized, set_channels
from latentdiff.errors import InputError
from latentdiff.viz.images import Pixels

SHOWN = 448  # pixels of a canvas, about: small images are enlarged to be painted on
PAINTED = 0.25  # painted share of a pixel, above which it counts as missing


def canvas(image: Pixels, shape: tuple[int, ...]) -> Pixels:
    """An image uint8 [h, w(, c)] as a model of ``shape`` [C, H, W] sees it, enlarged: uint8 [f H, f W, 3]."""
    small = set_channels(_fitted(image, shape), 3)
    factor = max(1, round(SHOWN / max(shape[1:])))
    return small.repeat(factor, 0).repeat(factor, 1)


def blank(shape: tuple[int, ...], value: int) -> Pixels:
    """An empty canvas of one grey value."""
    return canvas(np.full((*shape[1:], 1), value, dtype=np.uint8), shape)


def image_of(image: Pixels | None, shape: tuple[int, ...]) -> Tensor:
    """The image float32 [1, C, H, W] in [-1, 1] that a model of ``shape`` sees in a canvas or an upload.

    InputError for none, and for sides beyond the limit.
    """
    if image is None:
        raise InputError("expected an image: upload one, paint one or take a sample")
    pixels = np.ascontiguousarray(_fitted(image, shape).transpose(2, 0, 1))
    return to_float(torch.from_numpy(pixels))[None]


def painted_mask(layers: list[Pixels], shape: tuple[int, ...]) -> Tensor:
    """A mask float32 [H, W]: 0 (missing) where the layers, uint8 RGBA, are painted, else 1.

    InputError where nothing is, or everything.
    """
    share = np.zeros(shape[1:], dtype=np.float64)
    for layer in layers:
        _check(layer)
        alpha = (layer[..., 3:] > 127).astype(np.uint8) * 255
        share = np.maximum(share, _sized(alpha, shape)[..., 0] / 255)
    missing = share > PAINTED
    if not missing.any():
        raise InputError("expected a painted mask: brush over what is to be filled in")
    if missing.all():
        raise InputError("the whole image is painted over; expected a part of it")
    return torch.from_numpy(~missing).float()


def editor_image(editor: Mapping[str, Any] | None) -> Any:
    """The image that an editor shows: its composite once something is painted, before that the background."""
    parts = editor or {}
    return parts.get("background") if parts.get("composite") is None else parts["composite"]


def open_upload(path: str) -> Pixels:
    """The image in an uploaded file, read as those of a data set; InputError for other files."""
    found = decode_file(Path(path))
    if isinstance(found, RefusedImage):
        raise InputError(f"{Path(path).name}: expected a PNG, JPEG or WEBP image, found: {found.reason}")
    return found.pixels


def _check(image: NDArray[np.uint8]) -> None:
    if max(image.shape[:2]) > SIDE:
        raise InputError(
            f"expected an image of at most {SIDE} pixels a side, got {image.shape[1]} x {image.shape[0]}"
        )


def _fitted(image: Pixels, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """[H, W, C]: without alpha, cropped to the shape of the model's images."""
    _check(image)
    pixels = image[..., None] if image.ndim == 2 else image
    pixels = flatten_alpha(pixels) if pixels.shape[2] == 4 else pixels
    return set_channels(_sized(np.ascontiguousarray(pixels), shape), shape[0])


def _sized(pixels: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """[H, W, c]: the mean of whole blocks (an enlarged image comes back exactly), else resampled."""
    height, width = shape[1:]
    factor = pixels.shape[0] // height
    if factor and pixels.shape[:2] == (factor * height, factor * width):
        blocks = pixels.reshape(height, factor, width, factor, -1).mean((1, 3))
        means: NDArray[np.uint8] = np.rint(blocks).astype(np.uint8)
        return means
    return resized(pixels, (height, width), "crop")
