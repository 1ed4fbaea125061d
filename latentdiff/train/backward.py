"""The division of a batch among processes and workers, and its gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from latentdiff.config.loop import LoopOptions
from latentdiff.errors import InputError
from latentdiff.parallel.processes import ALONE, Ranks
from latentdiff.parallel.threads import Workers
from latentdiff.train.task import Task


def backward(
    network: nn.Module,
    loss: Callable[[Tensor, Tensor], tuple[Tensor, Mapping[str, Tensor]]],
    positions: Tensor,
    indices: Tensor,
    workers: Workers,
    *,
    share: float = 1.0,
) -> dict[str, float]:
    """Add ``share`` times the gradient of ``loss(positions, indices)`` to that of the parameters.

    ``loss`` is :meth:`latentdiff.train.task.Task.loss` at a step; positions and indices are int64 [b].
    Returns the mean loss, by the name "loss", and the other means. Several workers take a slice each; their
    gradients are added in the order of the slices, so that the result is the same to the bit at every run.
    """

    def values(mean: Tensor, others: Mapping[str, Tensor]) -> dict[str, float]:
        return {name: float(value.detach()) for name, value in {"loss": mean, **others}.items()}

    if workers.count == 1:
        mean, others = loss(positions, indices)
        (share * mean).backward()
        return values(mean, others)
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]

    def gradients(part: tuple[Tensor, Tensor]) -> tuple[dict[str, float], tuple[Tensor | None, ...]]:
        # not .backward(): several at a time would add to .grad in any order
        weight, (mean, others) = len(part[0]) / len(positions), loss(*part)
        found = torch.autograd.grad(share * weight * mean, parameters, allow_unused=True)
        return {name: weight * value for name, value in values(mean, others).items()}, found

    slices = zip(*(each.tensor_split(workers.count) for each in (positions, indices)), strict=True)
    means: dict[str, float] = {}
    for part_means, part_gradients in workers.map(gradients, slices):
        for name, value in part_means.items():
            means[name] = means.get(name, 0.0) + value
        for parameter, gradient in zip(parameters, part_gradients, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    return means


def check_batch(task: Task, options: LoopOptions, ranks: Ranks = ALONE) -> None:
    """InputError unless the batch splits into --accumulate parts, and these evenly among processes."""
    if task.batch % options.accumulate:
        raise InputError(
            f"`batch` must be a multiple of `accumulate`, got {task.batch} and {options.accumulate}"
        )
    if task.batch // options.accumulate % ranks.count:
        raise InputError(
            f"`batch` {task.batch}: {ranks.count} processes share it evenly, expected a multiple of"
            f" {ranks.count * options.accumulate}"
        )


def workers_of(task: Task, options: LoopOptions, device: torch.device, ranks: Ranks = ALONE) -> Workers:
    """The workers that share a micro-batch; InputError for more of them than images."""
    part = task.batch // options.accumulate
    if ranks.count > 1:
        return Workers(1)
    if options.workers is None:
        return Workers.suited(part, device)
    if options.workers > part:
        raise InputError(
            f"`workers` must be at most the {part} images that are computed at once, got {options.workers}"
        )
    return Workers(options.workers)
