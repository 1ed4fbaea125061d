"""Conditions that samples share are embedded once, and change no output."""

import pytest
import torch
from torch import Tensor, nn

from latentdiff.nn import build, network_config
from latentdiff.nn.embeddings import LEAST_SHARED, distinct

KINDS = ("mlp", "unet", "dit")
CLASSES = 3


def network(kind: str, *, guided: bool = True) -> nn.Module:
    config = network_config(kind, "small", (2, 8, 8), levels=100, num_classes=CLASSES, width=32, depth=1)
    made = build(config.model_copy(update={"guided": guided}), seed=0)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.2)
    return made


def batch(n: int = 24) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    return (
        torch.randn(n, 2, 8, 8),
        torch.full((n,), 40.0),
        torch.arange(n) % (CLASSES + 1),
        torch.full((n,), 2.0),
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("labelled", [True, False])
def test_outputs_are_those_of_every_sample_by_itself(kind: str, labelled: bool) -> None:
    made, (x, t, labels, w) = network(kind), batch()  # outputs of about 10: products round by their batch
    known = labels if labelled else None
    apart = made(x, t, known, guidance=w).detach()
    with torch.no_grad():
        torch.testing.assert_close(made(x, t, known, guidance=w), apart, rtol=0, atol=1e-4)
        alone = made(x[5:6], t[5:6], None if known is None else known[5:6], guidance=w[5:6])
        torch.testing.assert_close(alone, apart[5:6], rtol=0, atol=1e-4)
        t[3] = 7.0  # no longer shared
        mixed = made(x, t, known, guidance=w)
    torch.testing.assert_close(mixed[[0, 23]], apart[[0, 23]], rtol=0, atol=1e-4)
    assert not torch.allclose(mixed[3], apart[3], atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_layers_of_the_embedding_see_each_condition_once(kind: str) -> None:
    made, (x, t, labels, w) = network(kind), batch()
    seen: list[int] = []
    for name, part in made.named_modules():
        if name.endswith("modulation"):
            part.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    with torch.no_grad():
        made(x, t, labels, guidance=w)
    assert seen and set(seen) == {CLASSES + 1}
    seen.clear()
    made(x, t, labels, guidance=w)
    assert set(seen) == {len(x)}


def test_what_samples_share_is_found() -> None:
    _, t, labels, w = batch()
    with torch.no_grad():
        found = distinct(t, labels, w)
        assert found is not None
        few, rows = found
        assert torch.equal(labels[few][rows], labels) and len(few) == CLASSES + 1
        assert distinct(t[: LEAST_SHARED - 1], labels[: LEAST_SHARED - 1], None) is None
        assert distinct(t, torch.arange(24), None) is None
        w[2] = 1.0
        assert distinct(t, labels, w) is None
    assert distinct(t, labels, None) is None  # with gradients
