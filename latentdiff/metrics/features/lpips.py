"""The networks `lpips-alex` and `lpips-vgg`: trunks and learned weights of LPIPS, which the user brings.

Zhang et al. 2018, version 0.1. A weights file holds the trunk under torchvision's names
(``features.0.weight``, ...) and the linear weights under the authors' (``lin0.model.1.weight``, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from latentdiff.errors import InputError
from latentdiff.metrics.features.network import PerceptualNetwork
from latentdiff.metrics.features.pixels import rgb
from latentdiff.metrics.features.weights import read_weights

CHUNK = 10  # images at once, fewer where they are large
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in [-1, 1]


@dataclass(frozen=True)
class Trunk:
    """A trunk's layers: (channels, kernel, stride, padding) of a convolution with ReLU, or (kernel, stride)
    of a pooling.

    ``taps``: the ReLUs whose maps are compared, as indices of the layers with each ReLU counted; ``smallest``
    side it takes.
    """

    layers: tuple[tuple[int, ...], ...]
    taps: tuple[int, ...]
    smallest: int

    def channels(self) -> tuple[int, ...]:
        """Channels at each tap."""
        modules = list(self.build())
        convolutions = [modules[tap - 1] for tap in self.taps]
        return tuple(layer.out_channels for layer in convolutions if isinstance(layer, nn.Conv2d))

    def build(self) -> nn.Sequential:
        """The layers up to the last tap, numbered as torchvision numbers them; without values."""
        modules: list[nn.Module] = []
        inputs = 3
        with torch.device("meta"):
            for layer in self.layers:
                if len(layer) == 2:
                    modules.append(nn.MaxPool2d(*layer))
                else:
                    outputs, kernel, stride, padding = layer
                    modules += [nn.Conv2d(inputs, outputs, kernel, stride, padding), nn.ReLU()]
                    inputs = outputs
        return nn.Sequential(*modules)


def _stage(channels: int, count: int) -> tuple[tuple[int, ...], ...]:
    return ((channels, 3, 1, 1),) * count


_HALVE = (2, 2)
TRUNKS = {
    "lpips-alex": Trunk(
        ((64, 11, 4, 2), (3, 2), (192, 5, 1, 2), (3, 2), (384, 3, 1, 1), *_stage(256, 2)),
        taps=(1, 4, 7, 9, 11),
        smallest=31,
    ),
    "lpips-vgg": Trunk(
        (
            *(*_stage(64, 2), _HALVE, *_stage(128, 2), _HALVE, *_stage(256, 3), _HALVE),
            *(*_stage(512, 3), _HALVE, *_stage(512, 3)),
        ),
        taps=(3, 8, 15, 22, 29),
        smallest=16,
    ),
}


def weight_shapes(name: str) -> dict[str, torch.Size]:
    """Names and shapes of the tensors of a weights file."""
    trunk = TRUNKS[name]
    shapes = {f"features.{key}": value.shape for key, value in trunk.build().state_dict().items()}
    for place, channels in enumerate(trunk.channels()):
        shapes[f"lin{place}.model.1.weight"] = torch.Size([1, channels, 1, 1])
    return shapes


def load_lpips(name: str, path: Path, device: torch.device) -> PerceptualNetwork:
    """An LPIPS network with the weights of a safetensors file; images keep their size.

    InputError where the file does not hold this network, or, later, for images that are too small for it.
    """
    trunk = TRUNKS[name]
    weights = read_weights(path, weight_shapes(name), name)
    layers = trunk.build()
    own = {
        key.removeprefix("features."): value
        for key, value in weights.tensors.items()
        if key.startswith("features.")
    }
    layers.load_state_dict(own, assign=True)
    layers.eval().requires_grad_(requires_grad=False).to(device)
    linear = [weights.tensors[f"lin{place}.model.1.weight"].reshape(-1) for place in range(len(trunk.taps))]
    shift, scale = (torch.tensor(values, device=device)[:, None, None] for values in (SHIFT, SCALE))

    def maps(images: Tensor) -> list[Tensor]:
        if min(images.shape[-2:]) < trunk.smallest:
            found = f"{images.shape[-2]} x {images.shape[-1]}"
            raise InputError(
                f"{name}: expected images of at least {trunk.smallest} x {trunk.smallest}, found {found}"
            )
        x = (rgb(images) / 127.5 - 1 - shift) / scale
        found_maps = []
        for index, layer in enumerate(layers):
            x = layer(x)
            if index in trunk.taps:
                found_maps.append(x)
        return found_maps

    return PerceptualNetwork(weights.named(name), weights.sha256, device, maps, tuple(linear), CHUNK)
