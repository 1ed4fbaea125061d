"""How bright the training images were, in the checkpoints of a training; of shipped models beside them."""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache

import torch

from latentdiff.data import Split, StreamedSplit, Unreadable
from latentdiff.data.brightness import LOOKED_AT, Brightness
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer
from latentdiff.pipeline.checkpoint.pretrained import about
from latentdiff.train.latent_dataset import EncodedSplit

BRIGHTNESS = "training/brightness.json"


def save_brightness(writer: Writer, split: Split | StreamedSplit | EncodedSplit) -> None:
    """Write the ranges of some training images; nothing where only their latents are at hand."""
    if isinstance(split, EncodedSplit):
        return
    with suppress(Unreadable):  # the training itself names the image; its checkpoint is saved all the same
        writer.json(BRIGHTNESS, _measured(split).dump())


@lru_cache(maxsize=2)  # of a split: every checkpoint of a training holds the same
def _measured(split: Split | StreamedSplit) -> Brightness:
    chosen = torch.linspace(0, len(split) - 1, min(len(split), LOOKED_AT)).long()
    return Brightness.of(split.images[chosen])


def brightness_of(checkpoint: Checkpoint) -> Brightness | None:
    """How bright the images were that a model was trained on; None where nothing says."""
    if BRIGHTNESS in checkpoint:
        return Brightness.parse(checkpoint.json(BRIGHTNESS), f"{checkpoint.folder}/{BRIGHTNESS}")
    known = about(checkpoint.folder).get("brightness")
    return None if known is None else Brightness.parse(known, f"{checkpoint.folder}.json")
