"""Prediction types as two numbers: what the network returns (``out``) is linear in x_0, eps and x_t.

Networks that predict x_0 may be preconditioned (Karras et al. 2022, EDM, section 5, with the input scaled to
the variance-preserving process): x_0 = c_skip x_t + c_out out. s = ``sigma_data`` is the deviation of the
data that the coefficients are made for. Where the noise is far below s, x_0 is nearly x_t whatever the
network returns; far above, out is x_0. s = 0 is a plain x_0 prediction, s = 1 is v with its sign changed. d =
sqrt(s^2 alpha^2 + sigma^2).

| prediction | out | x_0 = p x_t + q out: p, q | target = a x_0 + b eps: a, b |
| --- | --- | --- | --- |
| eps | eps | 1/alpha, -sigma/alpha | 0, 1 |
| v | alpha eps - sigma x_0 | alpha, -sigma | -sigma, alpha |
| x0 | x_0 | 0, 1 | 1, 0 |
| x0, s | (sigma x_0 - s^2 alpha eps) / d | s^2 alpha / d^2, sigma / d | sigma / d, -s^2 alpha / d |
| score | -eps/sigma | 1/alpha, sigma^2/alpha | 0, -1/sigma |
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from latentdiff.config.diffusion import Prediction

N = TypeVar("N", float, Tensor)  # numbers of one level, or tables over levels


def to_x0(prediction: Prediction, alpha: N, sigma: N, *, sigma_data: float = 0.0) -> tuple[N, N]:
    """(p, q) with x_0 = p x_t + q out (Salimans & Ho 2022, appendix D, for v).

    ValueError where alpha = 0 hides x_0.
    """
    zero, one = 0 * alpha, 0 * alpha + 1
    if prediction == "v":
        return alpha, -sigma
    if prediction == "x0":
        if not sigma_data:
            return zero, one
        total = _total(alpha, sigma, sigma_data)
        return sigma_data**2 * alpha / total**2, sigma / total
    if bool(alpha == 0) if isinstance(alpha, float) else bool((alpha == 0).any()):
        raise ValueError(
            f"x_0 cannot be read from '{prediction}' at a level with alpha = 0 (zero terminal SNR)"
        )
    if prediction == "eps":
        return 1 / alpha, -sigma / alpha
    if prediction == "score":
        return 1 / alpha, sigma * sigma / alpha
    raise ValueError(f"prediction must be eps, v, x0 or score, got {prediction!r}")


def target(prediction: Prediction, alpha: N, sigma: N, *, sigma_data: float = 0.0) -> tuple[N, N]:
    """(a, b) of the training target a x_0 + b eps."""
    zero, one = 0 * alpha, 0 * alpha + 1
    if prediction == "eps":
        return zero, one
    if prediction == "v":
        return -sigma, alpha
    if prediction == "x0":
        if not sigma_data:
            return one, zero
        total = _total(alpha, sigma, sigma_data)
        return sigma / total, -(sigma_data**2) * alpha / total
    if prediction == "score":
        return zero, -1 / sigma
    raise ValueError(f"prediction must be eps, v, x0 or score, got {prediction!r}")


def _total(alpha: N, sigma: N, sigma_data: float) -> N:
    """The deviation of x_t for data of deviation ``sigma_data``."""
    total: N = (sigma_data**2 * alpha * alpha + sigma * sigma) ** 0.5
    return total
