"""How far apart images, or sets of their features, are: pure functions of tensors, in float64.

No figure depends on how its input was cut into batches. Features are [images, dimensions]; images are uint8
or float in [0, 1], [N, C, H, W].
"""

from latentdiff.metrics.frechet import Moments, frechet, moments
from latentdiff.metrics.half_samples_frechet import bootstrap_frechet
from latentdiff.metrics.half_samples_kernel import bootstrap_kernel
from latentdiff.metrics.interval import Interval
from latentdiff.metrics.mean_interval import bootstrap_mean, proportion_interval
from latentdiff.metrics.mmd import kernel_distance
from latentdiff.metrics.neighbors import nearest
from latentdiff.metrics.pairs import mse, psnr, rmse, ssim, ssim_window
from latentdiff.metrics.precision_recall import Manifold, precision_recall

__all__ = [
    "Interval",
    "Manifold",
    "Moments",
    "bootstrap_frechet",
    "bootstrap_kernel",
    "bootstrap_mean",
    "frechet",
    "kernel_distance",
    "moments",
    "mse",
    "nearest",
    "precision_recall",
    "proportion_interval",
    "psnr",
    "rmse",
    "ssim",
    "ssim_window",
]
