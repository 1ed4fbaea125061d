"""Compiles parts of csrc/ without torch, for tests: flags, compilers, CUDA sources for the host."""

import ast
import re
import shutil
from pathlib import Path

import pytest
from helpers import ROOT

HARNESS = ROOT / "tests" / "native"
CUDA = ROOT / "csrc" / "cuda"
CUDA_FLAGS = ["-D__CUDACC__", "-D__CUDA_ARCH__=900", f"-I{CUDA}", "-include", "cuda_runtime_api.h"]


def rounding_flags() -> list[str]:
    """The flags of setup.py that decide how numbers are rounded."""
    for node in ast.parse((ROOT / "setup.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "FLAGS":
            flags = ast.literal_eval(node.value)
            return [flag for flag in flags if flag.startswith("-f")]
    raise AssertionError("setup.py has no FLAGS")


def tool(*names: str) -> str:
    """The first program that is installed; skips the test if none is."""
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"{' or '.join(names)} is not installed")


def cuda_for_the_host(folder: Path, name: str = "kernels") -> Path:
    """csrc/cuda/{name}.cu for a C++ compiler, in ``folder``: its launches, all that is no C++, as calls of
    native/cuda.
    """
    launch = re.compile(r"(\w+)<<<(.+?)>>>\((.*?)\);", re.DOTALL)
    text, launches = launch.subn(r"emulated::launch([&] { \1(\3); }, \2);", (CUDA / f"{name}.cu").read_text())
    assert launches >= 1
    assert "<<<" not in text
    source = folder / "cuda" / f"{name}.cpp"
    source.parent.mkdir(exist_ok=True)
    source.write_text(text)
    return source
