"""latentdiff: latent diffusion that can be repeated to the bit, fast, and a pleasure to read.

>>> import latentdiff as ld
>>> pipe = ld.load("runs/NAME")
>>> images = pipe.sample(n=16, sampler="ddim", steps=50, label=7, guidance=2.0, seed=0)
>>> ld.save_image(ld.image_grid(images), "sevens.png")

The names below load on first use, so that importing the package (and `latentdiff --help`) does not import
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latentdiff._version import __version__ as __version__

if TYPE_CHECKING:
    from latentdiff.data import load_dataset, to_float, to_uint8
    from latentdiff.diffusion.denoiser import Denoiser, denoiser
    from latentdiff.diffusion.estimate import Estimate
    from latentdiff.diffusion.guidance import Condition, guided
    from latentdiff.diffusion.loop import run, start
    from latentdiff.diffusion.samplers import SamplerStep, ddim, ddpm, dpmpp2m, heun
    from latentdiff.diffusion.schedule import Schedule, make_schedule
    from latentdiff.errors import InputError
    from latentdiff.ops.random import Key
    from latentdiff.pipeline.codec import IdentityCodec, VAECodec
    from latentdiff.pipeline.pipeline import Pipeline, load
    from latentdiff.viz.images import image_grid, save_gif, save_image

__all__ = [
    "Condition",
    "Denoiser",
    "Estimate",
    "IdentityCodec",
    "InputError",
    "Key",
    "Pipeline",
    "SamplerStep",
    "Schedule",
    "VAECodec",
    "ddim",
    "ddpm",
    "denoiser",
    "dpmpp2m",
    "guided",
    "heun",
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
    "Condition": "diffusion.guidance",
    "Denoiser": "diffusion.denoiser",
    "Estimate": "diffusion.estimate",
    "IdentityCodec": "pipeline.codec",
    "InputError": "errors",
    "Key": "ops.random",
    "Pipeline": "pipeline.pipeline",
    "Schedule": "diffusion.schedule",
    "SamplerStep": "diffusion.samplers",
    "VAECodec": "pipeline.codec",
    "ddim": "diffusion.samplers",
    "ddpm": "diffusion.samplers",
    "denoiser": "diffusion.denoiser",
    "dpmpp2m": "diffusion.samplers",
    "guided": "diffusion.guidance",
    "heun": "diffusion.samplers",
    "image_grid": "viz.images",
    "load": "pipeline.pipeline",
    "load_dataset": "data",
    "make_schedule": "diffusion.schedule",
    "run": "diffusion.loop",
    "save_gif": "viz.images",
    "save_image": "viz.images",
    "start": "diffusion.loop",
    "to_float": "data",
    "to_uint8": "data",
    # no public names, as diffusers is an extra: its pipelines look here for the first two, and for what they
    # are a kind of
    "FusedDDIMScheduler": "pipeline.diffusers",
    "FusedDDPMScheduler": "pipeline.diffusers",
    "SchedulerMixin": "pipeline.diffusers",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use; AttributeError for any other name."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted({*globals(), *__all__})
