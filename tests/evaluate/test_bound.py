"""The variational bound and the losses by level against closed forms and numerical integrals of exactly
solved models.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from latentdiff.config.diffusion import DiffusionConfig, Prediction, ScheduleConfig
from latentdiff.diffusion.losses import level_weights
from latentdiff.diffusion.prediction import target
from latentdiff.errors import InputError
from latentdiff.evaluate import Resampling, bits_per_dimension, loss_by_level, score_denoiser
from latentdiff.evaluate.bound import prior_bits, strata_edges
from latentdiff.evaluate.denoiser import spread_levels
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline

VALUES = torch.tensor([0, 40, 128, 255], dtype=torch.uint8)
SPEC = ScheduleConfig(kind="linear", T=12, beta_start=0.02, beta_end=0.6)
NO = Resampling(0)


class Exact(nn.Module):
    """A network that knows E[x_0 | x_t] of its prior, and answers in any prediction type; a constant spread
    if asked.
    """

    def __init__(
        self, diffusion: DiffusionConfig, *, spread: float | None = None, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.diffusion, self.spread, self.scale = diffusion, spread, scale
        self.tables: tuple[Tensor, Tensor] | None = None

    def estimate(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The posterior mean of pixels that take the four values with equal probability."""
        points = self.scale * (VALUES.double() / 127.5 - 1).view(-1, *[1] * x.ndim)
        weights = (-0.5 * ((x - alpha * points) / sigma).square()).softmax(0)
        return (weights * points).sum(0)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        assert self.tables is not None
        level = t.long() + 1
        alpha, sigma = (table[level].view(-1, *[1] * (x.ndim - 1)) for table in self.tables)
        x0 = self.estimate(x.double(), alpha, sigma)
        a, b = target(self.diffusion.prediction, alpha, sigma)
        out = (a * x0 + b * (x.double() - alpha * x0) / sigma).float()
        return out if self.spread is None else torch.cat([out, torch.full_like(out, self.spread)], 1)


