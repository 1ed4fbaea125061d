"""Networks that know no diffusion mathematics: no schedule, no sampler, no loss.

The configurations need no torch (the command line reads their ranges). Names that need it, and the classes of
the table of networks, are imported on first use.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentdiff.nn.base_config import (
    DenoiserConfig,
    ForeignConfig,
    ForeignVAEConfig,
    NetworkConfig,
    TextConfig,
    text_of,
)
from latentdiff.nn.networks import CONFIGS, DENOISERS, KINDS, kinds_with, network_config
from latentdiff.nn.vae_config import VAEConfig, default_latent, parse_latent

if TYPE_CHECKING:
    from latentdiff.nn.attention import Attend, AttentionSite
    from latentdiff.nn.autoencoder import VAE, Autoencoder, Posterior
    from latentdiff.nn.embeddings import Conditioning, timestep_embedding
    from latentdiff.nn.external import ExternalModel, Origin
    from latentdiff.nn.factory import build, network_class, tensor_shapes
    from latentdiff.nn.text import TextConditioned, TextEncoder

__all__ = [
    "CONFIGS",
    "DENOISERS",
    "KINDS",
    "VAE",
    "Attend",
    "AttentionSite",
    "Autoencoder",
    "Conditioning",
    "DenoiserConfig",
    "ExternalModel",
    "ForeignConfig",
    "ForeignVAEConfig",
    "NetworkConfig",
    "Origin",
    "Posterior",
    "TextConditioned",
    "TextConfig",
    "TextEncoder",
    "VAEConfig",
    "build",
    "default_latent",
    "kinds_with",
    "network_class",
    "network_config",
    "parse_latent",
    "tensor_shapes",
    "text_of",
    "timestep_embedding",
]

_HOMES = {
    "attention": ("Attend", "AttentionSite"),
    "autoencoder": ("VAE", "Autoencoder", "Posterior"),
    "embeddings": ("Conditioning", "timestep_embedding"),
    "external": ("ExternalModel", "Origin"),
    "factory": ("build", "network_class", "tensor_shapes"),
    "text": ("TextConditioned", "TextEncoder"),
}
_LAZY = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a name of the table above on first use (PEP 562), or a class of the table of networks."""
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    for config in DENOISERS:
        if name == config.__name__:
            return config
        if name == config.class_name():
            return __getattr__("network_class")(config)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
