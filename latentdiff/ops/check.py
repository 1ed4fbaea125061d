"""What the operations accept: every message names the operation, what it expected and what it got."""

from collections.abc import Sequence

import torch
from torch import Tensor

_VALUES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HALVES = _VALUES[:2]
_COEFFICIENTS = (torch.float32, torch.float64)
MAX_OUTS = 4


def normal(seeds: Tensor, stream: Tensor, shape: Sequence[int], dtype: torch.dtype) -> None:
    """Check the arguments of ``normal``."""
    _keys("normal", seeds, stream)
    if dtype not in _VALUES:
        raise TypeError(f"normal: expected dtype one of {_names(_VALUES)}, got {dtype}")
    if any(size < 0 for size in shape):
        raise ValueError(f"normal: expected a shape of sizes >= 0, got {list(shape)}")


def normal_out(seeds: Tensor, stream: Tensor, out: Tensor) -> None:
    """Check the arguments of ``normal`` with a tensor to write into."""
    _keys("normal", seeds, stream)
    _samples("normal", "out", out)
    if out.shape[0] != seeds.shape[0]:
        raise ValueError(f"normal: expected out of shape [{seeds.shape[0]}, ...], got {list(out.shape)}")
    _device("normal", "out", out, "seeds'", seeds)


def written(op: str, names: Sequence[str], tensors: Sequence[Tensor], model_name: str, model: Tensor) -> None:
    """Check the tensors that an operation writes into: like the samples, and not twice the same memory."""
    for name, tensor in zip(names, tensors, strict=True):
        _like(op, name, tensor, model_name, model)
    if len(tensors) == 2 and _overlap(*tensors):
        raise ValueError(f"{op}: expected {' and '.join(names)} in different memory, got the same twice")


