"""How well pictures follow a text: models of `scenes` drawn for captions whose attributes can be read
back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentdiff.data import Dataset
from latentdiff.data.scenes import SETS, SIDE, Scene, caption, paired_scenes, parse, single_scenes
from latentdiff.evaluate.interval_score import Resampling, Score, share_score
from latentdiff.evaluate.read import split_of
from latentdiff.evaluate.sampling import draw_samples
from latentdiff.evaluate.scenes import attributes, read
from latentdiff.evaluate.settings import EvaluationSettings
from latentdiff.pipeline.pipeline import Pipeline
from latentdiff.viz.images import image_grid, save_image

MOST = 500  # pictures for each list of captions, at most
FIGURE = "scenes.png"
SHOWN = 12  # pictures of each list in the figure, a row


@dataclass(frozen=True)
class ListScore:
    """``n`` pictures for captions of one list: the share of each attribute that is right, of all attributes,
    and of pictures with all right.
    """

    name: str
    n: int
    attributes: dict[str, Score]
    mean: Score
    whole: Score

    def as_dict(self) -> dict[str, Any]:
        shares = {name: score.as_dict() for name, score in self.attributes.items()}
        return {
            "list": self.name,
            "n": self.n,
            "attributes": shares,
            "mean": self.mean.as_dict(),
            "whole": self.whole.as_dict(),
        }


def can_be_read(pipeline: Pipeline) -> bool:
    """Whether a model listens to texts that can be read back in its pictures: one of `scenes` in their own
    size.
    """
    return (
        pipeline.tokenizer is not None
        and pipeline.data in SETS
        and pipeline.codec.image_shape == (3, SIDE, SIDE)
    )


def lists() -> dict[str, tuple[Scene, ...]]:
    """The captions that are asked for: fixed, whole sentences."""
    return {
        "one digit, as in training": single_scenes(held=False),
        "one digit, held out": single_scenes(held=True),
        "two digits": paired_scenes(),
    }


def score_list(name: str, images: Tensor, scenes: Sequence[Scene], resampling: Resampling) -> ListScore:
    """What of ``scenes`` the pictures uint8 [N, 3, 32, 32] show."""
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
    return ListScore(name, len(images), shares, mean, complete)


def evaluate_alignment(
    pipeline: Pipeline, data: Dataset, request: EvaluationSettings
) -> tuple[ListScore, ...]:
    """Real pictures of the split first, then those that the model draws for each list; leaves scenes.png, a
    row for each list.
    """
    real = split_of(data, request.split)
    known = [parse(text) for text in real.captions or ()][:MOST]
    scores = []
    for name, number in (("real pictures, one digit", 1), ("real pictures, two digits", 2)):
        rows = [k for k, scene in enumerate(known) if len(scene.things) == number]
        if rows:
            scores.append(score_list(name, real.images[rows], [known[k] for k in rows], request.resampling))
    pictures = []
    for name, scenes in lists().items():
        n = min(MOST, request.n)
        asked = in_turn(scenes, n)
        with request.stage(name) as bar:
            texts = [caption(scene) for scene in asked]
            images = draw_samples(
                pipeline, request.settings, n, texts=texts, seed=request.seed, progress=bar.update
            )
        scores.append(score_list(name, images, asked, request.resampling))
        pictures.append(images[:SHOWN])
    save_image(image_grid(torch.cat(pictures), columns=min(SHOWN, request.n)), request.out / FIGURE)
    return tuple(scores)


def in_turn(scenes: Sequence[Scene], n: int) -> list[Scene]:
    """``n`` scenes spread over the list, again from its beginning where there are more."""
    stride = max(1, len(scenes) // n)
    return [
        scenes[k * stride % len(scenes)] if n < len(scenes) else scenes[k % len(scenes)] for k in range(n)
    ]
