"""The brightness of the images of a training, in ``training/brightness.json`` of its checkpoints."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

import torch

from latentdiff.data import Unreadable
from latentdiff.data.brightness import LOOKED_AT, Brightness
from latentdiff.data.types import ImageSplit
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer
from latentdiff.pipeline.checkpoint.pretrained import about

BRIGHTNESS = "training/brightness.json"


def save_brightness(writer: Writer, split: ImageSplit) -> None:
    """Write the ranges of some training images."""
    with suppress(Unreadable):  # the training itself names the image; its checkpoint is saved all the same
        writer.json(BRIGHTNESS, _measured(split).dump())


@lru_cache(maxsize=2)  # every checkpoint of a training holds the same
def _measured(split: ImageSplit) -> Brightness:
    chosen = torch.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).long()
    return Brightness.of(split.images[chosen])


def brightness_of(checkpoint: Checkpoint) -> Brightness | None:
    """The brightness of the images that a model was trained on; None where it is not recorded."""
    if BRIGHTNESS in checkpoint:
        return Brightness.parse(checkpoint.json(BRIGHTNESS), f"{checkpoint.folder}/{BRIGHTNESS}")
    known = about(checkpoint.folder).get("brightness")
    return None if known is None else Brightness.parse(known, f"{checkpoint.folder}.json")
