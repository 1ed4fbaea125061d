"""From a configuration to a network with reproducible weights, through one fixed table."""

import math
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from latentdiff.nn.autoencoder import VAE
from latentdiff.nn.cnn import CNNDenoiser
from latentdiff.nn.config import (
    CNNConfig,
    ConvNeXtConfig,
    CourseUNetConfig,
    MLPConfig,
    NetConfig,
    UNetConfig,
)
from latentdiff.nn.convnext import ConvNeXtDenoiser
from latentdiff.nn.course_unet import CourseUNetDenoiser
from latentdiff.nn.layers import ZeroConv2d, ZeroLinear
from latentdiff.nn.mlp import MLPDenoiser
from latentdiff.nn.unet import UNetDenoiser
from latentdiff.nn.vae_config import VAEConfig

CLASSES: dict[str, tuple[type[NetConfig], type[nn.Module]]] = {
    "AutoencoderKL": (VAEConfig, VAE),
    "MLPDenoiser": (MLPConfig, MLPDenoiser),
    "UNetDenoiser": (UNetConfig, UNetDenoiser),
    "CNNDenoiser": (CNNConfig, CNNDenoiser),
    "CourseUNetDenoiser": (CourseUNetConfig, CourseUNetDenoiser),
    "ConvNeXtDenoiser": (ConvNeXtConfig, ConvNeXtDenoiser),
}
CONFIG_NAMES = [config.__name__ for config, _ in CLASSES.values()]
LABEL_STD = 0.5  # about the size of the time embedding at the start


@overload
def build(config: VAEConfig, seed: int = 0) -> VAE: ...
@overload
def build(config: MLPConfig, seed: int = 0) -> MLPDenoiser: ...
@overload
def build(config: UNetConfig, seed: int = 0) -> UNetDenoiser: ...
@overload
def build(config: CNNConfig, seed: int = 0) -> CNNDenoiser: ...
@overload
def build(config: CourseUNetConfig, seed: int = 0) -> CourseUNetDenoiser: ...
@overload
def build(config: ConvNeXtConfig, seed: int = 0) -> ConvNeXtDenoiser: ...
def build(config: NetConfig, seed: int = 0) -> nn.Module:
    """The network of a configuration, float32 on the CPU; its weights depend on the seed and on nothing else.

    The global random generator is left as it was. TypeError for an unknown configuration.
    """
    module = _blank(config).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        _initialize(part, generator)
    return module


def tensor_shapes(config: NetConfig) -> dict[str, torch.Size]:
    """Names and shapes of the network's tensors, found without memory for them: what its weights file must
    hold.
    """
    return {name: value.shape for name, value in _blank(config).state_dict().items()}


class _NoInit(TorchFunctionMode):
    """Skips what layers do to their weights when they are made: `build` sets them anew.

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


def _blank(config: NetConfig) -> nn.Module:
    """The network without memory for its weights."""
    with torch.device("meta"), _NoInit():
        return _construct(config)


def _construct(config: NetConfig) -> nn.Module:
    match config:
        case VAEConfig():
            return VAE(config)
        case MLPConfig():
            return MLPDenoiser(config)
        case UNetConfig():
            return UNetDenoiser(config)
        case CNNConfig():
            return CNNDenoiser(config)
        case CourseUNetConfig():
            return CourseUNetDenoiser(config)
        case ConvNeXtConfig():
            return ConvNeXtDenoiser(config)
    raise TypeError(f"config: expected one of {', '.join(CONFIG_NAMES)}, got {type(config).__name__}")


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
    if isinstance(
        layer, nn.ConvTranspose2d
    ):  # weight [in, out, *kernel]; strides share the taps among outputs
        return layer.weight[:, 0].numel() // math.prod(layer.stride)
    return layer.weight[0].numel()


def _uniform(weight: Tensor, std: float, generator: torch.Generator) -> None:
    bound = math.sqrt(3) * std
    weight.uniform_(-bound, bound, generator=generator)
