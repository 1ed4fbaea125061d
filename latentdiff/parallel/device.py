"""Where to compute, and what the processor there can do."""

from __future__ import annotations

import re

import torch

from latentdiff.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The device of a --device option; auto is CUDA where there is one. InputError where it is not there."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise InputError(f"expected a device auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device {name} is not available: this torch sees no CUDA device")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        raise InputError(f"device {name} is not available: found {torch.cuda.device_count()} CUDA device(s)")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError("device mps is not available on this machine")
    return device


def bf16_native(device: torch.device) -> bool:
    """Whether the processor computes in bfloat16; elsewhere autocast is slower than float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


def network_dtype(name: str, device: torch.device) -> torch.dtype:
    """The type that a --dtype option names; auto is bfloat16 where the processor computes in it.

    The residual streams, the norms and the sampler stay float32: digits of the package keep their Frechet
    distance to three digits (docs/sampling.md).
    """
    if name == "auto":
        name = "bfloat16" if bf16_native(device) else "float32"
    found: torch.dtype = getattr(torch, name)
    return found


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a type, as :func:`network_dtype` takes it."""
    return str(dtype).removeprefix("torch.")
