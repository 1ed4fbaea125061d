"""`latentdiff info`."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from latentdiff._version import __version__
from latentdiff.apps.cli.shared.options import cli_command

LIBRARIES = (
    "torch",
    "numpy",
    "safetensors",
    "click",
    "rich",
    "pydantic",
    "PyYAML",
    "Pillow",
    "matplotlib",
    "tensorboard",
    "diffusers",
)


@cli_command("info", "latentdiff info --json")
def command(as_json: bool) -> int:
    """Show versions, devices and which kernels are in use."""
    import torch

    from latentdiff import ops
    from latentdiff.apps.cli.shared.progress import result
    from latentdiff.parallel.device import bf16_native

    cpu = torch.device("cpu")
    values: dict[str, Any] = {
        "latentdiff": __version__,
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "libraries": {name: _version(name) for name in LIBRARIES},
        "kernels": ops.implementation(),
        "extension": _extension(),
        "cpu": {
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": torch.get_num_threads(),
            "bf16": bf16_native(cpu),
        },
        "cuda": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
    }
    text = [f"latentdiff {values['latentdiff']}, Python {values['python']}, {values['platform']}"]
    text.append(
        "libraries: "
        + ", ".join(f"{name} {found or 'not installed'}" for name, found in values["libraries"].items())
    )
    text.append(f"kernels: {values['kernels']}" + (f" ({ops.NATIVE.reason})" if ops.NATIVE.reason else ""))
    if ops.NATIVE.module is not None:
        text.append(
            "extension: {compiler}, torch {torch}, CPU {cpu} of {cpu_sets}, CUDA {cuda}".format(**_facts())
        )
    text.append(
        "cpu: {capability}, {threads} threads, bfloat16 arithmetic: ".format(**values["cpu"])
        + ("yes" if values["cpu"]["bf16"] else "no")
    )
    text.append("cuda: " + (", ".join(values["cuda"]) or "none"))
    result(values, as_json=as_json, text="\n".join(text))
    return 0


def _extension() -> dict[str, Any]:
    """How the native kernels were built and what they use, or why there are none."""
    from latentdiff.ops import NATIVE

    if NATIVE.module is None:
        return {"loaded": False, "reason": NATIVE.reason}
    used = {"cpu": NATIVE.cpu_capability, "cpu_sets": NATIVE.module.cpu_capabilities()}
    return {"loaded": True, **NATIVE.build, **used}


def _facts() -> dict[str, str]:
    """The same as words."""
    facts = _extension()
    cuda = f"{facts['cuda']} for {facts['cuda_architectures']}" if facts["cuda"] else "not built"
    return {**facts, "cpu_sets": ", ".join(facts["cpu_sets"]), "cuda": cuda}


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
