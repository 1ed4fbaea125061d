"""Edits of texts of one digit, and what of a picture they changed that they should, and should not, have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.apps.studies.report.blocks import Cell, Table
from latentdiff.data import Dataset, to_uint8
from latentdiff.data.synthetic_scenes import SEEN, Scene, caption, contrasting, parse, single_scenes
from latentdiff.evaluate.alignment import attributes, covers, in_turn, read

SWAPS = ("colour", "background", "digit")
COLUMNS = (
    *("exchanged", "new word right, %", "all else kept, %"),
    *("PSNR of the rest, dB", "overlap of the shape"),
)
INSIDE = 0.5  # coverage of a digit's own pixels
PURE = 0.98  # and of those that hold nothing of the ground


@dataclass(frozen=True)
class EditTask:
    """A text, the same with one attribute exchanged, and which."""

    source: Scene
    edited: Scene
    what: str

    def listed(self) -> list[str]:
        """Both texts and what was exchanged, for results.json."""
        return [caption(self.source), caption(self.edited), self.what]


def first_of(tasks: Sequence[EditTask], what: str, n: int) -> list[int]:
    """The places of the first ``n`` tasks that exchange ``what``."""
    return [k for k, task in enumerate(tasks) if task.what == what][:n]


@dataclass(frozen=True, eq=False)
class EditScores:
    """Shares and means over edits: the attribute is the new one; all others are still those of the source;
    the pixels that the edit is not about (PSNR in dB); the shape of the digit (overlap of its pixels, where
    it should stay the same).
    """

    success: float
    others: float
    psnr: float
    overlap: float | None

    def cells(self) -> tuple[float | None, ...]:
        return (100 * self.success, 100 * self.others, self.psnr, self.overlap)


def tasks(n: int) -> list[EditTask]:
    """``n`` edits of each kind, always the same, of kinds that training shows before and after."""
    found = []
    for what in SWAPS:
        scenes = in_turn(single_scenes(held=False), 7 * n)[::7][:n]
        found += [EditTask(scene, exchanged(scene, what, k), what) for k, scene in enumerate(scenes)]
    return found


def complete(data: Dataset) -> list[tuple[int, Scene]]:
    """Place and scene of the test images of one digit whose captions name its size and the background."""
    scenes = enumerate(map(parse, data.test.captions or ()))
    return [
        (k, scene)
        for k, scene in scenes
        if len(scene.things) == 1 and scene.background is not None and scene.things[0].size is not None
    ]


def exchanged(scene: Scene, what: str, k: int) -> Scene:
    (thing,) = scene.things
    assert scene.background is not None
    if what == "background":
        others = [name for name in contrasting(thing.colour) if name != scene.background]
        return replace(scene, background=others[k % len(others)])
    if what == "colour":
        names = [c for c in SEEN[thing.digit] if c != thing.colour and scene.background in contrasting(c)]
        return replace(scene, things=(replace(thing, colour=names[k % len(names)]),))
    digits = [d for d in range(10) if d != thing.digit and thing.colour in SEEN[d]]
    return replace(scene, things=(replace(thing, digit=digits[k % len(digits)]),))


def score(wanted: Sequence[EditTask], source: Tensor, edited: Tensor, what: str) -> EditScores:
    rows = first_of(wanted, what, len(wanted))
    before, after = to_uint8(source[rows]), to_uint8(edited[rows])
    chosen = [wanted[k] for k in rows]
    seen = read(before, [task.source for task in chosen])
    now = read(after, [task.edited for task in chosen])
    success, others = [], []
    for task, first, second in zip(chosen, seen, now, strict=True):
        right = attributes(task.edited, second)
        success.append(right[what])
        thing, other = first.things[0], second.things[0]
        same = {
            "background": first.background == second.background,
            "colour": thing is not None and other is not None and thing.colour == other.colour,
            "digit": thing is not None and other is not None and thing.digit == other.digit,
            "size": thing is not None and other is not None and abs(thing.side - other.side) <= 4,
        }
        others.append(all(kept for name, kept in same.items() if name != what))
    cover = [covers(images) for images in (before, after)]
    inside = [each > INSIDE for each in cover]
    overlap = None
    if what != "digit":
        pixels = (inside[0] & inside[1], inside[0] | inside[1])
        both, either = (each.sum((1, 2)).double() for each in pixels)
        overlap = float((both / either.clamp_min(1)).mean())
    # what the edit is not about: the ground, or the digit where the ground is exchanged
    pure = (cover[0] > PURE) & (cover[1] > PURE)
    about = pure if what == "background" else ~(_wide(inside[0]) | _wide(inside[1]))
    return EditScores(
        sum(success) / len(rows), sum(others) / len(rows), _psnr(source[rows], edited[rows], about), overlap
    )


def scores_of(wanted: Sequence[EditTask], source: Tensor, edited: Tensor) -> dict[str, EditScores]:
    """The scores of the edits [n, 3, H, W] of each attribute."""
    return {what: score(wanted, source, edited, what) for what in SWAPS}


def mean_score(kinds: Mapping[str, EditScores], name: str) -> float:
    """The mean over the attributes of a score by its name."""
    return sum(float(getattr(each, name)) for each in kinds.values()) / len(kinds)


def edit_table(
    heads: tuple[str, ...], found: Iterable[tuple[tuple[Cell, ...], Mapping[str, EditScores]]], text: str
) -> Table:
    """Scores of edits by the cells under ``heads`` and by attribute."""
    rows = tuple((*of, what, *each.cells()) for of, kinds in found for what, each in kinds.items())
    return Table("edits", (*heads, *COLUMNS), rows, text)


def _wide(inside: Tensor) -> Tensor:
    """One pixel wider, for what antialiasing mixes."""
    return F.max_pool2d(inside[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0


def _psnr(a: Tensor, b: Tensor, where: Tensor) -> float:
    """PSNR in dB over the pixels ``where`` [n, H, W], the mean error over all images; pixels in [-1, 1]."""
    error = (a - b).square().mean(1).double()
    mean = float((error * where).sum() / where.sum().clamp_min(1))
    return float(10 * torch.log10(torch.tensor(4.0) / max(mean, 1e-12)))
