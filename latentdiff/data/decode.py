"""One untrusted image file to uint8 pixels, or the reason why not: header and limits come first."""

import io
import stat
import struct
import warnings
import zlib
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentdiff.data.background import WHITE, Color, flatten_alpha
from latentdiff.data.color import to_srgb

FORMATS = ("PNG", "JPEG", "WEBP")
SUFFIXES = {
    ".png": "PNG",
    ".apng": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
}
OTHER_FORMATS = ("GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
"""Formats that are named where a file of one is refused."""
HEAD_BYTES = 64  # of a file, by which its format is known
MAX_PIXELS = 2**26
MAX_FILE_BYTES = 2**28
_PART_PIXELS = 2**20
_ORIENTATION = 0x0112
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, MemoryError)
"""What Pillow's three decoders raise on damaged content."""


@dataclass(frozen=True, eq=False)
class Decoded:
    """Pixels uint8 [H, W, C], C = 1 if every pixel is grey, else 3; what had to be converted, in words."""

    pixels: NDArray[np.uint8]
    conversions: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefusedImage:
    """Why a file is not used, in a few words."""

    reason: str


def format_of(head: bytes) -> str | None:
    """PNG, JPEG or WEBP, else one of OTHER_FORMATS or HEIF, by a file's first bytes; None otherwise."""
    Image.init()
    for name in (*FORMATS, *OTHER_FORMATS):
        accept = Image.OPEN[name][1] if name in Image.OPEN else None
        if accept is not None and accept(head) is True:
            return name
    return "HEIF" if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"msf") else None


def _is_16_bit(file: BinaryIO) -> bool:
    """Whether this is a PNG of 16 bits per channel (Pillow tells only for grey ones)."""
    header = file.read(25)
    file.seek(0)
    return header[:8] == b"\x89PNG\r\n\x1a\n" and header[12:16] == b"IHDR" and header[24:25] == b"\x10"


