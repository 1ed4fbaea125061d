"""Facts about the networks of other libraries; their own configurations build them. Imports no torch."""

import math

from pydantic import Field

from latentdiff.nn.fields import Classes, GridShape, StrictModel


class ForeignConfig(StrictModel):
    """A denoiser of another library: what it denoises, and its channels at the full resolution."""

    shape: GridShape
    width: int = Field(ge=1, description="channels at the full resolution")
    num_classes: Classes = 0

    @property
    def activations(self) -> int:
        """Numbers in the widest layer for one sample."""
        return self.width * math.prod(self.shape[1:])


class ForeignVAEConfig(StrictModel):
    """An autoencoder of another library: its images and its latents, both [C, H, W]."""

    image: GridShape
    latent: tuple[int, int, int]
