"""The kernels against the fallback, bit for bit: every instruction set that the processor has, and CUDA where
there is a GPU.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from latentdiff import ops
from latentdiff.ops import fallback

MODULE = ops.NATIVE.module
CPU_SETS = () if MODULE is None else tuple(MODULE.cpu_capabilities())
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
WORDS = {
    torch.float32: torch.int32,
    torch.float64: torch.int64,
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
}

Draw = Callable[..., Tensor]


@pytest.fixture
def draw(device: torch.device) -> Draw:
    g = torch.Generator().manual_seed(0)
    return lambda *shape, dtype=torch.float32: torch.randn(*shape, generator=g, dtype=torch.float64).to(
        device, dtype
    )


def keys(batch: int, device: torch.device) -> dict[str, Tensor]:
    seeds = torch.arange(batch, dtype=torch.int64, device=device) * 1_000_003 - 7
    return {"seeds": seeds, "stream": torch.tensor(1 << 56 | 3 << 32 | 999, device=device)}


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal to the last bit, the sign of zero included; NaN is NaN whatever its payload."""
    assert a.dtype == b.dtype
    a, b = (
        torch.where(x.isnan(), torch.full_like(x, float("nan")), x).contiguous().view(WORDS[x.dtype])
        for x in (a, b)
    )
    return torch.equal(a.cpu(), b.cpu())


