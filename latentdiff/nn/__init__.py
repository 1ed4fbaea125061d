"""Networks that know no diffusion mathematics: no schedule, no sampler, no loss.

The configurations come without torch (the command line reads their ranges); everything that needs torch is
imported when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentdiff.nn.config import (
    CONFIGS,
    CNNConfig,
    ConvNeXtConfig,
    CourseUNetConfig,
    DenoiserConfig,
    ForeignConfig,
    MLPConfig,
    NetConfig,
    NetworkKind,
    UNetConfig,
    class_name,
    read_config,
    text_of,
)
from latentdiff.nn.presets import (
    PRESETS,
    cnn_config,
    convnext_config,
    course_unet_config,
    mlp_config,
    network_config,
    unet_config,
    vae_config,
)
from latentdiff.nn.text_config import TextConfig
from latentdiff.nn.vae_config import ForeignVAEConfig, VAEConfig, default_latent, parse_latent

if TYPE_CHECKING:
    from latentdiff.nn.attention import Attend, AttentionSite
    from latentdiff.nn.autoencoder import VAE, Autoencoder, Posterior
    from latentdiff.nn.cnn import CNNDenoiser
    from latentdiff.nn.convnext import ConvNeXtDenoiser
    from latentdiff.nn.course_unet import CourseUNetDenoiser
    from latentdiff.nn.embeddings import Conditioning, timestep_embedding
    from latentdiff.nn.external import ExternalModel, Origin
    from latentdiff.nn.factory import CLASSES, build, tensor_shapes
    from latentdiff.nn.mlp import MLPDenoiser
    from latentdiff.nn.text import TextConditioned, TextEncoder
    from latentdiff.nn.unet import UNetDenoiser

__all__ = [
    "CLASSES",
    "CONFIGS",
    "PRESETS",
    "VAE",
    "Attend",
    "AttentionSite",
    "Autoencoder",
    "CNNConfig",
    "CNNDenoiser",
    "Conditioning",
    "ConvNeXtConfig",
    "ConvNeXtDenoiser",
    "CourseUNetConfig",
    "CourseUNetDenoiser",
    "DenoiserConfig",
    "ExternalModel",
    "ForeignConfig",
    "ForeignVAEConfig",
    "MLPConfig",
    "MLPDenoiser",
    "NetConfig",
    "NetworkKind",
    "Origin",
    "Posterior",
    "TextConditioned",
    "TextConfig",
    "TextEncoder",
    "UNetConfig",
    "UNetDenoiser",
    "VAEConfig",
    "build",
    "class_name",
    "cnn_config",
    "convnext_config",
    "course_unet_config",
    "default_latent",
    "mlp_config",
    "network_config",
    "parse_latent",
    "read_config",
    "tensor_shapes",
    "text_of",
    "timestep_embedding",
    "unet_config",
    "vae_config",
]

_LAZY = {
    "Attend": "latentdiff.nn.attention",
    "AttentionSite": "latentdiff.nn.attention",
    "Autoencoder": "latentdiff.nn.autoencoder",
    "VAE": "latentdiff.nn.autoencoder",
    "Posterior": "latentdiff.nn.autoencoder",
    "CNNDenoiser": "latentdiff.nn.cnn",
    "ConvNeXtDenoiser": "latentdiff.nn.convnext",
    "CourseUNetDenoiser": "latentdiff.nn.course_unet",
    "Conditioning": "latentdiff.nn.embeddings",
    "timestep_embedding": "latentdiff.nn.embeddings",
    "CLASSES": "latentdiff.nn.factory",
    "build": "latentdiff.nn.factory",
    "tensor_shapes": "latentdiff.nn.factory",
    "ExternalModel": "latentdiff.nn.external",
    "Origin": "latentdiff.nn.external",
    "MLPDenoiser": "latentdiff.nn.mlp",
    "TextConditioned": "latentdiff.nn.text",
    "TextEncoder": "latentdiff.nn.text",
    "UNetDenoiser": "latentdiff.nn.unet",
}


def __getattr__(name: str) -> Any:
    """Import a name of the fixed table above on first use (PEP 562), so that the configurations need no
    torch.
    """
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)
