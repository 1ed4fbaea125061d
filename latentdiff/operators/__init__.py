"""Linear operators of restoration, each with its adjoint: masks, blur, fewer pixels, and their compositions."""

from latentdiff.operators.blur import (
    blur_matrix,
    convolution,
    gaussian_blur,
    gaussian_taps,
    motion_blur,
    motion_kernel,
)
from latentdiff.operators.linear import Operator, identity, matrix, norms, proximal, separable
from latentdiff.operators.mask import box, half, masked, scattered
from latentdiff.operators.resample import downsample

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
