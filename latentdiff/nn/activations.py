"""SiLU and GELU; of many bfloat16 numbers on a CPU by a table of them all, which has the same bits sooner."""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latentdiff import ops

LEAST = 8192  # numbers for which a table in a cache pays

_gelu_tanh = partial(F.gelu, approximate="tanh")


def silu(x: Tensor) -> Tensor:
    """x sigmoid(x) (Elfwing et al. 2018), of x's shape and dtype."""
    return _computed(F.silu, x)


def gelu(x: Tensor, *, tanh: bool = False) -> Tensor:
    """x Phi(x) (Hendrycks and Gimpel 2016), or its approximation by ``tanh``; of x's shape and dtype."""
    return _computed(_gelu_tanh if tanh else F.gelu, x)


class SiLU(nn.Module):
    """:func:`silu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Tensor of any shape."""
        return silu(x)


class GELU(nn.Module):
    """:func:`gelu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """Tensor of any shape."""
        return gelu(x)


def _computed(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    if (
        x.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and x.numel() >= LEAST
        and not (x.requires_grad and torch.is_grad_enabled())
        and not torch.compiler.is_compiling()  # which fuses the function with its neighbours
        and ops.NATIVE.module is not None
    ):
        return ops.lookup(x, _table(function))
    return function(x)


@cache
def _table(function: Callable[[Tensor], Tensor]) -> Tensor:
    """The values of a function of all bfloat16 numbers, [65536] by their bits."""
    with torch.inference_mode(mode=False), torch.no_grad():
        bits = torch.arange(65536, dtype=torch.int32)
        return function(torch.where(bits < 32768, bits, bits - 65536).to(torch.int16).view(torch.bfloat16))
