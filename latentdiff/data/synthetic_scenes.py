"""The synthetic benchmark `scenes`: scene descriptions, their exact captions, and back. No pixels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import product

SETS = ("scenes", "scenes-mnist")  # the data sets that are drawn so, and whose captions can be read back
SIDE = 32  # pixels a side of a picture
COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (250, 225, 60),
    "green": (40, 160, 70),
    "blue": (45, 80, 215),
    "purple": (150, 50, 185),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
"""Colour names and their RGB values; those in a picture are up to 10 away in each channel."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIZES = ("large", "small")
CORNERS = ("top left", "top right", "bottom left", "bottom right")
RELATIONS = ("left of", "above")
_CONTRAST = 120  # least distance of two RGB colours that may touch


@dataclass(frozen=True)
class Thing:
    """A digit 0..9 in a colour; size "large" or "small", corner of a small one; None: not in the caption."""

    digit: int
    colour: str
    size: str | None = None
    corner: str | None = None


@dataclass(frozen=True)
class Scene:
    """One thing, or two in a relation ("left of", "above"); background: None where the caption has none."""

    things: tuple[Thing, ...]
    relation: str | None = None
    background: str | None = None


@cache
def contrasting(colour: str) -> tuple[str, ...]:
    """The colours that contrast with ``colour`` where they touch, in the order of COLOURS."""
    here = COLOURS[colour]
    return tuple(
        name
        for name, there in COLOURS.items()
        if sum((a - b) ** 2 for a, b in zip(here, there, strict=True)) >= _CONTRAST**2
    )


def held_out(digit: int, colour: str) -> bool:
    """Whether training shows no digits of this kind in this colour: one colour of each digit."""
    return (digit + 3 * list(COLOURS).index(colour)) % len(COLOURS) == 0


SEEN = {digit: tuple(c for c in COLOURS if not held_out(digit, c)) for digit in range(10)}
UNSEEN = {digit: tuple(c for c in COLOURS if held_out(digit, c)) for digit in range(10)}


def caption(scene: Scene, *, numerals: bool = False) -> str:
    """The sentence for a scene: "a small red seven in the top left corner on a blue background".

    numerals: 7 instead of seven. What the scene does not say is left out.
    """
    words = f" {scene.relation} ".join(_noun(thing, numerals=numerals) for thing in scene.things)
    return words if scene.background is None else f"{words} on {with_article(scene.background)} background"


def _noun(thing: Thing, *, numerals: bool) -> str:
    name = str(thing.digit) if numerals else DIGITS[thing.digit]
    words = " ".join(word for word in (thing.size, thing.colour, name) if word)
    corner = "" if thing.corner is None else f" in the {thing.corner} corner"
    return with_article(words) + corner


def with_article(words: str) -> str:
    """The words with "a" or "an" before them, by the sound: a unicorn."""
    return f"{'an' if words[0] in 'aeiou' and not words.startswith('uni') else 'a'} {words}"


_THING = (
    rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLOURS)}) ({'|'.join(DIGITS)}|[0-9])"
    rf"(?: in the ({'|'.join(CORNERS)}) corner)?"
)
_SENTENCE = re.compile(
    rf"{_THING}(?: ({'|'.join(RELATIONS)}) {_THING})?(?: on an? ({'|'.join(COLOURS)}) background)?"
)


def parse(text: str) -> Scene:
    """The scene that a caption describes, the inverse of :func:`caption`. ValueError for another sentence."""
    match = _SENTENCE.fullmatch(" ".join(text.lower().split()).rstrip("."))
    if match is None:
        raise ValueError(
            'expected a sentence like "a large red seven on a blue background" or "a green 3 left of a'
            f' yellow 5", found {text!r}'
        )
    first, relation, second, background = (
        match.group(1, 2, 3, 4),
        match[5],
        match.group(6, 7, 8, 9),
        match[10],
    )
    things = (_thing(*first),) if relation is None else (_thing(*first), _thing(*second))
    return Scene(things, relation, background)


def _thing(size: str | None, colour: str, digit: str, corner: str | None) -> Thing:
    return Thing(int(digit) if digit.isdigit() else DIGITS.index(digit), colour, size, corner)


def single_scenes(*, held: bool) -> tuple[Scene, ...]:
    """Every large digit in every colour on every background, of the kinds ``held`` out or of the others."""
    kinds = UNSEEN if held else SEEN
    return tuple(
        Scene((Thing(digit, colour, "large"),), background=background)
        for digit, colour in ((d, c) for d, colours in kinds.items() for c in colours)
        for background in contrasting(colour)
    )


def paired_scenes() -> tuple[Scene, ...]:
    """A fixed list of scenes of two things: each pair of digits once, of kinds seen in training."""
    found = []
    for n, (a, b) in enumerate(product(range(10), repeat=2)):
        first = SEEN[a][n % len(SEEN[a])]
        seconds = [c for c in SEEN[b] if c in contrasting(first)]
        second = seconds[n * 3 % len(seconds)]
        grounds = [c for c in contrasting(first) if c in contrasting(second)]
        things = (Thing(a, first), Thing(b, second))
        found.append(Scene(things, RELATIONS[n % 2], grounds[n * 5 % len(grounds)]))
    return tuple(found)
