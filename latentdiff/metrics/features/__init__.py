"""Networks that images are compared by, each under its own name, and features in fixed chunks.

The names load on first use: `latentdiff.metrics.features.names`, which a command line lists, needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentdiff.metrics.features.extraction import Features, extract
    from latentdiff.metrics.features.load import feature_network, perceptual_network
    from latentdiff.metrics.features.names import (
        NAMES,
        NEEDS_WEIGHTS,
        PERCEPTUAL_NAMES,
        default_features,
        frechet_name,
        kernel_name,
        perceptual_name,
    )
    from latentdiff.metrics.features.network import CHUNK, FeatureNetwork, PerceptualNetwork
    from latentdiff.metrics.features.perceptual import perceptual_distance, perceptual_loss

__all__ = [
    "CHUNK",
    "NAMES",
    "NEEDS_WEIGHTS",
    "PERCEPTUAL_NAMES",
    "FeatureNetwork",
    "Features",
    "PerceptualNetwork",
    "default_features",
    "extract",
    "feature_network",
    "frechet_name",
    "kernel_name",
    "perceptual_distance",
    "perceptual_loss",
    "perceptual_name",
    "perceptual_network",
]

_HOME = {
    "CHUNK": "network",
    "NAMES": "names",
    "NEEDS_WEIGHTS": "names",
    "PERCEPTUAL_NAMES": "names",
    "FeatureNetwork": "network",
    "Features": "extraction",
    "PerceptualNetwork": "network",
    "default_features": "names",
    "extract": "extraction",
    "feature_network": "load",
    "frechet_name": "names",
    "kernel_name": "names",
    "perceptual_distance": "perceptual",
    "perceptual_loss": "perceptual",
    "perceptual_name": "names",
    "perceptual_network": "load",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use; AttributeError for any other name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
