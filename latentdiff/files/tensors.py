"""Safetensors with the errors of Python: a full disk is an OSError, memory that runs out a MemoryError.

The library reports the first as a SafetensorError. Of the second it panics, which is no Exception, prints a
trace and may hang.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

BUFFER = 2**20  # bytes that the library takes to write a file


def loads(content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file's ``content``; SafetensorError where it is none."""
    _reserve(len(content))
    return safetensors.torch.load(content)


def dumps(tensors: Mapping[str, Tensor]) -> bytes:
    """Contiguous tensors as the content of a safetensors file."""
    _reserve(sum(tensor.nbytes for tensor in tensors.values()))
    return safetensors.torch.save(dict(tensors))


def save(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None) -> None:
    """Write contiguous tensors on the CPU, with texts ``about`` them; equal tensors are equal bytes."""
    _reserve(2 * BUFFER)
    try:
        safetensors.torch.save_file(dict(tensors), path, metadata={"format": "pt", **(about or {})})
    except SafetensorError as error:
        code = re.search(r"\(os error (\d+)\)", str(error))
        if code is None:
            raise
        raise OSError(int(code[1]), os.strerror(int(code[1])), str(path)) from None


def _reserve(size: int) -> None:
    """MemoryError unless ``size`` bytes can be had: they are taken and given back, without being touched."""
    bytearray(size)
