"""Networks and processes of diffusers in the calls of this package, by a fixed table of classes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import diffusers
import torch
from torch import Tensor, nn

from latentdiff.config.base import parse
from latentdiff.config.diffusion import DiffusionConfig
from latentdiff.errors import InputError
from latentdiff.nn import Autoencoder, ExternalModel, ForeignConfig, ForeignVAEConfig, Origin, Posterior
from latentdiff.nn.autoencoder import LOGVAR_MAX, LOGVAR_MIN
from latentdiff.pipeline.checkpoint.diffusers_folder import (
    AUTOENCODERS,
    CONFIG,
    LIBRARY,
    SCHEDULER_CONFIG,
    SCHEDULERS,
    UNET,
    WEIGHTS,
    DDIMFacts,
    DDPMFacts,
    KLFacts,
    SchedulerFacts,
    UNetFacts,
    VAEFacts,
)
from latentdiff.pipeline.checkpoint.folder import Checkpoint, bytes_of, check_tensors
from latentdiff.pipeline.codec import LatentStatistics
from latentdiff.pipeline.diffusers.fused import PREDICTIONS

KINDS = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
"""Names of schedules, diffusers' and ours."""
CLASSES: dict[str, Any] = {
    "UNet2DModel": diffusers.UNet2DModel,
    "AutoencoderKL": diffusers.AutoencoderKL,
    "AutoencoderTiny": diffusers.AutoencoderTiny,
}
ATTENTION_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Layers of attention in files before diffusers 0.13, and today."""
Out = TypeVar("Out")


class DiffusersUNet(ExternalModel):
    """A UNet2DModel: x_t [B, C, H, W], t [B], labels [B] -> out [B, C, H, W]. It knows no null class."""

    config: ForeignConfig

    def __init__(self, inner: nn.Module, origin: Origin, facts: UNetFacts) -> None:
        super().__init__(inner, origin)
        self.config = ForeignConfig(
            shape=facts.shape, width=facts.block_out_channels[0], num_classes=facts.num_class_embeds or 0
        )

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Its output in float32 at whole timesteps; InputError without labels if trained with classes."""
        if labels is None and self.config.num_classes:
            raise InputError("this UNet2DModel of diffusers needs a class: expected one, got none")
        out: Tensor = self.inner(x.to(self.inner.dtype), t.long(), class_labels=labels, return_dict=False)[0]
        return out.float()


