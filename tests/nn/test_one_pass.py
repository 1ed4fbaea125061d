"""What networks compute in fewer passes where no gradient is needed: the same numbers as with gradients."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff import ops
from latentdiff.nn import build
from latentdiff.nn.activations import gelu_tanh
from latentdiff.nn.ada_norm import add_ada_norm, in_one_pass
from latentdiff.nn.base_config import TextConfig
from latentdiff.nn.networks import DiTConfig, MLPConfig, UNetConfig

TEXT = TextConfig(vocabulary=20, length=6, width=16, depth=1, heads=2)
NETWORKS = {
    "mlp": (MLPConfig(shape=(12,), num_classes=4, width=40, depth=3, time_dim=16), (12,)),
    "dit": (DiTConfig(shape=(4, 6, 6), num_classes=4, width=32, depth=2, heads=2, patch=2), (4, 6, 6)),
    "dit text": (DiTConfig(shape=(4, 4, 4), width=32, depth=2, heads=2, patch=2, text=TEXT), (4, 4, 4)),
}


def started(network: nn.Module) -> nn.Module:
    """The network with random weights: at first its branches are zero."""
    g = torch.Generator().manual_seed(5)
    for parameter in network.parameters():
        parameter.data = torch.randn(parameter.shape, generator=g) * 0.2
    return network


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 0.06)])
def test_networks_give_what_they_give_with_gradients(
    name: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, shape = NETWORKS[name]
    network = started(build(config, seed=0))
    g = torch.Generator().manual_seed(1)
    x, t = torch.randn(48, *shape, generator=g), torch.full((48,), 7.0)
    labels = torch.randint(1, 20, (48, 6), generator=g) if "text" in name else torch.arange(48) % 4
    calls: list[str] = []
    for op in ("ada_norm", "add_ada_norm"):
        real = getattr(ops, op)
        monkeypatch.setattr(ops, op, lambda *a, real=real, **k: calls.append("") or real(*a, **k))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        plain = network(x, t, labels).detach()
        assert not calls
        with torch.no_grad():
            found = network(x, t, labels)
            several = [network(*(each[k : k + 16] for each in (x, t, labels))) for k in range(0, 48, 16)]
    assert calls and float(plain.std()) > 0.1
    assert float((found - plain).abs().max()) < tolerance * float(plain.abs().max())
    assert float((torch.cat(several) - found).abs().max()) < tolerance * float(plain.abs().max())


def test_devices_with_a_kernel_take_one_pass_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is not needed: it is the device's name that decides."""
    for device, kernels, expected in (
        ("cpu", False, True),
        ("cuda", True, True),
        ("cuda", False, False),
        ("mps", True, False),
    ):
        monkeypatch.setattr(ops, "ON_CUDA", kernels)
        h = SimpleNamespace(device=torch.device(device))
        assert not in_one_pass(h)  # type: ignore[arg-type]
        with torch.no_grad():
            assert in_one_pass(h) is expected  # type: ignore[arg-type]


@pytest.mark.parametrize("shared", [True, False])
def test_both_forms_of_the_norm_take_conditions_alike(*, shared: bool) -> None:
    g = torch.Generator().manual_seed(4)
    h, branch = torch.randn(5, 3, 24, generator=g), torch.randn(5, 3, 24, generator=g)
    rows = torch.tensor([1, 0, 1, 2, 0]) if shared else None
    gate, factor, shift = torch.randn(3, 3 if shared else 5, 24, generator=g)
    plain = add_ada_norm(h, branch, gate, factor, shift, rows)  # gradients are on
    with torch.no_grad():
        found = add_ada_norm(h, branch, gate, factor, shift, rows)
    for one, two in zip(plain, found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_group_norms_in_bfloat16_are_those_with_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    network = started(build(UNetConfig(shape=(4, 8, 8), num_classes=4, width=16, depth=1, groups=8), seed=0))
    g = torch.Generator().manual_seed(1)
    x, t, labels = torch.randn(8, 4, 8, 8, generator=g), torch.full((8,), 7.0), torch.arange(8) % 4
    calls: list[Tensor] = []
    real = ops.group_norm
    monkeypatch.setattr(ops, "group_norm", lambda x, *a, **k: calls.append(x) or real(x, *a, **k))
    with torch.autocast("cpu", torch.bfloat16):
        plain = network(x, t, labels).detach()
        assert not calls
        with torch.no_grad():
            found = network(x, t, labels)
    assert len(calls) > 5 and float(plain.std()) > 0.1
    assert float((found - plain).abs().max()) < 0.06 * float(plain.abs().max())
    calls.clear()
    with torch.no_grad():
        network(x, t, labels)
    assert not calls  # float32 is torch's


def test_gelu_is_that_of_torch_whatever_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Tensor] = []
    real = ops.lookup
    monkeypatch.setattr(ops, "lookup", lambda x, table: calls.append(x) or real(x, table))
    x = 4 * torch.randn(40, 25, 24, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for each in (x, x.half()):
            assert torch.equal(gelu_tanh(each), F.gelu(each, approximate="tanh")) and not calls
        whole = gelu_tanh(x.bfloat16())
        for each in (x.bfloat16(), x.bfloat16()[:3], x.bfloat16().permute(2, 0, 1)):
            found, expected = gelu_tanh(each), F.gelu(each, approximate="tanh")
            assert found.dtype == each.dtype and found.stride() == expected.stride()
            # torch rounds some numbers otherwise by their place in memory
            torch.testing.assert_close(found, expected, rtol=1 / 128, atol=1e-4)
        assert len(calls) == 4 and torch.equal(gelu_tanh(x.bfloat16()[7:8]), whole[7:8])
    calls.clear()
    assert gelu_tanh(x.bfloat16().requires_grad_()).requires_grad and not calls
