"""Pictures to edit or to restore where the training images of a model are not at hand: its own."""

from __future__ import annotations

from torch import Tensor

from latentdiff.pipeline.pipeline import Pipeline

FIRST_SEED = 1_000_000  # far from the seeds of the edits


def originals(pipeline: Pipeline, n: int, *, seed: int = 0) -> tuple[Tensor, Tensor | None]:
    """``n`` pictures float32 [n, C, H, W] in [-1, 1] that the model draws, and their labels int64 [n].

    By its default sampler, of all classes in turn; labels None for a model without classes. ``seed`` counts
    from :data:`FIRST_SEED`.
    """
    labels = pipeline.class_labels(n)
    known = None if labels is None else labels.tolist()
    return pipeline.sample(n, label=known, seed=FIRST_SEED + seed), labels