class DiffusersAutoencoder(ExternalModel, Autoencoder):
    """An AutoencoderKL or AutoencoderTiny for images of one size; what it decodes is clipped to [-1, 1]."""

    config: ForeignVAEConfig

    @property
    def variational(self) -> bool:
        """True of an AutoencoderKL."""
        return not isinstance(self.inner, diffusers.AutoencoderTiny)

    def __init__(self, inner: nn.Module, origin: Origin, config: ForeignVAEConfig) -> None:
        super().__init__(inner, origin)
        self.config = config

    def encode(self, x: Tensor) -> Posterior:
        """The posterior of images [B, C, H, W], very narrow for an AutoencoderTiny. ValueError for shapes."""
        if x.shape[1:] != self.config.image:
            raise ValueError(f"x: expected shape {['B', *self.config.image]}, got {list(x.shape)}")
        answer = self.inner.encode(x.to(self.inner.dtype), return_dict=False)[0]
        if isinstance(answer, Tensor):
            return Posterior(answer.float(), torch.full_like(answer, LOGVAR_MIN, dtype=torch.float32))
        return Posterior(answer.mean.float(), answer.logvar.float().clamp(LOGVAR_MIN, LOGVAR_MAX))

    def decode(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W] of latents, clipped to [-1, 1]. ValueError for shapes."""
        return self.decode_raw(z).clamp(-1, 1)

    def decode_raw(self, z: Tensor) -> Tensor:
        """Images [B, C, H, W] of latents, not clipped: beyond [-1, 1] they have a gradient, too."""
        if z.shape[1:] != self.config.latent:
            raise ValueError(f"z: expected shape {['B', *self.config.latent]}, got {list(z.shape)}")
        out: Tensor = self.inner.decode(z.to(self.inner.dtype), return_dict=False)[0]
        return out.float()

    def pixels(self, raw: Tensor) -> Tensor:
        """The images themselves."""
        return raw

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """Those of the encoder, and of the convolution that an AutoencoderKL may have behind it."""
        for name in ("encoder", "quant_conv"):
            if isinstance(part := getattr(self.inner, name, None), nn.Module):
                yield from part.parameters()


def read_unet(checkpoint: Checkpoint, folder: str) -> DiffusersUNet:
    """The UNet2DModel in ``folder`` of a checkpoint; InputError names what does not fit."""
    values, where = _values(checkpoint, folder, UNET[1:])
    facts = parse(UNetFacts, values, where)
    blank = _blank(values, where)
    _check_answer(blank, facts, where)
    inner = _filled(checkpoint, folder, values, blank)
    return DiffusersUNet(inner, _origin(values), facts).eval()


def read_autoencoder(
    checkpoint: Checkpoint, folder: str, image: tuple[int, ...] | None
) -> tuple[DiffusersAutoencoder, LatentStatistics]:
    """The autoencoder in ``folder`` for ``image`` [C, H, W] (None: those it was trained on), and how its
    latents are normalised.

    That is as diffusers' pipelines do it: (z - shift_factor) scaling_factor, or (z - latents_mean)
    scaling_factor / latents_std where it has these. InputError names what does not fit.
    """
    values, where = _values(checkpoint, folder, AUTOENCODERS)
    facts = parse(KLFacts if values["_class_name"] == "AutoencoderKL" else VAEFacts, values, where)
    shape = image or facts.image
    if shape is None:
        raise InputError(f"{where}: does not say for which images it is, expected sample_size")
    if shape[0] != facts.in_channels:
        hint = f"; expected images of {facts.in_channels} channels (--channels {facts.in_channels})"
        raise InputError(f"{where}: is for images of {facts.in_channels} channels, got {list(shape)}{hint}")
    blank = _blank(values, where)
    config = parse(ForeignVAEConfig, {"image": shape, "latent": _latent(blank, facts, shape, where)}, where)
    inner = _filled(checkpoint, folder, values, blank)
    mean = facts.latents_mean or (facts.shift_factor or 0.0,) * facts.latent_channels
    std = facts.latents_std or (1.0,) * facts.latent_channels
    statistics = LatentStatistics(torch.tensor(mean), torch.tensor(std) / facts.scaling_factor)
    return DiffusersAutoencoder(inner, _origin(values), config).eval(), statistics


def _values(
    checkpoint: Checkpoint, folder: str, names: tuple[str, ...] | list[str]
) -> tuple[dict[str, Any], str]:
    """The configuration of a network of one of the classes ``names``, and where it lies."""
    where = str(checkpoint.path(f"{folder}/{CONFIG}"))
    values = checkpoint.json(f"{folder}/{CONFIG}")
    if values.get("_class_name") not in names:
        raise InputError(
            f"{where}: expected class {' or '.join(names)}, found {values.get('_class_name')!r:.60}"
        )
    try:
        json.dumps(values, allow_nan=False)
    except ValueError:
        raise InputError(f"{where}: expected finite numbers, found NaN or Infinity") from None
    return values, where


def _origin(values: Mapping[str, Any]) -> Origin:
    return Origin(LIBRARY, values["_class_name"], values)


def _blank(values: Mapping[str, Any], where: str) -> Any:
    """The network of a configuration without memory for its weights; InputError if diffusers makes none."""
    with torch.device("meta"):
        return attempted(lambda: _constructed(values), where)


def _constructed(values: Mapping[str, Any]) -> Any:
    cls = CLASSES[values["_class_name"]]
    known = inspect.signature(cls.__init__).parameters
    return cls(**{key: value for key, value in values.items() if key in known})


def _filled(checkpoint: Checkpoint, folder: str, values: Mapping[str, Any], blank: Any) -> Any:
    """The network with its weights, float32 on the CPU; the global generator is left as it was."""
    name = f"{folder}/{WEIGHTS}"
    shapes = {key: value.shape for key, value in blank.state_dict().items()}
    tensors = _renamed(checkpoint.tensors(name, limit=bytes_of(shapes.values())), shapes)
    check_tensors(tensors, shapes, str(checkpoint.path(name)))
    with torch.random.fork_rng(devices=[]):
        network = _constructed(values)
    network.load_state_dict(tensors)
    return network.eval()


def _renamed(tensors: dict[str, Tensor], expected: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of files before diffusers 0.13 under the names of today, as diffusers reads them too."""
    for old, new in ATTENTION_NAMES.items():
        for name in [name for name in tensors if f".{old}." in name and name not in expected]:
            today = name.replace(f".{old}.", f".{new}.")
            if today in expected and today not in tensors:
                tensors[today] = tensors.pop(name)
    return tensors


