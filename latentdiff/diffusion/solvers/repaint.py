"""Inpainting by replacement: the known part of x_s is the known image, noised to level s."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.samplers import SamplerStep, StepResult, forward_sigma
from latentdiff.diffusion.schedule import Schedule
from latentdiff.diffusion.solvers.problem import InverseProblem, LoopArguments
from latentdiff.errors import InputError
from latentdiff.ops.random import Key


def repaint(step: SamplerStep, known: Tensor, mask: Tensor, schedule: Schedule) -> SamplerStep:
    """``step``, then the pixels where ``mask`` is 1 are replaced by alpha_s known + sigma_s z; at level 0 by
    the known ones exactly.

    known: [B, *shape]; mask: 0 and 1, broadcast to it. Lugmayr et al. 2022 (RePaint), eq. 8.
    """
    here = mask.to(torch.bool)

    def replaced(
        denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None
    ) -> StepResult:
        moved, estimate = step(denoise, x, t, s, key, previous)
        alpha, sigma = schedule.at(s)
        wanted = (
            known
            if sigma == 0
            else alpha * known + sigma * key.with_purpose("known").normal(x.shape[1:], dtype=x.dtype)
        )
        return torch.where(here, wanted, moved), estimate

    return replaced


def repaint_schedule(levels: Sequence[int], *, length: int = 10, times: int = 10) -> list[int]:
    """Levels with RePaint's jumps: ``length`` moves up again, ``times`` - 1 times, from every ``length``-th.

    Counted from the lowest noisy level up, as published (Lugmayr et al. 2022, appendix B). With ``length``
    moves or fewer there is no jump. ValueError for numbers below 1.
    """
    if length < 1 or times < 1:
        raise ValueError(f"jumps: expected a length and a number of 1 or more, got {length} and {times}")
    moves = len(levels) - 1
    left = {moves - 1 - j: times - 1 for j in range(0, moves - length, length)}
    path, i = [levels[0]], 0
    while i < moves:
        i += 1
        path.append(levels[i])
        if left.get(i):
            left[i] -= 1
            path += reversed(levels[i - length : i])
            i -= length
    return path


def with_renoising(step: SamplerStep, schedule: Schedule) -> SamplerStep:
    """``step`` for moves down; moves up, t -> s > t, add the noise that lies between: with
    r = alpha_s / alpha_t, x_s = r x_t + sqrt(sigma_s^2 - r^2 sigma_t^2) z.

    Lugmayr et al. 2022, algorithm 1, line 9. ValueError for a move up from a level without signal.
    """

    def move(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        if s < t:
            return step(denoise, x, t, s, key, previous)
        ratio = schedule.at(s)[0] / schedule.at(t)[0]
        noised = ratio * x + forward_sigma(schedule, s, t) * key.normal(x.shape[1:], dtype=x.dtype)
        return noised, replace(previous, t=t) if previous is not None else Estimate.from_x0(x, t, x0=x)

    return move


def replacement_loop(problem: InverseProblem, loop: LoopArguments) -> LoopArguments:
    """The loop that replaces what the mask of ``problem`` knows after every step.

    Of latents: by the encoded measurement, where all pixels of a latent are known.
    """
    assert problem.mask is not None
    with torch.no_grad():
        known = problem.encode(problem.y.clamp(-1, 1))
    return loop._replace(step=repaint(loop.step, known, problem.mask, problem.schedule))


def repaint_loop(
    problem: InverseProblem, loop: LoopArguments, *, jump_length: int, jumps: int
) -> LoopArguments:
    """The loop of RePaint: replacement with jumps back. InputError for jumps longer than the loop."""
    moves = len(loop.levels) - 1
    if jumps > 1 and jump_length >= moves:
        raise InputError(
            f"solver repaint: jumps of {jump_length} moves need more moves than that, got {moves}; expected a"
            " smaller `jump_length` or more `steps`"
        )
    levels = repaint_schedule(loop.levels, length=jump_length, times=jumps)
    step = with_renoising(loop.step, problem.schedule)
    return replacement_loop(problem, loop._replace(step=step, levels=levels))
