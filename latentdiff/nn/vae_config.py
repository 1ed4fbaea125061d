"""Configuration and presets of the autoencoder, and latent sizes as text. Imports no torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from latentdiff.errors import InputError
from latentdiff.nn.base_config import NetworkConfig, Presets, Side, Width, cross

SMALL_SIDE = 48  # pixels of what counts as small images
VECTOR_GRID = 8  # a vector latent is read off a feature map of at most this many pixels a side


class VAEConfig(NetworkConfig):
    """Autoencoder between images [C, H, W] and a vector latent [L] or a spatial latent [c, h, w]."""

    network = "latentdiff.nn.autoencoder:VAE"
    difference = "its decoder ends in tanh(l / 2), that of AutoencoderKL in a convolution"
    presets: ClassVar[Presets] = {
        "small": {"width": 32, "depth": 0, "hidden": 256},
        "base": {"width": 64, "depth": 1, "hidden": 512},
        "large": {"width": 128, "depth": 2, "hidden": 1024},
    }

    peak_lr: ClassVar[float] = 2e-3

    image: Annotated[
        tuple[Literal[1, 3], Side, Side],
        Field(
            strict=False,
            description="channels (1 or 3), height and width of the images, sides 8 to 1024 pixels",
        ),
    ]
    latent: Annotated[
        tuple[Annotated[int, Field(ge=1, le=4096)], ...],
        Field(strict=False, description="latent size: L for a vector, c x h x w for a spatial latent"),
    ]
    width: Width = Field(
        default=32,
        description="channels at half of the image's resolution, doubled at a quarter and again at an eighth",
    )
    depth: int = Field(
        default=0, ge=0, le=8, description="residual blocks at each resolution below half of the image's"
    )
    detail: int = Field(
        default=0, ge=0, le=8, description="residual blocks of the decoder at half of the image's resolution"
    )
    upsampling: Literal["transposed", "checkerboard-free"] = Field(
        default="transposed",
        description="checkerboard-free: kernels without artefacts of period 2 and replicated edges, so that"
        " flat areas stay flat; transposed: any kernels and zero padding, as in files without this entry",
    )
    hidden: int = Field(
        default=256, ge=16, le=8192, description="units between feature map and vector latent"
    )

    @classmethod
    def class_name(cls) -> str:
        """The name of the class in files."""
        return "AutoencoderKL"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(self.latent) not in (1, 3):
            raise ValueError(f"`latent`: expected L or c x h x w, got {len(self.latent)} numbers")
        (self._check_vector if len(self.latent) == 1 else self._check_spatial)()
        return self

    def _check_vector(self) -> None:
        factor, sides = self.factor, self.image[1:]
        if any(side % factor for side in sides):
            near = " or ".join(
                cross(*(max(1, side // factor + up) * factor if side % factor else side for side in sides))
                for up in (0, 1)
            )
            raise ValueError(
                f"`image`: a vector latent for {cross(*sides)} pixels needs sides divisible by {factor};"
                f" the next valid sizes are {near}"
            )

    def _check_spatial(self) -> None:
        (_, height, width), (channels, h, w) = self.image, self.latent
        factors = [f for f in (2**i for i in range(11)) if height % f == 0 and width % f == 0]
        if (h, w) not in [(height // f, width // f) for f in factors]:
            allowed = ", ".join(cross(channels, height // f, width // f) for f in reversed(factors))
            raise ValueError(
                f"`latent`: {cross(*self.latent)} does not fit images of {cross(*self.image)}: both sides"
                " must be the image's divided by one power of two; allowed with"
                f" {channels} channels: {allowed}"
            )

    @property
    def batch(self) -> int:
        """Images of a training step: fewer, and so more steps, for a grid, which has much to learn."""
        return 32 if self.upsampling == "checkerboard-free" else 128

    @property
    def beta(self) -> float:
        """Weight of the KL term: smaller for a grid, which its posterior would blur (docs/quality.md)."""
        return 0.5 if len(self.latent) == 1 else 0.05

    @property
    def factor(self) -> int:
        """Pixels of the image, along a side, for each pixel of the smallest feature map: a power of two."""
        if len(self.latent) == 3:
            return self.image[1] // self.latent[1]
        factor = 1
        while max(self.image[1:]) > VECTOR_GRID * factor:
            factor *= 2
        return factor

    def at(self, image: tuple[int, int, int]) -> Self | None:
        """The configuration of the same weights for images of another size; None where they do not fit it.

        A grid is read off by convolutions, which take any size that the factor divides.
        """
        channels, height, width = image
        factor = self.factor
        if len(self.latent) == 1 or channels != self.image[0] or height % factor or width % factor:
            return None
        latent = (self.latent[0], height // factor, width // factor)
        return self.model_validate({**self.model_dump(), "image": image, "latent": latent})

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the smallest feature map."""
        return self.image[1] // self.factor, self.image[2] // self.factor


def parse_latent(text: str) -> tuple[int, ...]:
    """Latent size from text: "32" -> (32,), "4x7x7" -> (4, 7, 7). InputError for anything else."""
    parts = text.strip().lower().split("x")
    if len(parts) not in (1, 3) or not all(
        p.isascii() and p.isdigit() and 0 < len(p) < 6 and int(p) for p in parts
    ):
        raise InputError(
            f"`latent`: expected a size such as 32 or channels x height x width such as 4x7x7, got {text!r}"
        )
    return tuple(int(p) for p in parts)


def default_latent(image: tuple[int, ...]) -> tuple[int, ...]:
    """The latent size for images [C, H, W] where none is given.

    32 numbers for small grey images, such as digits. For others a grid: 4 channels at a quarter of both sides
    up to :data:`SMALL_SIDE` pixels, 8 at an eighth above (docs/quality.md), or what divides them. InputError
    where nothing does: 32 numbers would blur them.
    """
    channels, height, width = image
    if channels == 1 and max(height, width) <= SMALL_SIDE:
        return (32,)
    most = 4 if max(height, width) <= SMALL_SIDE else 8
    factor = next((f for f in (8, 4, 2) if f <= most and height % f == 0 and width % f == 0), None)
    if factor is None:
        near = cross(*(max(8, 8 * round(side / 8)) for side in (height, width)))
        raise InputError(
            f"`latent`: no grid fits images of {cross(height, width)} pixels, whose sides have no common"
            f" factor 2; `size` {near} resizes them, or choose a vector such as `latent` 128"
        )
    return (8 if factor == 8 else 4, height // factor, width // factor)
