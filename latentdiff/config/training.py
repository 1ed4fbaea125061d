"""The options of training, as the command line, ``--config`` files and checkpoints read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, model_validator

from latentdiff.config.base import Config, setting
from latentdiff.config.cold import DegradationConfig
from latentdiff.config.data import DataOptions, StreamOptions
from latentdiff.config.diffusion import DiffusionConfig, Prediction, ScheduleConfig, ScheduleKind, Variance
from latentdiff.config.loop import LoopOptions
from latentdiff.nn.base_config import Presets
from latentdiff.nn.networks import KINDS, kinds_with
from latentdiff.nn.vae_config import parse_latent

PredictionChoice = Literal["auto", Prediction]
if TYPE_CHECKING:
    NetworkChoice = str
else:
    NetworkChoice = Literal[("auto", *KINDS)]


def _presets_of(number: str) -> str:
    """A number of the networks' presets as a help text lists it: "unet 24, 64, 128; cnn 16, 32, 64"."""

    def listed(presets: Presets) -> str:
        return ", ".join(str(numbers[number]) for numbers in presets.values())

    return "; ".join(
        f"{kind} {listed(config.presets)}"
        + (f", small grids {listed(config.small_grid_presets)}" if config.small_grid_presets else "")
        for kind, config in KINDS.items()
        if number in config.presets["small"]
    )


def _latent(text: str | None) -> str | None:
    if text is None or text.strip().lower() == "auto":
        return None
    parse_latent(text)
    return text


class QuickOptions(Config):
    """The quick evaluation of samples while a network trains."""

    option_group: ClassVar[str] = "Run"

    quick_samples: int = setting(
        200,
        "samples of the quick evaluation, which writes their kernel distance, and of a denoiser the class"
        " accuracy, to log.jsonl and loss.png with every sample grid; 2 or more, 0 turns it off",
        ge=0,
        le=100_000,
        group="Run",
        advanced=True,
    )
    quick_share: float = setting(
        0.03,
        "most of the training's time that quick evaluations take; those beyond are left out",
        ge=0,
        le=1,
        group="Run",
        advanced=True,
    )

    @model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.quick_samples == 1:
            raise ValueError("`quick_samples` must be 0 or at least 2, got 1")
        return self


