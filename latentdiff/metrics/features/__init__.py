"""Networks that images are compared by, each under its own name, and features in fixed chunks.

Their names alone need no torch: `latentdiff.metrics.names`.
"""

from latentdiff.metrics.features.load import feature_network, perceptual_network
from latentdiff.metrics.features.network import CHUNK, FeatureNetwork, Features, PerceptualNetwork, extract
from latentdiff.metrics.features.perceptual import perceptual_distance, perceptual_loss
from latentdiff.metrics.names import (
    NAMES,
    NEEDS_WEIGHTS,
    PERCEPTUAL_NAMES,
    default_features,
    frechet_name,
    kernel_name,
    perceptual_name,
)

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
