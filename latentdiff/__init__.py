"""latentdiff: latent diffusion that is correct to the last bit, fast, and a pleasure to read.

>>> import latentdiff as ld
>>> pipe = ld.load("runs/NAME")
>>> images = pipe.sample(n=16, sampler="ddim", steps=50, label=7, guidance=2.0, seed=0)
>>> ld.save_image(ld.image_grid(images), "sevens.png")

The names below load on first use, so that importing the package (and `latentdiff --help`) does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from latentdiff.codec import IdentityCodec, VAECodec
    from latentdiff.data import load_dataset, to_float, to_uint8
    from latentdiff.denoise import Condition, Denoiser, Estimate, denoiser, guided
    from latentdiff.errors import InputError
    from latentdiff.picture import image_grid, save_gif, save_image
    from latentdiff.pipeline import Pipeline, load
    from latentdiff.random import Key
    from latentdiff.sample import run, start
    from latentdiff.schedule import Schedule, make_schedule
    from latentdiff.step import Step, ddim, ddpm, dpmpp2m

__all__ = [
    "Condition",
    "Denoiser",
    "Estimate",
    "IdentityCodec",
    "InputError",
    "Key",
    "Pipeline",
    "Schedule",
    "Step",
    "VAECodec",
    "ddim",
    "ddpm",
    "denoiser",
    "dpmpp2m",
    "guided",
    "image_grid",
    "load",
    "load_dataset",
    "make_schedule",
    "run",
    "save_gif",
    "save_image",
    "start",
    "to_float",
    "to_uint8",
]

_HOME = {
    "Condition": "denoise",
    "Denoiser": "denoise",
    "Estimate": "denoise",
    "IdentityCodec": "codec",
    "InputError": "errors",
    "Key": "random",
    "Pipeline": "pipeline",
    "Schedule": "schedule",
    "Step": "step",
    "VAECodec": "codec",
    "ddim": "step",
    "ddpm": "step",
    "denoiser": "denoise",
    "dpmpp2m": "step",
    "guided": "denoise",
    "image_grid": "picture",
    "load": "pipeline",
    "load_dataset": "data",
    "make_schedule": "schedule",
    "run": "sample",
    "save_gif": "picture",
    "save_image": "picture",
    "start": "sample",
    "to_float": "data",
    "to_uint8": "data",
    # no public names, as diffusers is an extra: its pipelines look here for the first two, and for what they are a kind of
    "FusedDDIMScheduler": "compat.diffusers",
    "FusedDDPMScheduler": "compat.diffusers",
    "SchedulerMixin": "compat.diffusers",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use; AttributeError for any other name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
