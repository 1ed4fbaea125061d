"""A Gaussian prior with its exact denoiser and posterior, against which solvers are tested."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.schedule import Schedule
from latentdiff.ops.random import Key

DOUBLE = torch.float64


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, covariance) over vectors, float64 [n] and [n, n]."""

    mean: Tensor
    covariance: Tensor

    @classmethod
    def smooth(cls, n: int, *, length: float = 3.0) -> Gaussian:
        """A random curve of ``n`` points around a bump: covariance exp(-d^2 / (2 length^2)) and noise."""
        place = torch.arange(n, dtype=DOUBLE)
        distance = (place[:, None] - place).square()
        covariance = 0.25 * torch.exp(-distance / (2 * length**2)) + 0.01 * torch.eye(n, dtype=DOUBLE)
        return cls(torch.sin(place * torch.pi / (n - 1)) - 0.5, covariance)

    def draw(self, n: int, *, seed: int) -> Tensor:
        """Samples [n, d]."""
        noise = Key.of(seed, n).at("init").normal((len(self.mean),), dtype=DOUBLE)
        return torch.addmm(self.mean, noise, torch.linalg.cholesky(self.covariance).T)

    def left(self, schedule: Schedule, t: int) -> Tensor:
        """Cov[x_0 | x_t], [n, n]."""
        alpha, _ = schedule.at(t)
        return self.covariance - alpha * self._gain(schedule, t) @ self.covariance

    def denoiser(self, schedule: Schedule) -> Denoiser:
        """E[x_0 | x_t], differentiable."""

        def denoise(x: Tensor, t: int) -> Estimate:
            x0 = self.mean + (x - schedule.at(t)[0] * self.mean) @ self._gain(schedule, t).T
            return Estimate.from_x0(x, t, x0=x0)

        return denoise

    def posterior(self, a: Tensor, y: Tensor, sigma: float) -> Gaussian:
        """The distribution of x given y = a x + sigma z."""
        observed = a @ self.covariance @ a.T + sigma**2 * torch.eye(len(a), dtype=DOUBLE)
        gain = torch.linalg.solve(observed, a @ self.covariance).T
        return Gaussian(self.mean + gain @ (y - a @ self.mean), self.covariance - gain @ a @ self.covariance)

    def _gain(self, schedule: Schedule, t: int) -> Tensor:
        alpha, sigma = schedule.at(t)
        full = alpha**2 * self.covariance + sigma**2 * torch.eye(len(self.mean), dtype=DOUBLE)
        gain: Tensor = alpha * torch.linalg.solve(full, self.covariance).T
        return gain

    def apart(self, samples: Tensor) -> tuple[float, float]:
        """Errors of the samples' [n, d] mean, in standard deviations, and of their covariance, relative."""
        off = (samples.mean(0) - self.mean).norm() / self.covariance.diagonal().sum().sqrt()
        return float(off), float((samples.T.cov() - self.covariance).norm() / self.covariance.norm())
