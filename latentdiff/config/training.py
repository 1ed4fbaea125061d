"""The options of the training commands: the command line, ``--config`` files and checkpoints all read these models."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from latentdiff.config.base import Config, device_name
from latentdiff.config.cold import DegradationConfig
from latentdiff.config.diffusion import DiffusionConfig, Prediction, ScheduleConfig, ScheduleKind, Variance
from latentdiff.nn.config import NetworkKind, parse_latent


def _size(text: str) -> str:
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(re.fullmatch(r"[0-9]{1,4}", part) and 1 <= int(part) <= 4096 for part in parts):
        raise ValueError(f"expected pixels like 32 or HEIGHTxWIDTH like 32x48 (1..4096), got {text!r}")
    return text


def _latent(text: str) -> str:
    parse_latent(text)
    return text


def _run_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        raise ValueError(f"expected up to 100 of A-Z a-z 0-9 . _ - that start with a letter or digit, got {text!r:.80}")
    return text


class DataOptions(Config):
    """Which images, and how they are brought to one shape."""

    data: str = Field(
        "mnist5k",
        min_length=1,
        description="data set name (see `latentdiff datasets`) or a path: .npz file, idx folder, image folder",
    )
    data_root: str | None = Field(
        None, description="folder with downloaded data sets (default: $LATENTDIFF_DATA or ~/.cache/latentdiff/data)"
    )
    size: Annotated[str, AfterValidator(_size)] | None = Field(
        None, description="resize images to this many pixels: 32 or HEIGHTxWIDTH (default: as the images are)"
    )
    channels: Literal[1, 3] | None = Field(None, description="1 for grey, 3 for RGB (default: as the images are)")
    resize: Literal["crop", "stretch", "pad"] = Field("crop", description="how --size treats another aspect ratio")
    flip: bool = Field(False, description="mirror training images at random")
    crop: int = Field(0, ge=0, le=64, description="shift training images at random by up to this many pixels")

    def sides(self) -> tuple[int, int] | None:
        """--size as (height, width)."""
        if self.size is None:
            return None
        parts = [int(part) for part in self.size.lower().split("x")]
        return parts[0], parts[-1]


BUDGETS = ("steps", "epochs", "minutes")  # of these at most one is given


class LoopOptions(Config):
    """The budget, the optimizer and what is written when."""

    seed: int = Field(0, ge=0, lt=2**31, description="seed of the weights, the data order and the noise")
    steps: int | None = Field(
        None, ge=1, le=10**9, description="budget: optimizer steps (default: VAE 3000, MLP 6000, others 3000)"
    )
    epochs: float | None = Field(
        None, gt=0, le=10**6, description="budget instead of --steps: passes over the training set"
    )
    minutes: float | None = Field(
        None, gt=0, le=10**6, description="budget instead of --steps: wall time; the learning rate decays to its end"
    )
    batch: int | None = Field(
        None, ge=1, le=65536, description="images for one optimizer step (default: VAE 128, MLP 512, others 128)"
    )
    accumulate: int = Field(1, ge=1, le=1024, description="split each batch into this many parts to save memory")
    lr: float | None = Field(
        None,
        gt=0,
        le=1,
        description="peak learning rate of AdamW (default: VAE and MLP 0.002, others by preset 0.002, 0.001 or 0.0005)",
    )
    warmup: int = Field(100, ge=0, le=10**6, description="steps of linear warm-up")
    decay: Literal["cosine", "linear", "constant"] = Field("cosine", description="learning rate after the warm-up")
    weight_decay: float = Field(0.01, ge=0, le=10, description="AdamW's decoupled weight decay")
    clip_grad: float = Field(1.0, gt=0, le=10**6, description="largest norm of the gradient")
    ema: float = Field(
        0.999, ge=0, lt=1, description="decay of the weights' moving average, which is what is sampled from (0: off)"
    )
    bf16: Literal["auto", "on", "off"] = Field(
        "auto", description="bfloat16 autocast; auto: where the processor computes in it"
    )
    channels_last: bool = Field(True, description="channels-last memory layout for convolutions")
    fused: bool = Field(True, description="fused AdamW")
    device: Annotated[str, AfterValidator(device_name)] = Field(
        "auto", description="where to compute: auto, cpu, cuda, cuda:N or mps"
    )
    threads: int | None = Field(None, ge=1, le=1024, description="CPU threads (default: torch's choice)")
    log_every: int = Field(20, ge=1, description="steps between lines of log.jsonl")
    validate_every: int = Field(200, ge=1, description="steps between validations")
    sample_every: int = Field(1000, ge=1, description="steps between sample grids and loss curves; also at the end")
    save_every: int = Field(1000, ge=1, description="steps between checkpoints")
    checkpoints_total_limit: int = Field(2, ge=1, le=10**6, description="checkpoints kept; older ones are deleted")
    tensorboard: bool = Field(False, description="also write TensorBoard events (needs the tensorboard extra)")

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give one budget, got {' and '.join('--' + name for name in given)}")
        if self.batch is not None and self.batch % self.accumulate:
            raise ValueError(f"batch must be a multiple of accumulate, got {self.batch} and {self.accumulate}")
        return self


class TrainVAE(DataOptions, LoopOptions):
    """Everything that defines the training of a VAE."""

    latent: Annotated[str, AfterValidator(_latent)] = Field(
        "32", description="latent size: a vector (32) or CHANNELSxHEIGHTxWIDTH (4x7x7)"
    )
    preset: Literal["small", "base", "large"] = Field(
        "small", description="size of the network: small trains in minutes on a CPU, large wants a GPU"
    )
    width: int | None = Field(
        None, ge=8, le=1024, multiple_of=8, description="channels (default: by preset, 32, 64 or 128)"
    )
    depth: int | None = Field(None, ge=0, le=8, description="residual blocks a level (default: by preset, 0, 1 or 2)")
    beta: float = Field(0.5, ge=0, le=1000, description="weight of the KL term against the summed reconstruction error")
    beta_warmup: int = Field(200, ge=0, le=10**7, description="steps over which beta rises from 0")
    loss: Literal["mse", "l1", "bce"] = Field("mse", description="reconstruction loss, summed over pixels")
    perceptual: float | None = Field(
        None,
        ge=0,
        le=1000,
        description="weight of the perceptual distance, against the reconstruction loss of a pixel (default: 1.3 for 28x28 "
        "grey digits, else 0)",
    )
    perceptual_network: Literal["auto", "mnist", "efficientnet-lite0", "lpips-alex", "lpips-vgg"] = Field(
        "auto", description="network of the perceptual distance; auto: mnist for digits, else efficientnet-lite0"
    )
    perceptual_weights: str | None = Field(
        None,
        description="its weights (.safetensors), for lpips-alex and lpips-vgg (default: none, the others bring theirs)",
    )

    @model_validator(mode="after")
    def _perceptual_is_used(self) -> Self:
        chosen = self.perceptual_network != "auto" or self.perceptual_weights is not None
        if chosen and not self.perceptual:
            raise ValueError(
                f"--perceptual-network and --perceptual-weights need a weight: --perceptual 1.3, got {self.perceptual or 'none'}"
            )
        return self


class TrainDenoiser(DataOptions, LoopOptions):
    """Everything that defines the training of a denoiser."""

    pixel: bool = Field(False, description="work on pixels, without a VAE")
    pixel_scale: float = Field(
        1.0, ge=0.01, le=100, description="pixels lie in [-scale, scale], e.g. 0.5; with --pixel only"
    )
    vae: str | None = Field(None, description="run or checkpoint of the VAE (default: the newest VAE run)")
    preset: Literal["small", "base", "large"] = Field(
        "small", description="size of the network: small trains in minutes on a CPU, large wants a GPU"
    )
    network: Literal["auto", NetworkKind] = Field(
        "auto",
        description="mlp for vector latents, or grids seen as one vector; unet, cnn (five plain convolutions), course-unet (one-hot class and fully "
        "connected time blocks) or convnext (a UNet of ConvNeXt blocks) for spatial latents and pixels; auto: mlp or unet",
    )
    width: int | None = Field(
        None,
        ge=8,
        le=8192,
        multiple_of=8,
        description="units of the MLP (default: by preset, 320, 1024 or 2048), base channels of the UNet (24 to 256), the "
        "CNN (16 to 64), the course UNet (64 to 256) or the ConvNeXt UNet (32 to 128)",
    )
    depth: int | None = Field(
        None,
        ge=1,
        le=64,
        description="blocks of the MLP (default: by preset, 4, 6 or 8) or residual blocks a level of a UNet (1 to 3)",
    )
    patch: int | None = Field(
        None, ge=1, le=16, description="UNets: squares of this many pixels a side become channels (default: by preset)"
    )
    labels: bool = Field(True, description="condition on the data's class labels, where it has any")
    label_dropout: float = Field(
        0.1, ge=0, le=1, description="share of labels replaced by the null class, for guidance"
    )
    prediction: Prediction = Field("v", description="what the network predicts")
    variance: Variance = Field(
        "fixed", description="learned: also learn the reverse variance (hybrid loss of Nichol & Dhariwal)"
    )
    weighting: Literal["uniform", "min-snr"] = Field("uniform", description="loss weight over noise levels")
    time_sampling: Literal["auto", "uniform", "stratified", "logit-normal"] = Field(
        "auto",
        description="noise levels of a batch: uniform (independent), stratified (spread evenly over all), logit-normal "
        "(spread, more in the middle); auto: logit-normal on latents, stratified on pixels and with a learned variance",
    )
    latents: Literal["auto", "sample", "mean"] = Field(
        "auto",
        description="what is learned of an image: a sample of the VAE's posterior, or its mean; auto: means on grids, samples "
        "on vectors (docs/quality.md)",
    )
    schedule: ScheduleKind = Field("cosine", description="noise schedule")
    T: int = Field(1000, ge=1, le=100_000, description="number of noise levels")
    beta_start: float | None = Field(
        None, gt=0, lt=1, description="first beta of linear/scaled_linear, the beta of constant (default: by kind)"
    )
    beta_end: float | None = Field(None, gt=0, lt=1, description="last beta of linear/scaled_linear (default: by kind)")
    zero_snr: bool = Field(False, description="rescale the schedule so that level T is pure noise")

    @model_validator(mode="after")
    def _diffusion_is_valid(self) -> Self:
        self.diffusion()
        if self.pixel and self.vae is not None:
            raise ValueError(f"--pixel works without a VAE, got --vae {self.vae}")
        if self.variance == "learned" and self.time_sampling == "logit-normal":
            raise ValueError(
                "--variance learned needs all levels alike: --time-sampling uniform or stratified, got logit-normal"
            )
        if self.pixel and self.latents != "auto":
            raise ValueError(f"--latents is for models of a VAE's latents, got {self.latents} with --pixel")
        if self.pixel_scale != 1 and not self.pixel:
            raise ValueError(f"--pixel-scale is for models of pixels (--pixel), got {self.pixel_scale:g} without it")
        if self.depth is not None and self.network in ("cnn", "course-unet"):
            raise ValueError(f"--depth does not apply to --network {self.network}, got {self.depth}")
        return self

    @property
    def resolved_time_sampling(self) -> Literal["uniform", "stratified", "logit-normal"]:
        """What "auto" means here: measured on latents (docs/quality.md); the bound of a learned variance is a mean over levels."""
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
        return DegradationConfig.model_validate({name: getattr(self, name) for name in DegradationConfig.model_fields})


class RunOptions(Config):
    """Where a training writes and what it starts from; not part of what defines it."""

    runs: str = Field("runs", min_length=1, description="folder of all runs")
    name: Annotated[str, AfterValidator(_run_name)] | None = Field(
        None, description="name of the run (default: date and kind)"
    )
    init_from: str | None = Field(None, description="start from the weights of this run or checkpoint (fine-tuning)")
    resume: str | None = Field(None, description="continue this run exactly where its newest checkpoint is")
