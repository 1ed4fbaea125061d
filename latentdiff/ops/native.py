"""The C++ and CUDA kernels, where they were built for the torch that runs: loaded once, and why not if not.

LATENTDIFF_OPS=fallback leaves them out, LATENTDIFF_OPS=native makes their absence an error; LATENTDIFF_CPU
names an instruction set (portable, avx2, avx512, neon) below the best that the processor has.
"""

import os
import struct
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch

from latentdiff.errors import InputError

_CHOICES = ("auto", "native", "fallback")
REINSTALL = (
    "with g++, in the folder of the sources, `pip install setuptools wheel ninja` and then "
    "`pip install --no-build-isolation --no-deps --force-reinstall .` builds it"
)


@dataclass(frozen=True)
class Native:
    """``reason``: why the kernels are not in use ("" if they are), ``build`` how they were built."""

    reason: str
    build: dict[str, Any] = field(default_factory=dict)
    module: ModuleType | None = None

    @property
    def cpu_capability(self) -> str | None:
        """The instruction set of the CPU kernels."""
        return None if self.module is None else str(self.module.cpu_capability())


def load() -> Native:
    """Import the extension module and register its kernels.

    Raises InputError for settings that make no sense.
    """
    choice = os.environ.get("LATENTDIFF_OPS", "") or "auto"
    if choice not in _CHOICES:
        raise InputError(f"expected LATENTDIFF_OPS to be one of {', '.join(_CHOICES)}, got {choice!r}")
    if choice == "fallback":
        return Native("LATENTDIFF_OPS=fallback")
    found = _load()
    if choice == "native" and found.reason:
        raise InputError(f"LATENTDIFF_OPS=native, but {found.reason}")
    return found


def _load() -> Native:
    if (file := _cut_off()) is not None:  # loading it would end the process
        return Native(f"the extension {file} is cut off ({REINSTALL} anew)")
    try:
        from latentdiff import _C
    except ImportError as error:
        if find_spec("latentdiff._C") is None:
            return Native(f"the extension was not built ({REINSTALL})")
        # most often symbols of another torch
        return Native(f"the extension does not load ({REINSTALL} anew): {' '.join(str(error).split())}")
    build = dict(_C.build())
    if _minor(build["torch"]) != _minor(torch.__version__):  # its idea of a tensor may be another one
        return Native(
            f"the extension was built for torch {build['torch']}, this is {torch.__version__} ({REINSTALL}"
            " anew)"
        )
    if capability := os.environ.get("LATENTDIFF_CPU"):
        try:
            _C.set_cpu_capability(capability)
        except ValueError as error:
            raise InputError(f"LATENTDIFF_CPU: {error}") from None
    _C.register()
    return Native("", build, _C)


def _cut_off() -> str | None:
    """The extension's file if it ends before its section headers, which are an ELF file's last part."""
    spec = find_spec("latentdiff._C")
    if spec is None or spec.origin is None:
        return None
    with open(spec.origin, "rb") as file:
        header = file.read(64)
        size = file.seek(0, os.SEEK_END)
    if len(header) < 64 or header[:5] != b"\x7fELF\x02":  # the import itself will tell
        return None
    (sections,) = struct.unpack_from("<Q", header, 0x28)
    each, count = struct.unpack_from("<HH", header, 0x3A)
    return spec.origin if size < sections + each * count else None


def _minor(version: str) -> list[str]:
    return version.split("+")[0].split(".")[:2]
