"""Linear operators of restoration, each with its adjoint: masks, blur, downsampling, and their compositions.

Those that the command line offers are rows of :data:`latentdiff.config.restoration.OPERATORS`.
"""

from collections.abc import Callable, Sequence
from pkgutil import resolve_name
from typing import Any

from latentdiff.config import restoration
from latentdiff.diffusion.operators.blur import (
    blur_matrix,
    convolution,
    gaussian_blur,
    gaussian_taps,
    motion_blur,
    motion_kernel,
)
from latentdiff.diffusion.operators.linear import (
    Operator,
    backprojection,
    downsample,
    identity,
    matrix,
    norms,
    proximal,
    separable,
)
from latentdiff.diffusion.operators.mask import box, half, masked, scattered

__all__ = [
    "OPERATORS",
    "Operator",
    "backprojection",
    "blur_matrix",
    "box",
    "convolution",
    "downsample",
    "gaussian_blur",
    "gaussian_taps",
    "half",
    "identity",
    "make_operator",
    "masked",
    "matrix",
    "motion_blur",
    "motion_kernel",
    "norms",
    "proximal",
    "scattered",
    "separable",
]

OPERATORS = restoration.OPERATORS


def operator_function(name: str) -> Callable[..., Operator]:
    """The function of a row of ``OPERATORS``: (image_shape, **options) -> Operator."""
    found: Callable[..., Operator] = resolve_name(f"{__name__}.{OPERATORS[name].function}")
    return found


def make_operator(name: str, image_shape: Sequence[int], **options: Any) -> Operator:
    """The operator of a row of ``OPERATORS`` on images [C, H, W].

    ``options`` are those of the row (others have its defaults); ``mask`` takes a ``mask`` [H, W] alone.
    ValueError for values out of range, and for those that do not fit the images.
    """
    if name != "mask":
        chosen = OPERATORS[name].options(**options)
        options = {option.removeprefix(f"{name}_"): value for option, value in chosen}
    return operator_function(name)(tuple(image_shape), **options)
