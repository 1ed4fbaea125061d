"""Adaptive layer norm (Peebles and Xie 2023, section 3.2), shared by the networks: one pass over memory on a
CPU, and on CUDA where the kernels are built, if no gradient is needed; layers of torch elsewhere.

Conditions are [U, D] float32, ``rows`` says which of them each sample has (None: its own), as in
:class:`latentdiff.nn.embeddings.Embedding`; a ``factor`` is 1 + scale.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from latentdiff import ops
from latentdiff.nn.embeddings import Embedding


def ada_norm(h: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None, dtype: torch.dtype) -> Tensor:
    """The layer norm of h [B, ..., D] float32 without weights of its own, times factor plus shift; in the
    ``dtype`` or, under autocast, in that of autocast.
    """
    if torch.is_autocast_enabled(h.device.type):
        dtype = torch.get_autocast_dtype(h.device.type)
    if in_one_pass(h):
        return ops.ada_norm(h, factor, shift, rows, dtype=dtype)
    factor, shift = (for_each(values, rows, h) for values in (factor, shift))
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:]), factor).to(dtype)


def add_ada_norm(
    h: Tensor, branch: Tensor, gate: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """h + gate branch, float32, and its :func:`ada_norm` in the dtype of ``branch``, which is shaped as h."""
    if in_one_pass(h):
        return ops.add_ada_norm(h, branch, gate, factor, shift, rows)
    summed = torch.addcmul(h, for_each(gate, rows, h), branch.float())
    return summed, ada_norm(summed, factor, shift, rows, branch.dtype)


def for_each(values: Tensor, rows: Tensor | None, h: Tensor) -> Tensor:
    """Conditions [U, D] as [B, 1, ..., D], for h [B, ..., D]."""
    return Embedding(values, rows).spread(values).view(len(h), *[1] * (h.dim() - 2), h.shape[-1])


def in_one_pass(h: Tensor) -> bool:
    """Whether the operation is taken for h, instead of layers of torch."""
    if torch.is_grad_enabled():
        return False
    return h.device.type == "cpu" or (h.device.type == "cuda" and ops.ON_CUDA)
