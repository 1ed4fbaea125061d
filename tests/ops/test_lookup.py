"""Functions of 16-bit numbers by their tables: the bits of torch's indexing, of any layout."""

import pytest
import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.ops import fallback

TABLE = torch.randn(65536, generator=torch.Generator().manual_seed(1))


def every_number(dtype: torch.dtype) -> Tensor:
    """All 65,536 numbers of 16 bits, by their bits."""
    bits = torch.arange(65536)
    return torch.where(bits < 32768, bits, bits - 65536).to(torch.int16).view(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_every_number_has_its_entry(dtype: torch.dtype) -> None:
    table = TABLE.to(dtype)
    order = torch.randperm(65536, generator=torch.Generator().manual_seed(2))
    for function in (ops.lookup, fallback.lookup):
        assert torch.equal(function(every_number(dtype)[order], table), table[order])


def test_layouts_are_kept() -> None:
    table = TABLE.bfloat16()
    x = torch.randn(3, 8, 5, 6, generator=torch.Generator().manual_seed(3)).bfloat16()
    last = x.contiguous(memory_format=torch.channels_last)
    for each in (x, last, x[:, ::2], x[:0], x[0, 0, 0, 0]):
        found, expected = ops.lookup(each, table), fallback.lookup(each, table)
        assert torch.equal(found, expected) and found.shape == each.shape
    assert ops.lookup(last, table).is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(ops.lookup(x, table.repeat_interleave(2)[::2]), ops.lookup(x, table))


def test_compilers_and_maps_take_it() -> None:
    table, x = TABLE.bfloat16(), torch.randn(2, 7).bfloat16()
    op = torch.ops.latentdiff.lookup.default
    torch.library.opcheck(op, (x, table), test_utils=("test_schema", "test_faketensor"))
    expected = torch.stack([ops.lookup(row, table) for row in x])
    assert torch.equal(torch.func.vmap(lambda row: ops.lookup(row, table))(x), expected)
    tables = torch.stack([table, -table])
    both = torch.func.vmap(ops.lookup)(x, tables)
    assert torch.equal(both, torch.stack([expected[0], -expected[1]]))
    assert torch.equal(torch.func.vmap(lambda each: ops.lookup(x, each))(tables)[1], -expected)


@pytest.mark.parametrize(
    ("x", "table", "kind", "message"),
    [
        (torch.zeros(2), TABLE, TypeError, "x of dtype float16, bfloat16, got torch.float32"),
        (torch.zeros(2).half(), TABLE, TypeError, "table of x's dtype torch.float16, got torch.float32"),
        (torch.zeros(2).half(), TABLE.half()[:9], ValueError, "table of shape [65536], got [9]"),
    ],
)
def test_bad_arguments_are_named_alike(x: Tensor, table: Tensor, kind: type[Exception], message: str) -> None:
    for function in (ops.lookup, fallback.lookup):
        with pytest.raises(kind) as error:
            function(x, table)
        assert str(error.value) == f"lookup: expected {message}"
