"""Colour profiles and gamma of image files: pixels converted to sRGB, which data sets and screens assume."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

PROFILE, GAMMA = "color profile to sRGB", "gamma to sRGB"
UNUSABLE = "unusable color profile (ignored)"
SAME = 2  # levels of 255: profiles that change no colour by more are sRGB under another name
SRGB_GAMMA = 1 / 2.2  # what PNG files of sRGB images say


def to_srgb(image: Image.Image) -> tuple[Image.Image, str | None]:
    """An image of mode L, LA, RGB, RGBA or CMYK as sRGB (L, LA, RGB or RGBA), and the conversion in words.

    Follows the embedded ICC profile, else the gAMA value of a PNG (which an sRGB chunk overrides). Unchanged,
    with None, where there is neither or they say sRGB. Grey images and grey pixels stay grey; alpha is kept.
    """
    profile = image.info.get("icc_profile")
    if profile:
        return _by_profile(image, bytes(profile))
    gamma = image.info.get("gamma")
    if not isinstance(gamma, float) or "srgb" in image.info or image.mode == "CMYK" or not 0.05 < gamma < 20:
        return image, None
    if abs(gamma / SRGB_GAMMA - 1) < 0.05:
        return image, None
    light = (np.arange(256) / 255) ** (1 / gamma)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return _mapped(image, np.rint(255 * encoded).astype(np.uint8)), GAMMA


def _by_profile(image: Image.Image, profile: bytes) -> tuple[Image.Image, str | None]:
    mode = image.mode if image.mode == "CMYK" else image.mode.removesuffix("A")
    transform = _transform(profile, mode)
    if isinstance(transform, str):
        return image, transform or None
    if isinstance(transform, np.ndarray):
        return _mapped(image, transform), PROFILE
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    plain = image if image.mode in ("RGB", "CMYK") else image.convert("RGB")
    found = ImageCms.applyTransform(plain, transform)
    assert found is not None  # it is None only for a change in place
    if mode == "RGB":
        found = _with_grey(np.asarray(plain), np.asarray(found))
    if alpha is not None:
        found.putalpha(alpha)
    return found, PROFILE


def _with_grey(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Image.Image:
    """``after`` with pixels that were grey before exactly grey: the transform rounds by channel."""
    grey = (before[..., :1] == before[..., 1:]).all(-1, keepdims=True)
    mean = np.rint(after.mean(-1, keepdims=True)).astype(np.uint8)
    near = np.abs(after.astype(np.int16) - mean).max(-1, keepdims=True) <= 1
    return Image.fromarray(np.where(grey & near, mean, after).astype(np.uint8))


@lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | NDArray[np.uint8] | str:
    """The transform of RGB or CMYK pixels, a table of 256 for grey ones; "" for sRGB, else UNUSABLE."""
    # Of grey profiles LittleCMS interpolates between a few points, which is off by 10 levels for linear ones.
    exact = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
    if not features.check("littlecms2"):
        return UNUSABLE
    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION | exact,
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):  # damaged, or of another kind of image
        return UNUSABLE
    if mode == "CMYK":
        return transform
    probe = np.arange(256, dtype=np.uint8)[None]
    if mode == "RGB":
        steps = np.linspace(0, 255, 9).astype(np.uint8)
        probe = np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    found = ImageCms.applyTransform(Image.fromarray(probe), transform)
    assert found is not None
    mapped = np.asarray(found).astype(np.int16)
    if mode == "L":
        table = np.rint(mapped.mean(-1)).astype(np.uint8)[0]
        return "" if np.abs(table.astype(np.int16) - np.arange(256)).max() <= SAME else table
    return "" if np.abs(mapped - probe).max() <= SAME else transform


def _mapped(image: Image.Image, table: NDArray[np.uint8]) -> Image.Image:
    """Every channel but alpha through a table of 256 values."""
    pixels = np.array(image)
    if image.mode in ("LA", "RGBA"):
        pixels[..., :-1] = table[pixels[..., :-1]]
    else:
        pixels = table[pixels]
    return Image.fromarray(pixels)
