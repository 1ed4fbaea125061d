"""Folders of diffusers as checkpoints with this package's model index; reading needs no diffusers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from latentdiff.config.base import Config, parse
from latentdiff.errors import InputError
from latentdiff.files.untrusted import RegularFile, read_json
from latentdiff.nn.base_config import Classes, Side
from latentdiff.pipeline.checkpoint.folder import INDEX, Checkpoint

LIBRARY = "diffusers"
CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
PIPELINES = ("DDPMPipeline", "DDIMPipeline")
AUTOENCODERS = ("AutoencoderKL", "AutoencoderTiny")
SCHEDULERS = ("DDPMScheduler", "DDIMScheduler", "FusedDDPMScheduler", "FusedDDIMScheduler")
# the last two: files that were saved by early versions name the module of our schedulers
LIBRARIES = (LIBRARY, "latentdiff", "latentdiff.compat.diffusers.ddim", "latentdiff.compat.diffusers.ddpm")
"""Where an index says that a scheduler comes from."""
UNET = [LIBRARY, "UNet2DModel"]
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class DiffusersFolder(Checkpoint):
    """A folder without a manifest: ``files`` by the names they would have in a checkpoint, ``paths`` by
    the same names.

    There are no hashes to check the files against. ``index`` is the model index in the form of this package.
    """

    index: Mapping[str, Any]
    paths: Mapping[str, Path]
    has_manifest: ClassVar[bool] = False

    def path(self, name: str) -> Path:
        return self.folder if name == INDEX else self.paths.get(name, self.folder / name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the files themselves, as there is no manifest."""
        hashes = [(name, RegularFile(self.path(name)).sha256()) for name in sorted(self.paths)]
        return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()

    def json(self, name: str, **limits: int) -> dict[str, Any]:
        return dict(self.index) if name == INDEX else super().json(name, **limits)

    def _sound(self, name: str) -> RegularFile:
        if name not in self.files:
            raise InputError(f"{self.folder}: a folder of diffusers has no {name}")
        return RegularFile(self.paths[name])

    def _check_sha256(self, name: str, found: Callable[[], str]) -> None:
        """There is no manifest to compare with."""


def open_folder(folder: Path) -> DiffusersFolder | None:
    """The folder of a diffusers pipeline, autoencoder or UNet2DModel as a checkpoint; None where it is none.

    InputError, one line, where it is one that has no counterpart here or lacks a file. Weights are not read
    yet.
    """
    if (folder / INDEX).is_file():
        index = _settings(folder / INDEX)
        parts = (entry for name, entry in index.items() if name != "scheduler")  # which may be of either
        ours = any(isinstance(entry, list) and entry[:1] == ["latentdiff"] for entry in parts)
        return None if ours else _pipeline(folder, index)
    if (folder / CONFIG).is_file() and isinstance(name := _settings(folder / CONFIG).get("_class_name"), str):
        return _alone(folder, name)
    return None


def _pipeline(folder: Path, index: Mapping[str, Any]) -> DiffusersFolder:
    """A DDPMPipeline or DDIMPipeline of a UNet2DModel."""
    where, name = folder / INDEX, index.get("_class_name")
    if name not in PIPELINES:
        has_vae = (folder / "vae" / CONFIG).is_file()
        hint = f"; for its autoencoder alone name {folder / 'vae'}" if has_vae else ""
        raise InputError(f"{where}: expected {' or '.join(PIPELINES)} of diffusers, found {name!r:.60}{hint}")
    if index.get("unet") != UNET:
        raise InputError(f"{where}: expected unet as {UNET}, found {index.get('unet')!r:.80}")
    scheduler = index.get("scheduler")
    if scheduler not in [[library, name] for library in LIBRARIES for name in SCHEDULERS]:
        raise InputError(
            f"{where}: expected a scheduler of {', '.join(SCHEDULERS[:2])}, found {scheduler!r:.80}"
        )
    unet, process = _part(folder, "unet", CONFIG), _part(folder, "scheduler", SCHEDULER_CONFIG)
    facts = parse(PictureUNetFacts, _settings(unet / CONFIG), str(unet / CONFIG))
    paths = _unet_paths(unet) | {f"scheduler/{SCHEDULER_CONFIG}": _present(process / SCHEDULER_CONFIG)}
    entries = _unet_entries(facts) | {"scheduler": [LIBRARY, scheduler[1]]}
    return _view(folder, {"_class_name": name, **entries}, paths)


