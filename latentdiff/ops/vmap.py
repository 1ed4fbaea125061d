"""``torch.func.vmap`` over the operations: the mapped dimension joins the batch, so one launch does all of
it.

Noise is a function of the keys: maps that share seeds and stream share their noise.
"""

from collections.abc import Sequence
from typing import Any, cast

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


def _batch(x: Tensor, dim: Dim) -> int:
    return x.shape[0] if dim is None else x.movedim(dim, 0).shape[1]


def _normal(
    info: Any, in_dims: Sequence[Any], seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype
) -> tuple[Tensor, int]:
    fold = _Fold(info.batch_size, _batch(seeds, in_dims[0]))
    z = torch.ops.latentdiff.normal(
        fold.samples(seeds, in_dims[0]), fold.stream(stream, in_dims[1]), shape, dtype
    )
    return fold.back(z), 0


def _add_noise(
    info: Any,
    in_dims: Sequence[Any],
    x0: Tensor,
    coef: Tensor,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    fold = _Fold(info.batch_size, _batch(x0, in_dims[0]))
    x_t, target = torch.ops.latentdiff.add_noise(
        fold.samples(x0, in_dims[0]),
        fold.coefficients(coef, in_dims[1]),
        fold.maybe(noise, in_dims[2]),
        fold.maybe(seeds, in_dims[3]),
        fold.stream(stream, in_dims[4]),
    )
    return (fold.back(x_t), fold.back(target)), (0, 0)


def _moved(
    name: str, info: Any, in_dims: Sequence[Any], x: Tensor, outs: Sequence[Tensor], coef: Tensor, *rest: Any
) -> Any:
    clip, noise, seeds, stream = rest
    fold = _Fold(info.batch_size, _batch(x, in_dims[0]))
    return fold, getattr(torch.ops.latentdiff, name)(
        fold.samples(x, in_dims[0]),
        [fold.samples(out, dim) for out, dim in zip(outs, in_dims[1], strict=True)],
        fold.coefficients(coef, in_dims[2]),
        clip,
        fold.maybe(noise, in_dims[4]),
        fold.maybe(seeds, in_dims[5]),
        fold.stream(stream, in_dims[6]),
    )


def _step(info: Any, in_dims: Sequence[Any], *arguments: Any) -> tuple[Tensor, int]:
    fold, x_s = _moved("step", info, in_dims, *arguments)
    return cast(Tensor, fold.back(x_s)), 0


def _step_x0(
    info: Any, in_dims: Sequence[Any], *arguments: Any
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    fold, (x_s, x0) = _moved("step_x0", info, in_dims, *arguments)
    return (fold.back(x_s), fold.back(x0)), (0, 0)


for _name, _rule in (("normal", _normal), ("add_noise", _add_noise), ("step", _step), ("step_x0", _step_x0)):
    torch.library.register_vmap(f"latentdiff::{_name}", _rule, lib=LIBRARY)