def attempted(make: Callable[[], Out], where: str) -> Out:
    """What ``make`` gives; whatever diffusers has against the file ``where`` as an InputError in one line."""
    try:
        return make()
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{where}: diffusers cannot use this configuration ({reason})") from None


def _check_answer(blank: Any, facts: UNetFacts, where: str) -> None:
    """InputError unless the network, which has no weights yet, answers a picture with one of its shape."""
    x, t, y = torch.zeros(1, *facts.shape, device="meta"), torch.zeros(1, device="meta"), None
    if facts.num_class_embeds:
        y = torch.zeros(1, dtype=torch.int64, device="meta")
    found = attempted(lambda: list(blank(x, t, class_labels=y, return_dict=False)[0].shape[1:]), where)
    if found != list(facts.shape):
        raise InputError(
            f"{where}: expected answers {list(facts.shape)} to pictures of that shape, found {found}"
        )


def _latent(blank: Any, facts: VAEFacts, image: tuple[int, ...], where: str) -> tuple[int, ...]:
    """The shape of the latents of images [C, H, W]: both sides divided by one number.

    InputError for images whose sides it does not divide, and an autoencoder whose shapes differ.
    """
    tiny = isinstance(blank, diffusers.AutoencoderTiny)
    factor = 2 ** (len(facts.num_encoder_blocks if tiny else facts.block_out_channels) - 1)
    if any(side % factor for side in image[1:]):
        raise InputError(f"{where}: is for images with sides divisible by {factor}, got {list(image)}")
    latent = (facts.latent_channels, image[1] // factor, image[2] // factor)

    def shapes() -> tuple[list[int], list[int]]:
        inside, back = (
            part(torch.zeros(1, *shape, device="meta")).shape
            for part, shape in ((blank.encoder, image), (blank.decoder, latent))
        )
        return [latent[0], *inside[2:]], list(back[1:])

    found = attempted(shapes, where)
    if found != (list(latent), list(image)):
        raise InputError(
            f"{where}: expected latents {list(latent)} of images {list(image)} and back, found {found[0]} and"
            f" {found[1]}"
        )
    return latent


def read_process(checkpoint: Checkpoint) -> DiffusionConfig:
    """The process of the scheduler of a pipeline; InputError names what has no counterpart here."""
    name = f"scheduler/{SCHEDULER_CONFIG}"
    values, where = checkpoint.json(name), str(checkpoint.path(name))
    scheduler = values.get("_class_name")
    if scheduler not in SCHEDULERS:
        raise InputError(f"{where}: expected class {' or '.join(SCHEDULERS[:2])}, found {scheduler!r:.60}")
    facts = parse(DDPMFacts if "DDPM" in scheduler else DDIMFacts, values, where)
    process = {
        "schedule": _schedule(facts, where),
        "prediction": PREDICTIONS[facts.prediction_type],
        "clip": facts.clip_sample_range if facts.clip_sample else None,
        "noise": "large" if getattr(facts, "variance_type", "") == "fixed_large" else "small",
        "rules": "diffusers",
    }
    return parse(DiffusionConfig, process, where)


def _schedule(facts: SchedulerFacts, where: str) -> dict[str, Any]:
    """The table of a scheduler by the name that it has here, or as it is."""
    about: dict[str, Any] = {
        "T": facts.num_train_timesteps,
        "zero_terminal_snr": facts.rescale_betas_zero_snr,
    }
    if facts.trained_betas is not None:
        return about | {"kind": "betas", "betas": facts.trained_betas}
    if facts.beta_schedule not in KINDS:
        options = {name: getattr(facts, name) for name in ("beta_start", "beta_end", "beta_schedule")}
        made: Any = diffusers.DDPMScheduler
        scheduler = attempted(lambda: made(facts.num_train_timesteps, **options), where)
        return about | {"kind": "betas", "betas": scheduler.betas.double().tolist()}
    about["kind"] = KINDS[facts.beta_schedule]
    if about["kind"] != "cosine":
        about |= {"beta_start": facts.beta_start, "beta_end": facts.beta_end}
    return about
