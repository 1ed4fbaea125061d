"""Models as folders that diffusers loads: its own networks and processes, nothing else."""

from __future__ import annotations

import diffusers
from torch import nn

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.errors import InputError
from latentdiff.nn import Autoencoder, ExternalModel, NetworkConfig
from latentdiff.pipeline.checkpoint.diffusers_folder import CONFIG, LIBRARY, SCHEDULER_CONFIG, WEIGHTS
from latentdiff.pipeline.checkpoint.folder import INDEX, Writer
from latentdiff.pipeline.codec import Codec, IdentityCodec
from latentdiff.pipeline.diffusers.processes import Sampler, scheduler_file


def export_pipeline(
    writer: Writer, network: nn.Module, process: DiffusionConfig, codec: Codec, *, sampler: Sampler
) -> None:
    """A DDIMPipeline or DDPMPipeline of a UNet2DModel on pixels.

    InputError names the first thing that is none.
    """
    inner = _foreign(network)
    if not isinstance(codec, IdentityCodec):
        raise InputError(
            "the model cannot be exported: it works on latents, the pipelines of UNet2DModel on pixels"
        )
    if codec.scale != 1:
        raise InputError(
            f"the model cannot be exported: its pixels are scaled by {codec.scale:g}, those of UNet2DModel's"
            " pipelines by 1"
        )
    _write(writer, "unet/", inner)
    export_scheduler(writer, process, sampler=sampler, folder="scheduler/")
    name = sampler.upper()
    parts = {"unet": [LIBRARY, inner.origin.name], "scheduler": [LIBRARY, f"{name}Scheduler"]}
    writer.json(
        INDEX, {"_class_name": f"{name}Pipeline", "_diffusers_version": diffusers.__version__, **parts}
    )


def export_network(writer: Writer, network: nn.Module) -> None:
    """A network that came from diffusers, by itself.

    InputError names the first thing in which another one differs.
    """
    _write(writer, "", _foreign(network))


def export_scheduler(writer: Writer, process: DiffusionConfig, *, sampler: Sampler, folder: str = "") -> None:
    """The DDIMScheduler or DDPMScheduler of a process. InputError where diffusers has none."""
    writer.json(f"{folder}{SCHEDULER_CONFIG}", scheduler_file(process, sampler))


def _foreign(network: nn.Module) -> ExternalModel:
    if isinstance(network, ExternalModel):
        return network
    name, config = type(network).__name__, getattr(network, "config", None)
    reason = config.difference if isinstance(config, NetworkConfig) else "it did not come from diffusers"
    hint = "" if isinstance(network, Autoencoder) else "; --part scheduler exports the process alone"
    raise InputError(f"the {name} cannot be exported: {reason}{hint}")


def _write(writer: Writer, folder: str, network: ExternalModel) -> None:
    writer.json(f"{folder}{CONFIG}", network.origin.values)
    writer.tensors(f"{folder}{WEIGHTS}", network.inner.state_dict())
