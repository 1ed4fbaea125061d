"""The network `inception`: Inception-v3 as the Fréchet Inception Distance uses it, with weights that the user
brings.

Tensor names and arithmetic are those of the published conversion of the TensorFlow graph (pytorch-fid,
torch-fidelity; Apache-2.0): average pooling does not count its padding, the last block pools by the maximum,
1008 classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latentdiff.metrics.features.network import FeatureNetwork
from latentdiff.metrics.features.pixels import resized_like_tensorflow1, rgb
from latentdiff.metrics.features.weights import read_weights

NAME, SIDE, DIM, CLASSES = "inception", 299, 2048, 1008
CHUNK = 5  # images at once: on CPUs the maps stay in the cache


class Step(NamedTuple):
    """A convolution: output channels, kernel (height, width), stride; ``fork``: (1, 3) beside (3, 1)."""

    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    fork: bool = False


def square(channels: int, side: int, *, stride: int = 1) -> Step:
    """A step with a square kernel."""
    return Step(channels, (side, side), stride)


class Unit(nn.Module):
    """Convolution, batch normalisation, ReLU; padded to keep the size unless it strides or not ``padded``."""

    def __init__(self, inputs: int, step: Step, *, padded: bool = True) -> None:
        super().__init__()
        height, width = step.kernel
        padding = (height // 2, width // 2) if padded and step.stride == 1 else (0, 0)
        self.conv = nn.Conv2d(
            inputs, step.channels, step.kernel, stride=step.stride, padding=padding, bias=False
        )
        self.bn = nn.BatchNorm2d(step.channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Branches, and a pooled one: "average", "maximum" (stride 1, then 1 x 1) or "halve" (stride 2)."""

    def __init__(
        self, inputs: int, branches: Mapping[str, Sequence[Step]], *, pool: str, project: int = 0
    ) -> None:
        super().__init__()
        self.pool = pool
        self.chains: list[list[tuple[str, ...]]] = []  # names of units: of each branch, of each step in it
        for branch, steps in branches.items():
            channels, chain = inputs, []
            for place, step in enumerate(steps, start=1):
                name = branch if len(steps) == 1 else f"{branch}_{place}"
                wide, tall = Step(step.channels, (1, 3)), Step(step.channels, (3, 1))
                units = {f"{name}a": wide, f"{name}b": tall} if step.fork else {name: step}
                for unit, own in units.items():
                    self.add_module(unit, Unit(channels, own))
                chain.append(tuple(units))
                channels = step.channels
            self.chains.append(chain)
        if project:
            self.branch_pool = Unit(inputs, Step(project))

    def forward(self, x: Tensor) -> Tensor:
        found = [self._branch(chain, x) for chain in self.chains]
        if self.pool == "halve":
            return torch.cat([*found, F.max_pool2d(x, 3, 2)], 1)
        average = self.pool == "average"
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) if average else F.max_pool2d(x, 3, 1, 1)
        return torch.cat([*found, self.branch_pool(pooled)], 1)

    def _branch(self, chain: Sequence[tuple[str, ...]], x: Tensor) -> Tensor:
        for names in chain:
            outputs = [self.get_submodule(name)(x) for name in names]
            x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, 1)
        return x


def block_a(inputs: int, project: int) -> Mixed:
    double = [Step(64), square(96, 3), square(96, 3)]
    branches = {"branch1x1": [Step(64)], "branch5x5": [Step(48), square(64, 5)], "branch3x3dbl": double}
    return Mixed(inputs, branches, pool="average", project=project)


def block_b(inputs: int) -> Mixed:
    double = [Step(64), square(96, 3), square(96, 3, stride=2)]
    return Mixed(inputs, {"branch3x3": [square(384, 3, stride=2)], "branch3x3dbl": double}, pool="halve")


def block_c(inputs: int, c: int) -> Mixed:
    wide, tall = (1, 7), (7, 1)
    branches = {
        "branch1x1": [Step(192)],
        "branch7x7": [Step(c), Step(c, wide), Step(192, tall)],
        "branch7x7dbl": [Step(c), Step(c, tall), Step(c, wide), Step(c, tall), Step(192, wide)],
    }
    return Mixed(inputs, branches, pool="average", project=192)


def block_d(inputs: int) -> Mixed:
    branches = {
        "branch3x3": [Step(192), square(320, 3, stride=2)],
        "branch7x7x3": [Step(192), Step(192, (1, 7)), Step(192, (7, 1)), square(192, 3, stride=2)],
    }
    return Mixed(inputs, branches, pool="halve")


def block_e(inputs: int, pool: str) -> Mixed:
    branches = {
        "branch1x1": [Step(320)],
        "branch3x3": [Step(384), Step(384, fork=True)],
        "branch3x3dbl": [Step(448), square(384, 3), Step(384, fork=True)],
    }
    return Mixed(inputs, branches, pool=pool, project=192)


class InceptionNetwork(nn.Module):
    """Float [N, 3, 299, 299] in [-1, 1) -> features [N, 2048] and logits [N, 1008] (Szegedy et al. 2016)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Unit(3, square(32, 3, stride=2))
        self.Conv2d_2a_3x3 = Unit(32, square(32, 3), padded=False)
        self.Conv2d_2b_3x3 = Unit(32, square(64, 3))
        self.Conv2d_3b_1x1 = Unit(64, Step(80))
        self.Conv2d_4a_3x3 = Unit(80, square(192, 3), padded=False)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = block_a(192, 32), block_a(256, 64), block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b, self.Mixed_6c = block_c(768, 128), block_c(768, 160)
        self.Mixed_6d, self.Mixed_6e = block_c(768, 160), block_c(768, 192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b, self.Mixed_7c = block_e(1280, "average"), block_e(2048, "maximum")
        self.fc = nn.Linear(DIM, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(x, 3, 2)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(x, 3, 2))))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        features = x.mean((2, 3))
        return features, self.fc(features)


def weight_shapes() -> dict[str, torch.Size]:
    """Names and shapes of the tensors of a weights file."""
    with torch.device("meta"):
        state = InceptionNetwork().state_dict()
    return {name: value.shape for name, value in state.items() if value.is_floating_point()}


def load_inception(path: Path, device: torch.device) -> FeatureNetwork:
    """`inception` with the weights of a safetensors file.

    uint8 images are resized to 299 x 299 as in TensorFlow 1 and mapped to (x - 128) / 128. InputError where
    the file does not hold this network.
    """
    weights = read_weights(path, weight_shapes(), NAME)
    with torch.device("meta"):
        network = InceptionNetwork()
    network.load_state_dict(weights.tensors, assign=True)
    network.eval().requires_grad_(requires_grad=False).to(device)

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        features, logits = network((resized_like_tensorflow1(rgb(images), SIDE) - 128) / 128)
        return features, logits

    return FeatureNetwork(weights.named(NAME), weights.sha256, DIM, CLASSES, device, run, CHUNK)
