"""The CUDA kernels compile beside any torch, and what the compiler made of them: registers, spills and
instructions.

Needs nvcc and no GPU.
"""

import ast
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from helpers import ROOT

pytestmark = pytest.mark.slow
SOURCES = ROOT / "csrc" / "cuda"
NAMES = ("kernels", "ada_norm")  # of the files


class Kernel(NamedTuple):
    """What ptxas tells of one kernel of a sampler: ``form`` is "float" or "Half", n network outputs (0: not
    a step), bytes, registers.

    ``whole``: every operand is read and written 16 bytes at a time.
    """

    name: str
    form: str
    n: int
    whole: bool
    stack: int
    spilled: int
    registers: int


def nvcc_flags() -> list[str]:
    """The flags that setup.py gives nvcc."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "NVCC_FLAGS":
            return [str(flag) for flag in ast.literal_eval(node.value)]
    raise AssertionError("setup.py has no NVCC_FLAGS")


def nvcc(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    if not Path(program).exists():
        pytest.skip("nvcc is not installed")
    command = [program, "-std=c++17", *nvcc_flags(), *arguments, str(SOURCES / f"{name}.cu")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


class Compiled(NamedTuple):
    """A compilation for sm_90: the object and what the compiler said."""

    cubin: Path
    messages: str


def compilation(folder: Path, name: str) -> Compiled:
    cubin = folder / f"{name}.cubin"
    done = nvcc(name, "-arch=sm_90", "-cubin", "-Xptxas", "-v", "-o", str(cubin))
    return Compiled(cubin, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compilation(tmp_path_factory.mktemp("cuda"), "kernels")


@pytest.fixture(scope="module")
def compiled_norm(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return compilation(tmp_path_factory.mktemp("cuda"), "ada_norm")


def kernels_of(messages: str) -> list[Kernel]:
    """Read ``ptxas -v``; element types and template arguments are taken from the mangled names."""
    found = []
    for part in messages.split("Compiling entry function '")[1:]:
        name = part.split("'")[0]
        shape = re.search(
            r"(?:normal|noising|step)_kernelI(f|d|N\w*?(?:Half|Bfloat)E)(?:Li(\d)E)?(?:Lb\dE)*Lb([01])EE",
            name,
        )
        spills = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores", part)
        registers = re.search(r"Used (\d+) registers", part)
        assert shape and spills and registers, part
        form = {"f": "float", "d": "double"}.get(shape[1]) or ("Half" if "Half" in shape[1] else "Bfloat")
        n, whole = int(shape[2] or 0), shape[3] == "1"
        found.append(Kernel(name, form, n, whole, int(spills[1]), int(spills[2]), int(registers[1])))
    return found


@pytest.mark.parametrize(
    ("name", "includes"),
    [
        ("kernels", {"kernels.cu", "vector_item.h", "philox.h", "number.h"}),
        ("ada_norm", {"ada_norm.cu", "ada_norm.h", "number.h"}),
    ],
)
def test_no_torch_header_is_needed(name: str, includes: set[str]) -> None:
    files = nvcc(name, "-M").stdout.replace("\\\n", " ").split()
    ours = [file for file in files if "/csrc/" in file]
    assert {Path(file).name for file in ours} >= includes
    assert not [
        file for file in files if re.search(r"/(torch|ATen|c10|pybind11)/", file) and file not in ours
    ]
    assert not [file for file in ours if "/csrc/torch/" in file or "/csrc/cpu/" in file]


def test_the_compiler_has_nothing_to_say(compiled: Compiled, compiled_norm: Compiled) -> None:
    messages = compiled.messages + compiled_norm.messages
    assert not [line for line in messages.splitlines() if re.search("warning|error", line, re.IGNORECASE)]


def test_registers_and_spills(compiled: Compiled) -> None:
    """48 registers are five eighths of the threads that a multiprocessor holds, 80 three eighths: enough of
    them to hide the memory's latency where each has several loads under way.
    """
    kernels = kernels_of(compiled.messages)
    forms = 4 * (1 + 2 + 4 * 2 * 2)  # dtypes; normal, noising with and without drawing, forms of step
    assert [kernel.whole for kernel in kernels].count(True) == len(kernels) - forms == forms
    assert [kernel for kernel in kernels if kernel.registers > 128] == []
    few = [kernel for kernel in kernels if kernel.n <= 2]
    assert [
        kernel for kernel in few if kernel.form == "float" and kernel.whole and kernel.registers > 48
    ] == []
    assert [kernel for kernel in few if kernel.form != "double" and kernel.registers > 80] == []
    assert [kernel for kernel in few if kernel.spilled or kernel.stack] == []
    assert [kernel for kernel in kernels if kernel.spilled > 32] == []


def sass_of(cubin: Path) -> dict[str, list[str]]:
    """Every kernel's instructions."""
    program = shutil.which("cuobjdump") or "/usr/local/cuda/bin/cuobjdump"
    if not Path(program).exists():
        pytest.skip("cuobjdump is not installed")
    text = subprocess.run(
        [program, "--dump-sass", str(cubin)], capture_output=True, text=True, check=True
    ).stdout
    functions = {}
    for part in text.split("Function : ")[1:]:
        functions[part.split()[0]] = re.findall(r"^\s+/\*[0-9a-f]+\*/\s+(.*?);", part, re.MULTILINE)
    return functions


