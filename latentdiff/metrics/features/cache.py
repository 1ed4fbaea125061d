"""Features on disk, named by the hash of images and network: computed once, checked whenever read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.files import paths
from latentdiff.files import tensors as tensor_files
from latentdiff.files.lock import locked
from latentdiff.files.untrusted import SPARE, read_bytes, read_json
from latentdiff.files.writing import write_whole
from latentdiff.metrics.features.network import FeatureNetwork, Features

FORMAT = 1  # raise it when what is stored, or how features are computed, changes
DTYPES = {"values": torch.float64, "predictions": torch.int64, "confidence": torch.float64}

Note = Callable[[str], None]


def cache_folder() -> Path:
    """$LATENTDIFF_CACHE, else ~/.cache/latentdiff/features; InputError without a home folder."""
    return paths.cache_folder("LATENTDIFF_CACHE", "features")


def image_hash(images: Tensor) -> str:
    """SHA-256 (hex) of the shape and the pixels of images uint8 [N, C, H, W]."""
    digest = hashlib.sha256(repr(tuple(images.shape)).encode())
    digest.update(images.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def _ignore(message: str) -> None:
    """Default of ``note``: does nothing."""


@dataclass(frozen=True)
class FeatureCache:
    """Two files for each set of images and network: NAME.safetensors and, with its SHA-256, NAME.json.

    Files that are missing, damaged or do not fit count as absent; ``note`` is called with the reason, also
    for files that cannot be written. Nothing here raises for the state of the folder.
    """

    folder: Path
    note: Note = _ignore
    patience: float = 60.0  # seconds to wait for another process that writes the same features

    def load(self, network: FeatureNetwork, images: Tensor) -> Features | None:
        """The features of ``images`` stored before, or None."""
        identity = _identity(network, images)
        tensors, facts = self._places(identity)
        if not facts.is_file():
            return None
        try:
            return _checked(read_json(facts), read_bytes(tensors, limit=_limit(identity)), identity)
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:120]
            self.note(f"{tensors}: the cached features are damaged ({reason}); computing them again")
            return None

    def save(self, network: FeatureNetwork, images: Tensor, features: Features) -> None:
        """Store the features of ``images``."""
        identity = _identity(network, images)
        tensors, facts = self._places(identity)
        found = {name: getattr(features, name) for name in DTYPES if getattr(features, name) is not None}
        content = tensor_files.dumps({name: value.contiguous() for name, value in found.items()})
        about = identity | {"sha256": hashlib.sha256(content).hexdigest()}
        try:
            lock = self.folder / f".{tensors.stem}.lock"
            with locked(lock, _busy, patience=self.patience):  # one writer of both files
                for place in (tensors, facts):
                    if place.is_symlink() or not (place.is_file() or place.is_dir()):
                        place.unlink(missing_ok=True)  # what a link leads to is left alone
                write_whole(tensors, lambda path: path.write_bytes(content))
                write_whole(
                    facts, lambda path: path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
                )
        except (InputError, OSError) as error:
            self.note(f"the features are not cached: {error}")

    def _places(self, identity: dict[str, Any]) -> tuple[Path, Path]:
        name = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
        return self.folder / f"{name}.safetensors", self.folder / f"{name}.json"


def _identity(network: FeatureNetwork, images: Tensor) -> dict[str, Any]:
    """Everything that features depend on."""
    return {
        "format": FORMAT,
        "network": network.name,
        "network_sha256": network.sha256,
        "images_sha256": image_hash(images),
        "images": len(images),
        "dim": network.dim,
    }


def _limit(identity: dict[str, Any]) -> int:
    """Bytes of the features of so many images, at most."""
    return SPARE + 8 * int(identity["images"]) * (int(identity["dim"]) + len(DTYPES))


def _busy(holder: str) -> str:
    return f"{holder} is writing them"


def _checked(about: Any, content: bytes, identity: dict[str, Any]) -> Features:
    """The features in ``content``; ValueError unless they are, to the bit, those stored for ``identity``."""
    if not isinstance(about, dict) or {key: about.get(key) for key in identity} != identity:
        raise ValueError("its description is of other images or another network")
    if hashlib.sha256(content).hexdigest() != about.get("sha256"):
        raise ValueError("its SHA-256 is another one")
    tensors = tensor_files.loads(content)
    n, dim = identity["images"], identity["dim"]
    if not {"values"} <= tensors.keys() <= DTYPES.keys():
        raise ValueError(f"it holds {', '.join(sorted(tensors)) or 'nothing'}")
    for name, value in tensors.items():
        shape = (n, dim) if name == "values" else (n,)
        if value.shape != shape or value.dtype != DTYPES[name]:
            raise ValueError(
                f"{name} should be {DTYPES[name]} {list(shape)}, found {value.dtype} {list(value.shape)}"
            )
    return Features(
        identity["network"],
        identity["network_sha256"],
        tensors["values"],
        tensors.get("predictions"),
        tensors.get("confidence"),
    )
