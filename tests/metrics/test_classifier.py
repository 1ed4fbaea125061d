"""The linear classifier of features: its leave-one-out laws, against fits made again."""

import pytest
import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.metrics.classifier import PENALTIES, _Ridge, fit_classifier


def drawn(n: int, dim: int, classes: int, *, apart: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Gaussian classes whose means lie ``apart`` deviations from their centre."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(classes, dim, generator=generator, dtype=torch.float64)
    labels = torch.randint(classes, (n,), generator=generator)
    noise = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    return apart * means[labels] / means.norm(dim=1)[labels, None] + noise, labels


def naive_fit(x: Tensor, y: Tensor, weights: Tensor, penalty: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted ridge regression with an intercept that is not penalised, by its normal equations."""
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
    penalties = torch.diag(torch.cat([penalty.expand(x.shape[1]), penalty.new_zeros(1)]))
    gram = design.T @ (weights[:, None] * design) + penalties
    solved = torch.linalg.solve(gram, design.T @ (weights[:, None] * y))
    return solved[:-1], solved[-1]


@pytest.mark.parametrize(("n", "dim"), [(40, 6), (20, 30)])
def test_leave_one_out_is_a_fit_without_the_image(n: int, dim: int) -> None:
    x, labels = drawn(n, dim, 3, apart=2)
    weights = torch.linspace(1, 3, n, dtype=torch.float64)
    weights /= weights.sum()
    y = torch.nn.functional.one_hot(labels, 3).double()
    x, y = x - weights @ x, y - weights @ y
    ridge, relative = _Ridge.of(x, y, weights), 0.3
    penalty = relative * (weights[:, None] * x.square()).sum() / dim
    assert torch.allclose(ridge.weight(relative), naive_fit(x, y, weights, penalty)[0])
    error, scores = ridge.leave_one_out(relative)
    for k in range(n):
        others = torch.arange(n) != k
        weight, bias = naive_fit(x[others], y[others], weights[others], penalty)
        share = weights[others] @ y[others] / weights[others].sum()
        assert torch.allclose(scores[k], x[k] @ weight + bias - share)
    assert torch.allclose(error, (weights[:, None] * (y - scores).square()).sum())


def test_classes_far_apart_are_told_apart_and_held_out_ones_as_well_as_new_ones() -> None:
    x, labels = drawn(600, 10, 4, apart=40)
    fit = fit_classifier(x, labels, 4)
    assert torch.equal(fit.predict(x), labels) and torch.equal(fit.held_out, labels)
    x, labels = drawn(4000, 10, 4, apart=1.5)
    fit = fit_classifier(x[:2000], labels[:2000], 4)
    known, new = (fit.held_out == labels[:2000], fit.predict(x[2000:]) == labels[2000:])
    assert 0.5 < float(new.double().mean()) < 0.9
    assert abs(float(known.double().mean() - new.double().mean())) < 4 * (2 * 0.25 / 2000) ** 0.5


@pytest.mark.parametrize(("n", "dim"), [(800, 20), (300, 500)])
def test_shuffled_labels_are_told_at_chance(n: int, dim: int) -> None:
    x, labels = drawn(n, dim, 4, apart=5)
    shuffled = labels[torch.randperm(n, generator=torch.Generator().manual_seed(1))]
    right = (fit_classifier(x, shuffled, 4).held_out == shuffled).double().mean()
    assert abs(float(right) - 0.25) < 4 * (0.25 * 0.75 / n) ** 0.5


def test_a_rare_class_counts_as_much_as_a_common_one() -> None:
    x, labels = drawn(4000, 5, 2, apart=1)
    kept = (labels == 0) | (torch.arange(4000) % 20 == 0)
    fit = fit_classifier(x[kept], labels[kept], 2)
    shares = [float((fit.predict(x[labels == k]) == k).double().mean()) for k in (0, 1)]
    assert abs(shares[0] - shares[1]) < 0.15 and min(shares) > 0.6


def test_neither_order_nor_units_nor_a_constant_feature_matter() -> None:
    x, labels = drawn(300, 12, 3, apart=2)
    order = torch.randperm(300, generator=torch.Generator().manual_seed(2))
    fit = fit_classifier(x, labels, 3)
    other = fit_classifier(x[order], labels[order], 3)
    assert torch.equal(other.held_out, fit.held_out[order]) and other.penalty == fit.penalty
    scale, shift = torch.linspace(0.01, 100, 12, dtype=torch.float64), torch.arange(12).double()
    assert torch.equal(
        fit_classifier(x * scale + shift, labels, 3).predict(x * scale + shift), fit.predict(x)
    )
    constant = torch.cat([x, torch.full((300, 1), 7.0, dtype=x.dtype)], 1)
    assert torch.equal(fit_classifier(constant, labels, 3).predict(constant), fit.predict(x))


def test_a_class_without_images_is_never_predicted() -> None:
    x, labels = drawn(200, 6, 2, apart=1)
    fit = fit_classifier(x, 2 * labels, 4)
    assert set(fit.predict(torch.cat([x, 100 * x])).unique().tolist()) == {0, 2}
    assert fit.penalty in PENALTIES


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (torch.zeros(9, dtype=torch.int64), "at least two classes"),
        (torch.arange(9), r"expected a label in 0\.\.2 for each of 9 images, found \[9\] in 0\.\.8"),
        (torch.arange(8) % 3, r"expected a label in 0\.\.2 for each of 9 images, found \[8\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels: Tensor, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        fit_classifier(torch.randn(9, 3, generator=torch.Generator().manual_seed(0)), labels, 3)


def test_features_of_another_network_are_refused() -> None:
    fit = fit_classifier(*drawn(30, 4, 2, apart=1), 2)
    with pytest.raises(InputError, match="expected 4 features of an image, found 5"):
        fit.predict(torch.zeros(2, 5))
