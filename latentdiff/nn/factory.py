"""Networks with reproducible weights from their configurations."""

import math
from pkgutil import resolve_name
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentdiff.nn.autoencoder import VAE
from latentdiff.nn.base_config import NetworkConfig
from latentdiff.nn.layers import ZeroConv2d, ZeroLinear
from latentdiff.nn.networks import CONFIGS
from latentdiff.nn.vae_config import VAEConfig

NAMES = {config: config.network for config in CONFIGS.values()}
LABEL_STD = 0.5  # about the size of the time embedding at the start


@overload
def build(config: VAEConfig, seed: int = 0) -> VAE: ...
@overload
def build(config: NetworkConfig, seed: int = 0) -> nn.Module: ...
def build(config: NetworkConfig, seed: int = 0) -> nn.Module:
    """The network of a configuration, float32 on the CPU; its weights depend on the seed and on nothing else.

    The global random generator is left as it was. TypeError for an unknown configuration.
    """
    return initialized(_with_memory(_blank(config)), seed)


def initialized(module: nn.Module, seed: int) -> nn.Module:
    """The module, its weights set by the seed alone; TypeError for a layer without a rule."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        _initialize(part, generator)
    return module


def network_class(config: type[NetworkConfig]) -> type[nn.Module]:
    """The class of a row of the table, imported on first use; TypeError for another configuration."""
    if config not in NAMES:
        known = ", ".join(each.__name__ for each in NAMES)
        raise TypeError(f"config: expected one of {known}, got {config.__name__}")
    cls: type[nn.Module] = resolve_name(NAMES[config])
    return cls


def tensor_shapes(config: NetworkConfig) -> dict[str, torch.Size]:
    """Names and shapes of the network's tensors in its weights file, found without memory for them."""
    return {name: value.shape for name, value in _blank(config).state_dict().items()}


class _NoInit(TorchFunctionMode):
    """Skips the initialization of layers as they are made: `build` sets their weights anew.

    On the meta device it would have no effect either, but its first use there imports seconds' worth of
    torch.
    """

    SKIPPED = frozenset({"kaiming_uniform_", "uniform_", "normal_", "zeros_", "zero_", "ones_", "fill_"})

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") in self.SKIPPED:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _blank(config: NetworkConfig) -> nn.Module:
    """The network without memory for its weights."""
    cls = network_class(type(config))
    with torch.device("meta"), _NoInit():
        return cls(config)


def _with_memory(module: nn.Module) -> nn.Module:
    """The module with memory for its weights, not set yet, on the CPU.

    As Module.to_empty, which imports half a second of symbolic mathematics for tensors of the meta device.
    """
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            memory = torch.empty(weight.shape, dtype=weight.dtype, device="cpu")
            setattr(part, name, nn.Parameter(memory, requires_grad=weight.requires_grad))
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu"))
    return module


@torch.no_grad()
def _initialize(part: nn.Module, generator: torch.Generator) -> None:
    """Set a layer's own parameters: variance 1 / fan_in (LeCun et al. 1998), zero biases, unit norms."""
    match part:
        case ZeroLinear() | ZeroConv2d():
            part.reset_parameters()
        case nn.Linear() | nn.Conv2d() | nn.ConvTranspose2d():
            _uniform(part.weight, 1 / math.sqrt(_fan_in(part)), generator)
            if part.bias is not None:
                part.bias.zero_()
        case nn.Embedding():
            _uniform(part.weight, LABEL_STD, generator)
        case nn.GroupNorm() | nn.LayerNorm():
            part.weight.fill_(1)
            part.bias.zero_()
        case _ if next(part.parameters(recurse=False), None) is not None:
            raise TypeError(f"no rule for the parameters of {type(part).__name__}")


def _fan_in(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> int:
    """Inputs that one output sums over."""
    # weight [in, out, *kernel]; strides share the taps among outputs
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight[:, 0].numel() // math.prod(layer.stride)
    return layer.weight[0].numel()


def _uniform(weight: Tensor, std: float, generator: torch.Generator) -> None:
    bound = math.sqrt(3) * std
    weight.uniform_(-bound, bound, generator=generator)
