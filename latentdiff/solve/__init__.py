"""Restoration and editing by wrapping a Denoiser or a Step: inpainting, DPS, PSLD, ScoreALD, DiffPIR, inversion."""

from latentdiff.solve.ald import ald
from latentdiff.solve.cold import cold, restorer
from latentdiff.solve.condition import Correction, corrected, gaussian_update, half_quadratic
from latentdiff.solve.descend import Loss, Measure, StepSize, descending, dps, psld
from latentdiff.solve.inpaint import both_ways, inpaint, with_jumps
from latentdiff.solve.invert import inversion

__all__ = [
    "Correction",
    "Loss",
    "Measure",
    "StepSize",
    "ald",
    "both_ways",
    "cold",
    "corrected",
    "descending",
    "dps",
    "gaussian_update",
    "half_quadratic",
    "inpaint",
    "inversion",
    "psld",
    "restorer",
    "with_jumps",
]
