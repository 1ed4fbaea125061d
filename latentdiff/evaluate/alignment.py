"""Text alignment on the synthetic data `scenes`: the attributes of a caption, read back from the image drawn
for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from latentdiff.data import Dataset, split_of
from latentdiff.data.synthetic_scenes import SETS, SIDE, Scene, caption, paired_scenes, parse, single_scenes
from latentdiff.evaluate.interval_score import Resampling, Score, Scores, share_score
from latentdiff.evaluate.sampling import draw_samples
from latentdiff.evaluate.scenes import attributes, read
from latentdiff.evaluate.settings import EvaluationSettings
from latentdiff.pipeline.pipeline import Pipeline

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
                pipeline, settings.sampling, n, texts=texts, seed=settings.seed, progress=bar.update
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
