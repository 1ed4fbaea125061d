"""Networks of other libraries behind the calls of this package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from latentdiff.nn.base_config import ForeignConfig, ForeignVAEConfig

PIXELS = 2**19  # of images at once, of networks that compute at the full resolution: 8 of 256x256


@dataclass(frozen=True)
class Origin:
    """A network's ``library``, the name of its class there and the ``values`` of its own configuration."""

    library: str
    name: str
    values: Mapping[str, Any]


class ExternalModel(nn.Module):
    """A network that another library made: ``inner`` keeps its weights under its own names."""

    config: ForeignConfig | ForeignVAEConfig
    inner: Any

    def __init__(self, inner: nn.Module, origin: Origin) -> None:
        super().__init__()
        self.inner, self.origin = inner, origin


def images_at_once(module: nn.Module, most: int) -> int:
    """How many images a network computes at once without a gradient: ``most``, or fewer if they are large and
    it is another library's.
    """
    if not isinstance(module, ExternalModel):
        return most
    config = module.config
    height, width = (config.image if isinstance(config, ForeignVAEConfig) else config.shape)[1:]
    return max(1, min(most, PIXELS // (height * width)))
