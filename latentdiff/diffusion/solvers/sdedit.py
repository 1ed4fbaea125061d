"""SDEdit as a solver: the measurement as an image, noised and denoised."""

from __future__ import annotations

import torch

from latentdiff.diffusion.loop import noised
from latentdiff.diffusion.operators import backprojection
from latentdiff.diffusion.solvers.problem import InverseProblem, LoopArguments


def sdedit_loop(problem: InverseProblem, loop: LoopArguments, *, strength: float) -> LoopArguments:
    """The loop from the backprojected y, noised to ``strength`` of the highest level (Meng et al. 2022)."""
    t = round(strength * problem.max_level)
    with torch.no_grad():
        x0 = problem.encode(backprojection(problem.operator, problem.y).clamp(-1, 1))
    levels = [t, *(level for level in loop.levels if level < t)]
    return loop._replace(x=noised(x0, t, problem.schedule, loop.key), levels=levels)
