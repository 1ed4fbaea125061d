"""Runs of version 0.1, from before the package's rooms and words changed, without the megabytes of their
weights.

`version_0_1/` holds the JSON files, configs and pictures of runs that version 0.1 trained (`train-vae`,
`train-denoiser` with each network, `--text`, `train-cold`, `encode`; T = 20, widths 8 and 16, on
`write_tiny`), and in `tensors.json.gz` the name, shape and dtype of every tensor. The values are drawn from
their names. `expected.json` holds what version 0.1 itself sampled from these weights.
"""

from __future__ import annotations

import gzip
import json
import shutil
import zlib
from pathlib import Path

import numpy as np
import torch
from helpers import reseal, write_tiny
from safetensors.torch import save_file

FOLDER = Path(__file__).with_name("version_0_1")
RUNS = ("mlp", "grid", "unet", "cnn", "course", "convnext", "text")


def drawn(name: str, shape: list[int], dtype: str) -> torch.Tensor:
    """Values of a tensor: small, other ones for each name, the same on every machine; ones scale, zeros
    shift.
    """
    if dtype != "float32":
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    generator = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    values = torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
    if name.startswith("adam."):
        return values.square() * 1e-4
    fan = max(1, int(np.prod(shape[1:])))
    return values * 0.5 / fan**0.5 + (len(shape) == 1 and name.endswith("weight"))


def unpack(folder: Path) -> Path:
    """The folder with `runs/`, `latents/`, pictures and the data of the trainings, as version 0.1 left it."""
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    write_tiny(folder / "tiny.npz")
    shapes = json.loads(gzip.decompress((FOLDER / "tensors.json.gz").read_bytes()))
    for file, tensors in shapes.items():
        found = {name: drawn(name, shape, dtype) for name, (shape, dtype) in tensors.items()}
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(found, folder / file, metadata={"format": "pt"})
    for manifest in sorted(folder.rglob("manifest.json")):
        reseal(manifest.parent)
    return folder
