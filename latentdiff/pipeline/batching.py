"""How many samples fit in memory at once."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from latentdiff.diffusion.trajectory import ProgressCallback, shared_progress
from latentdiff.errors import InputError
from latentdiff.parallel.threads import Workers
from latentdiff.pipeline.components import denoiser_config

CPU_BUDGET = 2**28  # bytes of activations: larger batches are not faster on a CPU, they only leave its caches
SHARE = 0.5  # of the free memory of a GPU
Out = TypeVar("Out")


class Cancelled(Exception):
    """Another part has failed, or the user has had enough: this one need not go on."""


def batch_that_fits(network: nn.Module, device: torch.device) -> int:
    """A batch size for sampling with ``network``; at least 1, at most 1024."""
    budget = _free_bytes(device)
    return max(1, min(1024, int(budget // max(1, _bytes_per_sample(network)))))


def parts(n: int, most: int) -> list[slice]:
    """n samples in parts of ``most``; the last one may be smaller."""
    return [slice(first, first + most) for first in range(0, n, most)]


def map_microbatches(
    n: int,
    most: int,
    make: Callable[[slice, ProgressCallback | None], Out],
    *,
    device: torch.device,
    progress: ProgressCallback | None = None,
    each: int = 1,
) -> list[Out]:
    """What ``make`` draws of every part of n samples, in their order: ``most`` of them at once, by workers
    where that is faster.

    A sample is ``each`` images of the network's batch. InputError unless ``most`` is at least 1.
    """
    at_once = min(n, _batch(most))
    workers = Workers.suited(at_once * each, device)
    return by_workers(workers, parts(n, math.ceil(at_once / workers.count)), make, progress=progress)


def by_workers(
    workers: Workers,
    split: Sequence[slice],
    make: Callable[[slice, ProgressCallback | None], Out],
    *,
    progress: ProgressCallback | None,
) -> list[Out]:
    """What ``make`` draws of every part; all stop at their next step, where they tell of their progress, once
    one has failed or the user has had enough.
    """
    told = shared_progress(progress, len(split))

    def made(k: int) -> Out:
        def tell(done: int, total: int) -> None:
            if workers.stopped.is_set():
                raise Cancelled
            if (hears := told[k]) is not None:
                hears(done, total)

        return make(split[k], tell)

    with workers:
        return workers.map(made, range(len(split)))


def map_even_microbatches(
    n: int,
    most: int,
    make: Callable[[Tensor, ProgressCallback | None], Out],
    *,
    device: torch.device,
    progress: ProgressCallback | None = None,
) -> list[Out]:
    """What ``make`` draws of the indices of n samples in parts of one size, one after another; the last
    repeats its last to be full.

    InputError unless ``most`` is at least 1.
    """
    split = even_parts(n, _batch(most), device=device)
    return [make(part, tell) for part, tell in zip(split, shared_progress(progress, len(split)), strict=True)]


def _batch(most: int) -> int:
    if most < 1:
        raise InputError(f"expected a batch of 1 or more, got {most}")
    return most


def even_parts(n: int, most: int, *, device: torch.device) -> list[Tensor]:
    """The indices of n samples in parts of one size, ``most`` or less; the last one repeats its last to be
    full.
    """
    count = math.ceil(n / most)
    size = math.ceil(n / count)
    return list(torch.arange(count * size, device=device).clamp(max=n - 1).split(size))


def _bytes_per_sample(network: nn.Module) -> int:
    """Activations alive at once for one sample of a guided pair: the widest layer a dozen times over, in
    float32.
    """
    return 2 * 4 * 12 * denoiser_config(network).activations


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return SHARE * free
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return min(CPU_BUDGET, SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return CPU_BUDGET
