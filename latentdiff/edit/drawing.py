"""What every edit comes down to: the one loop, from some start, with a denoiser or a step that was
wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.config.sampling import Sampling
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.loop import sample
from latentdiff.diffusion.samplers import SamplerStep
from latentdiff.diffusion.trajectory import Frame, FrameSelection, ProgressCallback, concatenated, record
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.batching import batch_that_fits, map_microbatches
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class SampleResult:
    """Images float32 [n, C, H, W] in [-1, 1] on the CPU, and moments of how they came about (as many as were
    asked for).
    """

    images: Tensor
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Recorder:
    """Which ``frames`` to keep, who is told of the progress, and who is shown each frame (of the images in a
    slice) while the loop runs.
    """

    frames: FrameSelection = 0
    progress: ProgressCallback | None = None
    show: Callable[[slice, Frame], None] | None = None


SILENT = Recorder()
BACKWARD = 4  # so many times the memory of a forward pass


class MicroBatch(NamedTuple):
    """Some of the images asked for: their places, classes or texts (None: none) and first seed, and who
    watches.
    """

    rows: slice
    label: list[int] | list[str] | None
    seed: int
    watch: Recorder


def map_images(
    pipeline: Pipeline,
    n: int,
    make: Callable[[MicroBatch], SampleResult],
    *,
    label: Labels,
    seed: int,
    watch: Recorder,
    gradients: bool = False,
    each: int = 1,
) -> SampleResult:
    """What ``make`` draws, as many of ``n`` images at once as memory holds (fewer with ``gradients``); image
    k has the seed + k in any part.

    An image is ``each`` samples of the network.
    """
    if n < 1:
        raise InputError(f"expected one image or more, got {n}")
    labels = pipeline.asking.each(label, n)
    most = max(
        1, batch_that_fits(pipeline.network, pipeline.device) // (each * (BACKWARD if gradients else 1))
    )

    def part(rows: slice, progress: ProgressCallback | None) -> SampleResult:
        mine = None if labels is None else labels[rows]
        show = None if watch.show is None else partial(_elsewhere, watch.show, rows)
        return make(
            MicroBatch(
                rows, mine, seed + rows.start, Recorder(frames=watch.frames, progress=progress, show=show)
            )
        )

    made = map_microbatches(n, most, part, device=pipeline.device, progress=watch.progress, each=each)
    if len(made) == 1:
        return made[0]
    return SampleResult(
        torch.cat([each.images for each in made]), tuple(concatenated([each.frames for each in made]))
    )


def _elsewhere(show: Callable[[slice, Frame], None], rows: slice, inside: slice, frame: Frame) -> None:
    """What a part shows of all its images, in the place that these have in the whole."""
    show(rows, frame)


def draw(
    pipeline: Pipeline,
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[int],
    step: SamplerStep,
    key: Key,
    watch: Recorder = SILENT,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    each: int = 1,
) -> SampleResult:
    """The loop from ``x`` [n, *latent_shape] at levels[0], decoded: by the model, or by a ``decode`` that
    makes one image of ``each`` latents.
    """
    decode = decode or pipeline.decode
    states = sample(denoise, x, levels, step, key)
    show = None if watch.show is None else partial(watch.show, slice(0, len(x) // each))
    end, frames = record(
        states, x, levels, decode=decode, frames=watch.frames, progress=watch.progress, show=show
    )
    return SampleResult(decode(end), tuple(frames))


def denoiser_of(pipeline: Pipeline, settings: Sampling, label: Labels, n: int) -> Denoiser:
    """The model's denoiser for the labels and the guidance that are asked for."""
    return pipeline.guided(settings, pipeline.labels(label, n))


def key_of(pipeline: Pipeline, seed: int, n: int) -> Key:
    """Image k draws from seed + k, as in :meth:`Pipeline.sample`."""
    return Key.of(seed, n, device=pipeline.device)


@torch.no_grad()
def encode_images(pipeline: Pipeline, images: Tensor) -> Tensor:
    """Latents of images [n, C, H, W] in [-1, 1], on the model's device.

    InputError for another shape or values outside.
    """
    wanted = pipeline.codec.image_shape
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(wanted):
        raise InputError(f"expected images {['n', *wanted]}, got {list(images.shape)}")
    if not bool(torch.isfinite(images).all()) or float(images.abs().max()) > 1 + 1e-6:
        raise InputError(
            f"expected images with values in [-1, 1], got {float(images.min()):g} to {float(images.max()):g}"
        )
    return torch.cat([pipeline.codec.encode(part.to(pipeline.device)) for part in images.float().split(250)])
