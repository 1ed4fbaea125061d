"""Restoration and editing by wrapping a Denoiser or a Step: inpainting, DPS, PSLD, ScoreALD, DiffPIR, inversion."""

from latentdiff.diffusion.solvers.diffpir import Correction, corrected, gaussian_update, half_quadratic
from latentdiff.diffusion.solvers.dps import Loss, Measure, StepSize, descending, dps, psld
from latentdiff.diffusion.solvers.inversion import inversion
from latentdiff.diffusion.solvers.repaint import both_ways, inpaint, with_jumps
from latentdiff.diffusion.solvers.score_ald import ald

__all__ = [
    "Correction",
    "Loss",
    "Measure",
    "StepSize",
    "ald",
    "both_ways",
    "corrected",
    "descending",
    "dps",
    "gaussian_update",
    "half_quadratic",
    "inpaint",
    "inversion",
    "psld",
    "with_jumps",
]
