"""Linear operators y = A x with their adjoints, and the proximal step of a measurement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Operator:
    """A linear map A of images [B, *image_shape] to measurements [B, *measured_shape], sample by sample.

    ``forward`` and ``transpose`` are A and its adjoint: <A x, y> = <x, A^T y>. Both are differentiable and
    follow the device and the dtype of their argument.
    """

    name: str
    image_shape: tuple[int, ...]
    measured_shape: tuple[int, ...]
    forward: Map
    transpose: Map

    def __call__(self, x: Tensor) -> Tensor:
        """A x, [B, *measured_shape]; ValueError for another shape of image."""
        _check(self.name, x, self.image_shape)
        return self.forward(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y, [B, *image_shape]; ValueError for another shape of measurement."""
        _check(f"the adjoint of {self.name}", y, self.measured_shape)
        return self.transpose(y)

    def after(self, first: Operator) -> Operator:
        """The composition A first: ``first`` sees the image, this one what it measures.

        ValueError if they do not fit.
        """
        if first.measured_shape != self.image_shape:
            raise ValueError(
                f"{self.name} takes {list(self.image_shape)}, but {first.name} gives"
                f" {list(first.measured_shape)}"
            )
        return Operator(
            f"{first.name} + {self.name}",
            first.image_shape,
            self.measured_shape,
            lambda x: self.forward(first.forward(x)),
            lambda y: first.transpose(self.transpose(y)),
        )


def identity(shape: tuple[int, ...]) -> Operator:
    """A x = x: the measurement is the image itself (with noise, plain denoising)."""
    return Operator("identity", shape, shape, lambda x: x, lambda y: y)


def matrix(weights: Tensor, *, name: str = "matrix") -> Operator:
    """A x = M x for vectors [B, n] and a matrix [m, n]; :func:`separable` has one for each axis of images."""
    rows, columns = weights.shape
    return Operator(name, (columns,), (rows,), lambda x: x @ weights.to(x).T, lambda y: y @ weights.to(y))


def separable(name: str, channels: int, rows: Tensor, columns: Tensor) -> Operator:
    """A X = R X C^T in every channel: a matrix [h, H] on an image's columns, another [w, W] on its rows."""
    (h, height), (w, width) = rows.shape, columns.shape
    return Operator(
        name,
        (channels, height, width),
        (channels, h, w),
        lambda x: rows.to(x) @ x @ columns.to(x).T,
        lambda y: rows.to(y).T @ y @ columns.to(y),
    )


def downsample(image_shape: tuple[int, int, int], factor: int) -> Operator:
    """Means of blocks of factor x factor pixels; ValueError unless both sides are multiples of it."""
    channels, height, width = image_shape
    if factor < 1 or height % factor or width % factor:
        raise ValueError(f"`factor`: expected a divisor of {height} and {width} pixels, got {factor}")

    def means(n: int) -> Tensor:
        return torch.eye(n // factor, dtype=torch.float64).repeat_interleave(factor, 1) / factor

    return separable("downsample", channels, means(height), means(width))


def backprojection(operator: Operator, y: Tensor) -> Tensor:
    """Measurements [B, *measured_shape] as images [B, *image_shape], to be looked at.

    Those of the shape of an image as they are, others as A^T y over the weight that A gives each pixel.
    """
    if operator.measured_shape == operator.image_shape:
        return y
    weight = operator.adjoint(operator(y.new_ones(1, *operator.image_shape)))
    return torch.where(weight > 0, operator.adjoint(y) / weight.clamp_min(1e-6), 0.0)


def norms(residual: Tensor) -> Tensor:
    """The Euclidean norm of each sample, [B]: never one over the batch."""
    lengths: Tensor = torch.linalg.vector_norm(residual.flatten(1), dim=1)
    return lengths


def proximal(operator: Operator, y: Tensor, x: Tensor, rho: float, *, iterations: int = 100) -> Tensor:
    """argmin_z |A z - y|^2 + rho |z - x|^2 for each sample, [B, *image_shape], by conjugate gradients.

    (A^T A + rho) z = A^T y + rho x, started from x, each sample until its own residual has fallen by 1e-6
    (float64: 1e-12), so that it does not depend on the others. Computed in float64 where the device has it:
    with a small rho the number of iterations shows in z, and rounding must not decide it. ValueError unless
    rho > 0. Zhu et al. 2023 (DiffPIR), eq. 13.
    """
    if not rho > 0:
        raise ValueError(f"`rho` must be positive, got {rho}")
    tolerance = 1e-12 if x.dtype == torch.float64 else 1e-6
    place, wide = (-1, *[1] * (x.ndim - 1)), x.dtype if x.device.type == "mps" else torch.float64
    z, y = x.to(wide), y.to(wide)
    r = operator.adjoint(y - operator(z))
    p, square = r, r.flatten(1).square().sum(1)
    goal = square * tolerance**2
    for _ in range(iterations):
        going = square > goal
        if not bool(going.any()):
            break
        image = operator.adjoint(operator(p)) + rho * p
        along = (p * image).flatten(1).sum(1)
        step = torch.where(going & (along > 0), square / along, 0.0).view(place)
        z, r = z + step * p, r - step * image
        after = r.flatten(1).square().sum(1)
        p = r + torch.where(square > 0, after / square, 0.0).view(place) * p
        square = after
    return z.to(x.dtype)


def _check(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape[1:]) != shape or x.ndim != len(shape) + 1:
        raise ValueError(f"`{name}`: expected {['B', *shape]}, got {list(x.shape)}")
