"""Versions, hardware and data of a study, for results.json and the page."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from latentdiff import ops
from latentdiff._version import __version__
from latentdiff.data import Dataset
from latentdiff.files.system import processor_name

LIBRARIES = ("torch", "numpy", "safetensors", "pydantic", "Pillow", "matplotlib")


def versions() -> dict[str, str]:
    """Versions of this package and of the libraries it uses."""
    return {"latentdiff": __version__, "python": platform.python_version()} | {
        name: _version(name) for name in LIBRARIES
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def hardware(device: torch.device) -> dict[str, Any]:
    """The processor (and GPU) that computed."""
    return {
        "cpu": processor_name(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "kernels": ops.implementation(),
        "platform": platform.platform(),
    }


def described(data: Dataset) -> dict[str, Any]:
    """A data set as numbers: sizes, shape, classes and the fingerprint of its training images."""
    return {
        "name": data.name,
        "train": len(data.train),
        "val": len(data.val),
        "test": len(data.test),
        "image": list(data.shape),
        "classes": data.num_classes,
        "fingerprint": data.fingerprint(),
    }
