"""The perceptual distance as a loss: the value of the measured one, and gradients that training can
follow.
"""

from typing import get_args

import pytest
import torch

from latentdiff.config.training import TrainVAE
from latentdiff.data import load_dataset, to_float
from latentdiff.metrics.features import perceptual_distance, perceptual_loss, perceptual_network
from latentdiff.metrics.names import PERCEPTUAL_NAMES

DIGITS = load_dataset("mnist5k").test.images[:6]
NETWORK = perceptual_network("mnist")


def test_the_loss_is_the_measured_distance() -> None:
    other = DIGITS.roll(1, 0)
    measured = perceptual_distance(NETWORK, DIGITS, other)
    trained = perceptual_loss(NETWORK, to_float(DIGITS), to_float(other)).double()
    torch.testing.assert_close(trained, measured, rtol=2e-3, atol=0)
    assert float(perceptual_loss(NETWORK, to_float(DIGITS), to_float(DIGITS)).max()) == 0


def test_the_gradient_is_finite_on_blank_images_and_a_true_descent() -> None:
    blank = torch.full((2, 1, 28, 28), -1.0, requires_grad=True)
    target = to_float(DIGITS[:2])
    (gradient,) = torch.autograd.grad(perceptual_loss(NETWORK, blank, target).sum(), blank)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0
    x = to_float(DIGITS[2:4]).requires_grad_()
    before = perceptual_loss(NETWORK, x, target).sum()
    (gradient,) = torch.autograd.grad(before, x)
    step = 1e-3 * gradient / gradient.norm()
    with torch.no_grad():
        after = perceptual_loss(NETWORK, x - step, target).sum()
    slope = float(before.detach() - after) / 1e-3
    assert slope == pytest.approx(float(gradient.norm()), rel=0.1)


def test_the_target_gets_no_gradient() -> None:
    x, y = (to_float(DIGITS[k : k + 1]).requires_grad_() for k in (0, 1))
    perceptual_loss(NETWORK, x, y).sum().backward()
    assert x.grad is not None and y.grad is None


def test_the_option_names_the_networks_there_are() -> None:
    assert get_args(TrainVAE.model_fields["perceptual_network"].annotation) == ("auto", *PERCEPTUAL_NAMES)