def opcodes(instructions: Sequence[str]) -> set[str]:
    return {re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0] for instruction in instructions}


def test_instructions(compiled: Compiled) -> None:
    functions = sass_of(compiled.cubin)
    assert len(functions) == len(kernels_of(compiled.messages))
    everything = set().union(*(opcodes(instructions) for instructions in functions.values()))
    assert "FFMA" in everything
    assert not [opcode for opcode in everything if re.match(r"MUFU\.(SIN|COS|LG2|EX2|TANH)", opcode)]
    # float32 with up to two network outputs: 16 bytes at a time, and everything in registers
    for name, instructions in functions.items():
        if re.search(r"step_kernelIfLi[12]ELb\dELb\dELb1E", name):
            found = opcodes(instructions)
            assert [opcode for opcode in found if opcode.startswith("LDG.E.128")], name
            assert [opcode for opcode in found if opcode.startswith("STG.E.128")], name
            assert not [opcode for opcode in found if re.match(r"(LDL|STL)\b", opcode)], name


def test_the_norm(compiled_norm: Compiled) -> None:
    """A row's last numbers wait in sixteen floats, all else is in registers; lanes are exchanged in these."""
    found = re.findall(
        r"(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers",
        compiled_norm.messages,
        re.DOTALL,
    )
    assert len(found) == 3  # element types
    for stack, spilled, registers in found:
        assert int(stack) <= 64 and spilled == "0" and int(registers) <= 48
    kernels = [code for name, code in sass_of(compiled_norm.cubin).items() if "ada_norm_kernel" in name]
    assert len(kernels) == len(found)
    for instructions in kernels:
        assert {opcode.split(".")[0] for opcode in opcodes(instructions)} >= {"SHFL", "FMUL", "FADD"}


@pytest.mark.parametrize("name", NAMES)
def test_the_oldest_architecture(name: str, tmp_path: Path) -> None:
    ptx = tmp_path / "kernels.ptx"
    done = nvcc(name, "--ptx", "-arch=compute_75", "-o", str(ptx))
    assert "warning" not in (done.stdout + done.stderr).lower()
    text = ptx.read_text()
    assert ".target sm_75" in text
    assert not re.search(r"\b(sin|cos|lg2|ex2)\.approx|\.ftz\b", text)
    if name == "ada_norm":
        assert "div.rn.f32" in text and "sqrt.rn.f32" in text
    else:  # float64 forms are plain products and sums on every device
        assert "fma.rn.f64" not in text and "mul.rn.f64" in text
