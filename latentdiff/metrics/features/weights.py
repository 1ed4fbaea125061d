"""Weights files: read without trust, named by what is known of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.files.tensors import loads
from latentdiff.files.untrusted import SPARE, RegularFile, tensors_header

PUBLISHED = {
    "inception": ("6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",),
    "lpips-alex": (
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    ),
    "lpips-vgg": (
        "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
        "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
    ),
}
"""SHA-256 of the files that the networks' authors published: the network or trunk, and LPIPS's linear weights
(v0.1).
"""

# keys of the stamp that a conversion leaves in the metadata
SOURCES, CONTENT = "sources_sha256", "tensors_sha256"
PICKLES = {".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle"}


@dataclass(frozen=True, eq=False)
class Weights:
    """``tensors`` in float32; ``sha256`` of the file; ``stamped``: as converted from the published files."""

    tensors: dict[str, Tensor]
    sha256: str
    stamped: bool

    def named(self, network: str) -> str:
        """The network's name; with the file's hash unless its weights are known to be the published ones."""
        return network if self.stamped else f"{network} (weights {self.sha256[:12]})"


def content_sha256(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def stamp(network: str, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The metadata of a file converted from the published ones."""
    return {SOURCES: " ".join(PUBLISHED[network]), CONTENT: content_sha256(tensors)}


def read_weights(path: Path, shapes: Mapping[str, torch.Size], network: str) -> Weights:
    """The weights of ``network`` from a safetensors file; InputError, one line, where it is anything else.

    Names and shapes have to be those of ``shapes`` exactly, values finite; counters (``num_batches_tracked``)
    are ignored.
    """
    content = _read(path, limit=SPARE + sum(8 * shape.numel() for shape in shapes.values()), network=network)
    try:
        stored = loads(content)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected a safetensors file, found {' '.join(str(error).split())[:120]}"
        ) from None
    tensors = {name: value for name, value in stored.items() if not name.endswith("num_batches_tracked")}
    _check(tensors, shapes, f"{path}: not the weights of {network}")
    stamped = network in PUBLISHED and _metadata(content) == stamp(network, stored)
    sha256 = hashlib.sha256(content).hexdigest()
    return Weights({name: value.float() for name, value in tensors.items()}, sha256, stamped)


def _read(path: Path, *, limit: int, network: str) -> bytes:
    if path.suffix.lower() in PICKLES:
        raise InputError(
            f"{path}: expected a safetensors file, found {path.suffix}, which could run code; convert it"
            f" once: python scripts/convert_feature_weights.py {network} FILES --out OUT.safetensors"
            " (docs/features.md)"
        )
    file = RegularFile(path)
    try:
        content = file.read(limit)
        tensors_header(file)
    except InputError as error:
        raise InputError(f"{error}; expected a safetensors file with the weights of {network}") from None
    return content


def _check(tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], problem: str) -> None:
    missing, unknown = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or unknown:
        what = f"lacks {missing[0]!a}" if missing else f"has an unexpected {unknown[0]!a:.80}"
        raise InputError(f"{problem}: {what} ({len(shapes)} tensors expected, {len(tensors)} found)")
    for name, shape in shapes.items():
        value = tensors[name]
        if value.shape != shape or not value.is_floating_point():
            raise InputError(
                f"{problem}: expected {name} {list(shape)}, found {value.dtype} {list(value.shape)}"
            )
        if not bool(torch.isfinite(value.float()).all()):
            raise InputError(f"{problem}: {name} holds values that are not finite")


def _metadata(content: bytes) -> object:
    """The metadata of a file that safetensors has read: its header is valid JSON."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]).get("__metadata__")
