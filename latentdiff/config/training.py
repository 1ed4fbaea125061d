"""The options of the training commands: the command line, ``--config`` files and checkpoints all read these
models.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from latentdiff.config.base import Config
from latentdiff.config.cold import DegradationConfig
from latentdiff.config.diffusion import DiffusionConfig, Prediction, ScheduleConfig, ScheduleKind, Variance
from latentdiff.config.loop import DataOptions, LoopOptions, StreamOptions
from latentdiff.nn.config import NetworkKind
from latentdiff.nn.vae_config import parse_latent


def _latent(text: str | None) -> str | None:
    if text is not None:
        parse_latent(text)
    return text


class TrainVAE(DataOptions, StreamOptions, LoopOptions):
    """Everything that defines the training of a VAE."""

    latent: Annotated[str | None, AfterValidator(_latent)] = Field(
        None,
        description=(
            "latent size: a vector (32) or CHANNELSxHEIGHTxWIDTH (4x7x7) (default: 32 for grey images, 4"
            " channels at a quarter of each side for colour images)"
        ),
    )
    preset: Literal["small", "base", "large"] = Field(
        "small", description="size of the network: small trains in minutes on a CPU, large wants a GPU"
    )
    width: int | None = Field(
        None, ge=8, le=1024, multiple_of=8, description="channels (default: by preset, 32, 64 or 128)"
    )
    depth: int | None = Field(
        None, ge=0, le=8, description="residual blocks a level (default: by preset, 0, 1 or 2)"
    )
    beta: float = Field(
        0.5, ge=0, le=1000, description="weight of the KL term against the summed reconstruction error"
    )
    beta_warmup: int = Field(200, ge=0, le=10**7, description="steps over which beta rises from 0")
    loss: Literal["mse", "l1", "bce"] = Field("mse", description="reconstruction loss, summed over pixels")
    perceptual: float | None = Field(
        None,
        ge=0,
        le=1000,
        description=(
            "weight of the perceptual distance, against the reconstruction loss of a pixel (default: 1.3 for"
            " 28x28 grey digits, else 0)"
        ),
    )
    perceptual_network: Literal["auto", "mnist", "efficientnet-lite0", "lpips-alex", "lpips-vgg"] = Field(
        "auto",
        description="network of the perceptual distance; auto: mnist for digits, else efficientnet-lite0",
    )
    perceptual_weights: str | None = Field(
        None,
        description=(
            "its weights (.safetensors), for lpips-alex and lpips-vgg (default: none, the others bring"
            " theirs)"
        ),
    )

    @model_validator(mode="after")
    def _perceptual_is_used(self) -> Self:
        chosen = self.perceptual_network != "auto" or self.perceptual_weights is not None
        if chosen and not self.perceptual:
            raise ValueError(
                "--perceptual-network and --perceptual-weights need a weight: --perceptual 1.3, got"
                f" {self.perceptual or 'none'}"
            )
        return self


class ShardOptions(Config):
    """Who holds the network."""

    shard: bool = Field(
        False,
        description=(
            "split weights, gradients, optimizer state and average among the processes of torchrun (FSDP2)"
            " instead of a copy in each: for networks that are too large for one device"
        ),
    )


class TrainDenoiser(DataOptions, StreamOptions, ShardOptions, LoopOptions):
    """Everything that defines the training of a denoiser."""

    pixel: bool = Field(False, description="work on pixels, without a VAE")
    pixel_scale: float = Field(
        1.0, ge=0.01, le=100, description="pixels lie in [-scale, scale], e.g. 0.5; with --pixel only"
    )
    vae: str | None = Field(
        None,
        description=(
            "run or checkpoint of the VAE, or a folder of diffusers' AutoencoderKL or AutoencoderTiny"
            " (default: the newest VAE run)"
        ),
    )
    preset: Literal["small", "base", "large"] = Field(
        "small", description="size of the network: small trains in minutes on a CPU, large wants a GPU"
    )
    network: Literal["auto", NetworkKind] = Field(
        "auto",
        description=(
            "mlp for vector latents, or grids seen as one vector; unet, cnn (five plain convolutions),"
            " course-unet (one-hot class and fully connected time blocks) or convnext (a UNet of ConvNeXt"
            " blocks) for spatial latents and pixels; auto: mlp or unet"
        ),
    )
    width: int | None = Field(
        None,
        ge=8,
        le=8192,
        multiple_of=8,
        description=(
            "units of the MLP (default: by preset, 320, 1024 or 2048), base channels of the UNet (24 to 256),"
            " the CNN (16 to 64), the course UNet (64 to 256) or the ConvNeXt UNet (32 to 128)"
        ),
    )
    depth: int | None = Field(
        None,
        ge=1,
        le=64,
        description=(
            "blocks of the MLP (default: by preset, 4, 6 or 8) or residual blocks a level of a UNet (1 to 3)"
        ),
    )
    patch: int | None = Field(
        None,
        ge=1,
        le=16,
        description="UNets: squares of this many pixels a side become channels (default: by preset)",
    )
    labels: bool = Field(True, description="condition on the data's class labels, where it has any")
    label_dropout: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "share of labels replaced by the null class (of captions: by the empty text), for guidance"
        ),
    )
    text: bool = Field(
        False,
        description=(
            "listen to the captions of the data instead of its labels: a UNet word by word, an MLP to the"
            " whole"
        ),
    )
    text_encoder: str = Field(
        "own",
        min_length=1,
        description=(
            "what reads the captions of --text: own (a small transformer that is trained along), minilm (the"
            " frozen sentence encoder of the extra [text]) or the folder of a Hugging Face text encoder"
        ),
    )
    vocabulary: int = Field(
        1024,
        ge=64,
        le=65_536,
        description="word pieces of the tokenizer that --text learns from the captions",
    )
    text_length: int | None = Field(
        None,
        ge=4,
        le=1024,
        description=(
            "word pieces of a text, the rest is cut off; with --text (default: what the longest caption"
            " needs, from 8 to 32; 32 of a frozen encoder)"
        ),
    )
    prediction: Prediction = Field("v", description="what the network predicts")
    sigma_data: float = Field(
        0.0,
        ge=0,
        le=100,
        description=(
            "of --prediction x0: the input passes through where its noise is far below this deviation, so"
            " that denoising does no harm there, at a cost in samples (EDM's c_skip; docs/quality.md); 0: the"
            " network returns x_0 itself"
        ),
    )
    variance: Variance = Field(
        "fixed", description="learned: also learn the reverse variance (hybrid loss of Nichol & Dhariwal)"
    )
    weighting: Literal["uniform", "min-snr"] = Field("uniform", description="loss weight over noise levels")
    time_sampling: Literal["auto", "uniform", "stratified", "logit-normal"] = Field(
        "auto",
        description=(
            "noise levels of a batch: uniform (independent), stratified (spread evenly over all),"
            " logit-normal (spread, more in the middle); auto: logit-normal on latents, stratified on pixels"
            " and with a learned variance"
        ),
    )
    latents: Literal["auto", "sample", "mean"] = Field(
        "auto",
        description=(
            "what is learned of an image: a sample of the VAE's posterior, or its mean; auto: means on grids,"
            " samples on vectors (docs/quality.md)"
        ),
    )
    schedule: ScheduleKind = Field("cosine", description="noise schedule")
    T: int = Field(1000, ge=1, le=100_000, description="number of noise levels")
    beta_start: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="first beta of linear/scaled_linear, the beta of constant (default: by kind)",
    )
    beta_end: float | None = Field(
        None, gt=0, lt=1, description="last beta of linear/scaled_linear (default: by kind)"
    )
    zero_snr: bool = Field(False, description="rescale the schedule so that level T is pure noise")

    @model_validator(mode="after")
    def _diffusion_is_valid(self) -> Self:
        self.diffusion()
        if self.pixel and self.vae is not None:
            raise ValueError(f"--pixel works without a VAE, got --vae {self.vae}")
        if self.variance == "learned" and self.time_sampling == "logit-normal":
            raise ValueError(
                "--variance learned needs all levels alike: --time-sampling uniform or stratified, got"
                " logit-normal"
            )
        if self.pixel and self.latents != "auto":
            raise ValueError(f"--latents is for models of a VAE's latents, got {self.latents} with --pixel")
        if self.pixel_scale != 1 and not self.pixel:
            raise ValueError(
                f"--pixel-scale is for models of pixels (--pixel), got {self.pixel_scale:g} without it"
            )
        if self.text and self.network not in ("auto", "unet", "mlp"):
            raise ValueError(
                f"--text needs a network that listens to texts: --network unet or mlp, got {self.network}"
            )
        if not self.text and (self.text_encoder, self.vocabulary, self.text_length) != ("own", 1024, None):
            raise ValueError(
                "--text-encoder, --vocabulary and --text-length are of models that listen to texts, got them"
                " without --text"
            )
        if self.text_encoder != "own" and self.vocabulary != 1024:
            raise ValueError(f"--vocabulary is of --text-encoder own, got it with {self.text_encoder}")
        if self.depth is not None and self.network in ("cnn", "course-unet"):
            raise ValueError(f"--depth does not apply to --network {self.network}, got {self.depth}")
        return self

    @property
    def resolved_time_sampling(self) -> Literal["uniform", "stratified", "logit-normal"]:
        """What "auto" means here: measured on latents (docs/quality.md); the bound of a learned variance is a
        mean over levels.
        """
        if self.time_sampling == "auto":
            return "stratified" if self.pixel or self.variance == "learned" else "logit-normal"
        return self.time_sampling

    def diffusion(self) -> DiffusionConfig:
        """The process that the network learns; pixel models clip their estimates to the range of images."""
        schedule = ScheduleConfig(
            kind=self.schedule,
            T=self.T,
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            zero_terminal_snr=self.zero_snr,
        )
        return DiffusionConfig(
            schedule=schedule,
            prediction=self.prediction,
            sigma_data=self.sigma_data,
            variance=self.variance,
            clip=self.pixel_scale if self.pixel else None,
        )


class TrainCold(DataOptions, DegradationConfig, LoopOptions):
    """Everything that defines the training of a cold diffusion model."""

    preset: Literal["small", "base", "large"] = Field(
        "small", description="size of the network: small trains in minutes on a CPU, large wants a GPU"
    )
    width: int | None = Field(
        None,
        ge=8,
        le=1024,
        multiple_of=8,
        description="base channels of the ConvNeXt UNet (default: by preset, 32 to 128)",
    )
    depth: int | None = Field(None, ge=1, le=8, description="blocks a level (default: by preset, 1 or 2)")
    patch: int | None = Field(
        None, ge=1, le=16, description="squares of this many pixels a side become channels (default: 1)"
    )
    loss: Literal["l1", "mse"] = Field("l1", description="distance of the restored image and the clean one")

    def degradation_config(self) -> DegradationConfig:
        """The degradation that the network learns to undo."""
        return DegradationConfig.model_validate(
            {name: getattr(self, name) for name in DegradationConfig.model_fields}
        )
