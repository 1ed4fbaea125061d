"""Restoration by wrapping a Denoiser or a SamplerStep: RePaint, DPS, PSLD, ScoreALD, DiffPIR.

Those that ``restore`` offers are rows of :data:`latentdiff.config.restoration.SOLVERS`. SDEdit wraps
neither: it is plain sampling from :func:`latentdiff.diffusion.loop.noised`.
"""

from collections.abc import Callable
from pkgutil import resolve_name

from latentdiff.config import restoration
from latentdiff.diffusion.solvers.diffpir import corrected, gaussian_update, half_quadratic
from latentdiff.diffusion.solvers.dps import descending, dps, psld
from latentdiff.diffusion.solvers.problem import InverseProblem, LoopArguments
from latentdiff.diffusion.solvers.repaint import repaint, repaint_schedule, with_renoising
from latentdiff.diffusion.solvers.score_ald import score_ald

__all__ = [
    "SOLVERS",
    "InverseProblem",
    "LoopArguments",
    "corrected",
    "descending",
    "dps",
    "gaussian_update",
    "half_quadratic",
    "psld",
    "repaint",
    "repaint_schedule",
    "score_ald",
    "solver_function",
    "with_renoising",
]

SOLVERS = restoration.SOLVERS


def solver_function(name: restoration.Solver) -> Callable[..., LoopArguments]:
    """The function of a row of ``SOLVERS``: (problem, loop arguments, **options) -> loop arguments."""
    found: Callable[..., LoopArguments] = resolve_name(f"{__name__}.{SOLVERS[name].function}")
    return found
