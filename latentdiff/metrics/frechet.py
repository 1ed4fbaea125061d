"""The Frechet distance between the Gaussians that have the moments of two sets of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.metrics.validate import check_dimensions, check_features

DEFINITE = 1e-9  # smallest pivot over the largest


@dataclass(frozen=True, eq=False)
class Moments:
    """Of ``n`` images: the mean float64 [D] and the unbiased covariance float64 [D, D] of their features."""

    n: int
    mean: Tensor
    cov: Tensor


def moments(features: Tensor) -> Moments:
    """The moments of features [N, D]. InputError for fewer than 2 images or values that are not finite."""
    check_features(features, least=2)
    x = features.detach().double()
    mean = x.mean(0)
    centred = x - mean
    return Moments(len(x), mean, centred.T @ centred / (len(x) - 1))


def frechet(a: Moments, b: Moments) -> float:
    """|mean_a - mean_b|^2 + Tr(A + B - 2 (A^1/2 B A^1/2)^1/2), with A, B the covariances; in squared units of
    the features.

    The trace of the square root is the sum of the singular values of R^T S for any roots R R^T = A, S S^T =
    B: nothing is squared, so that singular covariances lose no digits, and the result is never complex.
    Biased upwards by the finite sets, about as 1 / n (``frechet_interval`` measures and removes it).
    InputError where the dimensions differ. Dowson and Landau 1982; Heusel et al. 2017, eq. 6.
    """
    check_dimensions(len(a.mean), len(b.mean))
    overlap = torch.linalg.svdvals(_root(a.cov).T @ _root(b.cov)).sum()
    distance = (a.mean - b.mean).square().sum() + a.cov.trace() + b.cov.trace() - 2 * overlap
    return max(0.0, float(distance))  # below zero there is rounding alone


def _root(cov: Tensor) -> Tensor:
    """R [D, D] with R R^T = cov: Cholesky's where cov is clearly definite, else the eigenvectors'.

    Of the latter, what rounding makes of zero eigenvalues is zero again, before a square root magnifies it.
    """
    lower: Tensor
    lower, failed = torch.linalg.cholesky_ex(cov)
    pivots = lower.diagonal().square()
    if not failed and pivots.amin() > DEFINITE * pivots.amax():
        return lower
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh(cov)
    floor = len(values) * torch.finfo(values.dtype).eps * values[-1].clamp_min(0)
    return vectors * torch.where(values > floor, values, 0).sqrt()
