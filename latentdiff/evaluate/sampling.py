"""Samples for an evaluation: many, in fixed chunks, as uint8."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.data import to_uint8
from latentdiff.diffusion.trajectory import Recorder
from latentdiff.errors import InputError
from latentdiff.evaluate.chunks import Progress, chunk_size, chunks
from latentdiff.evaluate.settings import EvaluationSettings
from latentdiff.metrics.features import FeatureNetwork, Features, extract
from latentdiff.parallel.processes import Ranks
from latentdiff.parallel.threads import Workers
from latentdiff.pipeline.batching import map_on_workers
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline


def draw_samples(
    pipeline: Pipeline,
    settings: Sampling,
    n: int,
    *,
    labels: Tensor | None = None,
    texts: Sequence[str] | None = None,
    seed: int = 0,
    share: slice | None = None,
    dtype: torch.dtype | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Returns ``n`` images uint8 [n, C, H, W] on the CPU, image k of seed + k; of several processes those of
    its ``share``.

    ``labels`` int64 [n] for a class-conditional model, ``texts`` for a text-conditional one, used in turn;
    ``dtype`` that network and decoder compute in (None: that of the pipeline).

    The network gets them in chunks that depend on the image shape alone, each by one worker, so that the
    samples are the same to the bit whatever the memory. Settings as in `latentdiff sample`.
    """
    if labels is not None and len(labels) != n:
        raise InputError(f"expected one label for each of {n} images, got {len(labels)}")
    pipeline, key = pipeline.to(pipeline.device, dtype=dtype), pipeline.key(seed, n)
    parts = [
        part
        for part in chunks(n, pipeline.codec.image_shape)
        if share is None or part.start in range(n)[share]
    ]

    def drawn(part: slice, progress: Progress) -> Tensor:
        label: Labels = None if labels is None else labels[part].tolist()
        if texts:
            label = [texts[k % len(texts)] for k in range(n)[part]]
        count, recorder = part.stop - part.start, Recorder(progress=progress)
        return to_uint8(pipeline.run(settings, key[part], label=label, batch=count, recorder=recorder).images)

    workers = Workers(min(Workers.suited(n, pipeline.device).count, len(parts)))
    return torch.cat(map_on_workers(workers, parts, drawn, progress=progress))


class DrawnFeatures(NamedTuple):
    """Samples uint8 [n, C, H, W], their features, and the ``seconds`` that this process drew its share in."""

    images: Tensor
    features: Features
    seconds: float


def draw_features(
    pipeline: Pipeline,
    network: FeatureNetwork,
    settings: EvaluationSettings,
    *,
    labels: Tensor | None = None,
    texts: Sequence[str] | None = None,
) -> DrawnFeatures:
    """Samples with their features; each process draws its share, the first one gets all.

    InputError for more processes than chunks of samples.
    """
    ranks, started = settings.ranks, time.perf_counter()
    every = shares(settings.n, pipeline.codec.image_shape, ranks.count)
    with settings.stage("samples") as bar:
        images = draw_samples(
            pipeline,
            settings.sampling,
            settings.n,
            labels=labels,
            texts=texts,
            seed=settings.seed,
            share=every[ranks.rank],
            dtype=settings.dtype,
            progress=bar.update,
        )
    seconds = time.perf_counter() - started
    with settings.stage("features of the samples") as bar:
        features = extract(network, images, batch=settings.batch, progress=bar.update)
    lengths = [len(range(settings.n)[share]) for share in every]
    collected = features.map(lambda tensor: ranks.collected(tensor, lengths))
    return DrawnFeatures(ranks.collected(images, lengths), collected, seconds)


def shares(n: int, shape: Sequence[int], processes: int) -> list[slice]:
    """Whole chunks of ``n`` images [C, H, W] for each process, drawn as one would draw them.

    InputError for fewer chunks than processes.
    """
    parts, size = chunks(n, shape), chunk_size(shape)
    if len(parts) < processes:
        raise InputError(
            f"{processes} processes share {n} samples, which are drawn {size} at once: expected at"
            f" least {(processes - 1) * size + 1}"
        )
    own = [parts[Ranks(rank, processes).share(len(parts))] for rank in range(processes)]
    return [slice(each[0].start, each[-1].stop) for each in own]