def _oriented(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo the EXIF orientation (2..8) of pixels [H, W, C] (EXIF 2.32, tag 0x0112)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 if there is none or it cannot be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (*_DAMAGED, KeyError, TypeError, IndexError):
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _pixels(image: Image.Image, background: Color, *, deep: bool) -> tuple[NDArray[np.uint8], list[str]]:
    """Grey or RGB pixels [H, W, C] of a loaded image and the conversions.

    16-bit: the high byte (a transparent color is ignored there); CMYK and palette: to RGB; other colour
    spaces: to sRGB; alpha: composited on ``background``.
    """
    conversions = ["16-bit"] if deep else []
    if deep:
        image.info.pop("transparency", None)
    if image.mode.startswith("I"):
        high = np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8
        info, image = image.info, Image.fromarray(high.astype(np.uint8))
        image.info = info
    if image.mode == "CMYK":
        conversions.append("CMYK")
    if image.mode in ("P", "PA"):
        conversions.append("palette")
    has_alpha, is_grey = image.has_transparency_data, image.mode in ("1", "L", "LA")
    if image.mode != "CMYK":
        image = image.convert(("L" if is_grey else "RGB") + ("A" if has_alpha else ""))
    image, converted = to_srgb(image)
    conversions += [converted] if converted else []
    if has_alpha:
        conversions.append("alpha")
        rgb = flatten_alpha(np.asarray(image.convert("RGBA")), background)
    elif is_grey:
        return np.asarray(image)[..., None], conversions
    else:
        rgb = np.asarray(image.convert("RGB"))
    grey = bool((rgb[..., :1] == rgb[..., 1:]).all())
    return rgb[..., :1] if grey else rgb, conversions


def _pixels_by_parts(
    image: Image.Image, background: Color, *, deep: bool
) -> tuple[NDArray[np.uint8], list[str]]:
    """:func:`_pixels` in parts of at most 2^20 pixels, as it makes copies."""
    height = max(1, _PART_PIXELS // image.width)
    out, conversions = np.empty((image.height, image.width, 1), dtype=np.uint8), list[str]()
    for y, x in product(range(0, image.height, height), range(0, image.width, _PART_PIXELS)):
        box = (x, y, min(x + _PART_PIXELS, image.width), min(y + height, image.height))
        part, conversions = _pixels(image.crop(box), background, deep=deep)
        if part.shape[2] > out.shape[2]:  # grey up to here
            out = np.repeat(out, part.shape[2], axis=2)
        out[box[1] : box[3], box[0] : box[2]] = part
    return out, conversions


def _decode(file: BinaryIO, suffix: str, background: Color, least: int) -> Decoded | RefusedImage:
    """Decode an open file; `suffix` as in SUFFIXES, `least` as of :func:`decode_file`."""
    deep = _is_16_bit(file)
    try:
        image = Image.open(file, formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return RefusedImage("too large")
    except _DAMAGED:
        return RefusedImage("not a PNG, JPEG or WEBP image")
    with image:
        if image.width * image.height > MAX_PIXELS:
            return RefusedImage("too large")
        kind = "JPEG" if image.format == "MPO" else image.format
        animated = image.format != "MPO" and getattr(image, "n_frames", 1) > 1
        try:
            if least and kind == "JPEG":
                image.draft(None, (least, least))
            image.load()
            pixels, conversions = _pixels_by_parts(image, background, deep=deep)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            return RefusedImage("too large")
        except _DAMAGED:
            return RefusedImage("truncated or damaged")
        orientation = _orientation(image)
        image.close()  # its memory, before another copy is made
    if animated:
        conversions.append("animated (first frame)")
    if kind != SUFFIXES.get(suffix):
        conversions.append("wrong suffix" if suffix else "without a suffix")
    if orientation != 1:
        conversions.append("EXIF-rotated")
    if pixels.shape[:2] == (1, 1):
        conversions.append("1x1")
    return Decoded(_oriented(pixels, orientation), tuple(conversions))


def size_in_head(path: Path) -> tuple[int, int] | None:
    """(height, width) that the decoded file will have, by its head; None for what cannot be read."""
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
                turned = _orientation(image) in (5, 6, 7, 8)
    except (*_DAMAGED, Image.DecompressionBombError):
        return None
    return (width, height) if turned else (height, width)


def decode_bytes(
    data: bytes, suffix: str, background: Color = WHITE, least: int = 0
) -> Decoded | RefusedImage:
    """As :func:`decode_file`, of the content; for threads, which share no warning filters."""
    if not data:
        return RefusedImage("empty")
    if len(data) > MAX_FILE_BYTES:
        return RefusedImage("too large")
    return _decode(io.BytesIO(data), suffix, background, least)


def decode_file(path: Path, background: Color = WHITE, least: int = 0) -> Decoded | RefusedImage:
    """Decode a PNG, JPEG or WEBP file, whatever of the three its suffix says; never raises for what is in the
    file.

    Transparent pixels are composited on ``background``. A large JPEG is decoded at a half, a quarter or an
    eighth of its size as long as no side falls below ``least`` pixels (0: at its own size): twenty times as
    fast for a photo of twelve megapixels. Refuses what is no regular file, above 256 MiB or 2^26 pixels
    (checked before decoding), or damaged.
    """
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            return RefusedImage("not a regular file")
        if facts.st_size == 0:
            return RefusedImage("empty")
        if facts.st_size > MAX_FILE_BYTES:
            return RefusedImage("too large")
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return _decode(file, path.suffix.lower(), background, least)
    except OSError as error:
        return RefusedImage(f"unreadable ({error.strerror or 'error'})")


@dataclass(frozen=True)
class FileLocation:
    """Where the bytes of an image called ``name`` are: a file, or ``size`` bytes at ``offset`` of a shard."""

    file: Path
    name: str
    offset: int = 0
    size: int | None = None

    def decode(self, background: Color = WHITE, least: int = 0) -> Decoded | RefusedImage:
        """The image, or why there is none, as of :func:`decode_file`."""
        try:
            return decode_bytes(self.read(), Path(self.name).suffix.lower(), background, least)
        except OSError as error:
            return RefusedImage(f"unreadable ({error.strerror or 'error'})")

    def read(self) -> bytes:
        """The bytes; fewer where the file has shrunk. OSError."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)
