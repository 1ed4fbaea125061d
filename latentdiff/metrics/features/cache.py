"""Features, and classifiers of them, on disk: named by the hash of images and network, computed once, checked
whenever read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
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
from latentdiff.metrics.classifier import LinearClassifier
from latentdiff.metrics.features.network import FeatureNetwork, Features

FORMAT = 2  # raise it when what is stored, or how features are computed, changes
CLASSIFIER_FORMAT = 1  # of classifiers alone
Stored = tuple[tuple[int, ...], torch.dtype]
"""Shape and type of a tensor."""

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
    """Two files for each set of images and network, or classifier of their features: NAME.safetensors and,
    with its SHA-256, NAME.json.

    Files that are missing, damaged or do not fit count as absent; ``note`` is called with the reason, also
    for files that cannot be written. Nothing here raises for the state of the folder.
    """

    folder: Path
    note: Note = _ignore
    patience: float = 60.0  # seconds to wait for another process that writes the same features

    def load(self, network: FeatureNetwork, images: Tensor) -> Features | None:
        """The features of ``images`` stored before, or None."""
        found = self._load(_identity(network, images), _features_layout(network, images), {"values"})
        if found is None:
            return None
        others = (found.get(name) for name in ("predictions", "confidence", "gradients"))
        return Features(network.name, network.sha256, found["values"], *others)

    def save(self, network: FeatureNetwork, images: Tensor, features: Features) -> None:
        """Store the features of ``images``."""
        names = _features_layout(network, images)
        found = {name: getattr(features, name) for name in names if getattr(features, name) is not None}
        self._save(_identity(network, images), found)

    def load_classifier(
        self, network: FeatureNetwork, images: Tensor, labels: Tensor, classes: int
    ) -> LinearClassifier | None:
        """The classifier of the features of ``images`` with ``labels`` int64 [N] stored before, or None."""
        layout = _classifier_layout(network, len(images), classes)
        identity = _identity(network, images) | _labelling(labels, classes)
        found = self._load(identity, layout, set(layout))
        if found is None:
            return None
        penalty = float(found["penalty"])
        return LinearClassifier(found["weight"], found["bias"], penalty, found["held_out"])

    def save_classifier(
        self,
        network: FeatureNetwork,
        images: Tensor,
        labels: Tensor,
        classes: int,
        classifier: LinearClassifier,
    ) -> None:
        """Store the classifier fitted to the features of ``images`` with ``labels`` int64 [N]."""
        penalty = torch.tensor(classifier.penalty, dtype=torch.float64)
        found = {"weight": classifier.weight, "bias": classifier.bias, "held_out": classifier.held_out}
        self._save(_identity(network, images) | _labelling(labels, classes), found | {"penalty": penalty})

    def _load(
        self, identity: dict[str, Any], layout: Mapping[str, Stored], needed: set[str]
    ) -> dict[str, Tensor] | None:
        """The tensors stored under ``identity``, at least the ``needed`` ones of ``layout``; None without."""
        tensors, facts = self._places(identity)
        if not facts.is_file():
            return None
        try:
            content = read_bytes(tensors, limit=_limit(layout))
            return _checked(read_json(facts), content, identity, layout, needed)
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            reason = " ".join(str(error).split())[:120]
            self.note(f"{tensors}: the cached features are damaged ({reason}); computing them again")
            return None

    def _save(self, identity: dict[str, Any], found: Mapping[str, Tensor]) -> None:
        """Store the tensors under ``identity``."""
        tensors, facts = self._places(identity)
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


def _labelling(labels: Tensor, classes: int) -> dict[str, Any]:
    """What a classifier depends on beside the features."""
    content = labels.contiguous().cpu().numpy().astype("<i8").tobytes()
    return {
        "classifier": CLASSIFIER_FORMAT,
        "labels_sha256": hashlib.sha256(content).hexdigest(),
        "classes": classes,
    }


def _features_layout(network: FeatureNetwork, images: Tensor) -> dict[str, Stored]:
    n = len(images)
    return {
        "values": ((n, network.dim), torch.float64),
        "predictions": ((n,), torch.int64),
        "confidence": ((n,), torch.float64),
        "gradients": ((n,), torch.float64),
    }


def _classifier_layout(network: FeatureNetwork, images: int, classes: int) -> dict[str, Stored]:
    return {
        "weight": ((network.dim, classes), torch.float64),
        "bias": ((classes,), torch.float64),
        "held_out": ((images,), torch.int64),
        "penalty": ((), torch.float64),
    }


def _limit(layout: Mapping[str, Stored]) -> int:
    """Bytes of tensors of that layout, at most."""
    return SPARE + 8 * sum(math.prod(shape) for shape, _ in layout.values())


def _busy(holder: str) -> str:
    return f"{holder} is writing them"


def _checked(
    about: Any, content: bytes, identity: dict[str, Any], layout: Mapping[str, Stored], needed: set[str]
) -> dict[str, Tensor]:
    """The tensors in ``content``; ValueError unless they are, to the bit, those stored for ``identity``."""
    if not isinstance(about, dict) or {key: about.get(key) for key in identity} != identity:
        raise ValueError("its description is of other images or another network")
    if hashlib.sha256(content).hexdigest() != about.get("sha256"):
        raise ValueError("its SHA-256 is another one")
    tensors = tensor_files.loads(content)
    if not needed <= tensors.keys() <= layout.keys():
        raise ValueError(f"it holds {', '.join(sorted(tensors)) or 'nothing'}")
    for name, value in tensors.items():
        shape, dtype = layout[name]
        if value.shape != shape or value.dtype != dtype:
            raise ValueError(
                f"{name} should be {dtype} {list(shape)}, found {value.dtype} {list(value.shape)}"
            )
    return tensors