class TrainVAE(DataOptions, StreamOptions, LoopOptions):
    """Everything that defines the training of a VAE."""

    option_group: ClassVar[str] = "Network"

    latent: Annotated[str | None, AfterValidator(_latent)] = setting(
        None,
        "latent size as 32 or 4x7x7; a vector or CHANNELSxHEIGHTxWIDTH (auto, the default: 32 for small grey"
        " images; a grid for others, 4 channels at a quarter of each side up to 48 pixels, 8 at an eighth"
        " above)",
    )
    preset: Literal["small", "base", "large"] = setting(
        "small", "network size: small, base or large; small trains in minutes on a CPU, large needs a GPU"
    )
    width: int | None = setting(
        None, "channels (default: by preset, 32, 64 or 128)", ge=8, le=1024, multiple_of=8, advanced=True
    )
    depth: int | None = setting(
        None,
        "residual blocks a level (default: by preset, 0, 1 or 2; at least 1 for grids)",
        ge=0,
        le=8,
        advanced=True,
    )
    detail: int | None = setting(
        None,
        "residual blocks of the decoder at half of the images' resolution; finer edges, slower (default: 0)",
        ge=0,
        le=8,
        advanced=True,
    )
    train: Literal["all", "decoder"] = setting(
        "all",
        "part that is trained; with --init-from, decoder leaves the encoder and so the latents as they are,"
        " for the denoisers that were trained on them",
        group="Training",
        advanced=True,
    )
    beta: float | None = setting(
        None,
        "weight of the KL term; against the summed reconstruction error (default: 0.5 for a vector, 0.05 for"
        " a grid, 1e-6 for an AutoencoderKL of diffusers)",
        ge=0,
        le=1000,
        group="Training",
    )
    beta_warmup: int = setting(
        200, "steps over which beta rises from 0", ge=0, le=10**7, group="Training", advanced=True
    )
    loss: Literal["mse", "l1", "bce"] = setting(
        "mse", "reconstruction loss, summed over pixels", group="Training", advanced=True
    )
    perceptual: float | None = setting(
        None,
        "weight of the perceptual loss; against the reconstruction loss of a pixel (default: 1.3 for 28x28"
        " grey digits, else 0)",
        ge=0,
        le=1000,
        group="Training",
    )
    perceptual_network: Literal["auto", "mnist", "efficientnet-lite0", "lpips-alex", "lpips-vgg"] = setting(
        "auto",
        "network of the perceptual distance; auto: mnist for digits, else efficientnet-lite0",
        group="Training",
        advanced=True,
    )
    perceptual_size: int | None = setting(
        None,
        "side of the images that the perceptual network sees; smaller costs less (default: 224 of"
        " efficientnet-lite0; its other sizes are multiples of 32)",
        ge=32,
        le=1024,
        multiple_of=32,
        group="Training",
        advanced=True,
    )
    perceptual_every: int = setting(
        2,
        "the perceptual loss is taken of every n-th image of a batch",
        ge=1,
        le=1024,
        group="Training",
        advanced=True,
    )
    perceptual_weights: str | None = setting(
        None,
        "weights (.safetensors) of a perceptual network that brings none, lpips-alex or lpips-vgg (default:"
        " its own)",
        group="Training",
        advanced=True,
    )

    adversarial: float = setting(
        0.0,
        "weight of the adversarial loss; a discriminator is trained along, for sharp details in long"
        " trainings (0: off)",
        ge=0,
        le=1000,
        group="Training",
    )
    adversarial_start: int = setting(
        1000, "steps before the adversarial loss begins", ge=0, le=10**7, group="Training", advanced=True
    )

    @model_validator(mode="after")
    def _perceptual_is_used(self) -> Self:
        given = (self.perceptual_size, self.perceptual_weights)
        chosen = self.perceptual_network != "auto" or any(value is not None for value in given)
        if chosen and not self.perceptual:
            raise ValueError(
                "`perceptual_network`, `perceptual_size` and `perceptual_weights` need a weight, as"
                " `perceptual` 1.3, got"
                f" {self.perceptual or 'none'}"
            )
        return self


class ShardOptions(Config):
    """Who holds the network."""

    shard: bool = setting(
        False,
        "FSDP2: split the network among the processes of torchrun; weights, gradients, optimizer state and"
        " average, instead of a copy in each: for networks that are too large for one device",
        group="Compute",
        advanced=True,
    )


