"""The table of networks: all choices, help texts and checks are computed from it.

Imports no torch: a row names its class, which :func:`latentdiff.nn.build` imports.
"""

from typing import Any

from latentdiff.errors import InputError
from latentdiff.nn.base_config import LEAST_SIDE, DenoiserConfig, NetworkConfig
from latentdiff.nn.cnn_config import CNNConfig
from latentdiff.nn.convnext_config import ConvNeXtConfig
from latentdiff.nn.course_unet_config import CourseUNetConfig
from latentdiff.nn.dit_config import DiTConfig
from latentdiff.nn.fields import cross
from latentdiff.nn.mlp_config import MLPConfig
from latentdiff.nn.unet_config import UNetConfig
from latentdiff.nn.vae_config import VAEConfig

# without --network, the first that takes the shape
DENOISERS: tuple[type[DenoiserConfig], ...] = (
    UNetConfig,
    MLPConfig,
    CNNConfig,
    CourseUNetConfig,
    ConvNeXtConfig,
    DiTConfig,
)
KINDS: dict[str, type[DenoiserConfig]] = {
    str(config.model_fields["kind"].default): config for config in DENOISERS
}
NETWORKS: tuple[type[NetworkConfig], ...] = (VAEConfig, *DENOISERS)
CONFIGS = {config.class_name(): config for config in NETWORKS}  # by the names of classes in files


def kinds_with(name: str) -> list[str]:
    """The kinds of denoisers whose configurations have a field."""
    return [kind for kind, config in KINDS.items() if name in config.model_fields]


def network_config(
    kind: str | None, preset: str, shape: tuple[int, ...], *, levels: int, **numbers: Any
) -> DenoiserConfig:
    """Denoiser of a kind (None: the first that takes the shape) for what has ``shape`` and a process of
    ``levels`` timesteps; numbers other than None override those of the preset.

    InputError for a kind that does not take the shape or a number.
    """
    if kind is None:
        kind = next(name for name, config in KINDS.items() if config.takes(shape))
    if kind not in KINDS:
        raise InputError(f"network: expected one of {', '.join(KINDS)}, got {kind!r}")
    config = KINDS[kind]
    if not config.takes(shape):
        others = " or ".join(name for name, other in KINDS.items() if other.takes(shape))
        if len(shape) == 1:
            raise InputError(f"network: expected {others} for a vector of {shape[0]}, got {kind}")
        raise InputError(
            f"network: a {kind} needs sides of {LEAST_SIDE} or more, got {cross(*shape)}; {others} takes any"
        )
    for name in ("depth", "patch", "text"):
        if numbers.get(name) is not None and kind not in kinds_with(name):
            takers, found = ", ".join(kinds_with(name)), "one" if name == "text" else numbers[name]
            raise InputError(f"{name}: expected none for a {kind}, only for {takers}, got {found}")
    if kind in kinds_with("levels"):
        numbers["levels"] = levels
    return config.of_preset(preset, shape=shape, **numbers)
