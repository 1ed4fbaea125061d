"""What every edit comes down to: the one loop, from some start, with a denoiser or a step that was wrapped."""

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
from latentdiff.diffusion.samplers import Step
from latentdiff.diffusion.trajectory import Frame, Moments, Progress, joined, watched
from latentdiff.errors import InputError
from latentdiff.ops.random import Key
from latentdiff.pipeline.batching import batch_that_fits, in_parts
from latentdiff.pipeline.conditioner import Labels
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True, eq=False)
class Drawn:
    """Images float32 [n, C, H, W] in [-1, 1] on the CPU, and moments of how they came about (as many as were asked for)."""

    images: Tensor
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Watch:
    """Which ``frames`` to keep, who is told of the progress, and who is shown each frame (of the images in a slice) while the loop runs."""

    frames: Moments = 0
    progress: Progress | None = None
    show: Callable[[slice, Frame], None] | None = None


SILENT = Watch()
BACKWARD = 4  # so many times the memory of a forward pass


class Part(NamedTuple):
    """Some of the images asked for: their places, classes or texts (None: none) and first seed, and who watches."""

    rows: slice
    label: list[int] | list[str] | None
    seed: int
    watch: Watch


def by_parts(
    pipeline: Pipeline,
    n: int,
    make: Callable[[Part], Drawn],
    *,
    label: Labels,
    seed: int,
    watch: Watch,
    gradients: bool = False,
    each: int = 1,
) -> Drawn:
    """What ``make`` draws, as many of ``n`` images at once as memory holds (fewer with ``gradients``); image k has the seed + k in any part.

    An image is ``each`` samples of the network.
    """
    if n < 1:
        raise InputError(f"expected one image or more, got {n}")
    labels = pipeline.asking.each(label, n)
    most = max(1, batch_that_fits(pipeline.network, pipeline.device) // (each * (BACKWARD if gradients else 1)))

    def part(rows: slice, progress: Progress | None) -> Drawn:
        mine = None if labels is None else labels[rows]
        show = None if watch.show is None else partial(_elsewhere, watch.show, rows)
        return make(Part(rows, mine, seed + rows.start, Watch(frames=watch.frames, progress=progress, show=show)))

    made = in_parts(n, most, part, device=pipeline.device, progress=watch.progress, each=each)
    if len(made) == 1:
        return made[0]
    return Drawn(torch.cat([each.images for each in made]), tuple(joined([each.frames for each in made])))


def _elsewhere(show: Callable[[slice, Frame], None], rows: slice, inside: slice, frame: Frame) -> None:
    """What a part shows of all its images, in the place that these have in the whole."""
    show(rows, frame)


def drawn(
    pipeline: Pipeline,
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[int],
    step: Step,
    key: Key,
    watch: Watch = SILENT,
    *,
    decode: Callable[[Tensor], Tensor] | None = None,
    each: int = 1,
) -> Drawn:
    """The loop from ``x`` [n, *latent_shape] at levels[0], decoded: by the model, or by a ``decode`` that makes one image of ``each`` latents."""
    decode = decode or pipeline.decode
    states = sample(denoise, x, levels, step, key)
    show = None if watch.show is None else partial(watch.show, slice(0, len(x) // each))
    end, frames = watched(states, x, levels, decode=decode, frames=watch.frames, progress=watch.progress, show=show)
    return Drawn(decode(end), tuple(frames))


def denoiser_of(pipeline: Pipeline, settings: Sampling, label: Labels, n: int) -> Denoiser:
    """The model's denoiser for the labels and the guidance that are asked for."""
    return pipeline.guided(settings, pipeline.labels(label, n))


def key_of(pipeline: Pipeline, seed: int, n: int) -> Key:
    """Image k draws from seed + k, as in :meth:`Pipeline.sample`."""
    return Key.of(seed, n, device=pipeline.device)


@torch.no_grad()
def encoded(pipeline: Pipeline, images: Tensor) -> Tensor:
    """Latents of images [n, C, H, W] in [-1, 1], on the model's device. InputError for another shape or values outside."""
    wanted = pipeline.codec.image_shape
    if images.ndim != 4 or tuple(images.shape[1:]) != tuple(wanted):
        raise InputError(f"expected images {['n', *wanted]}, got {list(images.shape)}")
    if not bool(torch.isfinite(images).all()) or float(images.abs().max()) > 1 + 1e-6:
        raise InputError(
            f"expected images with values in [-1, 1], got {float(images.min()):g} to {float(images.max()):g}"
        )
    return torch.cat([pipeline.codec.encode(part.to(pipeline.device)) for part in images.float().split(250)])
