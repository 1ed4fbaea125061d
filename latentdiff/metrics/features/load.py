"""A network for its name."""

from __future__ import annotations

from pathlib import Path

import torch

from latentdiff.errors import InputError
from latentdiff.metrics.features.efficientnet import load_efficientnet, load_efficientnet_maps
from latentdiff.metrics.features.inception import load_inception
from latentdiff.metrics.features.lpips import load_lpips
from latentdiff.metrics.features.mnist import load_mnist, load_mnist_maps
from latentdiff.metrics.features.network import FeatureNetwork, PerceptualNetwork
from latentdiff.metrics.names import NAMES, NEEDS_WEIGHTS, PERCEPTUAL_NAMES, SIZED, check_side


def feature_network(
    name: str,
    *,
    weights: Path | None = None,
    side: int | None = None,
    device: torch.device | str = "cpu",
) -> FeatureNetwork:
    """The feature network of that name (`NAMES`), for `extract`.

    weights: a safetensors file, for `inception` alone; the others bring theirs. side: pixels a side of the
    images as `efficientnet-lite0` sees them, a multiple of 32 from 64 to 512 (default: 224), part of its
    name. InputError for an unknown name, a missing extra package, a side that the network does not take, or
    weights that are missing, unwanted or not this network's.
    """
    path = _weights_for(name, weights, names=NAMES)
    sized, place = _side_for(name, side), torch.device(device)
    if path is not None:
        return load_inception(path, place)
    return load_mnist(place) if sized is None else load_efficientnet(place, sized)


def perceptual_network(
    name: str,
    *,
    weights: Path | None = None,
    side: int | None = None,
    device: torch.device | str = "cpu",
) -> PerceptualNetwork:
    """The network of that name (`PERCEPTUAL_NAMES`), for `perceptual_distance`.

    weights: a safetensors file, for `lpips-alex` and `lpips-vgg`; the others bring theirs. side and errors as
    in `feature_network`.
    """
    path = _weights_for(name, weights, names=PERCEPTUAL_NAMES)
    sized, place = _side_for(name, side), torch.device(device)
    if path is not None:
        return load_lpips(name, path, place)
    return load_mnist_maps(place) if sized is None else load_efficientnet_maps(place, sized)


def _side_for(name: str, side: int | None) -> int | None:
    """The side of the images that a network sees; None for one that takes a single size."""
    if name not in SIZED:
        if side is not None:
            raise InputError(f"{name} sees images of one size, expected no side, found {side}")
        return None
    try:
        return SIZED[name] if side is None else check_side(side)
    except ValueError as error:
        raise InputError(f"`side` of {name}: {error}") from None


def _weights_for(name: str, weights: Path | None, *, names: tuple[str, ...]) -> Path | None:
    """The weights file that a network needs; None for one that brings its own."""
    if name not in names:
        raise InputError(f"expected a feature network of {', '.join(names)}, found {name!r:.60}")
    if name not in NEEDS_WEIGHTS:
        if weights is not None:
            raise InputError(f"{name} brings its own weights, expected no weights file, found {weights}")
        return None
    if weights is None:
        raise InputError(
            f"{name}: needs its weights as a safetensors file; docs/features.md says where to get them"
        )
    return Path(weights)
