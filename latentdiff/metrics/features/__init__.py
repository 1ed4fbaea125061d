"""Networks that images are compared by, each under its own name, and features in fixed chunks.

Their names alone need no torch: `latentdiff.metrics.names`.
"""

from latentdiff.metrics.features.load import feature_network, perceptual_network
from latentdiff.metrics.features.network import CHUNK, FeatureNetwork, Features, PerceptualNetwork, extract
from latentdiff.metrics.features.perceptual import perceptual_distance, perceptual_loss
from latentdiff.metrics.names import default_features

__all__ = [
    "CHUNK",
    "FeatureNetwork",
    "Features",
    "PerceptualNetwork",
    "default_features",
    "extract",
    "feature_network",
    "perceptual_distance",
    "perceptual_loss",
    "perceptual_network",
]
