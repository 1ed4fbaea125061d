"""Noise schedules: x_t = alpha_t x_0 + sigma_t eps for the levels t = 0 (clean) to T (noise).

Level t is timestep t - 1 of other libraries. Betas and alpha-bars stay in this file; the rest of the package
reads alpha and sigma. A new kind is a row of :data:`BETAS` or :data:`CURVES` and one of
:data:`latentdiff.config.diffusion.SCHEDULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from latentdiff.config.base import parse
from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind, Spacing

BETA_MAX = 0.999  # Nichol & Dhariwal 2021, section 3.2: no step destroys the signal entirely
RHO = 7.0  # Karras et al. 2022, table 1
MAX_NOISE = 80.0
"""sigma / alpha above which a level is taken for pure noise (sigma_max of Karras et al. 2022, table 1)."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of a process: ``alpha`` and ``sigma`` are float64 of shape [T + 1] on the CPU.

    ``alpha[0] == 1`` and ``sigma[0] == 0``, so that there is no special last step; ``sigma / alpha`` grows.
    Level T is noise of deviation 1, which sampling starts from.
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
            raise ValueError(f"`t` must lie in 0..{self.T}, got {t}")
        return float(self.alpha[t]), float(self.sigma[t])

    def snr(self) -> Tensor:
        """Signal-to-noise ratio alpha^2 / sigma^2 of every level, float64 [T + 1]; infinite at level 0."""
        return self.alpha.square() / self.sigma.square()

    def log_snr(self, t: int) -> float:
        """log(alpha_t / sigma_t), half the log-SNR (Lu et al. 2022): inf at level 0, -inf where alpha = 0."""
        alpha, sigma = self.at(t)
        if sigma == 0:
            return math.inf
        return math.log(alpha / sigma) if alpha > 0 else -math.inf

    @cached_property
    def preserves_variance(self) -> bool:
        """Whether alpha^2 + sigma^2 is 1 at every level."""
        return bool(((self.alpha.square() + self.sigma.square() - 1).abs() < 1e-9).all())

    def forward_variance(self, t: int | slice, s: int | slice) -> Tensor:
        """Variance of the noise between levels s < t (beta_t where s = t - 1), float64; slices give a table.

        x_t = r x_s + sqrt(variance) z with r = alpha_t / alpha_s and variance sigma_t^2 - r^2 sigma_s^2,
        which is 1 - r^2 where variance is preserved.
        """
        kept = (self.alpha[t] / self.alpha[s]).square()
        if self.preserves_variance:
            return 1 - kept
        return (self.sigma[t].square() - kept * self.sigma[s].square()).clamp_min(0)

    def reverse_variance(self, t: int | slice, s: int | slice) -> Tensor:
        """Var[x_s | x_t] for data of unit variance, float64; slices give a table.

        It is DDPM's large variance, an upper bound for the reverse move t -> s < t (Ho et al. 2020, section
        3.2), and the forward variance where variance is preserved.
        """
        forward = self.forward_variance(t, s)
        if self.preserves_variance:
            return forward
        total = self.alpha.square() + self.sigma.square()
        return forward * total[s] / total[t]

    def levels(
        self, steps: int | None = None, spacing: Spacing = "trailing", *, top: int | None = None
    ) -> list[int]:
        """The descending levels that a sampler visits with ``steps`` moves, the last one 0; None: all levels.

        ``top`` stands for T where a sampler starts lower. The spacings are those of :data:`SPACINGS`.
        ValueError unless 1 <= steps <= T.
        """
        T = self.T if top is None else top
        n = T if steps is None else steps
        if not 1 <= n <= T:
            raise ValueError(f"`steps` must lie in 1..{T} (the levels of the schedule), got {n}")
        if spacing not in SPACINGS:
            raise ValueError(f"`spacing` must be one of {', '.join(SPACINGS)}, got {spacing!r}")
        return [*reversed(SPACINGS[spacing](self, n, T)), 0]


def _quadratic(schedule: Schedule, n: int, top: int) -> list[int]:
    """Levels that grow with the square (Song et al. 2021, appendix D.2), from 1 to ``top``."""
    if n == 1:
        return [top]
    return _distinct([round((top - 1) * (i / (n - 1)) ** 2) + 1 for i in range(n)], top)


def _karras(schedule: Schedule, n: int, top: int) -> list[int]:
    """Levels even in (sigma / alpha)^(1 / 7) (Karras et al. 2022, eq. 5), the nearest of the schedule's.

    From level 1 to sigma / alpha = 80 at most; the noisiest is replaced by ``top``.
    """
    root = (schedule.sigma[1 : top + 1] / schedule.alpha[1 : top + 1]) ** (1 / RHO)
    last = min(float(root[-1]), MAX_NOISE ** (1 / RHO))
    wanted = torch.linspace(min(float(root[0]), last), last, n, dtype=torch.float64)
    nearest = torch.bucketize(wanted, (root[1:] + root[:-1]) / 2) + 1
    return _distinct([*nearest.tolist()[:-1], top], top)


def _distinct(ascending: list[int], top: int) -> list[int]:
    """Levels in 1..``top`` moved apart where several are the same: up first, then down from ``top``."""
    n, up = len(ascending), list(ascending)
    for i in range(1, n):
        up[i] = max(up[i], up[i - 1] + 1)
    return [min(level, top - (n - 1 - i)) for i, level in enumerate(up)]


