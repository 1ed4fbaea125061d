"""``torch.func.vmap`` over the operations: the mapped dimension joins the batch, for one launch in all.

Noise is a function of the keys: maps that share seeds and stream share their noise.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from latentdiff.ops.registry import LIBRARY

Dim = int | None


class _Fold:
    """Between [B, ...] with a mapped dimension of size V somewhere, and [V B, ...]."""

    def __init__(self, maps: int, batch: int) -> None:
        self.maps, self.batch = maps, batch

    def samples(self, x: Tensor, dim: Dim) -> Tensor:
        """Fold a tensor with one row for each sample."""
        moved = x.expand(self.maps, *x.shape) if dim is None else x.movedim(dim, 0)
        return moved.reshape(self.maps * self.batch, *moved.shape[2:])

    def maybe(self, x: Tensor | None, dim: Dim) -> Tensor | None:
        """Fold what may be absent."""
        return None if x is None else self.samples(x, dim)

    def coefficients(self, coef: Tensor, dim: Dim) -> Tensor:
        """Fold [1 or B, K]; one row for everything stays one row."""
        if dim is None and coef.shape[0] == 1:
            return coef
        moved = coef.expand(self.maps, *coef.shape) if dim is None else coef.movedim(dim, 0)
        return self.samples(moved.expand(self.maps, self.batch, moved.shape[-1]), 0)

    def stream(self, stream: Tensor | None, dim: Dim) -> Tensor | None:
        """Fold [] or [B]; one stream for everything stays one."""
        if stream is None or (dim is None and stream.dim() == 0):
            return stream
        moved = stream.expand(self.maps, *stream.shape) if dim is None else stream.movedim(dim, 0)
        rows = moved if moved.dim() == 2 else moved.unsqueeze(1).expand(self.maps, self.batch)
        return rows.reshape(-1)

    def back(self, x: Tensor) -> Tensor:
        """[V B, ...] -> [V, B, ...]."""
        return x.view(self.maps, self.batch, *x.shape[1:])

    def plain(self, value: Any, dim: Dim) -> Any:
        """Leave what has no mapped dimension."""
        return value

    def several(self, tensors: Sequence[Tensor], dims: Sequence[Dim]) -> list[Tensor]:
        """Fold a list of samples."""
        return [self.samples(x, dim) for x, dim in zip(tensors, dims, strict=True)]


_STEP = ("samples", "several", "coefficients", "plain", "maybe", "maybe", "stream")
_FOLDS: dict[str, tuple[str, ...]] = {  # the method of _Fold for each argument
    "normal": ("samples", "stream", "plain", "plain"),
    "add_noise": ("samples", "coefficients", "maybe", "maybe", "stream"),
    "step": _STEP,
    "step_x0": _STEP,
}


def _rule(name: str, info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Any, Any]:
    first = arguments[0] if in_dims[0] is None else arguments[0].movedim(in_dims[0], 0)[0]
    fold = _Fold(info.batch_size, first.shape[0])
    folded = (
        getattr(fold, method)(value, dim)
        for method, value, dim in zip(_FOLDS[name], arguments, in_dims, strict=True)
    )
    found = getattr(torch.ops.latentdiff, name)(*folded)
    if isinstance(found, Tensor):
        return fold.back(found), 0
    return tuple(map(fold.back, found)), (0,) * len(found)


def _lookup_rule(info: Any, in_dims: tuple[Dim, Dim], x: Tensor, table: Tensor) -> tuple[Tensor, Dim]:
    """Any shape is a batch; of several tables each has its own call."""
    x_dim, table_dim = in_dims
    if table_dim is None:
        return torch.ops.latentdiff.lookup(x, table), x_dim
    moved = x.expand(info.batch_size, *x.shape) if x_dim is None else x.movedim(x_dim, 0)
    pairs = zip(moved, table.movedim(table_dim, 0), strict=True)
    return torch.stack([torch.ops.latentdiff.lookup(*pair) for pair in pairs]), 0


def _norm_rule(name: str, info: Any, in_dims: Sequence[Dim], *arguments: Any) -> tuple[Any, Any]:
    """A call for each map."""
    calls = []
    for k in range(info.batch_size):
        own = (x if dim is None else x.select(dim, k) for x, dim in zip(arguments, in_dims, strict=True))
        calls.append(getattr(torch.ops.latentdiff, name)(*own))
    if isinstance(calls[0], Tensor):
        return torch.stack(calls), 0
    return tuple(map(torch.stack, zip(*calls, strict=True))), (0, 0)


for _name in ("ada_norm", "add_ada_norm", "group_norm"):
    torch.library.register_vmap(f"latentdiff::{_name}", partial(_norm_rule, _name), lib=LIBRARY)
torch.library.register_vmap("latentdiff::lookup", _lookup_rule, lib=LIBRARY)
for _name in _FOLDS:
    torch.library.register_vmap(f"latentdiff::{_name}", partial(_rule, _name), lib=LIBRARY)
