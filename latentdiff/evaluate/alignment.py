"""Text alignment on the synthetic data `scenes`: the attributes of a caption, read back from the image drawn
for it: colours by measurement, digits by the network `mnist`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from latentdiff.data import Dataset, split_of
from latentdiff.data.synthetic_scenes import (
    COLOURS,
    SETS,
    SIDE,
    Scene,
    caption,
    paired_scenes,
    parse,
    single_scenes,
)
from latentdiff.evaluate.interval_score import Resampling, Score, Scores, share_score
from latentdiff.evaluate.sampling import draw_samples
from latentdiff.evaluate.settings import EvaluationSettings
from latentdiff.metrics.features import extract, feature_network
from latentdiff.pipeline.pipeline import Pipeline

BOX, FRAME = 20, 28  # a digit of MNIST fits into 20 pixels and lies by its centre of mass in 28
LARGE = 19  # pixels a side from which a digit is large: halfway between the 14 and 24 of the set
# shares of the largest coverage: of a digit's inside, and of every pixel that belongs to it
FIRM, FAINT = 0.9, 0.3
BLANK = 60  # RGB distance below which nothing stands out
_NAMES = tuple(COLOURS)
_VALUES = np.array(list(COLOURS.values()), np.float64)


@dataclass(frozen=True)
class DetectedDigit:
    """One digit found in a picture: its box's middle as (row, column), and its longer side, in pixels."""

    digit: int
    colour: str
    middle: tuple[float, float]
    side: int


@dataclass(frozen=True)
class SceneReading:
    """The digits in the first and the second half of an image (or in all of it), and its background."""

    background: str
    things: tuple[DetectedDigit | None, ...]


def read(images: Tensor, scenes: Sequence[Scene]) -> list[SceneReading]:
    """Readings of uint8 images [N, 3, 32, 32]. Of a scene only this is used: one thing or two, beside or
    above each other.

    A half without anything in it is None. ValueError for other shapes, or if the numbers differ.
    """
    if images.shape[1:] != (3, SIDE, SIDE) or len(images) != len(scenes):
        raise ValueError(f"expected images [{len(scenes)}, 3, {SIDE}, {SIDE}], found {list(images.shape)}")
    pixels = images.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64)
    grounds = [_ground(picture) for picture in pixels]
    parts = [
        _parts(picture, ground, scene) for picture, ground, scene in zip(pixels, grounds, scenes, strict=True)
    ]
    glyphs = [part.glyph for found in parts for part in found if part is not None]
    digits = iter(_digits(glyphs))
    readings = []
    for ground, found in zip(grounds, parts, strict=True):
        things = tuple(
            None if p is None else DetectedDigit(next(digits), _nearest(p.colour), p.middle, p.side)
            for p in found
        )
        readings.append(SceneReading(_nearest(ground), things))
    return readings


def attributes(scene: Scene, reading: SceneReading) -> dict[str, bool]:
    """Compare the attributes of a scene with a reading of its image: whether each is right.

    Names: digit, colour, size, corner, background of one thing; of two: digit 1, colour 1, digit 2, colour 2,
    relation (that the first thing of the sentence, by its digit and colour, is no better a match for the
    other place).
    """
    found = {} if scene.background is None else {"background": reading.background == scene.background}
    if len(scene.things) == 1:
        return found | _single(scene, reading.things[0])
    for k, (thing, seen) in enumerate(zip(scene.things, reading.things, strict=True), 1):
        found[f"digit {k}"] = seen is not None and seen.digit == thing.digit
        found[f"colour {k}"] = seen is not None and seen.colour == thing.colour
    straight, crossed = _matches(scene, reading.things), _matches(scene, reading.things[::-1])
    return found | {"relation": straight > 0 and straight >= crossed}


def _single(scene: Scene, seen: DetectedDigit | None) -> dict[str, bool]:
    thing = scene.things[0]
    found = {
        "digit": seen is not None and seen.digit == thing.digit,
        "colour": seen is not None and seen.colour == thing.colour,
    }
    if thing.size is not None:
        found["size"] = seen is not None and (seen.side >= LARGE) == (thing.size == "large")
    if thing.corner is not None:
        found["corner"] = seen is not None and _corner(seen.middle) == thing.corner
    return found


