"""The division of a batch among processes and workers."""

from __future__ import annotations

import torch

from latentdiff.config.loop import LoopOptions
from latentdiff.errors import InputError
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.parallel.threads import Workers
from latentdiff.train.task import Task


def check_batch(task: Task, options: LoopOptions, ranks: Ranks = ALONE) -> None:
    """InputError unless the batch (which may be the network's default) splits into --accumulate parts, and
    these evenly among processes.
    """
    if task.batch % options.accumulate:
        raise InputError(f"batch must be a multiple of accumulate, got {task.batch} and {options.accumulate}")
    if task.batch // options.accumulate % ranks.count:
        raise InputError(
            f"--batch {task.batch}: {ranks.count} processes share it evenly, expected a multiple of"
            f" {ranks.count * options.accumulate}"
        )


def workers_of(task: Task, options: LoopOptions, device: torch.device, ranks: Ranks = ALONE) -> Workers:
    """The workers that share a micro-batch; one in each of several processes.

    InputError for more workers than images.
    """
    part = task.batch // options.accumulate
    if ranks.count > 1:
        return Workers(1)
    if options.workers is None:
        return Workers.suited(part, device)
    if options.workers > part:
        raise InputError(
            f"workers must be at most the {part} images that are computed at once, got {options.workers}"
        )
    return Workers(options.workers)
