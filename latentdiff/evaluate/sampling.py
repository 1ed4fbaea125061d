"""Samples for an evaluation: many, in fixed chunks, as uint8."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentdiff.ask import Labels
from latentdiff.batching import by_workers
from latentdiff.config.sampling import Sampling
from latentdiff.data import to_uint8
from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress, chunks
from latentdiff.pipeline import Pipeline
from latentdiff.random import Key
from latentdiff.sample import start
from latentdiff.workers import Workers


def draw_samples(
    pipeline: Pipeline,
    settings: Sampling,
    n: int,
    *,
    labels: Tensor | None = None,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tensor:
    """``n`` images uint8 [n, C, H, W] on the CPU, image k of seed + k.

    ``labels`` int64 [n] for a conditional model, ``texts`` for one that listens to texts, which are taken in turn.

    The network sees them in chunks that the image shape alone decides, each by one worker, so that the samples are the same to
    the bit whatever the memory. Settings as in `latentdiff sample`.
    """
    if n < 1:
        raise InputError(f"expected a number of images of 1 or more, got {n}")
    if labels is not None and len(labels) != n:
        raise InputError(f"expected one label for each of {n} images, got {len(labels)}")
    key, shape = Key.of(seed, n, device=pipeline.device), pipeline.codec.latent_shape
    parts = chunks(n, pipeline.codec.image_shape)

    def drawn(part: slice, tell: Progress | None) -> Tensor:
        mine = key[part]
        label: Labels = None if labels is None else labels[part].tolist()
        if texts:
            label = [texts[k % len(texts)] for k in range(n)[part]]
        return to_uint8(pipeline.run(settings, mine, start(mine, shape), label=label, batch=len(mine), progress=tell))

    workers = Workers(min(Workers.suited(n, pipeline.device).count, len(parts)))
    return torch.cat(by_workers(workers, parts, drawn, progress=progress))
