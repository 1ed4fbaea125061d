"""The network `mnist`: a small classifier of handwritten digits, and the weights that the package brings."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files

import torch
from torch import Tensor, nn

from latentdiff.errors import InputError
from latentdiff.files.tensors import loads
from latentdiff.metrics.features.network import FeatureNetwork, PerceptualNetwork, uniform_weights
from latentdiff.metrics.features.pixels import grey, resized

SIDE, DIM, CLASSES = 28, 96, 10
CHANNELS = (24, 32, 56, 56, 56)  # of the blocks' outputs
MEAN, STD = 0.1307, 0.3081  # of the pixels of the MNIST training images, in [0, 1]


class Block(nn.Sequential):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


class DigitNetwork(nn.Module):
    """Grey digits, white on black, float [N, 1, 28, 28] in [0, 1] -> features [N, 96] in (-1, 1) and logits
    [N, 10].

    Five convolutions, then a linear map whose outputs are normalised to unit variance and bounded by z /
    sqrt(1 + z^2): not saturated, so that a mean and a covariance describe them well.
    scripts/train_mnist_features.py trains them to tell the classes and, linearly, the image at 14 x 14: they
    keep slant, thickness and position, too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                Block(1, 24, 5, stride=2, padding=2),  # 14 x 14
                Block(24, 32, 3, padding=1),
                Block(32, 56, 3, stride=2, padding=1),  # 7 x 7
                Block(56, 56, 3, padding=1),
                Block(56, 56, 3, stride=2),  # 3 x 3
            ]
        )
        self.project = nn.Linear(56 * 3 * 3, DIM, bias=False)
        self.normalise = nn.BatchNorm1d(DIM, affine=False)
        self.classify = nn.Linear(DIM, CLASSES)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The output of each block, [N, C, H, W]."""
        x = (images - MEAN) / STD
        found = []
        for block in self.blocks:
            x = block(x)
            found.append(x)
        return found

    def features(self, images: Tensor) -> Tensor:
        """Float [N, 96] in (-1, 1)."""
        z: Tensor = self.normalise(self.project(self.maps(images)[-1].flatten(1)))
        return z * torch.rsqrt(1 + z.square())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(features [N, 96], logits [N, 10])."""
        features = self.features(images)
        return features, self.classify(features)


def _pretrained(device: torch.device) -> tuple[DigitNetwork, str]:
    """The network with the package's weights, and their SHA-256; InputError where the files are damaged."""
    folder = files("latentdiff.metrics.features")
    try:
        content = folder.joinpath("mnist.safetensors").read_bytes()
        expected = json.loads(folder.joinpath("mnist.json").read_bytes())["sha256"]
        found = hashlib.sha256(content).hexdigest()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"mnist in the package is missing or damaged ({error}); install latentdiff again"
        ) from error
    if found != expected:
        raise InputError(
            f"mnist in the package: expected SHA-256 {expected}, found {found}; install latentdiff again"
        )
    network = DigitNetwork()
    network.load_state_dict(loads(content))
    return network.eval().requires_grad_(requires_grad=False).to(device), found


def _prepared(images: Tensor) -> Tensor:
    return resized(grey(images), SIDE, "bilinear")


def load_mnist(device: torch.device) -> FeatureNetwork:
    """`mnist`: 96 features of digits, white on black.

    uint8 images become grey (RGB by its luma) in [0, 1], resized to 28 x 28 by bilinear interpolation with
    antialiasing.
    """
    network, sha256 = _pretrained(device)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network(_prepared(images))
        return features, logits

    return FeatureNetwork("mnist", sha256, DIM, CLASSES, device, run, class_names=tuple("0123456789"))


def load_mnist_maps(device: torch.device) -> PerceptualNetwork:
    """The outputs of the five blocks, prepared as in `load_mnist`; w = 1."""
    network, sha256 = _pretrained(device)
    return PerceptualNetwork(
        "mnist", sha256, device, lambda images: network.maps(_prepared(images)), uniform_weights(CHANNELS)
    )
