"""Noise schedules: x_t = alpha_t x_0 + sigma_t eps for the levels t = 0 (clean) to T (noise).

Betas and alpha-bars live in the constructors of this file only; everybody else reads alpha and sigma.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from latentdiff.config.base import parse
from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind, Spacing

BETA_MAX = 0.999  # Nichol & Dhariwal 2021, section 3.2: no step destroys the signal entirely
BETAS: dict[str, tuple[float, float]] = {  # the defaults for T = 1000
    "linear": (1e-4, 0.02),  # Ho et al. 2020, section 4
    "scaled_linear": (0.00085, 0.012),  # Rombach et al. 2022, in sqrt(beta)
    "constant": (0.01, 0.01),
}


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of a variance-preserving process: ``alpha`` and ``sigma`` are float64 of shape [T + 1] on
    the CPU.

    ``alpha[0] == 1`` and ``sigma[0] == 0``, so that there is no special last step.
    """

    config: ScheduleConfig
    alpha: Tensor
    sigma: Tensor

    @property
    def T(self) -> int:  # noqa: N802
        """The number of noise levels; level T is the noisiest."""
        return self.config.T

    def at(self, t: int) -> tuple[float, float]:
        """(alpha_t, sigma_t) of one level; ValueError outside 0..T."""
        if not 0 <= t <= self.T:
            raise ValueError(f"level must lie in 0..{self.T}, got {t}")
        return float(self.alpha[t]), float(self.sigma[t])

    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2 of every level, float64 [T + 1]; infinite at level 0."""
        return self.alpha.square() / self.sigma.square()

    def log_snr(self, t: int) -> float:
        """lambda_t = log(alpha_t / sigma_t), half the log-SNR of Lu et al.

        2022; +inf at level 0, -inf where alpha = 0.
        """
        alpha, sigma = self.at(t)
        if sigma == 0:
            return math.inf
        return math.log(alpha / sigma) if alpha > 0 else -math.inf

    def levels(
        self, steps: int | None = None, spacing: Spacing = "trailing", *, top: int | None = None
    ) -> list[int]:
        """The descending levels a sampler visits with ``steps`` moves, the last one 0; all T of them for
        None.

        ``top`` stands for T where a sampler starts lower.

        The spacings are those of Lin et al. 2024, table 2 (trailing, leading, linspace) and of Song et al.
        2021, appendix D.2 (quadratic, here from level T on so that sampling starts from noise). ValueError
        unless 1 <= steps <= T.
        """
        T = self.T if top is None else top
        n = T if steps is None else steps
        if not 1 <= n <= T:
            raise ValueError(f"steps must lie in 1..{T} (the levels of the schedule), got {n}")
        if spacing == "trailing":
            up = [round(T - i * T / n) for i in reversed(range(n))]
        elif spacing == "leading":
            up = [i * (T // n) + 1 for i in range(n)]
        elif spacing == "linspace":
            up = [round(i * (T - 1) / (n - 1)) + 1 for i in range(n)] if n > 1 else [T]
        elif spacing == "quadratic":
            up = [round((T - 1) * (i / (n - 1)) ** 2) + 1 for i in range(n)] if n > 1 else [T]
            for i in range(1, n):  # small squares round to the same level: keep the levels apart
                up[i] = max(up[i], up[i - 1] + 1)
        else:
            raise ValueError(f"spacing must be trailing, leading, linspace or quadratic, got {spacing!r}")
        return [*reversed(up), 0]


def make_schedule(config: ScheduleConfig | ScheduleKind = "cosine", *, T: int = 1000) -> Schedule:
    """The schedule of a configuration, or of a kind by name with its default betas and ``T`` levels."""
    spec = (
        config
        if isinstance(config, ScheduleConfig)
        else parse(ScheduleConfig, {"kind": config, "T": T}, "schedule")
    )
    alpha_bar = _cumulative(betas_of(spec))
    alpha = alpha_bar.sqrt()
    if spec.zero_terminal_snr:
        alpha = _zero_terminal(alpha)
        alpha_bar = alpha.square()
    return Schedule(spec, alpha, (1 - alpha_bar).sqrt())


def schedule_from_betas(betas: Tensor, config: ScheduleConfig) -> Schedule:
    """A schedule from beta_1..beta_T given as float64 [T], e.g.

    another library's table; ``config`` only labels it.
    """
    if betas.shape != (config.T,) or betas.dtype != torch.float64:
        raise ValueError(
            f"betas must be float64 of shape [{config.T}], got {betas.dtype} {list(betas.shape)}"
        )
    alpha_bar = _cumulative(betas)
    return Schedule(config, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _cumulative(betas: Tensor) -> Tensor:
    """alpha-bar of levels 0..T: the running product of 1 - beta, with the clean level in front."""
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])


def betas_of(spec: ScheduleConfig) -> Tensor:
    """beta_1..beta_T of a configuration, float64 [T], before they are rescaled for zero terminal SNR."""
    T = spec.T
    if spec.betas is not None:
        return torch.tensor(spec.betas, dtype=torch.float64)
    if spec.kind == "cosine":
        return _betas_along(
            lambda u: math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2, T
        )  # Nichol & Dhariwal, eq. 17
    if spec.kind == "sigmoid":
        return _betas_along(_sigmoid_alpha_bar, T)
    # Fewer levels need larger steps to reach the same noise: the default betas scale with 1000 / T.
    first, last = (min(beta * 1000 / T, BETA_MAX) for beta in BETAS[spec.kind])
    first = first if spec.beta_start is None else spec.beta_start
    last = last if spec.beta_end is None else spec.beta_end
    if first > last and spec.kind != "constant":
        raise ValueError(f"beta_start must not exceed beta_end, got {first} > {last}")
    if spec.kind == "constant":
        return torch.full((T,), first, dtype=torch.float64)
    if spec.kind == "linear":
        return torch.linspace(first, last, T, dtype=torch.float64)
    return torch.linspace(math.sqrt(first), math.sqrt(last), T, dtype=torch.float64).square()


def _betas_along(alpha_bar: Callable[[float], float], T: int) -> Tensor:
    """Betas whose product follows the continuous ``alpha_bar(u)``, u in [0, 1], with each step capped."""
    curve = [alpha_bar(i / T) for i in range(T + 1)]
    steps = [min(1 - after / before, BETA_MAX) for before, after in pairwise(curve)]
    return torch.tensor(steps, dtype=torch.float64)


def _sigmoid_alpha_bar(u: float) -> float:
    """Jabri et al. 2022 (arXiv 2212.11972), algorithm 4 with start -3, end 3, temperature 1."""

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    low, high = sigmoid(-3), sigmoid(3)
    return (high - sigmoid(6 * u - 3)) / (high - low)


def _zero_terminal(alpha: Tensor) -> Tensor:
    """Lin et al. 2024, algorithm 1: shift and scale alpha so that alpha_T = 0 while alpha_1 stays."""
    first, last = alpha[1], alpha[-1]
    rescaled = (alpha - last) * (first / (first - last))
    rescaled[0], rescaled[-1] = 1.0, 0.0
    return rescaled
