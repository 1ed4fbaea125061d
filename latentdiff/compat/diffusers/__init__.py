"""diffusers, both ways: its schedulers on the fused kernels (``pip install latentdiff[diffusers]``)."""

from diffusers import SchedulerMixin

from latentdiff.compat.diffusers.ddim import FusedDDIMScheduler
from latentdiff.compat.diffusers.ddpm import FusedDDPMScheduler

__all__ = ["FusedDDIMScheduler", "FusedDDPMScheduler", "SchedulerMixin"]