def agree(results: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for result, value in zip(results, expected, strict=True):
        assert same_bits(result, value)
        assert result.stride() == value.stride()


def compare_step(
    x: Tensor, outs: list[Tensor], coef: Tensor, *, clip: float | None = None, noise: Tensor | None = None,
    seeds: Tensor | None = None, stream: Tensor | None = None,
) -> None:  # fmt: skip
    given = (x, outs, coef, clip, noise, seeds, stream)
    op = torch.ops.latentdiff
    agree(op.step_x0(*given), fallback.step_x0(*given))
    agree([op.step(*given)], [fallback.step(*given)])


def compare_add_noise(
    x0: Tensor,
    coef: Tensor,
    *,
    noise: Tensor | None = None,
    seeds: Tensor | None = None,
    stream: Tensor | None = None,
) -> None:
    given = (x0, coef, noise, seeds, stream)
    agree(torch.ops.latentdiff.add_noise(*given), fallback.add_noise(*given))


def test_there_is_something_to_test() -> None:
    required = os.environ.get("LATENTDIFF_REQUIRE_EXTENSION", "") not in ("", "0")
    if required and os.environ.get("LATENTDIFF_OPS") != "fallback":
        assert CPU_SETS, ops.NATIVE.reason
    assert CPU_SETS == () or CPU_SETS[0] == "portable"


LENGTHS = [
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    60,
    63,
    64,
    65,
    100,
    127,
    128,
    1000,
    1023,
    1024,
    1025,
    2052,
    5001,
]


@pytest.mark.parametrize("batch", [1, 3, 70])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_row_length(device: torch.device, draw: Draw, batch: int, length: int) -> None:
    x, out = draw(batch, length), draw(batch, length)
    given = keys(batch, device)
    shape = (length,)
    assert same_bits(
        ops.normal(given["seeds"], given["stream"], shape),
        fallback.normal(*given.values(), shape, torch.float32),
    )
    for coef in (draw(1, 5), draw(batch, 5)):
        compare_step(x, [out], coef, clip=0.8, **given)
        compare_step(x, [out], coef)
        compare_add_noise(x, coef[:, :4], **given)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_every_form_and_dtype(device: torch.device, draw: Draw, n: int, dtype: torch.dtype) -> None:
    for length in (37, 64, 1500):
        x, noise = draw(3, length, dtype=dtype), draw(3, length, dtype=dtype)
        outs = [draw(3, length, dtype=dtype) for _ in range(n)]
        for direct, rows, clip in product((False, True), (1, 3), (None, 0.7)):
            coef = draw(rows, 4 + n * (1 + direct), dtype=torch.float64)
            for source in ({}, {"noise": noise}, keys(3, device)):
                compare_step(x, outs, coef, clip=clip, **source)
                compare_step(x, outs, coef.float(), clip=clip, **source)


@pytest.mark.parametrize("dtype", DTYPES)
def test_noise_and_noising_of_every_dtype(device: torch.device, draw: Draw, dtype: torch.dtype) -> None:
    for length in (6, 37, 64, 1500):
        x, noise, coef = (
            draw(3, length, dtype=dtype),
            draw(3, length, dtype=dtype),
            draw(3, 4, dtype=torch.float64),
        )
        given = keys(3, device)
        agree(
            [ops.normal(*given.values(), (length,), dtype=dtype)],
            [fallback.normal(*given.values(), (length,), dtype)],
        )
        for rows in (coef, coef[:1]):
            compare_add_noise(x, rows, **given)
            compare_add_noise(x, rows, noise=noise)


LAYOUTS: dict[str, Callable[[Draw, torch.dtype], Tensor]] = {
    "channels last": (
        lambda draw, dtype: draw(3, 5, 6, 7, dtype=dtype).contiguous(memory_format=torch.channels_last)
    ),
    "channels sliced": lambda draw, dtype: draw(3, 8, 6, 7, dtype=dtype)[:, 1:6],
    "every second": lambda draw, dtype: draw(3, 5, 6, 14, dtype=dtype)[..., ::2],
    "rows apart": lambda draw, dtype: draw(3, 5, 6, 9, dtype=dtype)[..., 1:8],
    "transposed": lambda draw, dtype: draw(3, 5, 7, 6, dtype=dtype).transpose(2, 3),
    "batch last": lambda draw, dtype: draw(5, 6, 7, 3, dtype=dtype).permute(3, 0, 1, 2),
    "batch sliced": lambda draw, dtype: draw(6, 5, 6, 7, dtype=dtype)[::2],
    "one sample for all": lambda draw, dtype: draw(1, 5, 6, 7, dtype=dtype).expand(3, 5, 6, 7),
    "one pixel for all": lambda draw, dtype: draw(3, 5, 1, 1, dtype=dtype).expand(3, 5, 6, 7),
    "misaligned": lambda draw, dtype: draw(3 * 5 * 6 * 7 + 1, dtype=dtype)[1:].view(3, 5, 6, 7),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_with_every_other(
    device: torch.device, draw: Draw, layout: str, dtype: torch.dtype
) -> None:
    x = LAYOUTS[layout](draw, dtype)
    for other in LAYOUTS:
        out = LAYOUTS[other](draw, dtype)
        for coef in (draw(1, 6), draw(3, 6)):
            compare_step(x, [out], coef, clip=0.9, **keys(3, device))
            compare_step(out, [x], coef, noise=x)
        compare_add_noise(x, draw(3, 4), noise=out)
        compare_add_noise(x, draw(3, 4), **keys(3, device))


def test_more_dimensions_than_kernels_take(device: torch.device, draw: Draw) -> None:
    x = draw(2, *[3] * 9)[(slice(None), *[slice(None, 2)] * 9)]
    given = keys(2, device)
    for coef in (draw(1, 6), draw(2, 6)):
        compare_step(x, [x], coef, **given)
        compare_step(x, [x], coef, noise=x)
    compare_add_noise(x, draw(1, 4), **given)
    made = torch.full_like(x, float("nan"))
    wide = torch.full((2, *[3] * 9), float("nan"), device=device)[(slice(None), *[slice(None, 2)] * 9)]
    for out in (made, wide):
        ops.step(x, [x], coef, **given, out=out)
        assert same_bits(out, fallback.step(x, [x], coef, None, None, *given.values()))
        ops.normal(*given.values(), x.shape[1:], out=out)
        assert same_bits(out, fallback.normal(*given.values(), x.shape[1:], torch.float32))


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_values(device: torch.device, dtype: torch.dtype) -> None:
    info = torch.finfo(dtype)
    inf = float("inf")
    values = [
        0.0,
        -0.0,
        inf,
        -inf,
        float("nan"),
        info.max,
        -info.max,
        info.tiny,
        info.smallest_normal / 4,
        1.0,
        -1.0,
        3e-5,
    ]
    a, b = (
        t.to(device, dtype)
        for t in torch.meshgrid(*[torch.tensor(values, dtype=torch.float64)] * 2, indexing="ij")
    )
    x, out = a.reshape(4, -1).contiguous(), b.reshape(4, -1).contiguous()
    for row in (
        [1.0, 0.5, 0.3, 1.0, -1.0],
        [0.0, 1.0, 0.0, 1e30, 1e30],
        [1e39, 1.0, -0.0, 1e-40, 1.0],
        [0.0, 0.9, 0.5, 1.2, -0.7, 0.4],  # DDIM
        [-0.0, -0.0, 0.5, 0.0, 0.0, -0.4],
        [0.9, 0.0, 0.0, -0.0, 1e-50, 0.0],  # the last but one is 0 in float32
    ):
        coef = torch.tensor([row], dtype=torch.float64, device=device)
        for clip in (None, 1.0, 1e-45, inf):
            compare_step(x, [out], coef, clip=clip)
            compare_step(x, [out], coef, clip=clip, noise=out)
            compare_step(x, [out], coef, clip=clip, **keys(4, device))
        compare_add_noise(x, coef[:, :4], noise=out)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_sixteen_bit_number_is_read_and_written(device: torch.device, dtype: torch.dtype) -> None:
    every = torch.arange(-(1 << 15), 1 << 15).to(torch.int16).view(dtype).to(device).view(4, -1)
    same = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0]], device=device)  # x_s = x
    zero = torch.zeros_like(every)
    finite = every.isfinite()
    assert torch.equal(ops.step(every, [zero], same)[finite], every[finite])
    compare_step(every, [zero], same)
    # Numbers just at, below and above the middle between two neighbors, and beyond the largest: one rounding,
    # to even.
    g = torch.Generator().manual_seed(1)
    wide = torch.randint(-(1 << 31), 1 << 31, (4, 1 << 14), generator=g).to(torch.int32).view(torch.float32)
    given = torch.where(wide.isfinite(), wide, 1.0).to(device, dtype)
    for factor in (1 + 2.0**-9, 1 + 2.0**-12, 1 - 2.0**-10, 1.5, 2.0**-12, 3 * 2.0**-15):
        compare_step(
            given, [torch.zeros_like(given)], torch.tensor([[factor, 0.0, 0.0, 0.0, 0.0]], device=device)
        )


