"""The moving average of the weights."""

import pytest
import torch
from torch import nn

from latentdiff.train.optimizer import EMA


def _train(module: nn.Module, ema: EMA, steps: int) -> list[list[torch.Tensor]]:
    """Move the weights at random and update; returns the weights after each step."""
    generator, history = torch.Generator().manual_seed(0), []
    for _ in range(steps):
        with torch.no_grad():
            for p in module.parameters():
                p += torch.randn(p.shape, generator=generator)
        ema.update(module)
        history.append([p.detach().clone() for p in module.parameters()])
    return history


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
def test_the_average_follows_the_formula(decay: float) -> None:
    module = nn.Sequential(nn.Linear(3, 4), nn.Conv2d(4, 2, 3)).to(memory_format=torch.channels_last)
    start = [p.detach().double().clone() for p in module.parameters()]
    ema = EMA(module, decay)
    history = _train(module, ema, 40)
    for k, average in enumerate(ema.module.parameters()):
        expected = start[k]
        for i, weights in enumerate(history):
            d = min(decay, (1 + i) / (10 + i))
            expected = d * expected + (1 - d) * weights[k].double()
        torch.testing.assert_close(average.detach().double(), expected, rtol=1e-5, atol=1e-5)
    assert ema.updates == 40


def test_without_decay_the_copy_equals_the_weights_to_the_bit() -> None:
    module = nn.Linear(5, 7)
    ema = EMA(module, 0.0)
    _train(module, ema, 3)
    for average, weights in zip(ema.module.parameters(), module.parameters(), strict=True):
        assert torch.equal(average, weights) and average is not weights


def test_the_copy_is_apart_from_the_module_and_takes_no_gradient() -> None:
    module = nn.Linear(2, 2).train()
    ema = EMA(module, 0.9)
    before = ema.module.weight.clone()
    with torch.no_grad():
        module.weight += 1
    assert torch.equal(ema.module.weight, before)
    assert not ema.module.training and module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    ema.update(module)
    assert not torch.equal(ema.module.weight, before)
