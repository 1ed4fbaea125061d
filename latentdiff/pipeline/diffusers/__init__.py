"""diffusers, both ways: its models here, ours there, and its schedulers on the fused kernels."""

from diffusers import SchedulerMixin

from latentdiff.pipeline.diffusers.export import export_network, export_pipeline, export_scheduler
from latentdiff.pipeline.diffusers.fused_ddim import FusedDDIMScheduler
from latentdiff.pipeline.diffusers.fused_ddpm import FusedDDPMScheduler
from latentdiff.pipeline.diffusers.networks import read_autoencoder, read_process, read_unet

__all__ = [
    "FusedDDIMScheduler",
    "FusedDDPMScheduler",
    "SchedulerMixin",
    "export_network",
    "export_pipeline",
    "export_scheduler",
    "read_autoencoder",
    "read_process",
    "read_unet",
]
