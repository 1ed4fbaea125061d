"""Micro-batches: how many samples fit in memory at once, and how they are drawn and joined."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from threading import Lock
from typing import TypeVar

import torch
from torch import nn

from latentdiff.diffusion.trajectory import SILENT, ProgressCallback, Recorder, SampleResult
from latentdiff.errors import InputError
from latentdiff.parallel.threads import Workers
from latentdiff.pipeline.components import denoiser_config

CPU_BUDGET = 2**28  # bytes of activations: larger batches are not faster on a CPU, they only leave its caches
SHARE = 0.5  # of the free memory of a GPU
Out = TypeVar("Out")


class Cancelled(Exception):
    """Raised inside a micro-batch to cancel it: another one failed, or the user stopped the sampling."""


def batch_that_fits(network: nn.Module, device: torch.device) -> int:
    """A batch size for sampling with ``network``; at least 1, at most 1024."""
    budget = _free_bytes(device)
    return max(1, min(1024, int(budget // max(1, _bytes_per_sample(network)))))


def slices(n: int, size: int) -> list[slice]:
    """Cut n samples into slices of ``size``; the last one may be smaller."""
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


def even_size(n: int, most: int) -> int:
    """The size up to ``most`` that cuts n samples most evenly; InputError for ``most`` below 1."""
    return math.ceil(n / math.ceil(n / _batch(most)))


def map_microbatches(
    n: int,
    most: int,
    make: Callable[[slice, ProgressCallback], Out],
    *,
    device: torch.device,
    progress: ProgressCallback | None = None,
    each: int = 1,
    parallel: bool = True,
) -> list[Out]:
    """Run ``make`` on slices of n samples, ``most`` of them at once, and return the results in order.

    A sample is ``each`` images of the network's batch. Several workers share ``most`` samples where that is
    faster, unless ``parallel`` is False. InputError unless ``most`` is at least 1.
    """
    at_once = min(n, _batch(most))
    workers = Workers.suited(at_once * each, device) if parallel else Workers(1)
    return map_on_workers(workers, slices(n, math.ceil(at_once / workers.count)), make, progress=progress)


def map_on_workers(
    workers: Workers,
    rows: Sequence[slice],
    make: Callable[[slice, ProgressCallback], Out],
    *,
    progress: ProgressCallback | None,
) -> list[Out]:
    """Run ``make`` on each of equally long slices; if one raises, the others end at their next report."""
    done, lock = [0] * len(rows), Lock()

    def report(k: int, now: int, total: int) -> None:
        if workers.stopped.is_set():
            raise Cancelled
        if progress is not None:
            with lock:
                done[k] = now
                progress(sum(done), total * len(rows))

    with workers:
        return workers.map(lambda k: make(rows[k], partial(report, k)), range(len(rows)))


def map_images(
    n: int,
    most: int,
    make: Callable[[slice, Recorder], SampleResult],
    *,
    device: torch.device,
    recorder: Recorder = SILENT,
    each: int = 1,
    parallel: bool = True,
) -> SampleResult:
    """Draw n images by :func:`map_microbatches`, each micro-batch with its share of the ``recorder``."""

    def part(rows: slice, progress: ProgressCallback) -> SampleResult:
        return make(rows, recorder.of_rows(rows, progress))

    made = map_microbatches(
        n, most, part, device=device, progress=recorder.progress, each=each, parallel=parallel
    )
    return SampleResult.concatenated(made)


def _batch(most: int) -> int:
    if most < 1:
        raise InputError(f"expected a batch of 1 or more, got {most}")
    return most


def _bytes_per_sample(network: nn.Module) -> int:
    """Live activations of one sample of a guided pair: the widest layer a dozen times over, in float32."""
    return 2 * 4 * 12 * denoiser_config(network).activations


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return SHARE * free
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return min(CPU_BUDGET, SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return CPU_BUDGET