class TrainDenoiser(DataOptions, StreamOptions, ShardOptions, QuickOptions, LoopOptions):
    """Everything that defines the training of a denoiser."""

    option_group: ClassVar[str] = "Network"

    pixel: bool = setting(False, "train on pixels, without a VAE", group="Model")
    pixel_scale: float = setting(
        1.0,
        "pixels lie in [-scale, scale], e.g. 0.5; with --pixel only",
        ge=0.01,
        le=100,
        group="Model",
        advanced=True,
    )
    pixel_shift: float = setting(
        0.0,
        "is added to the scaled pixels: 0.5 with --pixel-scale 0.5 for pixels in [0, 1]; estimates are not"
        " clipped then; with --pixel only",
        ge=-100,
        le=100,
        group="Model",
        advanced=True,
    )
    vae: str | None = setting(
        None,
        "run or checkpoint of the VAE (default: the newest VAE run); or a folder of diffusers' AutoencoderKL"
        " or AutoencoderTiny",
        group="Model",
    )
    preset: Literal["small", "base", "large"] = setting(
        "small", "network size: small, base or large; small trains in minutes on a CPU, large needs a GPU"
    )
    network: NetworkChoice = setting(
        "auto",
        f"kind: {', '.join(KINDS)}; "
        + ", ".join(f"{kind}: {config.about}" for kind, config in KINDS.items())
        + "; auto: by the shape of the latents, the budget and what it is conditioned on",
    )
    width: int | None = setting(
        None,
        f"units or base channels of the network (default: by preset, {_presets_of('width')}; on grids by"
        " --network auto)",
        ge=8,
        le=8192,
        multiple_of=8,
        advanced=True,
    )
    depth: int | None = setting(
        None,
        f"blocks, of a UNet at each resolution (default: by preset, {_presets_of('depth')})",
        ge=1,
        le=64,
        advanced=True,
    )
    patch: int | None = setting(
        None,
        f"squares of this many pixels a side become channels; of {', '.join(kinds_with('patch'))}"
        " (default: by preset)",
        ge=1,
        le=16,
        advanced=True,
    )
    labels: bool = setting(
        True, "condition on the class labels of the data, where it has any", group="Model", advanced=True
    )
    label_dropout: float = setting(
        0.1,
        "share of labels replaced by the null class, for guidance; of captions: by the empty text",
        ge=0,
        le=1,
        group="Model",
        advanced=True,
    )
    guidance: float | None = setting(
        None,
        "classifier-free guidance that is kept with the model: `sample` uses it where none is given (default:"
        " 4 for classes of colour images on the grid of a VAE, else 1)",
        ge=0,
        le=100,
        group="Model",
        advanced=True,
    )
    eta: float | None = setting(
        None,
        "noise of ddim that is kept with the model: `sample` uses it where none is given (default: 1 for"
        " classes of colour images on the grid of a VAE, else 0)",
        ge=0,
        le=1,
        group="Model",
        advanced=True,
    )
    text: bool = setting(
        False,
        "condition on captions instead of labels; with attention to each word"
        f" ({', '.join(kind for kind, config in KINDS.items() if config.words)}), or on the whole text as"
        " one vector",
        group="Model",
    )
    text_encoder: str = setting(
        "own",
        "encoder of captions; with --text: own (a small transformer that is trained along), minilm (the"
        " frozen sentence encoder of the extra [text]) or the folder of a Hugging Face text encoder",
        min_length=1,
        group="Model",
        advanced=True,
    )
    vocabulary: int = setting(
        1024,
        "word pieces of the tokenizer that --text trains on the captions",
        ge=64,
        le=65_536,
        group="Model",
        advanced=True,
    )
    text_length: int | None = setting(
        None,
        "word pieces of a text, the rest is cut off; with --text (default: the length of the longest"
        " caption, from 8 to 32; 32 of a frozen encoder)",
        ge=4,
        le=1024,
        group="Model",
        advanced=True,
    )
    prediction: PredictionChoice = setting(
        "auto",
        "prediction type: eps, v, x0, score or flow; auto: x0 on the grid of a VAE, else v",
        group="Diffusion",
    )
    sigma_data: float = setting(
        0.0,
        "EDM preconditioning of --prediction x0 for data of this deviation; 0: the network returns x_0"
        " itself. The input passes through where its noise is far below the deviation: denoising does no"
        " harm there, samples get worse (c_skip; docs/quality.md)",
        ge=0,
        le=100,
        group="Diffusion",
        advanced=True,
    )
    variance: Variance = setting(
        "fixed",
        "variance of the reverse process; learned: also trained (hybrid loss of Nichol & Dhariwal 2021)",
        group="Diffusion",
        advanced=True,
    )
    weighting: Literal["uniform", "min-snr"] = setting(
        "uniform", "loss weight over noise levels", group="Diffusion", advanced=True
    )
    time_sampling: Literal["auto", "uniform", "stratified", "logit-normal"] = setting(
        "auto",
        "distribution of the noise levels of a batch; uniform: independent, stratified: spread evenly over"
        " all, logit-normal: spread, more in the middle, auto: logit-normal on latents, stratified on pixels"
        " and with a learned variance",
        group="Diffusion",
        advanced=True,
    )
    posterior: Literal["auto", "sample", "mean"] = setting(
        "auto",
        "latent used as training target; a sample of the VAE's posterior or its mean; auto: mean for spatial"
        " latents, sample for vectors (docs/quality.md)",
        group="Diffusion",
        was="latents",
        advanced=True,
    )
    schedule: ScheduleKind = setting("cosine", "noise schedule", group="Diffusion")
    T: int = setting(1000, "number of noise levels", ge=1, le=100_000, group="Diffusion", advanced=True)
    beta_start: float | None = setting(
        None,
        "first beta of linear/scaled_linear, the beta of constant (default: by schedule)",
        gt=0,
        lt=1,
        group="Diffusion",
        advanced=True,
    )
    beta_end: float | None = setting(
        None,
        "last beta of linear/scaled_linear (default: by schedule)",
        gt=0,
        lt=1,
        group="Diffusion",
        advanced=True,
    )
    zero_snr: bool = setting(
        False,
        "zero terminal SNR: rescale the schedule so that level T is pure noise (Lin et al. 2024)",
        group="Diffusion",
        advanced=True,
    )

    @model_validator(mode="after")
    def _diffusion_is_valid(self) -> Self:
        self.diffusion()
        if self.pixel and self.vae is not None:
            raise ValueError(f"`pixel` works without a VAE, got `vae` {self.vae}")
        if self.variance == "learned" and self.time_sampling == "logit-normal":
            raise ValueError(
                "`variance` learned needs all levels alike: `time_sampling` uniform or stratified, got"
                " logit-normal"
            )
        if self.pixel and self.posterior != "auto":
            raise ValueError(
                f"`posterior` is for models of a VAE's latents, got {self.posterior} with `pixel`"
            )
        for name, value, usual in (
            ("pixel_scale", self.pixel_scale, 1),
            ("pixel_shift", self.pixel_shift, 0),
        ):
            if value != usual and not self.pixel:
                raise ValueError(f"`{name}` is for models of pixels, got {value:g} without `pixel`")
        if self.text and self.network not in (takers := ["auto", *kinds_with("text")]):
            raise ValueError(
                f"`text` needs a text-conditional network: `network` {' or '.join(takers[1:])}, got"
                f" {self.network}"
            )
        if not self.text and (self.text_encoder, self.vocabulary, self.text_length) != ("own", 1024, None):
            raise ValueError("`text_encoder`, `vocabulary` and `text_length` need `text`")
        if self.text_encoder != "own" and self.vocabulary != 1024:
            raise ValueError(f"`vocabulary` is of `text_encoder` own, got it with {self.text_encoder}")
        if self.depth is not None and self.network not in ("auto", *kinds_with("depth")):
            raise ValueError(f"`depth` does not apply to `network` {self.network}, got {self.depth}")
        return self

    @property
    def resolved_time_sampling(self) -> Literal["uniform", "stratified", "logit-normal"]:
        """``time_sampling`` with "auto" resolved, as measured on latents (docs/quality.md); the bound of a
        learned variance is a mean over levels.
        """
        if self.time_sampling == "auto":
            return "stratified" if self.pixel or self.variance == "learned" else "logit-normal"
        return self.time_sampling

    def diffusion(self) -> DiffusionConfig:
        """The process that the network learns; pixel models clip their estimates to the range of images, if
        that lies evenly around 0.

        A prediction that is left open is v here; :func:`latentdiff.train.choices.resolved` settles it.
        """
        schedule = ScheduleConfig(
            kind=self.schedule,
            T=self.T,
            beta_start=self.beta_start,
            beta_end=self.beta_end,
            zero_terminal_snr=self.zero_snr,
        )
        return DiffusionConfig(
            schedule=schedule,
            prediction="v" if self.prediction == "auto" else self.prediction,
            sigma_data=self.sigma_data,
            variance=self.variance,
            clip=self.pixel_scale if self.pixel and not self.pixel_shift else None,
        )


