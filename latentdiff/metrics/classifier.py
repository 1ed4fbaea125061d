"""A linear classifier of features, fitted in closed form to the labels of a data set.

Ridge regression on the classes' indicators (Hoerl and Kennard 1970), each class with the same total weight so
that a rare one is not passed over. The penalty is the one with the smallest leave-one-out error, which a
linear fit gives without fitting again: y_i - ŷ_(i) = (y_i - ŷ_i) / (1 - h_i), h_i the leverage (Allen 1974).
Without an image its class weighs less than the others: what a fit without it says is taken beyond the shares
of the classes in that fit, or heavy penalties would pass over the true class of every image. Nothing is
drawn, so that the same features give the same classifier.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.validate import check_features

PENALTIES = tuple(10.0 ** (k / 2) for k in range(-8, 7))  # times the mean eigenvalue of the Gram matrix
CONSTANT = 1e-12  # of the largest variance of a feature: below it a feature says nothing


@dataclass(frozen=True, eq=False)
class LinearClassifier:
    """``weight`` float64 [D, K] and ``bias`` float64 [K]: the class of features x is argmax of x W + b.

    ``held_out`` int64 [N]: the class of each image of the fit by the classifier of the others, whose accuracy
    is one of unseen images. ``penalty``: of the standardised features, chosen by the same.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    held_out: Tensor

    def predict(self, features: Tensor) -> Tensor:
        """The class of each of features [N, D], int64 [N]. InputError for another dimension."""
        check_features(features, least=1)
        if features.shape[1] != len(self.weight):
            raise InputError(f"expected {len(self.weight)} features of an image, found {features.shape[1]}")
        return (features.detach().double() @ self.weight + self.bias).argmax(1)


def fit_classifier(features: Tensor, labels: Tensor, classes: int) -> LinearClassifier:
    """The classifier of features [N, D] with labels int64 [N] in 0..classes-1.

    A class without images is never predicted. InputError for fewer than two classes with images, labels
    outside the range or values that are not finite.
    """
    check_features(features, least=2)
    if labels.shape != features.shape[:1] or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise InputError(
            f"expected a label in 0..{classes - 1} for each of {len(features)} images, found"
            f" {list(labels.shape)} in {int(labels.min())}..{int(labels.max())}"
        )
    counts = torch.bincount(labels, minlength=classes).double()
    if int((counts > 0).sum()) < 2:
        raise InputError("expected images of at least two classes to tell apart, found one class")
    x, weights = features.detach().double(), (1 / counts)[labels]
    weights = weights / weights.sum()
    mean = weights @ x
    variance = weights @ (x - mean).square()
    scale = torch.where(variance > CONSTANT * variance.max(), variance, torch.inf).rsqrt()
    targets = torch.nn.functional.one_hot(labels, classes).double()
    prior = weights @ targets
    ridge = _Ridge.of((x - mean) * scale, targets - prior, weights)
    errors, scores = zip(*(ridge.leave_one_out(penalty) for penalty in PENALTIES), strict=True)
    best = min(range(len(PENALTIES)), key=lambda k: float(errors[k]))
    weight = scale[:, None] * ridge.weight(PENALTIES[best])
    bias = (prior - mean @ weight).masked_fill(counts == 0, -torch.inf)
    held_out = (scores[best] + prior).masked_fill(counts == 0, -torch.inf).argmax(1)
    return LinearClassifier(weight, bias, PENALTIES[best], held_out)


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Weighted ridge regression with an intercept for every penalty, from one eigendecomposition.

    ``rows`` float64 [N, R]: the rows sqrt(w) x in the basis of the eigenvectors ``basis`` [D, R] of their
    Gram matrix, whose ``eigenvalues`` are [R]; ``targets`` [N, K]: sqrt(w) y; ``root`` [N]: sqrt(w).
    """

    rows: Tensor
    basis: Tensor
    eigenvalues: Tensor
    targets: Tensor
    root: Tensor

    @classmethod
    def of(cls, x: Tensor, y: Tensor, weights: Tensor) -> _Ridge:
        """Of x [N, D] and y [N, K] whose means by ``weights`` [N] (of sum 1) are 0."""
        root = weights.sqrt()
        rows = x * root[:, None]
        if len(rows) < rows.shape[1]:  # fewer images than features: the same eigenvalues from [N, N]
            values, left = torch.linalg.eigh(rows @ rows.T)
            kept = values > values[-1] * CONSTANT
            values, left = values[kept], left[:, kept]
            basis = rows.T @ left / values.sqrt()
            return cls(left * values.sqrt(), basis, values, y * root[:, None], root)
        values, vectors = torch.linalg.eigh(rows.T @ rows)
        return cls(rows @ vectors, vectors, values.clamp(min=0), y * root[:, None], root)

    def _shrunk(self, penalty: float) -> Tensor:
        """1 / (eigenvalue + penalty) [R], the penalty in units of the mean eigenvalue of all features."""
        return 1 / (self.eigenvalues + penalty * self.eigenvalues.sum() / len(self.basis))

    def weight(self, penalty: float) -> Tensor:
        """The coefficients [D, K]."""
        return self.basis @ (self._shrunk(penalty)[:, None] * (self.rows.T @ self.targets))

    def leave_one_out(self, penalty: float) -> tuple[Tensor, Tensor]:
        """The weighted squared error of the fits without each row, and what they say of it beyond the means
        of the other rows' targets, [N, K].
        """
        shrunk = self._shrunk(penalty)
        fitted = self.rows @ (shrunk[:, None] * (self.rows.T @ self.targets))
        own = self.root.square()  # the leverage by the intercept
        leverage = self.rows.square() @ shrunk + own
        residuals = (self.targets - fitted) / (1 - leverage).clamp_min(CONSTANT)[:, None]
        others = -own / (1 - own)  # of a row's target: the mean without it
        beyond = self.targets * (1 - others)[:, None] - residuals
        return (self.targets - beyond).square().sum(), beyond / self.root[:, None]