def add_noise(
    x0: Tensor, coef: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> None:
    """Check the arguments of ``add_noise``."""
    _samples("add_noise", "x0", x0)
    _coefficients("add_noise", coef, "x0", x0, (4,))
    if noise is None and seeds is None and stream is None:
        raise ValueError("add_noise: expected noise or (seeds, stream), got neither")
    _noise("add_noise", "x0", x0, noise, seeds, stream)


def step(
    op: str,
    x: Tensor,
    outs: Sequence[Tensor],
    coef: Tensor,
    clip: float | None,
    noise: Tensor | None,
    seeds: Tensor | None,
    stream: Tensor | None,
) -> None:
    """Check the arguments of ``step`` and ``step_x0`` (``op`` is the name in the messages)."""
    _samples(op, "x", x)
    n = len(outs)
    if not 1 <= n <= MAX_OUTS:
        raise ValueError(f"{op}: expected 1 to {MAX_OUTS} outs, got {n}")
    for i, out in enumerate(outs):
        _like(op, f"outs[{i}]", out, "x", x)
    _coefficients(op, coef, "x", x, (4 + n, 4 + 2 * n))
    if clip is not None and not clip > 0:
        raise ValueError(f"{op}: expected clip > 0 or None, got {clip}")
    _noise(op, "x", x, noise, seeds, stream)


def ada_norm(
    op: str, h: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None, dtype: torch.dtype
) -> None:
    """Check the arguments of ``ada_norm`` (``op`` is the name in the messages)."""
    if dtype not in _VALUES[:3]:
        raise TypeError(f"{op}: expected a result of dtype {_names(_VALUES[:3])}, got {dtype}")
    if h.dtype != torch.float32:
        raise TypeError(f"{op}: expected h of dtype torch.float32, got {h.dtype}")
    if h.dim() < 2:
        raise ValueError(f"{op}: expected h of shape [B, ..., D], got {list(h.shape)}")
    _conditions(op, "factor", factor, h, factor.shape[0] if factor.dim() == 2 else 0)
    _conditions(op, "shift", shift, h, factor.shape[0])
    if rows is not None:
        if rows.dtype != torch.int64:
            raise TypeError(f"{op}: expected rows of dtype int64, got {rows.dtype}")
        if list(rows.shape) != [h.shape[0]]:
            raise ValueError(f"{op}: expected rows of shape [{h.shape[0]}], got {list(rows.shape)}")
        _device(op, "rows", rows, "h's", h)
    elif factor.shape[0] != h.shape[0]:
        wanted = [h.shape[0], h.shape[-1]]
        raise ValueError(f"{op}: expected factor of shape {wanted}, got {list(factor.shape)}")


def add_ada_norm(
    h: Tensor, branch: Tensor, gate: Tensor, factor: Tensor, shift: Tensor, rows: Tensor | None
) -> None:
    """Check the arguments of ``add_ada_norm``."""
    op = "add_ada_norm"
    ada_norm(op, h, factor, shift, rows, branch.dtype)
    _conditions(op, "gate", gate, h, factor.shape[0])
    if branch.shape != h.shape:
        found = list(branch.shape)
        raise ValueError(f"{op}: expected branch of h's shape {list(h.shape)}, got {found}")
    _device(op, "branch", branch, "h's", h)


def group_norm(x: Tensor, groups: int, weight: Tensor, bias: Tensor) -> None:
    """Check the arguments of ``group_norm``."""
    op = "group_norm"
    if x.dtype != torch.bfloat16:
        raise TypeError(f"{op}: expected x of dtype torch.bfloat16, got {x.dtype}")
    if x.dim() != 4:
        raise ValueError(f"{op}: expected x of shape [B, C, H, W], got {list(x.shape)}")
    channels = x.shape[1]
    if groups <= 0 or channels == 0 or channels % groups:
        raise ValueError(f"{op}: expected groups that divide {channels} channels, got {groups}")
    for name, values in (("weight", weight), ("bias", bias)):
        if values.dtype != torch.float32:
            raise TypeError(f"{op}: expected {name} of dtype torch.float32, got {values.dtype}")
        if list(values.shape) != [channels]:
            raise ValueError(f"{op}: expected {name} of shape [{channels}], got {list(values.shape)}")
        _device(op, name, values, "x's", x)


def lookup(x: Tensor, table: Tensor) -> None:
    """Check the arguments of ``lookup``."""
    if x.dtype not in _HALVES:
        raise TypeError(f"lookup: expected x of dtype {_names(_HALVES)}, got {x.dtype}")
    if table.dtype != x.dtype:
        raise TypeError(f"lookup: expected table of x's dtype {x.dtype}, got {table.dtype}")
    if list(table.shape) != [65536]:
        raise ValueError(f"lookup: expected table of shape [65536], got {list(table.shape)}")
    _device("lookup", "table", table, "x's", x)


def _overlap(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape share memory, as far as that is cheap to find."""
    if a.numel() == 0:
        return False
    gap = abs(a.data_ptr() - b.data_ptr())
    return gap == 0 or (a.is_contiguous() and b.is_contiguous() and gap < a.numel() * a.element_size())


def _names(dtypes: Sequence[torch.dtype]) -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def _samples(op: str, name: str, x: Tensor) -> None:
    if x.dtype not in _VALUES:
        raise TypeError(f"{op}: expected {name} of dtype {_names(_VALUES)}, got {x.dtype}")
    if x.dim() < 1:
        raise ValueError(f"{op}: expected {name} of shape [B, ...], got a 0-d tensor")


def _like(op: str, name: str, tensor: Tensor, model_name: str, model: Tensor) -> None:
    if tensor.dtype != model.dtype:
        raise TypeError(f"{op}: expected {name} of {model_name}'s dtype {model.dtype}, got {tensor.dtype}")
    if tensor.shape != model.shape:
        raise ValueError(
            f"{op}: expected {name} of {model_name}'s shape {list(model.shape)}, got {list(tensor.shape)}"
        )
    _device(op, name, tensor, f"{model_name}'s", model)


def _device(op: str, name: str, tensor: Tensor, model_name: str, model: Tensor) -> None:
    if tensor.device != model.device:
        raise ValueError(f"{op}: expected {name} on {model_name} device {model.device}, got {tensor.device}")


def _coefficients(op: str, coef: Tensor, name: str, x: Tensor, columns: tuple[int, ...]) -> None:
    if coef.dtype not in _COEFFICIENTS:
        raise TypeError(f"{op}: expected coef of dtype {_names(_COEFFICIENTS)}, got {coef.dtype}")
    if (
        coef.dim() != 2
        or coef.shape[1] not in columns
        or (coef.shape[0] != 1 and coef.shape[0] != x.shape[0])
    ):
        wanted = " or ".join(map(str, columns))
        raise ValueError(
            f"{op}: expected coef of shape [1 or {x.shape[0]}, {wanted}], got {list(coef.shape)}"
        )
    _device(op, "coef", coef, f"{name}'s", x)


def _conditions(op: str, name: str, x: Tensor, h: Tensor, count: int) -> None:
    if x.dtype != torch.float32:
        raise TypeError(f"{op}: expected {name} of dtype torch.float32, got {x.dtype}")
    if list(x.shape) != [count, h.shape[-1]]:
        wanted = f"[{count or 'U'}, {h.shape[-1]}]"
        raise ValueError(f"{op}: expected {name} of shape {wanted}, got {list(x.shape)}")
    _device(op, name, x, "h's", h)


def _noise(
    op: str, name: str, x: Tensor, noise: Tensor | None, seeds: Tensor | None, stream: Tensor | None
) -> None:
    if noise is not None:
        if seeds is not None or stream is not None:
            raise ValueError(f"{op}: expected either noise or (seeds, stream), got both")
        _like(op, "noise", noise, name, x)
    elif seeds is not None and stream is not None:
        _keys(op, seeds, stream)
        if seeds.shape[0] != x.shape[0]:
            raise ValueError(f"{op}: expected seeds of shape [{x.shape[0]}], got {list(seeds.shape)}")
        _device(op, "seeds", seeds, f"{name}'s", x)
    elif seeds is not None or stream is not None:
        got = "seeds alone" if stream is None else "stream alone"
        raise ValueError(f"{op}: expected seeds and stream together, got {got}")


def _keys(op: str, seeds: Tensor, stream: Tensor) -> None:
    for name, tensor in (("seeds", seeds), ("stream", stream)):
        if tensor.dtype != torch.int64:
            raise TypeError(f"{op}: expected {name} of dtype int64, got {tensor.dtype}")
    if seeds.dim() != 1:
        raise ValueError(f"{op}: expected seeds of shape [B], got {list(seeds.shape)}")
    if stream.dim() != 0 and stream.shape != seeds.shape:
        raise ValueError(
            f"{op}: expected stream of shape [] or {list(seeds.shape)}, got {list(stream.shape)}"
        )
    _device(op, "stream", stream, "seeds'", seeds)