class GaussianExact(Exact):
    """The same for pixels that are normal with mean 0 and standard deviation 0.2."""

    def estimate(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        return alpha * 0.04 / (alpha.square() * 0.04 + sigma.square()) * x


def model(
    prediction: Prediction = "eps",
    *,
    spread: float | None = None,
    kind: type[Exact] = Exact,
    spec: ScheduleConfig = SPEC,
    scale: float = 1.0,
) -> Pipeline:
    variance = "fixed" if spread is None else "learned"
    diffusion = DiffusionConfig(schedule=spec, prediction=prediction, variance=variance, clip=None)
    network = kind(diffusion, spread=spread, scale=scale)
    pipeline = Pipeline(network, diffusion, IdentityCodec((1, 16, 16), scale))
    network.tables = (pipeline.schedule.alpha, pipeline.schedule.sigma)
    return pipeline


def discrete(n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return VALUES[torch.randint(0, 4, (n, 1, 16, 16), generator=generator)]


def integrated(variance: str, scale: float = 1.0) -> dict[str, float]:
    """The bound of the exact model by a fine sum over the noise, from the betas, in bits per pixel."""
    betas = np.linspace(0.02, 0.6, 12)
    bar = np.concatenate([[1.0], np.cumprod(1 - betas)])
    points = scale * (VALUES.numpy() / 127.5 - 1)
    z = np.linspace(-9, 9, 6001)
    w = norm.pdf(z) / norm.pdf(z).sum()
    x0, terms = points[:, None], 0.0
    small = [0.0] + [(1 - bar[t - 1]) / (1 - bar[t]) * betas[t - 1] for t in range(1, 13)]
    for t in range(1, 13):
        alpha, sigma = math.sqrt(bar[t]), math.sqrt(1 - bar[t])
        x_t = alpha * x0 + sigma * z
        logits = -0.5 * ((x_t[..., None] - alpha * points) / sigma) ** 2
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        x0_hat = (weights * points).sum(-1) / weights.sum(-1)
        if t == 1:
            std = math.sqrt(small[2])  # what improved-diffusion and this package take where beta tilde is 0
            edges = [points - scale / 255, points + scale / 255]
            edges[0][0], edges[1][-1] = -np.inf, np.inf
            inside = norm.cdf((edges[1][:, None] - x0_hat) / std) - norm.cdf(
                (edges[0][:, None] - x0_hat) / std
            )
            decoder = float((-np.log(np.clip(inside, 1e-12, None)) @ w).mean())
            continue
        m = math.sqrt(bar[t - 1]) * betas[t - 1] / (1 - bar[t])
        reverse = small[t] if variance == "small" else betas[t - 1]
        error = m**2 * (x0 - x0_hat) ** 2
        terms += float(
            ((0.5 * (math.log(reverse / small[t]) + small[t] / reverse - 1 + error / reverse)) @ w).mean()
        )
    prior = float(np.mean(0.5 * (bar[12] * points**2 - bar[12] - math.log(1 - bar[12]))))
    return {
        name: value / math.log(2)
        for name, value in (("prior", prior), ("terms", terms), ("decoder", decoder))
    }


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize(
    ("prediction", "levels", "scale"), [("eps", None, 1.0), ("v", 5, 1.0), ("x0", 5, 0.5)]
)
def test_the_bound_of_an_exact_model_is_its_numerical_integral(
    variance: str, prediction: Prediction, levels: int | None, scale: float
) -> None:
    pipeline = model(prediction, scale=scale)
    found = bits_per_dimension(pipeline, discrete(128), variance=variance, levels=levels, resampling=NO)
    wanted = integrated(variance, scale)
    assert found.strata == (levels or 12) and found.T == 12
    assert found.prior == pytest.approx(wanted["prior"], rel=0.02)
    assert found.decoder == pytest.approx(wanted["decoder"], rel=0.03)
    assert found.total.value == pytest.approx(sum(wanted.values()), abs=4 * found.standard_error)
    assert 0 < found.standard_error < 0.03 * found.total.value
    assert found.total.value == pytest.approx(found.prior + found.terms + found.decoder)


def test_no_model_beats_the_entropy() -> None:
    """The bound lies above the negative log-likelihood, and that above the entropy: 2 bits for four equal
    values.
    """
    found = bits_per_dimension(model(), discrete(64), levels=None, resampling=NO)
    assert 2.0 < found.total.value < 8.0


@pytest.mark.parametrize(("spread", "variance"), [(-1.0, "small"), (1.0, "large")])
def test_the_ends_of_a_learned_range_are_the_fixed_variances(spread: float, variance: str) -> None:
    fixed = bits_per_dimension(model("v"), discrete(8), variance=variance, levels=None, resampling=NO)
    learned = bits_per_dimension(model("v", spread=spread), discrete(8), levels=None, resampling=NO)
    assert learned.variance == "learned"
    assert learned.terms == pytest.approx(fixed.terms, rel=1e-6)
    with pytest.raises(InputError, match="learned"):
        bits_per_dimension(model(), discrete(2), variance="learned")


def test_the_standard_error_is_the_spread_between_seeds() -> None:
    passes = [
        bits_per_dimension(model(), discrete(16), levels=3, seed=1000 * k, resampling=NO) for k in range(40)
    ]
    spread = float(np.std([each.total.value for each in passes], ddof=1))
    assert np.mean([each.standard_error for each in passes]) == pytest.approx(spread, rel=0.35)


@pytest.mark.parametrize(("alpha", "value"), [(0.5, 1.0), (1e-9, -0.3), (0.0, 0.7)])
def test_the_prior_term_is_the_divergence_of_two_gaussians(alpha: float, value: float) -> None:
    sigma = math.sqrt(1 - alpha * alpha)
    x0 = torch.full((2, 1, 3, 3), value)
    mean, std = torch.tensor(alpha * value, dtype=torch.float64), torch.tensor(sigma, dtype=torch.float64)
    q, p = torch.distributions.Normal(mean, std), torch.distributions.Normal(torch.zeros_like(mean), 1.0)
    wanted = float(torch.distributions.kl_divergence(q, p)) / math.log(2)
    assert prior_bits(x0, alpha, sigma).tolist() == pytest.approx([wanted] * 2, rel=1e-6, abs=1e-17)


@pytest.mark.parametrize(("T", "count"), [(1, 50), (2, 1), (12, 5), (1000, 50), (12, 12), (12, 99), (7, 2)])
def test_strata_cover_every_level_once(T: int, count: int) -> None:
    edges = strata_edges(T, count)
    assert edges[0] == (1, 1) and edges[-1][1] == T
    assert all(low <= high for low, high in edges)
    assert all(before[1] + 1 == after[0] for before, after in pairwise(edges))
    assert len(edges) == min(T, max(2, count)) if T > 1 else len(edges) == 1


def gaussian(n: int) -> Tensor:
    noise = torch.randn(n, 1, 16, 16, generator=torch.Generator().manual_seed(3))
    return (127.5 * (1 + 0.2 * noise)).round().clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("prediction", ["eps", "v", "x0", "score"])
def test_losses_by_level_are_the_posterior_variance_of_a_gaussian(prediction: Prediction) -> None:
    """E|x_0-hat - x_0|^2 = s^2 sigma^2 / (alpha^2 s^2 + sigma^2); of eps and v it follows by their
    definitions.
    """
    pipeline = model(prediction, kind=GaussianExact)
    curve = loss_by_level(pipeline, gaussian(64), levels=[1, 4, 12])
    assert curve.levels == (1, 4, 12) and curve.n == 64
    for i, t in enumerate(curve.levels):
        alpha, sigma = pipeline.schedule.at(t)
        variance = 0.04 * sigma**2 / (alpha**2 * 0.04 + sigma**2)
        factors = {"x0": 1.0, "eps": (alpha / sigma) ** 2, "v": 1 / sigma**2, "score": alpha**2 / sigma**4}
        assert curve.x0[i] == pytest.approx(variance, rel=0.04)
        assert curve.eps[i] == pytest.approx(variance * factors["eps"], rel=0.04)
        assert curve.prediction[i] == pytest.approx(variance * factors[prediction], rel=0.04)
        assert 0 < curve.prediction_se[i] < 0.05 * curve.prediction[i]


@pytest.mark.parametrize("weighting", ["uniform", "min-snr"])
def test_the_loss_as_trained_is_the_weighted_mean_of_the_curve(weighting: str) -> None:
    pipeline = model("v", kind=GaussianExact)
    images = gaussian(64)
    scores = score_denoiser(pipeline, images, weighting=weighting, levels=6, resampling=Resampling(40))
    curve = loss_by_level(pipeline, images, levels=range(1, 13))
    weights = level_weights(pipeline.schedule, "v", weighting)[1:]
    wanted = float((weights * torch.tensor(curve.prediction, dtype=torch.float64)).mean())
    assert scores.loss.value == pytest.approx(wanted, rel=0.05)
    assert scores.loss.low < scores.loss.value < scores.loss.high
    assert scores.strata == 6 and scores.bits_per_dimension is not None and scores.bits_per_dimension.n == 64


def test_the_noise_is_fixed_by_the_seed() -> None:
    pipeline, images = model(kind=GaussianExact), gaussian(4)
    first, again, other = (loss_by_level(pipeline, images, levels=3, seed=seed) for seed in (5, 5, 6))
    assert first == again and first != other


def test_levels_are_spread_to_both_ends() -> None:
    assert (
        spread_levels(1000, 50)[0] == 1
        and spread_levels(1000, 50)[-1] == 1000
        and len(spread_levels(1000, 50)) == 50
    )
    assert spread_levels(12, 50) == tuple(range(1, 13))
    assert spread_levels(1, 50) == (1,)


@pytest.mark.parametrize("levels", [[0], [13], []])
def test_levels_that_the_model_has_not_are_refused(levels: list[int]) -> None:
    with pytest.raises(InputError, match=r"expected levels in 1\.\.12"):
        loss_by_level(model(), discrete(2), levels=levels)