def _corner(middle: tuple[float, float]) -> str:
    return f"{'top' if middle[0] < SIDE / 2 else 'bottom'} {'left' if middle[1] < SIDE / 2 else 'right'}"


def _matches(scene: Scene, things: tuple[DetectedDigit | None, ...]) -> int:
    pairs = [(thing, seen) for thing, seen in zip(scene.things, things, strict=True) if seen is not None]
    return sum((thing.digit == seen.digit) + (thing.colour == seen.colour) for thing, seen in pairs)


def covers(images: Tensor) -> Tensor:
    """The digits' share of each pixel of uint8 images [N, 3, H, W], by colour: float [N, H, W] in 0..1."""
    found = []
    for picture in images.permute(0, 2, 3, 1).cpu().numpy().astype(np.float64):
        ground = _ground(picture)
        away = np.linalg.norm(picture - ground, axis=-1)
        found.append(_cover(picture, ground, away) if away.max() >= BLANK else np.zeros(away.shape))
    return torch.from_numpy(np.stack(found)).float()


def _cover(
    picture: NDArray[np.float64], ground: NDArray[np.float64], away: NDArray[np.float64]
) -> NDArray[np.float64]:
    direction = _foreground(picture, away) - ground
    cover: NDArray[np.float64] = np.clip((picture - ground) @ direction / (direction @ direction), 0, 1)
    return cover


def _foreground(picture: NDArray[np.float64], away: NDArray[np.float64]) -> NDArray[np.float64]:
    """The digit's colour: the middle value of the pixels that are farthest from the background."""
    colour: NDArray[np.float64] = np.median(picture[away >= FIRM * away.max()], axis=0)
    return colour


@dataclass(frozen=True, eq=False)
class _Part:
    """A digit cut out of a picture: its coverage and colour, its box's middle and longer side."""

    glyph: NDArray[np.float64]
    colour: NDArray[np.float64]
    middle: tuple[float, float]
    side: int


