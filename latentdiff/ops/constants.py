"""Small constants from the host, each made once and kept on its device: a second use copies nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

ENTRIES = 4096  # rows, and twice as many fills: a stream and a time go with each row of a loop

Constants = dict[tuple[Any, ...], Tensor]
_HELD: ContextVar[Constants | None] = ContextVar("_HELD", default=None)


def constant_row(values: Sequence[float], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``values`` (float64) as a tensor [1, K], cast once to ``dtype``. It is shared: never write to it."""
    if not _ordinary(device):
        return _row(values, dtype, device)
    # Named by its bytes: 0 and -0 are equal as numbers, and NaN never is.
    return _kept(_kept_row, struct.pack(f"{len(values)}d", *values), dtype, device, _stream(device))


def constant_fill(value: int, shape: tuple[int, ...], *, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of one integer. It is shared: never write to it."""
    if not _ordinary(device):
        return torch.full(shape, value, dtype=dtype, device=device)
    return _kept(_kept_filled, value, shape, dtype, device, _stream(device))


@contextmanager
def constants_scope(constants: Constants) -> Iterator[None]:
    """Within, constants come from ``constants`` alone and stay there.

    For those who record work to repeat it: they need the very tensors for as long as they repeat it.
    """
    token = _HELD.set(constants)
    try:
        yield
    finally:
        _HELD.reset(token)


def _ordinary(device: torch.device) -> bool:
    """Whether a tensor made now is a plain one that holds its value: nothing traces, wraps or records it."""
    return (
        not torch.compiler.is_compiling()
        and torch._C._len_torch_dispatch_stack() == 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and (_HELD.get() is not None or not _captured(device))
    )


def _captured(device: torch.device) -> bool:
    """Whether a CUDA graph records what is done now."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _stream(device: torch.device) -> int:
    """The current CUDA stream, part of a constant's name: elsewhere it might be read before it is written."""
    return torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0


def _kept(shared: Any, *name: Any) -> Tensor:
    """The constant out of those held, or out of the ``shared`` ones, a function with a cache."""
    held = _HELD.get()
    tensor: Tensor | None
    if held is None:
        tensor = shared(*name)
    elif (tensor := held.get((shared, *name))) is None:
        tensor = held[(shared, *name)] = shared.__wrapped__(*name)
    return tensor


# Made outside inference mode: a tensor of that mode could not be saved for a backward pass later.


@lru_cache(ENTRIES)
def _kept_row(values: bytes, dtype: torch.dtype, device: torch.device, stream: int) -> Tensor:
    with torch.inference_mode(False):
        return _row(struct.unpack(f"{len(values) // 8}d", values), dtype, device)


@lru_cache(2 * ENTRIES)
def _kept_filled(
    value: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, stream: int
) -> Tensor:
    with torch.inference_mode(False):
        return torch.full(shape, value, dtype=dtype, device=device)


def _row(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    # a graph would copy from where the host's numbers were: fills carry their number with them
    if _captured(device):
        made = torch.empty((1, len(values)), dtype=torch.float64, device=device)
        for place, value in zip(made.unbind(1), values, strict=True):
            place.fill_(value)
        return made.to(dtype)
    return torch.tensor([values], dtype=torch.float64).to(dtype).to(device, non_blocking=True)