SPACINGS: dict[Spacing, Callable[[Schedule, int, int], list[int]]] = {
    # Lin et al. 2024, table 2
    "trailing": lambda _, n, top: [round(top - i * top / n) for i in reversed(range(n))],
    "leading": lambda _, n, top: [i * (top // n) + 1 for i in range(n)],
    "linspace": lambda _, n, top: [round(i * (top - 1) / (n - 1)) + 1 for i in range(n)] if n > 1 else [top],
    "quadratic": _quadratic,
    "karras": _karras,
}
"""(schedule, number of moves, highest level) -> the ascending levels above 0."""


def make_schedule(config: ScheduleConfig | ScheduleKind = "cosine", *, T: int = 1000) -> Schedule:
    """The schedule of a configuration, or of a kind by name with its default betas and ``T`` levels."""
    spec = (
        config
        if isinstance(config, ScheduleConfig)
        else parse(ScheduleConfig, {"kind": config, "T": T}, "schedule")
    )
    if spec.kind in CURVES:
        return Schedule(spec, *CURVES[spec.kind](torch.arange(spec.T + 1, dtype=torch.float64) / spec.T))
    alpha_bar = _cumulative(betas_of(spec))
    alpha = alpha_bar.sqrt()
    if spec.zero_terminal_snr:
        alpha = _zero_terminal(alpha)
        alpha_bar = alpha.square()
    return Schedule(spec, alpha, (1 - alpha_bar).sqrt())


def schedule_from_betas(betas: Tensor, config: ScheduleConfig) -> Schedule:
    """A variance-preserving schedule from beta_1..beta_T, float64 [T]; ``config`` only labels it."""
    if betas.shape != (config.T,) or betas.dtype != torch.float64:
        raise ValueError(
            f"`betas` must be float64 of shape [{config.T}], got {betas.dtype} {list(betas.shape)}"
        )
    alpha_bar = _cumulative(betas)
    return Schedule(config, alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def _cumulative(betas: Tensor) -> Tensor:
    """alpha-bar of levels 0..T: the running product of 1 - beta, with the clean level in front."""
    return torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])


def betas_of(spec: ScheduleConfig) -> Tensor:
    """beta_1..beta_T of a variance-preserving configuration, float64 [T], before they are rescaled for zero
    terminal SNR; ValueError for a kind without betas.
    """
    if spec.kind not in BETAS:
        raise ValueError(f"expected a schedule of betas ({', '.join(BETAS)}), got {spec.kind}")
    return BETAS[spec.kind](spec)


def _between(spec: ScheduleConfig, first: float, last: float) -> tuple[float, float]:
    """beta_1 and beta_T: those given, else the kind's for T = 1000, times 1000 / T to reach as much noise."""
    first, last = (min(beta * 1000 / spec.T, BETA_MAX) for beta in (first, last))
    first = first if spec.beta_start is None else spec.beta_start
    last = last if spec.beta_end is None else spec.beta_end
    if first > last and spec.kind != "constant":
        raise ValueError(f"`beta_start` must not exceed `beta_end`, got {first} > {last}")
    return first, last


def _linear(spec: ScheduleConfig) -> Tensor:
    """Ho et al. 2020, section 4."""
    return torch.linspace(*_between(spec, 1e-4, 0.02), spec.T, dtype=torch.float64)


def _scaled_linear(spec: ScheduleConfig) -> Tensor:
    """Rombach et al. 2022: linear in sqrt(beta)."""
    first, last = _between(spec, 0.00085, 0.012)
    return torch.linspace(math.sqrt(first), math.sqrt(last), spec.T, dtype=torch.float64).square()


def _betas_along(alpha_bar: Callable[[float], float], T: int) -> Tensor:
    """Betas whose product follows the continuous ``alpha_bar(u)``, u in [0, 1], with each step capped."""
    curve = [alpha_bar(i / T) for i in range(T + 1)]
    steps = [min(1 - after / before, BETA_MAX) for before, after in pairwise(curve)]
    return torch.tensor(steps, dtype=torch.float64)


def _cosine_alpha_bar(u: float) -> float:
    """Nichol & Dhariwal 2021, eq. 17, up to its value at 0."""
    return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2


def _sigmoid_alpha_bar(u: float) -> float:
    """Jabri et al. 2022 (arXiv 2212.11972), algorithm 4 with start -3, end 3, temperature 1."""

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    low, high = sigmoid(-3), sigmoid(3)
    return (high - sigmoid(6 * u - 3)) / (high - low)


BETAS: dict[str, Callable[[ScheduleConfig], Tensor]] = {
    "linear": _linear,
    "scaled_linear": _scaled_linear,
    "constant": lambda spec: torch.full((spec.T,), _between(spec, 0.01, 0.01)[0], dtype=torch.float64),
    "cosine": lambda spec: _betas_along(_cosine_alpha_bar, spec.T),
    "sigmoid": lambda spec: _betas_along(_sigmoid_alpha_bar, spec.T),
    "betas": lambda spec: torch.tensor(spec.betas, dtype=torch.float64),
}
"""Variance-preserving kinds: beta_1..beta_T, float64 [T]."""

CURVES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "rectified-flow": lambda u: (1 - u, u),  # Liu et al. 2023, eq. 1; Lipman et al. 2023, eq. 22
}
"""Other kinds: alpha and sigma of u = t / T in [0, 1], float64 [T + 1]; (1, 0) at 0, sigma = 1 at 1."""


def _zero_terminal(alpha: Tensor) -> Tensor:
    """Lin et al. 2024, algorithm 1: shift and scale alpha so that alpha_T = 0 while alpha_1 stays."""
    first, last = alpha[1], alpha[-1]
    rescaled = (alpha - last) * (first / (first - last))
    rescaled[0], rescaled[-1] = 1.0, 0.0
    return rescaled