def _ground(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    """The colour around: the middle value of the border pixels."""
    edge = np.concatenate([picture[0], picture[-1], picture[1:-1, 0], picture[1:-1, -1]])
    colour: NDArray[np.float64] = np.median(edge, axis=0)
    return colour


def _parts(picture: NDArray[np.float64], ground: NDArray[np.float64], scene: Scene) -> list[_Part | None]:
    height, width = picture.shape[:2]
    if scene.relation is None:
        return [_part(picture, ground, (0, 0))]
    if scene.relation == "above":
        return [
            _part(picture[: height // 2], ground, (0, 0)),
            _part(picture[height // 2 :], ground, (height // 2, 0)),
        ]
    return [
        _part(picture[:, : width // 2], ground, (0, 0)),
        _part(picture[:, width // 2 :], ground, (0, width // 2)),
    ]


def _part(picture: NDArray[np.float64], ground: NDArray[np.float64], offset: tuple[int, int]) -> _Part | None:
    """The digit in a piece of a picture; None where all of it is background."""
    away = np.linalg.norm(picture - ground, axis=-1)
    if away.max() < BLANK:
        return None
    cover = _cover(picture, ground, away)
    rows, columns = (np.flatnonzero((cover > FAINT).any(axis)) for axis in (1, 0))
    if len(rows) == 0:  # all of it is faint
        return None
    box = cover[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    middle = offset[0] + (rows[0] + rows[-1] + 1) / 2, offset[1] + (columns[0] + columns[-1] + 1) / 2
    return _Part(box, _foreground(picture, away), middle, max(box.shape))


def _nearest(colour: NDArray[np.float64]) -> str:
    return _NAMES[int(np.linalg.norm(_VALUES - colour, axis=1).argmin())]


def _digits(glyphs: Sequence[NDArray[np.float64]]) -> list[int]:
    """Read by the network `mnist`, each digit laid out as those of MNIST are."""
    if not glyphs:
        return []
    framed = torch.stack([_framed(torch.from_numpy(glyph).float()) for glyph in glyphs])
    found = extract(feature_network("mnist"), (framed * 255).round().to(torch.uint8)).predictions
    assert found is not None
    return [int(digit) for digit in found]


def _framed(glyph: Tensor) -> Tensor:
    """[1, 28, 28]: the box scaled to 20 pixels, its centre of mass in the middle."""
    scale = BOX / max(glyph.shape)
    size = [max(1, round(n * scale)) for n in glyph.shape]
    box = F.interpolate(glyph[None, None], size=size, mode="bilinear", antialias=True, align_corners=False)[
        0, 0
    ]
    framed = torch.zeros(FRAME, FRAME)
    starts = []
    for axis, length in enumerate(size):
        weight = box.sum(1 - axis)
        mass = float((weight * (torch.arange(length) + 0.5)).sum() / weight.sum().clamp_min(1e-6))
        starts.append(min(max(round(FRAME / 2 - mass), 0), FRAME - length))
    framed[starts[0] : starts[0] + size[0], starts[1] : starts[1] + size[1]] = box
    return framed[None]


MOST = 500  # images for each list of captions, at most
SHOWN = 12  # images of each list in the figure, a row


@dataclass(frozen=True)
class AlignmentScores(Scores):
    """``n`` images for the captions of one ``list``: the share of each attribute that is right, of all
    attributes (``mean``), and of images with all right (``whole``).
    """

    list: str
    n: int
    attributes: dict[str, Score]
    mean: Score
    whole: Score
    examples: Tensor | None = field(default=None, repr=False, compare=False)


def is_scene_model(pipeline: Pipeline) -> bool:
    """Test that a model is text-conditional, trained on `scenes` and draws images of their size."""
    return (
        pipeline.tokenizer is not None
        and pipeline.data in SETS
        and pipeline.codec.image_shape == (3, SIDE, SIDE)
    )


def caption_lists() -> dict[str, tuple[Scene, ...]]:
    """The lists of captions by name, the same for every model."""
    return {
        "one digit, as in training": single_scenes(held=False),
        "one digit, held out": single_scenes(held=True),
        "two digits": paired_scenes(),
    }


def score_list(name: str, images: Tensor, scenes: Sequence[Scene], resampling: Resampling) -> AlignmentScores:
    """Compare images uint8 [N, 3, 32, 32] with the N ``scenes`` that they should show."""
    hits: dict[str, list[bool]] = {}
    whole = []
    for scene, reading in zip(scenes, read(images, scenes), strict=True):
        found = attributes(scene, reading)
        whole.append(all(found.values()))
        for attribute, right in found.items():
            hits.setdefault(attribute, []).append(right)
    every = [right for each in hits.values() for right in each]
    shares = {attribute: share_score(torch.tensor(right), resampling) for attribute, right in hits.items()}
    mean, complete = (share_score(torch.tensor(values), resampling) for values in (every, whole))
    return AlignmentScores(name, len(images), shares, mean, complete)


def evaluate_alignment(
    pipeline: Pipeline, data: Dataset, settings: EvaluationSettings
) -> tuple[AlignmentScores, ...]:
    """Score the real images of the split first, then those that the model draws for each list."""
    real = split_of(data, settings.split)
    known = [parse(text) for text in real.captions or ()][:MOST]
    scores = []
    for name, number in (("real pictures, one digit", 1), ("real pictures, two digits", 2)):
        rows = [k for k, scene in enumerate(known) if len(scene.things) == number]
        if rows:
            scores.append(score_list(name, real.images[rows], [known[k] for k in rows], settings.resampling))
    n = min(MOST, settings.n)
    for name, scenes in caption_lists().items():
        chosen = in_turn(scenes, n)
        texts = [caption(scene) for scene in chosen]
        with settings.stage(name) as bar:
            images = draw_samples(
                pipeline,
                settings.sampling,
                n,
                texts=texts,
                seed=settings.seed,
                dtype=settings.dtype,
                progress=bar.update,
            )
        found = score_list(name, images, chosen, settings.resampling)
        scores.append(replace(found, examples=images[:SHOWN]))
    return tuple(scores)


def in_turn(scenes: Sequence[Scene], n: int) -> list[Scene]:
    """``n`` scenes spread over the list, again from its beginning where there are more."""
    stride = max(1, len(scenes) // n)
    return [
        scenes[k * stride % len(scenes)] if n < len(scenes) else scenes[k % len(scenes)] for k in range(n)
    ]
