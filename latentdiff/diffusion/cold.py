"""Cold diffusion (Bansal et al. 2022): degradations in place of noise, prior of the start, sampling step."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff.config.cold import DegradationConfig
from latentdiff.diffusion.denoiser import Denoiser, Network, timestep
from latentdiff.diffusion.estimate import Estimate
from latentdiff.diffusion.operators import blur_matrix, gaussian_taps
from latentdiff.diffusion.samplers import SamplerStep, StepResult
from latentdiff.errors import InputError
from latentdiff.ops.random import Key


@dataclass(frozen=True, eq=False)
class Degradation:
    """D(x_0, t) = mask_t (R_t X C_t^T) for every channel X: for each level matrices on rows and columns, and
    a mask.

    ``rows`` [T + 1, H, H], ``columns`` [T + 1, W, W] and ``mask`` [T + 1, H, W] are float32; None: the
    identity. Level 0 is x_0 itself.
    """

    T: int
    shape: tuple[int, int, int]
    rows: Tensor | None = None
    columns: Tensor | None = None
    mask: Tensor | None = None

    def __call__(self, x0: Tensor, t: int | Tensor) -> Tensor:
        """Images [B, C, H, W] at level ``t``, one or int64 [B]; ValueError for others, or another shape."""
        if tuple(x0.shape[1:]) != self.shape:
            raise ValueError(f"expected images {['B', *self.shape]}, got {list(x0.shape)}")
        if isinstance(t, int):
            if not 0 <= t <= self.T:
                raise ValueError(f"`t` must lie in 0..{self.T}, got {t}")
            if t == 0:
                return x0
            t = torch.tensor([t])
        elif t.shape != x0.shape[:1]:
            raise ValueError(f"expected levels of shape {list(x0.shape[:1])}, got {list(t.shape)}")
        if self.rows is not None and self.columns is not None:
            x0 = self._at(self.rows, t, x0) @ x0 @ self._at(self.columns, t, x0).transpose(-1, -2)
        return x0 if self.mask is None else x0 * self._at(self.mask, t, x0)

    @staticmethod
    def _at(table: Tensor, t: Tensor, like: Tensor) -> Tensor:
        return table[t.to(table.device)][:, None].to(like)

    def to(self, device: torch.device) -> Degradation:
        """The same degradation with its tables on a device."""
        tables = (
            None if table is None else table.to(device) for table in (self.rows, self.columns, self.mask)
        )
        return Degradation(self.T, self.shape, *tables)


def make_degradation(config: DegradationConfig, shape: tuple[int, int, int]) -> Degradation:
    """The degradation of a configuration for images of ``shape`` (C, H, W)."""
    _, height, width = shape
    if config.degradation == "blur":
        return Degradation(config.T, shape, _blurs(config, height), _blurs(config, width))
    if config.degradation == "pixelate":
        return Degradation(config.T, shape, _blocks(config.T, height), _blocks(config.T, width))
    return Degradation(config.T, shape, mask=_fading(config.T, height, width))


def _blurs(config: DegradationConfig, n: int) -> Tensor:
    """Products of the first t blurs, [T + 1, n, n]: level t blurs what level t - 1 left, as published."""
    total, tables = torch.eye(n, dtype=torch.float64), [torch.eye(n, dtype=torch.float64)]
    for level in range(config.T):
        sigma = math.sqrt(config.variance * (1 + config.growth) ** level)
        total = blur_matrix(gaussian_taps(sigma, config.kernel), n) @ total
        tables.append(total)
    return torch.stack(tables).float()


def _blocks(T: int, n: int) -> Tensor:
    """Means over blocks of pixels, as large as these, whose number falls from n to 1 by equal factors."""
    tables = []
    for level in range(T + 1):
        blocks = max(1, round(n ** (1 - level / T)))
        place = torch.arange(n) * blocks // n
        same = (place[:, None] == place).double()
        tables.append(same / same.sum(1, keepdim=True))
    return torch.stack(tables).float()


def _fading(T: int, height: int, width: int) -> Tensor:
    """Products of 1 minus a bump that widens from a pixel to half the image; at level T all is grey (0)."""
    y = torch.arange(height, dtype=torch.float64)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    square = y.square() + x.square()
    tables, left = (
        [torch.ones(height, width, dtype=torch.float64)],
        torch.ones(height, width, dtype=torch.float64),
    )
    for level in range(1, T + 1):
        spread = 1 + level / T * max(height, width) / 2
        left = left * (1 - torch.exp(-square / (2 * spread**2)))
        tables.append(left)
    tables[-1] = torch.zeros_like(left)
    return torch.stack(tables).float()


@dataclass(frozen=True, eq=False)
class Intensities:
    """A Gaussian mixture of the mean intensities of ``side`` x ``side`` cells: weights [m], means [m, k] and
    covariances [m, k, k], float64, k = channels side^2, in [-1, 1].

    A strong blur leaves nothing of an image but its mean, one cell (Bansal et al. 2022, section 5.3). A
    weaker one leaves more, which several cells model.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor
    side: int = 1

    @classmethod
    def of(cls, images: Tensor, side: int = 1, *, components: int = 1) -> Intensities:
        """Fit to images [N, C, H, W] in [-1, 1]: the components are clusters of them (k-means).

        The covariance of a cluster of n is drawn to that within all clusters, with a weight of k / (n + k).
        """
        values = F.adaptive_avg_pool2d(images, side).flatten(1).double()
        n, k = values.shape
        cluster = _clusters(values, components) if components > 1 else torch.zeros(n, dtype=torch.int64)
        rows = [values[cluster == j] for j in cluster.unique()]
        means = torch.stack([each.mean(0) for each in rows])
        centred = [each - mean for each, mean in zip(rows, means, strict=True)]
        scatter = torch.stack([each.T @ each for each in centred])
        sizes = torch.tensor([len(each) for each in rows], dtype=torch.float64)
        if len(rows) == 1:
            return cls(sizes / n, means, scatter / n, side)
        within = scatter.sum(0) / n
        return cls(sizes / n, means, (scatter + k * within) / (sizes[:, None, None] + k), side)

    @classmethod
    def stored(cls, tensors: dict[str, Tensor], channels: int, where: str) -> Intensities:
        """Read ``weights``, ``mean`` and ``covariance`` from a file's tensors; without weights one component.

        InputError unless they are finite, of square grids of cells, and weights positive numbers.
        """
        mean, covariance, weights = (tensors.get(name) for name in ("mean", "covariance", "weights"))
        if mean is not None and covariance is not None and weights is None:
            mean, covariance, weights = mean[None], covariance[None], torch.ones(1)
        k = mean.shape[1] if mean is not None and mean.ndim == 2 else 0
        side = math.isqrt(k // channels)
        if (
            mean is None
            or covariance is None
            or weights is None
            or k != channels * side**2
            or k == 0
            or len(mean) == 0
            or list(covariance.shape) != [len(mean), k, k]
            or list(weights.shape) != [len(mean)]
            or not all(bool(each.isfinite().all()) for each in (mean, covariance, weights))
            or not bool((weights > 0).all())
        ):
            found = {name: list(tensor.shape) for name, tensor in tensors.items()}
            raise InputError(
                f"{where}: expected positive weights, a finite mean and covariance of square grids of"
                f" cells, found {found}"
            )
        weights = weights.double()
        return cls(weights / weights.sum(), mean.double(), covariance.double(), side)

    def tensors(self) -> dict[str, Tensor]:
        """``weights`` [m], ``mean`` [m, k] and ``covariance`` [m, k, k], float32."""
        values = {"weights": self.weights, "mean": self.means, "covariance": self.covariances}
        return {name: value.float() for name, value in values.items()}

    def draw(self, key: Key) -> Tensor:
        """Intensities [n, k] of the mixture."""
        noise = key.at("init").normal((self.means.shape[1],), dtype=torch.float64)
        chance = torch.special.ndtr(key.at("init", 1).normal((1,), dtype=torch.float64))[:, 0]
        edges = self.weights.cumsum(0)[:-1].to(chance.device)
        chosen = torch.bucketize(chance, edges)
        drawn = torch.empty_like(noise)
        for j in chosen.unique().tolist():
            values, vectors = torch.linalg.eigh(self.covariances[j])
            root = vectors * values.clamp_min(0).sqrt()
            rows = chosen == j
            drawn[rows] = torch.addmm(self.means[j].to(noise), noise[rows], root.T.to(noise))
        return drawn.float()

    def images(self, key: Key, shape: tuple[int, int, int]) -> Tensor:
        """Images [n, C, H, W] of drawn intensities, flat or interpolated between the middles of cells."""
        channels, height, width = shape
        cells = self.draw(key).view(-1, channels, self.side, self.side)
        if self.side == 1:
            return cells.expand(-1, -1, height, width).contiguous()
        return F.interpolate(cells, size=(height, width), mode="bilinear", align_corners=False)


def _clusters(values: Tensor, count: int, *, rounds: int = 30) -> Tensor:
    """The cluster of each row of ``values`` [n, k] by k-means, int64 [n], begun at rows spread over them."""
    centres = values[torch.arange(count) * len(values) // count].clone()
    for _ in range(rounds):
        nearest = torch.cdist(values, centres).argmin(1)
        for j in nearest.unique().tolist():
            centres[j] = values[nearest == j].mean(0)
    return nearest


def restorer(network: Network, *, clip: float | None = 1.0, labels: Tensor | None = None) -> Denoiser:
    """The denoiser of a residual network: R(x_t, t) = x_t + network(x_t, t), R of Bansal et al. 2022.

    A network initialised to zero is the identity, which is nearly right at low levels.
    """

    def restore(x: Tensor, t: int) -> Estimate:
        times = timestep(x.new_full((len(x),), float(t)))
        return Estimate(x, t, 1.0, (network(x, times, labels).to(x.dtype),), (1.0,), clip)

    return restore


def cold_step(degrade: Degradation, *, improved: bool = True) -> SamplerStep:
    """x_s = x_t - D(x_0, t) + D(x_0, s), in which errors of x_0 that are alike at t and s cancel.

    ``improved`` False: x_s = D(x_0, s). Bansal et al. 2022, algorithms 2 and 1. Where s = 0 that is the
    estimate.
    """

    def step(denoise: Denoiser, x: Tensor, t: int, s: int, key: Key, previous: Estimate | None) -> StepResult:
        estimate = denoise(x, t)
        x0 = estimate.x0()
        below = degrade(x0, s)
        return (x - degrade(x0, t) + below if improved else below), estimate

    return step
