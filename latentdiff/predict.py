"""Prediction types as two numbers: what the network returns (``out``) is linear in x_0, eps and x_t.

| prediction | out | x_0 = p x_t + q out: p, q | target = a x_0 + b eps: a, b |
| --- | --- | --- | --- |
| eps | eps | 1/alpha, -sigma/alpha | 0, 1 |
| v | alpha eps - sigma x_0 | alpha, -sigma | -sigma, alpha |
| x0 | x_0 | 0, 1 | 1, 0 |
| score | -eps/sigma | 1/alpha, sigma^2/alpha | 0, -1/sigma |
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from latentdiff.config.diffusion import Prediction

N = TypeVar("N", float, Tensor)  # numbers of one level, or tables over levels


def to_x0(prediction: Prediction, alpha: N, sigma: N) -> tuple[N, N]:
    """(p, q) with x_0 = p x_t + q out (Salimans & Ho 2022, appendix D, for v). ValueError where alpha = 0 hides x_0."""
    zero, one = 0 * alpha, 0 * alpha + 1
    if prediction == "v":
        return alpha, -sigma
    if prediction == "x0":
        return zero, one
    if bool(alpha == 0) if isinstance(alpha, float) else bool((alpha == 0).any()):
        raise ValueError(f"x_0 cannot be read from '{prediction}' at a level with alpha = 0 (zero terminal SNR)")
    if prediction == "eps":
        return 1 / alpha, -sigma / alpha
    if prediction == "score":
        return 1 / alpha, sigma * sigma / alpha
    raise ValueError(f"prediction must be eps, v, x0 or score, got {prediction!r}")


def target(prediction: Prediction, alpha: N, sigma: N) -> tuple[N, N]:
    """(a, b) of the training target a x_0 + b eps."""
    zero, one = 0 * alpha, 0 * alpha + 1
    if prediction == "eps":
        return zero, one
    if prediction == "v":
        return -sigma, alpha
    if prediction == "x0":
        return one, zero
    if prediction == "score":
        return zero, -1 / sigma
    raise ValueError(f"prediction must be eps, v, x0 or score, got {prediction!r}")
