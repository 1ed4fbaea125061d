"""How many samples fit in memory at once."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor, nn

from latentdiff.components import denoiser_config
from latentdiff.nn import CNNConfig, ConvNeXtConfig, DenoiserConfig, MLPConfig, UNetConfig

CPU_BUDGET = 2**28  # bytes of activations: larger batches are not faster on a CPU, they only leave its caches
SHARE = 0.5  # of the free memory of a GPU


def batch_that_fits(network: nn.Module, device: torch.device) -> int:
    """A batch size for sampling with ``network``; at least 1, at most 1024."""
    budget = _free_bytes(device)
    return max(1, min(1024, int(budget // max(1, _bytes_per_sample(network)))))


def parts(n: int, most: int) -> list[slice]:
    """n samples in parts of ``most``; the last one may be smaller."""
    return [slice(first, first + most) for first in range(0, n, most)]


def even_parts(n: int, most: int, *, device: torch.device) -> list[Tensor]:
    """The indices of n samples in parts of one size, ``most`` or less; the last one repeats its last to be full."""
    count = math.ceil(n / most)
    size = math.ceil(n / count)
    return list(torch.arange(count * size, device=device).clamp(max=n - 1).split(size))


def _bytes_per_sample(network: nn.Module) -> int:
    """Activations alive at once for one sample of a guided pair: the widest layer a dozen times over, in float32."""
    config = denoiser_config(network)
    return 2 * 4 * 12 * _widest(config) * _places(config)


def _places(config: DenoiserConfig) -> int:
    """Pixels of the largest feature map; 1 of an MLP, which has none."""
    if isinstance(config, MLPConfig):
        return 1
    return math.prod(config.grid if isinstance(config, UNetConfig | ConvNeXtConfig) else config.shape[1:])


def _widest(config: DenoiserConfig) -> int:
    """Channels of the widest layer at the full resolution, or units of an MLP's hidden layers."""
    if isinstance(config, MLPConfig):
        return 4 * config.width
    return max(config.channels) if isinstance(config, CNNConfig) else config.width


def _free_bytes(device: torch.device) -> float:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return SHARE * free
    if hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        return min(CPU_BUDGET, SHARE * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return CPU_BUDGET
