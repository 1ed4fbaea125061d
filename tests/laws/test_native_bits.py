"""The C++ kernels give the same bits for every instruction set, compiler and processor, and the fallback's
bits.

``native/harness.cpp`` runs them without torch over 17,000 cases of shapes, strides, dtypes and options, and
prints a checksum for each. The CUDA kernels run there too, on the host and without a GPU: ``native/cuda`` is
CUDA as standard C++, on a device that does one thread after another. What the machine has no tools for is
skipped.
"""

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT
from native_build import CUDA_FLAGS, HARNESS, cuda_for_the_host, rounding_flags, tool
from numpy.typing import NDArray
from torch import Tensor

from latentdiff.ops import fallback

slow = pytest.mark.slow
CSRC = ROOT / "csrc" / "cpu"
ARM = platform.machine() in ("aarch64", "arm64")
X86 = platform.machine() == "x86_64"
needs_x86 = pytest.mark.skipif(not X86, reason="the processor is no x86-64")
SANITIZERS = ["-fsanitize=address,alignment", "-fno-sanitize-recover=all"]

Words = NDArray[np.uint64]
Build = Callable[..., Path]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(compiler, flags, kernels)`` -> the harness with csrc/cpu/{kernels}.cpp; objects are compiled
    once.
    """
    folder = tmp_path_factory.mktemp("native")
    objects: dict[tuple[str, ...], Path] = {}

    def run(*command: str) -> None:
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"

    def compiled(compiler: str, flags: Sequence[str], source: Path) -> Path:
        command = (compiler, "-std=c++17", *rounding_flags(), *flags, "-c", str(source))
        if command not in objects:
            target = folder / f"{len(objects)}-{source.stem}.o"
            run(*command, "-o", str(target))
            objects[command] = target
        return objects[command]

    def build(
        compiler: str,
        flags: Sequence[str],
        kernels: str,
        *,
        source: Path | None = None,
        define: str = "",
        link: str = "",
        guarded: bool = True,
    ) -> Path:
        checked = [flag for flag in flags if "sanitize" in flag]
        guard = ["-DGUARD=0"] if checked or not guarded else []
        chosen = [f"-D{define or f'WITH_{kernels.upper()}'}", f"-I{HARNESS / 'cuda'}"]
        flags = [*flags, *CUDA_FLAGS, f"-I{HARNESS / 'cuda'}"] if kernels == "cuda" else flags
        harness = compiled(compiler, ["-O1", *checked, *guard, *chosen], HARNESS / "harness.cpp")
        part = compiled(compiler, flags, source or CSRC / f"{kernels}.cpp")
        program = folder / f"harness-{len(list(folder.glob('harness-*')))}"
        run(compiler, *checked, *([link] if link else []), str(harness), str(part), "-o", str(program))
        return program

    return build


def lines(program: Path, kernels: str, every: int = 1, *, runner: Sequence[str] = ()) -> list[str]:
    """What the harness prints: one line for each case.

    Skips the test where the processor lacks the instructions.
    """
    done = subprocess.run([*runner, str(program), kernels, str(every)], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip(f"the processor has no {kernels}")
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


@pytest.fixture(scope="module")
def reference(build: Build) -> list[str]:
    """The lines of the portable kernels as they are written: without any optimization."""
    return lines(build(tool("g++", "clang++"), ["-O0"], "portable"), "portable")


def assert_same(found: list[str], reference: list[str], every: int = 1) -> None:
    expected = reference[::every]
    differing = [f"expected {a}\nfound    {b}" for a, b in zip(expected, found, strict=True) if a != b]
    assert not differing, f"{len(differing)} of {len(expected)} cases differ, first:\n" + "\n".join(
        differing[:5]
    )


@slow
def test_the_reference_is_of_many_cases_and_writes_results_alone(reference: list[str]) -> None:
    assert len(reference) > 16_000
    assert not [line for line in reference if "BEYOND" in line]
    assert len({line.split("sum=")[1] for line in reference}) > 0.99 * len(reference)


@slow
@needs_x86
def test_avx2(build: Build, reference: list[str]) -> None:
    assert_same(lines(build(tool("g++"), ["-O2"], "avx2"), "avx2"), reference)


@slow
@needs_x86
def test_avx512(build: Build, reference: list[str], tmp_path: Path) -> None:
    """On the processor, or else in an emulation that runs on AVX2."""
    gcc = tool("g++")
    if "avx512f" in Path("/proc/cpuinfo").read_text():
        program = build(gcc, ["-O2"], "avx512")
    else:
        if not Path("/usr/include/simde/x86/avx512.h").exists():
            pytest.skip("the processor has no avx512, and SIMDe is not installed")
        text = (CSRC / "avx512.cpp").read_text()
        source = tmp_path / "avx512.cpp"  # the same without its target, which the processor cannot run
        source.write_text("".join(line for line in text.splitlines(True) if "pragma GCC target" not in line))
        flags = ["-O1", "-mavx2", "-mfma", "-mf16c", f"-I{HARNESS / 'simde'}", f"-I{CSRC}"]
        program = build(gcc, flags, "avx512", source=source, define="WITH_EMULATED_AVX512")
    assert_same(lines(program, "avx512"), reference)


@slow
def test_cuda_on_the_host(build: Build, reference: list[str], tmp_path: Path) -> None:
    program = build(tool("g++", "clang++"), ["-O0"], "cuda", source=cuda_for_the_host(tmp_path))
    assert_same(lines(program, "cuda"), reference)


@slow
@needs_x86
@pytest.mark.parametrize("name", ["avx2", "avx512"])
def test_simd_files_share_no_function_with_other_code(name: str, tmp_path: Path) -> None:
    """An inline function out of them, linked into other code, would be an illegal instruction on older
    processors.
    """
    gcc, nm = tool("g++"), tool("nm")
    target = tmp_path / f"{name}.o"
    subprocess.run([gcc, "-std=c++17", "-O0", "-c", str(CSRC / f"{name}.cpp"), "-o", str(target)], check=True)
    listed = subprocess.run(
        [nm, "-C", "--defined-only", str(target)], capture_output=True, text=True, check=True
    )
    symbols = [line.split(maxsplit=2)[1:] for line in listed.stdout.splitlines()]
    assert f"latentdiff::cpu::{name}" in [symbol for _, symbol in symbols]
    assert [symbol for kind, symbol in symbols if kind in "TWi"] == []


@slow
@pytest.mark.parametrize(
    ("compiler", "flags", "kernels"),
    [
        pytest.param("g++", ["-O2", "-march=native"], "portable", id="g++ native"),
        pytest.param("clang++", ["-O1"], "portable", id="clang++"),
        pytest.param("clang++", ["-O1"], "avx2", id="clang++ avx2", marks=needs_x86),
    ],
)
def test_compilers_and_their_settings(
    build: Build, reference: list[str], compiler: str, flags: list[str], kernels: str
) -> None:
    assert_same(lines(build(tool(compiler), flags, kernels), kernels, 3), reference, 3)


@slow
def test_neon_as_standard_cpp(build: Build, reference: list[str]) -> None:
    """Its intrinsics by native/neon, on any processor."""
    flags = ["-O1", "-DLATENTDIFF_EMULATED_NEON", f"-I{HARNESS / 'neon'}"]
    program = build(tool("g++", "clang++"), flags, "neon", define="LATENTDIFF_EMULATED_NEON")
    assert_same(lines(program, "neon"), reference)


def cross_compiler(folder: Path) -> str:
    """A compiler for AArch64: that of such a machine, a cross gcc, or the clang of the package `ziglang`."""
    if ARM:
        return tool("g++", "clang++")
    if found := shutil.which("aarch64-linux-gnu-g++"):
        return found
    pytest.importorskip("ziglang", reason="neither aarch64-linux-gnu-g++ nor the package ziglang is there")
    script = folder / "c++"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m ziglang c++ -target aarch64-linux-musl "$@"\n')
    script.chmod(0o755)
    return str(script)


def arm_runner() -> list[str]:
    """What runs programs of AArch64 here: nothing, qemu, or the package `unicorn`."""
    if ARM:
        return []
    if found := shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static"):
        return [found]
    pytest.importorskip("unicorn", reason="neither qemu-aarch64 nor the package unicorn is there")
    return [sys.executable, str(HARNESS / "aarch64.py")]


@slow
@pytest.mark.parametrize("kernels", ["portable", "neon"])
def test_an_arm_processor(build: Build, reference: list[str], kernels: str, tmp_path: Path) -> None:
    """Machine code of AArch64, where it can be compiled and run (`pip install ziglang unicorn`)."""
    runner, compiler = arm_runner(), cross_compiler(tmp_path)
    program = build(compiler, ["-O2"], kernels, link="" if ARM else "-static", guarded=ARM)
    assert_same(lines(program, kernels, 7, runner=runner), reference, 7)


@slow
@pytest.mark.parametrize("kernels", ["portable", pytest.param("avx2", marks=needs_x86), "cuda"])
def test_sanitizers_find_nothing(build: Build, reference: list[str], kernels: str, tmp_path: Path) -> None:
    """Buffers of the exact size: a read beyond a row's end is found as well as a write, and 16 bytes that are
    not aligned.
    """
    source = cuda_for_the_host(tmp_path) if kernels == "cuda" else None
    program = build(tool("g++"), ["-O0", *SANITIZERS], kernels, source=source)
    assert_same(lines(program, kernels, 3), reference, 3)


# The twin of native/values.h: the same numbers from the same integers.
FORMATS = {  # dtype, its bits, bits of the fraction, bias of the exponent
    "float32": (torch.float32, np.uint32, 23, 127),
    "float64": (torch.float64, np.uint64, 52, 1023),
    "float16": (torch.float16, np.uint16, 10, 15),
    "bfloat16": (torch.bfloat16, np.uint16, 7, 127),
}
X, NOISE, COEF, SEEDS, STREAM, _, OUTS = range(7)


def mix(x: Words | int) -> Words:
    x = np.atleast_1d(np.asarray(x, dtype=np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def words(seed: int, kind: int, index: NDArray[np.int64]) -> Words:
    return mix(mix(mix(seed) + np.uint64(kind)) + index.astype(np.uint64))


def numbers(dtype: str, word: Words, *, wild: bool) -> Tensor:
    torch_dtype, unsigned, width, bias = FORMATS[dtype]
    size = np.uint64(8 * np.dtype(unsigned).itemsize - 1)
    exponent = np.uint64(bias - 3) + (word >> np.uint64(53)) % np.uint64(5)
    fraction = word & np.uint64((1 << width) - 1)
    bits = ((word >> np.uint64(52)) & np.uint64(1)) << size | exponent << np.uint64(width) | fraction
    if wild:
        bits = np.where(word >> np.uint64(60) == 0, mix(word), bits)
    signed = np.dtype(unsigned).name.removeprefix("u")
    return torch.from_numpy(bits.astype(unsigned).view(signed)).view(torch_dtype)


def checksum(dtype: str, results: Sequence[Tensor]) -> str:
    _, unsigned, width, bias = FORMATS[dtype]
    signed = {2: torch.int16, 4: torch.int32, 8: torch.int64}[np.dtype(unsigned).itemsize]
    bits = (
        torch.cat([result.flatten() for result in results])
        .view(signed)
        .numpy()
        .view(unsigned)
        .astype(np.uint64)
    )
    infinity = np.uint64((2 * bias + 1) << width)
    rest = bits & np.uint64((1 << (8 * np.dtype(unsigned).itemsize - 1)) - 1)
    bits = np.where(rest > infinity, infinity + np.uint64(1), bits)  # NaN has no fixed sign and payload
    return f"{int(mix(bits ^ mix(np.arange(len(bits)))).sum(dtype=np.uint64)):016x}"


def fallback_results(case: dict[str, str]) -> Sequence[Tensor]:
    """Run the fallback on the inputs of a harness line."""
    seed, rows, inner, n, period = (int(case[name]) for name in ("seed", "rows", "inner", "n", "period"))
    wild, uniform, direct = (case[name] == "1" for name in ("wild", "uniform", "direct"))
    row, element = np.ogrid[:rows, :inner]

    def samples(kind: int, *, repeated: bool = False) -> Tensor:
        index = element % period + 0 * row if repeated else row * inner + element
        return numbers(case["dtype"], words(seed, kind, index), wild=wild)

    seeds, stream = (
        torch.from_numpy(words(seed, kind, np.arange(rows)).view(np.int64)) for kind in (SEEDS, STREAM)
    )
    stream = stream[0] if uniform else stream
    if case["op"] == "normal":
        return [fallback.normal(seeds, stream, (inner,), FORMATS[case["dtype"]][0])]
    columns = 4 if case["op"] == "add_noise" else 4 + n * (2 if direct else 1)
    index = np.arange((1 if uniform else rows) * columns).reshape(-1, columns)
    chosen = words(seed, COEF, index)
    coef = numbers("float64" if case["wide"] == "1" else "float32", chosen, wild=False)
    coef = coef * torch.from_numpy(chosen >> np.uint64(61) != 0)  # one in eight is 0, of either sign
    noise = samples(NOISE) if case["noise"] == "given" else None
    keys = (seeds, stream) if case["noise"] == "drawn" else (None, None)
    if case["op"] == "add_noise":
        return fallback.add_noise(samples(X, repeated=period > 0), coef, noise, *keys)
    outs = [samples(OUTS + i, repeated=period > 0 and i == 0) for i in range(n)]
    results = fallback.step_x0(samples(X), outs, coef, 0.7 if case["clip"] == "1" else None, noise, *keys)
    return results if case["x0"] == "1" else results[:1]


def assert_fallback_agrees(found: Sequence[str]) -> None:
    differing = []
    for line in found:
        op, *fields = line.split()
        case = dict(field.split("=") for field in fields) | {"op": op}
        if checksum(case["dtype"], fallback_results(case)) != case["sum"]:
            differing.append(line)
    assert not differing, f"{len(differing)} of {len(found)} cases differ, first:\n" + "\n".join(
        differing[:5]
    )


@slow
def test_the_fallback_gives_the_same_bits(reference: list[str]) -> None:
    assert_fallback_agrees(reference[::13])


def test_a_part_of_the_cuda_kernels_on_the_host(build: Build, tmp_path: Path) -> None:
    """Two element types and one network output, which compile in a second or two, against the fallback."""
    source = cuda_for_the_host(tmp_path)
    left_out = re.compile(r"    case (Dtype::float64|Dtype::bfloat16|[4-9]):\n.*\n")
    form, cases = left_out.subn("", (ROOT / "csrc" / "dispatch.h").read_text())
    assert cases == 8
    (tmp_path / "dispatch.h").write_text(
        form.replace('"kernel_args.h"', '"../kernel_args.h"')
    )  # beside cuda/: found first
    found = lines(build(tool("g++", "clang++"), ["-O0", "-w"], "cuda", source=source), "cuda", 17)
    part = [line for line in found if re.search(r"dtype=float(32|16) .* n=[01] ", line)]
    assert len(part) > 100
    assert not [line for line in part if "BEYOND" in line]
    assert_fallback_agrees(part)


def test_indices_without_divisions_and_the_order_of_items(tmp_path: Path) -> None:
    program = tmp_path / "indices"
    command = [tool("g++", "clang++"), "-std=c++17", "-O1", str(HARNESS / "indices.cpp"), "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert int(done.stdout) > 1_000_000
