"""Linear operators of restoration, each with its adjoint: masks, blur, fewer pixels, and their
compositions.
"""

from latentdiff.diffusion.operators.blur import (
    blur_matrix,
    convolution,
    gaussian_blur,
    gaussian_taps,
    motion_blur,
    motion_kernel,
)
from latentdiff.diffusion.operators.linear import Operator, identity, matrix, norms, proximal, separable
from latentdiff.diffusion.operators.mask import box, half, masked, scattered
from latentdiff.diffusion.operators.resample import downsample

__all__ = [
    "Operator",
    "blur_matrix",
    "box",
    "convolution",
    "downsample",
    "gaussian_blur",
    "gaussian_taps",
    "half",
    "identity",
    "masked",
    "matrix",
    "motion_blur",
    "motion_kernel",
    "norms",
    "proximal",
    "scattered",
    "separable",
]