def test_threads_and_splits_do_not_change_a_bit(device: torch.device, draw: Draw) -> None:
    x, out, coef = draw(3, 4, 160, 161), draw(3, 4, 160, 161), draw(3, 5)
    threads = torch.get_num_threads()
    results = []
    try:
        for n in (1, 2, 3):
            torch.set_num_threads(n)
            results.append(
                torch.stack([ops.step(x, [out], coef, clip=1.0, **keys(3, device)), *ops.add_noise(x, coef[:, :4], **keys(3, device)),
                             ops.step(x, [out], coef[:1])])
            )  # fmt: skip
    finally:
        torch.set_num_threads(threads)
    assert same_bits(results[0], results[1])
    assert same_bits(results[0], results[2])
    for b in range(3):
        given = {name: t[b : b + 1] if t.dim() else t for name, t in keys(3, device).items()}
        alone = ops.step(x[b : b + 1], [out[b : b + 1]], coef[b : b + 1], clip=1.0, **given)
        assert same_bits(alone[0], results[0][0, b])


def test_coefficients_and_keys_may_have_any_strides(device: torch.device, draw: Draw) -> None:
    x, out, coef = draw(4, 50), draw(4, 50), draw(4, 5)
    given = {"seeds": torch.arange(4, device=device), "stream": torch.arange(4, device=device) + 2**40}
    expected = fallback.step(x, [out], coef, None, None, *given.values())
    wide = torch.zeros(5, 8, device=device)
    wide[:, ::2] = coef.T
    apart = {name: torch.stack([t, -t], dim=1)[:, 0] for name, t in given.items()}
    assert same_bits(ops.step(x, [out], wide[:, ::2].T, **apart), expected)
    assert same_bits(
        ops.step(x, [out], coef[:1].expand(4, 5), **given), ops.step(x, [out], coef[:1], **given)
    )
    assert same_bits(
        ops.normal(given["seeds"], given["stream"][:1].expand(4), (9,)),
        ops.normal(given["seeds"], given["stream"][0], (9,)),
    )


@pytest.mark.parametrize("length", [3, 32, 50, 64, 128, 1500])
def test_every_sample_has_its_seed_and_its_stream(device: torch.device, draw: Draw, length: int) -> None:
    given = {
        "seeds": torch.tensor([5, -5, 2**40, 5], device=device),
        "stream": torch.tensor([1, 2**33, 1, -1], device=device),
    }
    x, coef = draw(4, length), draw(1, 5)
    compare_step(x, [x], coef, **given)
    compare_add_noise(x, coef[:, :4], **given)
    z = ops.normal(*given.values(), (length,))
    assert same_bits(z, fallback.normal(*given.values(), (length,), torch.float32))
    for b in range(4):
        assert same_bits(z[b], ops.normal(given["seeds"][b : b + 1], given["stream"][b], (length,))[0])


def test_an_unknown_instruction_set_is_refused() -> None:
    if MODULE is None:
        pytest.skip("no extension")
    with pytest.raises(ValueError, match=r"expected an instruction set out of portable.*, got mmx"):
        MODULE.set_cpu_capability("mmx")


def run_with(*, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "from latentdiff import ops; print(ops.implementation(), '|', ops.NATIVE.reason, '|',"
        " ops.NATIVE.cpu_capability)"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_environment_forces_the_fallback_or_an_instruction_set() -> None:
    assert run_with(LATENTDIFF_OPS="fallback").stdout == "fallback | LATENTDIFF_OPS=fallback | None\n"
    if CPU_SETS:
        assert run_with(LATENTDIFF_CPU="portable", LATENTDIFF_OPS="").stdout.endswith("|  | portable\n")
        assert "got mmx" in run_with(LATENTDIFF_CPU="mmx", LATENTDIFF_OPS="native").stderr
    assert "expected LATENTDIFF_OPS to be one of" in run_with(LATENTDIFF_OPS="fast").stderr


def test_an_extension_that_is_cut_off_is_left_alone(tmp_path: Path) -> None:
    """Loading half a shared library ends the process without a word."""
    if MODULE is None:
        pytest.skip("no extension")
    whole = Path(MODULE.__file__).read_bytes()
    package = tmp_path / "latentdiff"
    shutil.copytree(
        Path(ops.__file__).parents[1], package, ignore=shutil.ignore_patterns("_C*.so", "__pycache__")
    )
    for size in (0, 5000, len(whole) // 2):
        (package / Path(MODULE.__file__).name).write_bytes(whole[:size])
        done = run_with(cwd=tmp_path, LATENTDIFF_OPS="")
        assert done.returncode == 0, done.stderr
        assert re.match(r"fallback \| the extension .*(is cut off|does not load).*", done.stdout)
