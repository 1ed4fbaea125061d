"""Models as folders that diffusers loads: its own networks and processes, nothing else."""

from __future__ import annotations

from typing import Any, Literal

import diffusers
from torch import nn

from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.diffusion.schedule import BETAS, betas_of
from latentdiff.errors import InputError
from latentdiff.nn import Autoencoder, ExternalModel, NetworkConfig
from latentdiff.pipeline.checkpoint.diffusers_folder import CONFIG, LIBRARY, SCHEDULER_CONFIG, WEIGHTS
from latentdiff.pipeline.checkpoint.folder import INDEX, Writer
from latentdiff.pipeline.codec import Codec, IdentityCodec
from latentdiff.pipeline.diffusers.fused import PREDICTIONS
from latentdiff.pipeline.diffusers.networks import KINDS

Sampler = Literal["ddim", "ddpm"]


def export_pipeline(
    writer: Writer, network: nn.Module, process: DiffusionConfig, codec: Codec, *, sampler: Sampler
) -> None:
    """Write a DDIMPipeline or DDPMPipeline of a UNet2DModel on pixels.

    InputError for another network, a latent model, pixels of another scale and processes that the scheduler
    does not have.
    """
    inner = _foreign(network)
    if not isinstance(codec, IdentityCodec):
        raise InputError(
            "the model cannot be exported: it works on latents, the pipelines of UNet2DModel on pixels"
        )
    if (codec.scale, codec.shift) != (1, 0):
        raise InputError(
            f"the model cannot be exported: its pixels are scaled by {codec.scale:g} and shifted by"
            f" {codec.shift:g}, those of UNet2DModel's pipelines by 1 and 0"
        )
    _write(writer, "unet/", inner)
    export_scheduler(writer, process, sampler=sampler, folder="scheduler/")
    name = sampler.upper()
    parts = {"unet": [LIBRARY, inner.origin.name], "scheduler": [LIBRARY, f"{name}Scheduler"]}
    writer.json(
        INDEX, {"_class_name": f"{name}Pipeline", "_diffusers_version": diffusers.__version__, **parts}
    )


def export_network(writer: Writer, network: nn.Module) -> None:
    """Write a network that came from diffusers, by itself; InputError for a network of this package."""
    _write(writer, "", _foreign(network))


def export_scheduler(writer: Writer, process: DiffusionConfig, *, sampler: Sampler, folder: str = "") -> None:
    """Write the DDIMScheduler or DDPMScheduler of a process, with diffusers' defaults for the rest.

    InputError for a process that the scheduler does not have.
    """
    cls: Any = diffusers.DDIMScheduler if sampler == "ddim" else diffusers.DDPMScheduler
    about = {"_class_name": cls.__name__, "_diffusers_version": diffusers.__version__}
    config = cls(**scheduler_values(process, sampler)).config
    writer.json(f"{folder}{SCHEDULER_CONFIG}", {**about, **config})


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


def scheduler_values(process: DiffusionConfig, sampler: Sampler) -> dict[str, Any]:
    """The configuration of the DDIMScheduler or DDPMScheduler of a process; InputError if there is none."""
    if process.prediction not in PREDICTIONS.values():
        raise InputError(
            f"the process cannot be exported: it predicts {process.prediction}, the schedulers of diffusers"
            f" read {', '.join(PREDICTIONS.values())}"
        )
    if process.schedule.kind not in BETAS:
        raise InputError(
            f"the process cannot be exported: its schedule is {process.schedule.kind}, the schedulers of"
            " diffusers that this package writes (DDIM, DDPM) have variance-preserving ones"
        )
    if process.sigma_data:
        raise InputError(
            "the process cannot be exported: its network is preconditioned (sigma_data"
            f" {process.sigma_data:g}), the schedulers of diffusers read x_0 itself; train with --sigma-data"
            " 0, or with --prediction v, to export"
        )
    values: dict[str, Any] = {
        "num_train_timesteps": process.schedule.T,
        "prediction_type": next(name for name, ours in PREDICTIONS.items() if ours == process.prediction),
        "clip_sample": process.clip is not None,
        "clip_sample_range": process.clip or 1.0,
        "rescale_betas_zero_snr": process.schedule.zero_terminal_snr,
        "timestep_spacing": "trailing",
    }
    betas = betas_of(process.schedule)
    name = next((name for name, kind in KINDS.items() if kind == process.schedule.kind), None)
    if name is None:
        values["trained_betas"] = betas.tolist()
    else:
        values["beta_schedule"] = name
    if name in ("linear", "scaled_linear"):
        values |= {"beta_start": float(betas[0]), "beta_end": float(betas[-1])}
    if sampler == "ddpm":
        learned = process.variance == "learned"
        values["variance_type"] = "learned_range" if learned else f"fixed_{process.noise}"
    return values
