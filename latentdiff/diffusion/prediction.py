"""Prediction types: what the network returns is a x_0 + b eps, one pair of numbers for each level.

With x_t = alpha x_0 + sigma eps, the pair gives x_0 = p x_t + q out: p = -b / d and q = sigma / d, where
d = a sigma - b alpha. A new type is a row of :data:`PREDICTIONS` and its name in
:mod:`latentdiff.config.diffusion`.

| prediction | out = a x_0 + b eps: a, b | x_0 = p x_t + q out: p, q |
| --- | --- | --- |
| eps | 0, 1 | 1 / alpha, -sigma / alpha |
| v | -sigma, alpha | alpha, -sigma (over alpha^2 + sigma^2, which is 1 where variance is preserved) |
| x0 | 1, 0 | 0, 1 |
| x0, s | sigma / D, -s^2 alpha / D | s^2 alpha / D^2, sigma / D |
| score | 0, -1 / sigma | 1 / alpha, sigma^2 / alpha |
| flow | -1, 1 | 1 / (alpha + sigma), -sigma / (alpha + sigma) |

v: Salimans & Ho 2022, appendix D. flow: the velocity dx/du of rectified flow from data to noise, u = t / T
(Liu et al. 2023, eq. 1; Esser et al. 2024, section 2), whose schedule has alpha + sigma = 1.

x0 with s = ``sigma_data`` above 0 is preconditioned (Karras et al. 2022, EDM, section 5, with the input
x_t in place of x_t / alpha): p = c_skip, q = c_out and D = sqrt(s^2 alpha^2 + sigma^2). s is the deviation of
the data that the coefficients are made for. Where the noise is far below s, x_0 is nearly x_t whatever the
network returns; far above, out is x_0. s = 1 is v with its sign changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from latentdiff.config.diffusion import Prediction

N = TypeVar("N", float, Tensor)  # numbers of one level, or tables over levels


def _preconditioned(alpha: Any, sigma: Any, s: float) -> tuple[Any, Any]:
    """(a, b) of x0 with ``sigma_data`` = s; s = 0 is x_0 itself."""
    if s == 0:
        return 1, 0
    deviation = (s**2 * alpha * alpha + sigma * sigma) ** 0.5  # of x_t for data of deviation s
    return sigma / deviation, -(s**2) * alpha / deviation


PREDICTIONS: dict[Prediction, Callable[[Any, Any, float], tuple[Any, Any]]] = {
    "eps": lambda alpha, sigma, s: (0, 1),
    "v": lambda alpha, sigma, s: (-sigma, alpha),
    "x0": _preconditioned,
    "score": lambda alpha, sigma, s: (0, -1 / sigma),
    "flow": lambda alpha, sigma, s: (-1, 1),
}
"""(alpha, sigma, sigma_data) -> (a, b) with out = a x_0 + b eps, floats or tensors of one shape."""


def target(prediction: Prediction, alpha: N, sigma: N, *, sigma_data: float = 0.0) -> tuple[N, N]:
    """(a, b) of the training target a x_0 + b eps; ValueError for an unknown prediction."""
    if prediction not in PREDICTIONS:
        raise ValueError(f"`prediction` must be one of {', '.join(PREDICTIONS)}, got {prediction!r}")
    a, b = PREDICTIONS[prediction](alpha, sigma, sigma_data)
    return a + 0 * alpha, b + 0 * alpha


def to_x0(prediction: Prediction, alpha: N, sigma: N, *, sigma_data: float = 0.0) -> tuple[N, N]:
    """(p, q) with x_0 = p x_t + q out; ValueError where alpha = 0 hides x_0."""
    a, b = target(prediction, alpha, sigma, sigma_data=sigma_data)
    d = _determinant(prediction, a * sigma - b * alpha)
    return 0 - b / d, sigma / d  # 0 - b: no negative zero


def to_eps(prediction: Prediction, alpha: N, sigma: N, *, sigma_data: float = 0.0) -> tuple[N, N]:
    """(p, q) with eps = p x_t + q out; ValueError where alpha = 0 and the output is a multiple of eps."""
    a, b = target(prediction, alpha, sigma, sigma_data=sigma_data)
    d = _determinant(prediction, a * sigma - b * alpha)
    return 0 + a / d, 0 - alpha / d


def _determinant(prediction: Prediction, d: N) -> N:
    """d = a sigma - b alpha; exactly 1 or -1 where it is so but for rounding (v with variance preserved)."""
    if isinstance(d, Tensor):
        hidden = bool((d == 0).any())
        exact: N = torch.where((d.abs() - 1).abs() < 1e-14, d.sign(), d)
    else:
        hidden = d == 0
        exact = float(round(d)) if abs(abs(d) - 1) < 1e-14 else d
    if hidden:
        raise ValueError(
            f"x_0 cannot be read from '{prediction}' at a level with alpha = 0 (zero terminal SNR)"
        )
    return exact
