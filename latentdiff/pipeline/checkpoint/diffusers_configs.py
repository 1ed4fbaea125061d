"""What configurations of diffusers must say to be of use here, with diffusers' own defaults. Imports no
diffusers.

Keys that are not named are diffusers' own business: they choose how a network is built, which its weights'
names and shapes then confirm. A key that is named with one value is a thing that has no counterpart here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from latentdiff.config.base import Config
from latentdiff.nn.base_config import Classes, Side

PictureChannels = Literal[1, 3]
Count = Annotated[int, Field(ge=0, le=64)]  # of layers: a file must not make us build forever
Channels = Annotated[int, Field(ge=1, le=65_536)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]  # of latents: beyond it float32 holds no images any more
Sizes = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=16)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1, max_length=16)]
Names = Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]


class Facts(Config):
    """A configuration file of diffusers, read as far as it matters."""

    model_config = ConfigDict(extra="ignore")


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


class UNetFacts(Facts):
    """Of a UNet2DModel on images, conditioned on the timestep and perhaps a class."""

    sample_size: Side | tuple[Side, Side]
    in_channels: PictureChannels = 3
    out_channels: int = 3
    time_embedding_type: Literal["positional", "learned"] = "positional"
    down_block_types: Names | None = None
    up_block_types: Names | None = None
    block_out_channels: Sizes = (224, 448, 672, 896)
    layers_per_block: Count = 2
    class_embed_type: None = None
    num_class_embeds: Classes | None = None

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if self.out_channels == 2 * self.in_channels:
            raise ValueError(
                f"out_channels {self.out_channels} for {self.in_channels} in_channels are of a learned"
                " variance, which is not read here"
            )
        if self.out_channels != self.in_channels:
            raise ValueError(
                f"out_channels: expected {self.in_channels}, as in_channels, got {self.out_channels}"
            )
        return self

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the pictures."""
        return self.in_channels, *_sides(self.sample_size)


class VAEFacts(Facts):
    """Of an AutoencoderKL or an AutoencoderTiny."""

    in_channels: PictureChannels = 3
    out_channels: PictureChannels = 3
    latent_channels: Annotated[int, Field(ge=1, le=4096)] = 4
    sample_size: Side | tuple[Side, Side] | None = None
    down_block_types: Names | None = None
    up_block_types: Names | None = None
    block_out_channels: Sizes = (64,)
    layers_per_block: Count = 1
    encoder_block_out_channels: Sizes = (64,) * 4
    decoder_block_out_channels: Sizes = (64,) * 4
    num_encoder_blocks: Counts = (1, 3, 3, 3)
    num_decoder_blocks: Counts = (3, 3, 3, 1)
    scaling_factor: Scale = 1.0
    shift_factor: float | None = None
    latents_mean: tuple[float, ...] | None = None
    latents_std: tuple[Scale, ...] | None = None

    @model_validator(mode="after")
    def _gives_back_what_it_takes(self) -> Self:
        if self.in_channels != self.out_channels:
            raise ValueError(
                f"out_channels: expected {self.in_channels}, as in_channels, got {self.out_channels}"
            )
        if (self.latents_mean is None) != (self.latents_std is None):
            raise ValueError("latents_mean and latents_std: expected both or neither, got one")
        for name, values in (("latents_mean", self.latents_mean), ("latents_std", self.latents_std)):
            if values is not None and len(values) != self.latent_channels:
                raise ValueError(f"{name}: expected {self.latent_channels} numbers, got {len(values)}")
        return self

    @property
    def image(self) -> tuple[int, int, int] | None:
        """Channels, height and width of the images it was trained on, if it says so."""
        return None if self.sample_size is None else (self.in_channels, *_sides(self.sample_size))


class KLFacts(VAEFacts):
    """Of an AutoencoderKL, which has a scale by default."""

    scaling_factor: Scale = 0.18215


class SchedulerFacts(Facts):
    """Of a DDPMScheduler or a DDIMScheduler."""

    num_train_timesteps: int = Field(1000, ge=1, le=100_000)
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"] = "linear"
    trained_betas: tuple[float, ...] | None = None
    rescale_betas_zero_snr: bool = False
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    predict_epsilon: Literal[True] = True  # of old files: False meant what prediction_type "sample" says
    clip_sample: bool = True
    clip_sample_range: float = Field(1.0, gt=0)
    thresholding: Literal[False] = False
    steps_offset: Literal[0] = 0


class DDPMFacts(SchedulerFacts):
    """Of a DDPMScheduler: it has a variance, and adds no noise in its last step."""

    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large"] = "fixed_small"


class DDIMFacts(SchedulerFacts):
    """Of a DDIMScheduler: its last step must end at the clean image."""

    set_alpha_to_one: Literal[True] = True
