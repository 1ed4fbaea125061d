"""Two sets of images side by side: the partners of each image, and the images that both have."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace

from torch import Tensor

from latentdiff.data import ImageSet
from latentdiff.data.scan import shown
from latentdiff.errors import InputError


def aligned(mine: ImageSet, other: ImageSet) -> ImageSet:
    """``other`` in the order of ``mine``: image k is image k's partner, in folders by name without suffix.

    InputError unless every image has one partner, and all have one shape.
    """
    if mine.paths is not None and other.paths is not None:
        other = _of_the_same_names(mine, mine.paths, other, other.paths)
    if mine.images.shape != other.images.shape:
        found = f"{list(mine.images.shape)} and {list(other.images.shape)}"
        raise InputError(f"pairs need as many images of one shape on both sides, got {found}")
    return other


def _of_the_same_names(
    mine: ImageSet, names: tuple[str, ...], other: ImageSet, other_names: tuple[str, ...]
) -> ImageSet:
    for folder, found in ((mine.name, names), (other.name, other_names)):
        if twice := [name for name, count in Counter(found).items() if count > 1]:
            raise InputError(
                f"pairs need names that differ without their suffixes, found {shown(min(twice))} twice in"
                f" {folder}"
            )
    if alone := sorted(set(names) ^ set(other_names)):
        where = mine.name if alone[0] in names else other.name
        raise InputError(
            f"pairs need the same file names in both folders, found {len(alone)} without a partner, the"
            f" first {shown(alone[0])} in {where}"
        )
    row_of = {name: row for row, name in enumerate(other_names)}
    rows = [row_of[name] for name in names]  # suffixes may sort them otherwise
    return replace(
        other,
        images=other.images[rows],
        labels=None if other.labels is None else other.labels[rows],
        captions=None if other.captions is None else tuple(other.captions[row] for row in rows),
        paths=names,
    )


def shared(mine: Tensor, other: Tensor) -> int:
    """How many of the images uint8 [N, C, H, W] stand in another set of that kind too, pixel for pixel."""
    known = {hashlib.sha256(image.numpy().tobytes()).digest() for image in other.contiguous()}
    return sum(hashlib.sha256(image.numpy().tobytes()).digest() in known for image in mine.contiguous())
