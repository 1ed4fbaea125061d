"""The eager reference: the lines of plain PyTorch that the operations replace, timed eager and compiled.

Coefficients are Python numbers for the steps (one level for the batch) and tensors [B, 1, ...] for the
noising (a level for each sample). ``draw`` makes noise like a tensor; users write ``torch.randn_like``.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Draw = Callable[[Tensor], Tensor]


def ddim(x: Tensor, eps: Tensor, alpha_t: float, sigma_t: float, alpha_s: float, sigma_s: float) -> Tensor:
    """One DDIM step with eta = 0 (Song et al. 2021, eq. 12)."""
    x0 = (x - sigma_t * eps) / alpha_t
    return alpha_s * x0 + sigma_s * eps


def guided_ddim(
    x: Tensor,
    cond: Tensor,
    uncond: Tensor,
    w: float,
    alpha_t: float,
    sigma_t: float,
    alpha_s: float,
    sigma_s: float,
) -> Tensor:
    """The same with classifier-free guidance (Ho & Salimans 2022, eq. 6 with w there = w - 1)."""
    eps = uncond + w * (cond - uncond)
    x0 = (x - sigma_t * eps) / alpha_t
    return alpha_s * x0 + sigma_s * eps


def ddpm(
    x: Tensor, eps: Tensor, alpha_t: float, sigma_t: float, k: float, m: float, c: float, draw: Draw
) -> Tensor:
    """One DDPM step (Ho et al. 2020, eq. 6 and 7): the posterior mean of the estimate, and noise."""
    x0 = (x - sigma_t * eps) / alpha_t
    mean = k * x + m * x0
    return mean + c * draw(x)


def add_noise(x0: Tensor, alpha: Tensor, sigma: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """x_t and the training target v = alpha eps - sigma x_0 (Salimans & Ho 2022, section 4)."""
    noise = draw(x0)
    x_t = alpha * x0 + sigma * noise
    v = alpha * noise - sigma * x0
    return x_t, v


def normal(like: Tensor, draw: Draw) -> Tensor:
    """Noise alone."""
    return draw(like)