def _part(folder: Path, name: str, file: str) -> Path:
    """The folder of a part of a pipeline with its ``file``: those of early versions lie beside the index."""
    beside = not (folder / name).is_dir() and (folder / file).is_file()
    return folder if beside else folder / name


def _unet_paths(folder: Path) -> dict[str, Path]:
    return {f"denoiser/{CONFIG}": folder / CONFIG, f"denoiser/{WEIGHTS}": _weights(folder)}


def _unet_entries(facts: UNetFacts) -> dict[str, Any]:
    return {
        "denoiser": UNET,
        "scheduler": [None, None],
        "vae": [None, None],
        "classes": [str(k) for k in range(facts.num_class_embeds or 0)],
        "image": list(facts.shape),
        "data": "",
    }


def _alone(folder: Path, name: str) -> DiffusersFolder:
    """An autoencoder without a pipeline, or a UNet2DModel, with the scheduler of the pipeline around it."""
    if name == UNET[1]:
        facts = parse(UNetFacts, _settings(folder / CONFIG), str(folder / CONFIG))
        paths, entries = _unet_paths(folder), _unet_entries(facts)
        around = folder.resolve().parent / "scheduler" / SCHEDULER_CONFIG
        if folder.resolve().name == "unet" and around.is_file():
            paths[f"scheduler/{SCHEDULER_CONFIG}"] = around
            entries["scheduler"] = [LIBRARY, str(_settings(around).get("_class_name"))]
        return _view(folder, {"_class_name": name, **entries}, paths)
    if name not in AUTOENCODERS:
        raise InputError(
            f"{folder / CONFIG}: expected {' or '.join(AUTOENCODERS)} of diffusers, found class {name!r:.60}"
        )
    paths = {f"vae/{CONFIG}": folder / CONFIG, f"vae/{WEIGHTS}": _weights(folder)}
    return _view(folder, {"_class_name": name, "vae": [LIBRARY, name]}, paths)


def _view(folder: Path, index: Mapping[str, Any], paths: Mapping[str, Path]) -> DiffusersFolder:
    return DiffusersFolder(
        folder, {name: {"bytes": path.stat().st_size} for name, path in paths.items()}, index, paths
    )


def _weights(folder: Path) -> Path:
    """The weights in a folder; InputError where they are pickled, in parts or missing."""
    path = folder / WEIGHTS
    if path.is_file():
        return path
    if path.is_symlink() or path.exists():
        raise InputError(f"{path}: expected a file of weights, found something else")
    names = sorted(each.name for each in folder.iterdir()) if folder.is_dir() else []
    pickled = [name for name in names if name.endswith(PICKLES)]
    if pickled:
        raise InputError(
            f"{folder / pickled[0]}: is a pickle, which could run anything and is never read; expected"
            f" {WEIGHTS}, as save_pretrained writes it"
        )
    others = [name for name in names if name.endswith((".safetensors", ".index.json"))]
    found = f" (found {others[0]}: weights in parts or in variants are not read)" if others else ""
    raise InputError(f"{folder}: expected {WEIGHTS} in it{found}")


def _present(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def _settings(path: Path) -> dict[str, Any]:
    return read_json(_present(path))


PictureChannels = Literal[1, 3]
Count = Annotated[int, Field(ge=0, le=64)]  # of layers: a file must not make us build forever
Channels = Annotated[int, Field(ge=1, le=65_536)]
Scale = Annotated[float, Field(ge=1e-6, le=1e6)]  # of latents: beyond it float32 holds no images any more
Sizes = Annotated[tuple[Channels, ...], Field(min_length=1, max_length=16)]
Counts = Annotated[tuple[Count, ...], Field(min_length=1, max_length=16)]
Names = Annotated[tuple[str, ...], Field(min_length=1, max_length=16)]


class Facts(Config):
    """A configuration of diffusers, read as far as it matters, with its own defaults.

    Keys that are not named choose how a network is built, which its weights' names and shapes then confirm. A
    key that is named with one value is a thing that has no counterpart here.
    """

    model_config = ConfigDict(extra="ignore")


def _sides(size: int | tuple[int, int]) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)


class UNetFacts(Facts):
    """Of a UNet2DModel on pictures or latents, conditioned on the timestep and perhaps a class."""

    sample_size: Side | tuple[Side, Side]
    in_channels: Channels = 3
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


class PictureUNetFacts(UNetFacts):
    """Of a UNet2DModel on pictures."""

    in_channels: PictureChannels = 3


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
