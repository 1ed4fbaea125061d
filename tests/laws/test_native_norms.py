"""The CUDA kernels of norms give the bits of the fallback, on the host: native/cuda runs the threads of a
warp at once, as they exchange values.
"""

import ctypes
import signal
import subprocess
import sys

import pytest
import torch
from native_build import CUDA_FLAGS, HARNESS, cuda_for_the_host, rounding_flags, tool
from torch import Tensor

from latentdiff.ops import fallback

DTYPES = {torch.float32: 0, torch.float16: 2, torch.bfloat16: 3}  # latentdiff::Dtype


@pytest.fixture(scope="module")
def norms(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """native/norms.cpp with the kernels, as a library."""
    folder = tmp_path_factory.mktemp("norms")
    library = folder / "norms.so"
    flags = ["-std=c++17", "-O1", "-w", "-pthread", "-shared", "-fPIC", "-DEMULATED_WARPS", *rounding_flags()]
    flags += [*CUDA_FLAGS, f"-I{HARNESS / 'cuda'}", "-fvisibility=default"]
    sources = [str(HARNESS / "norms.cpp"), str(cuda_for_the_host(folder, "ada_norm"))]
    command = [tool("g++", "clang++"), *flags, *sources, "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return ctypes.CDLL(str(library))


def address(x: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if x is None else x.data_ptr())


def launched(
    norms: ctypes.CDLL,
    h: Tensor,
    branch: Tensor | None,
    conditions: Tensor,
    rows: Tensor | None,
    dtype: torch.dtype,
    grid: tuple[int, int],
) -> tuple[Tensor, Tensor]:
    """The sum and the norm of one launch; conditions [U, 3, D]: gate, factor, shift."""
    width, places = h.shape[-1], len(h)
    count = h.numel() // width
    summed, y = torch.full_like(h, torch.nan), torch.full_like(h, torch.nan, dtype=dtype)
    gate, factor, shift = (conditions[:, k] for k in range(3))
    sizes = [ctypes.c_int64(size) for size in (count, width, count // places, len(conditions))]
    error = norms.ada_norm(
        *sizes,
        DTYPES[dtype],
        *map(address, (h, branch, summed, y, factor, shift, gate)),
        ctypes.c_int64(3 * width),
        address(rows),
        *grid,
    )
    assert error == 0
    return summed, y


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("width", [1, 2, 15, 16, 17, 31, 40, 320])
def test_ada_norm(norms: ctypes.CDLL, width: int, dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(width)
    for shape, shared, grid in (
        ((5, width), False, (2**32 - 1, 2**32 - 1)),
        ((4, 3, width), True, (1, 32)),
        ((2, 3, 7, width), False, (2, 16)),
    ):
        h = 3 * torch.randn(shape, generator=g) + 1
        branch = torch.randn(shape, generator=g).to(dtype)
        rows = torch.randint(0, 3, shape[:1], generator=g) if shared else None
        conditions = torch.randn(3 if shared else len(h), 3, width, generator=g)
        gate, factor, shift = (conditions[:, k] for k in range(3))
        expected = fallback.add_ada_norm(h, branch, gate, factor, shift, rows)
        found = launched(norms, h, branch, conditions, rows, dtype, grid)
        assert all(map(torch.equal, found, expected))
        _, y = launched(norms, h, None, conditions, rows, dtype, grid)
        assert torch.equal(y, fallback.ada_norm(h, factor, shift, rows, dtype))


def test_numbers_that_are_not_finite_stay_in_their_rows(norms: ctypes.CDLL) -> None:
    g = torch.Generator().manual_seed(0)
    h, conditions = torch.randn(6, 40, generator=g), torch.randn(6, 3, 40, generator=g)
    h[1, 3], h[2, 39] = torch.nan, torch.inf
    _, y = launched(norms, h, None, conditions, None, torch.bfloat16, (1, 64))
    assert y.isnan().any(1).tolist() == [False, True, True, False, False, False]


LAUNCH = """
import ctypes, sys
norms, size = ctypes.CDLL(sys.argv[1]), ctypes.c_int64
h, y, conditions = (ctypes.c_float * 64)(), (ctypes.c_float * 64)(), (ctypes.c_float * 48)()
rows = (size * 4)(0, 2, int(sys.argv[2]), 1)
sizes, stride = map(size, (4, 16, 1, 3)), size(16)
norms.ada_norm(*sizes, 0, h, None, None, y, conditions, conditions, conditions, stride, rows, 1, 32)
"""


@pytest.mark.parametrize(("row", "code"), [(-1, -signal.SIGABRT), (3, -signal.SIGABRT), (2, 0)])
def test_a_row_beyond_the_conditions_ends_the_launch(norms: ctypes.CDLL, row: int, code: int) -> None:
    """As an index of torch on CUDA that is out of range."""
    done = subprocess.run([sys.executable, "-c", LAUNCH, norms._name, str(row)], capture_output=True)
    assert done.returncode == code
