"""The synthetic benchmark `scenes`: coloured pictures of MNIST digits with exact captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.catalog import data_root
from latentdiff.data.draws import Draws, draws_of
from latentdiff.data.load import assemble
from latentdiff.data.mnist import load_digits
from latentdiff.data.raw import SPLITS, RawSplit, RawSplits, complete
from latentdiff.data.resize import Fit, ReadOptions
from latentdiff.data.synthetic_scenes import (
    COLOURS,
    CORNERS,
    RELATIONS,
    SEEN,
    SIDE,
    SIZES,
    UNSEEN,
    Scene,
    Thing,
    caption,
    contrasting,
)
from latentdiff.data.types import Dataset

COUNTS = (40_000, 2_000, 2_000)  # train, val, test
PAIRS = 0.4  # of the scenes, that show two things
JITTER = 10  # largest deviation of a colour's channel
INK = 0.1  # what belongs to a digit's box
# pixels a side that the 28 x 28 of a digit become: 24 or 14 for the digit itself
SPAN = {"large": 34, "small": 20, None: 20}


def read(options: ReadOptions) -> RawSplits:
    """The scenes of :func:`load_scenes`; with ``options.split`` that split alone, without splits."""
    mnist = data_root(options.root) if options.name == "scenes-mnist" else None
    if options.split is None:
        return load_scenes(seed=options.seed, mnist=mnist)
    digits, k = _digits(mnist), SPLITS.index(options.split)
    return RawSplits(_split(digits, k, COUNTS, seed=options.seed), unsplit=True)


def load_scenes(
    *, seed: int, mnist: Path | None = None, counts: tuple[int, int, int] | None = None
) -> RawSplits:
    """Scenes of 32 x 32 pixels, uint8 RGB: ``counts`` (40,000) to train, (2,000) to validate and (2,000) to
    test; no labels.

    A function of the seed and the digits, which are those of the split: the package's 5,000, or all of MNIST
    if ``mnist`` says where it is (see :func:`load_digits`). Training and validation show no digit in its
    held-out colour (scenes.held_out), half of the test set does. Captions name the digit by a word or by a
    numeral and leave out size or background now and then.
    """
    digits = _digits(mnist)
    train, val, test = (_split(digits, k, counts or COUNTS, seed=seed) for k in range(3))
    return RawSplits(train, val, test)


def scenes_of(counts: tuple[int, int, int], *, seed: int = 0) -> Dataset:
    """As many scenes to train, validate and test; the first training scenes of "scenes" are the same."""
    return assemble("scenes", load_scenes(seed=seed, counts=counts), Fit(), seed=seed)


def _digits(mnist: Path | None) -> tuple[RawSplit, RawSplit, RawSplit]:
    return complete(load_digits(mnist), seed=0)


def _split(
    digits: tuple[RawSplit, RawSplit, RawSplit], k: int, counts: tuple[int, int, int], *, seed: int
) -> RawSplit:
    """Split ``k``: its random integers follow those of the splits before it."""
    return _drawn(digits[k], counts[k], sum(counts[:k]), seed=seed, test=k == 2)


def _drawn(digits: RawSplit, count: int, first: int, *, seed: int, test: bool) -> RawSplit:
    """``count`` scenes from these digits, the random integers of scene k those of position ``first + k``."""
    assert digits.labels is not None
    labels = digits.labels.astype(np.int64)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    captions = []
    for k, draws in enumerate(draws_of("scene", first, count, seed=seed)):
        chosen = [draws.below(len(labels)) for _ in range(2)]
        scene, spoken, numerals = _scene([int(labels[i]) for i in chosen], draws, unseen=test and k % 2 == 1)
        images[k] = draw(scene, [digits.images[i, ..., 0] for i in chosen], draws)
        captions.append(caption(spoken, numerals=numerals))
    return RawSplit(images, None, tuple(captions))


def _scene(digits: list[int], draws: Draws, *, unseen: bool) -> tuple[Scene, Scene, bool]:
    """(what is drawn, what the caption says of it, whether by numerals) of two ``digits``, or of one."""
    colours = UNSEEN if unseen else SEEN
    first = draws.of(colours[digits[0]])
    pair, numerals, silent = draws.chance(PAIRS), draws.chance(0.3), draws.chance(0.2)
    if pair:
        second = draws.of([c for c in SEEN[digits[1]] if c in contrasting(first)])
        grounds = [c for c in contrasting(first) if c in contrasting(second)]
        things: tuple[Thing, ...] = (Thing(digits[0], first), Thing(digits[1], second))
        scene = Scene(things, draws.of(RELATIONS), draws.of(grounds))
    else:
        size = draws.of(SIZES)
        things = (Thing(digits[0], first, size, draws.of(CORNERS) if size == "small" else None),)
        scene = Scene(things, None, draws.of(contrasting(first)))
    spoken = scene
    if silent:
        spoken = replace(spoken, background=None)
    if draws.chance(0.2):
        spoken = replace(spoken, things=tuple(replace(thing, size=None) for thing in things))
    return scene, spoken, numerals


def draw(scene: Scene, glyphs: Sequence[NDArray[np.uint8]], draws: Draws) -> NDArray[np.uint8]:
    """The picture uint8 [32, 32, 3] of a scene that says everything, from a digit [28, 28] per thing."""
    assert scene.background is not None
    canvas = np.full((SIDE, SIDE, 3), coloured(scene.background, draws))
    for k, (thing, glyph) in enumerate(zip(scene.things, glyphs, strict=False)):
        alpha = _placed(glyph, thing, _centre(scene, k, draws), half=_half(scene, k))[..., None]
        canvas += alpha * (coloured(thing.colour, draws) - canvas)
    picture: NDArray[np.uint8] = np.rint(canvas).astype(np.uint8)
    return picture


def coloured(name: str, draws: Draws) -> NDArray[np.float64]:
    """The colour within ``JITTER`` of its channels, which the palette keeps that far from 0 and 255."""
    return np.array([min(255, c + draws.below(2 * JITTER + 1) - JITTER) for c in COLOURS[name]], np.float64)


def _centre(scene: Scene, k: int, draws: Draws) -> tuple[int, int]:
    """(row, column) where the middle of thing ``k`` goes."""
    corner = scene.things[k].corner
    near, far, middle = SIDE // 4, 3 * SIDE // 4, SIDE // 2
    if scene.relation is not None:
        along, across = (near, far)[k] + draws.below(3) - 1, middle + draws.below(9) - 4
        return (along, across) if scene.relation == "above" else (across, along)
    if corner is not None:
        row, column = (near if "top" in corner else far), (near if "left" in corner else far)
        return row + draws.below(5) - 2, column + draws.below(5) - 2
    return middle + draws.below(5) - 2, middle + draws.below(5) - 2


def _half(scene: Scene, k: int) -> tuple[slice, slice]:
    """Rows and columns that thing ``k`` may fill."""
    whole, part = slice(0, SIDE), slice(k * SIDE // 2, (k + 1) * SIDE // 2)
    if scene.relation is None:
        return whole, whole
    return (part, whole) if scene.relation == "above" else (whole, part)


def _placed(
    glyph: NDArray[np.uint8], thing: Thing, centre: tuple[int, int], *, half: tuple[slice, slice]
) -> NDArray[np.float64]:
    """The digit's coverage [32, 32] in 0..1: scaled, its box in ``half``, near ``centre``."""
    scale = _resampling(glyph.shape[0], SPAN[thing.size])
    scaled = scale @ (glyph / 255.0) @ scale.T
    rows, columns = (np.flatnonzero((scaled > INK).any(axis)) for axis in (1, 0))
    box = scaled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    placed = np.zeros((SIDE, SIDE))
    starts = []
    for length, middle, room in zip(box.shape, centre, half, strict=True):
        starts.append(min(max(middle - length // 2, room.start), room.stop - length))
    placed[starts[0] : starts[0] + box.shape[0], starts[1] : starts[1] + box.shape[1]] = box
    return placed


@cache
def _resampling(n: int, m: int) -> NDArray[np.float64]:
    """The matrix [m, n] that scales n samples to m: a triangle filter, as wide as it takes not to alias."""
    width = max(1.0, n / m)
    centres = (np.arange(m) + 0.5) * n / m - 0.5
    weights = np.clip(1 - np.abs(centres[:, None] - np.arange(n)) / width, 0, None)
    matrix: NDArray[np.float64] = weights / weights.sum(1, keepdims=True)
    return matrix