class TrainCold(DataOptions, DegradationConfig, LoopOptions):
    """Everything that defines the training of a cold diffusion model."""

    option_group: ClassVar[str] = "Network"

    preset: Literal["small", "base", "large"] = setting(
        "small", "network size: small, base or large; small trains in minutes on a CPU, large needs a GPU"
    )
    width: int | None = setting(
        None,
        "base channels of the ConvNeXt UNet (default: by preset, 32 to 128)",
        ge=8,
        le=1024,
        multiple_of=8,
        advanced=True,
    )
    depth: int | None = setting(
        None, "blocks a level (default: by preset, 1 or 2)", ge=1, le=8, advanced=True
    )
    patch: int | None = setting(
        None, "squares of this many pixels a side become channels (default: 1)", ge=1, le=16, advanced=True
    )
    loss: Literal["l1", "mse"] = setting(
        "l1", "distance of the restored image and the clean one", group="Training", advanced=True
    )

    def degradation_config(self) -> DegradationConfig:
        """The degradation that the network learns to undo."""
        return DegradationConfig.model_validate(
            {name: getattr(self, name) for name in DegradationConfig.model_fields}
        )


class TrainStudent(QuickOptions, LoopOptions):
    """Everything that defines the training of a student of few calls."""

    option_group: ClassVar[str] = "Model"

    run: str | None = setting(
        None,
        "model to distill: a run, a checkpoint or a model of the package (default: the newest run that is no"
        " student)",
    )
    calls: int = setting(4, "calls of the network by which the student draws an image", ge=1, le=64)
    teacher_steps: int | None = setting(
        None,
        "DDIM steps of the teacher, a multiple of --calls (default: 48; of a student its calls)",
        ge=1,
        le=1000,
        advanced=True,
    )
    trajectories: int = setting(
        20_000, "samples of the teacher that the student learns from", ge=16, le=10**7, group="Data"
    )
    trajectories_folder: str | None = setting(
        None,
        "folder that keeps the samples: read where it has them, else drawn and written; for a resumed"
        " training, and for students of fewer calls (default: they are not kept)",
        group="Data",
        min_length=1,
        advanced=True,
    )
    guidance_low: float | None = setting(
        None,
        "smallest guidance that the student learns (default: 1; of a student what it has learned)",
        ge=0,
        le=100,
        group="Data",
        advanced=True,
    )
    guidance_high: float | None = setting(
        None,
        "largest guidance that the student learns (default: 3, or the model's own where that is more; of a"
        " student what it has learned)",
        ge=0,
        le=100,
        group="Data",
    )

    huber: float | None = setting(
        None,
        "error of x_0 above which it counts by its size instead of its square, for sharp pixels (0: never;"
        " default: 0.05 of a model of pixels, 0 of latents)",
        ge=0,
        le=100,
        group="Training",
        advanced=True,
    )
    perceptual: float | None = setting(
        None,
        "weight of the perceptual loss of a model of pixels (by mnist for digits, else efficientnet-lite0),"
        " against the error of x_0; for sharp pictures in few calls (default: 20 for 28x28 grey digits, else"
        " 0)",
        ge=0,
        le=1000,
        group="Training",
        advanced=True,
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.teacher_steps is not None and self.teacher_steps % self.calls:
            raise ValueError(
                f"`teacher_steps` must be a multiple of `calls`, got {self.teacher_steps} and {self.calls}"
            )
        low, high = 1.0 if self.guidance_low is None else self.guidance_low, self.guidance_high
        if high is not None and high < low:
            raise ValueError(f"`guidance_low` must not exceed `guidance_high`, got {low:g} > {high:g}")
        if self.huber is not None and 0 < self.huber < 1e-4:
            raise ValueError(f"`huber` must be 0 or at least 0.0001, got {self.huber:g}")
        return self
