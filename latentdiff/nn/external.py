"""Networks of other libraries behind the calls of this package."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from latentdiff.nn.base_config import ForeignConfig, ForeignVAEConfig


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
