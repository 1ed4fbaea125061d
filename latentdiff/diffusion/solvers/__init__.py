"""Restoration and editing by wrapping a Denoiser or a Step: inpainting, DPS, PSLD, ScoreALD, DiffPIR,
inversion.
"""

from latentdiff.diffusion.solvers.diffpir import Correction, corrected, gaussian_update, half_quadratic
from latentdiff.diffusion.solvers.dps import Loss, Measure, StepSize, descending, dps, psld
from latentdiff.diffusion.solvers.inversion import inversion
from latentdiff.diffusion.solvers.repaint import repaint, repaint_schedule, with_renoising
from latentdiff.diffusion.solvers.score_ald import score_ald

__all__ = [
    "Correction",
    "Loss",
    "Measure",
    "StepSize",
    "corrected",
    "descending",
    "dps",
    "gaussian_update",
    "half_quadratic",
    "inversion",
    "psld",
    "repaint",
    "repaint_schedule",
    "score_ald",
    "with_renoising",
]
