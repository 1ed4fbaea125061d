"""Training presets that several studies share, and the training options that they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from latentdiff.apps.studies.kit import training
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.training import Trained, epoch_marks
from latentdiff.config.training import TrainDenoiser, TrainStudent, TrainVAE
from latentdiff.data import Dataset
from latentdiff.pipeline.pipeline import Pipeline


@dataclass(frozen=True)
class VAEPreset:
    """A VAE: its latent, optimizer steps and batch size."""

    latent: str = "32"
    steps: int = 500
    batch: int = 128
    width: int | None = None


@dataclass(frozen=True)
class MLPPreset:
    """A residual MLP on vector latents."""

    width: int = 256
    depth: int = 3
    steps: int = 1500
    batch: int = 256
    lr: float = 1e-3


@dataclass(frozen=True)
class PixelPreset:
    """A class-conditional UNet of patches on pixels that predicts x_0."""

    width: int = 48
    patch: int = 4
    steps: int = 700
    batch: int = 128
    lr: float = 2e-3
    T: int = 1000


@dataclass(frozen=True)
class TextPreset:
    """A text-conditional denoiser on a spatial latent."""

    vae: VAEPreset = field(default_factory=lambda: VAEPreset(latent="4x8x8", steps=400))
    network: str = "unet"
    prediction: str = "x0"
    width: int = 48
    steps: int = 450
    batch: int = 128
    lr: float = 3e-3


# of the budget `full`, for data that no model of the package fits
LONG_PIXELS, LONG_COLOUR = PixelPreset(steps=8000), PixelPreset(width=96, steps=20_000, patch=2)


def train_vae(
    context: StudyContext, name: str, preset: VAEPreset, *, data: Dataset | None = None, **changed: Any
) -> Trained:
    """Train a VAE; ``changed`` are options that differ from the defaults.

    There is no perceptual term: its network scores the samples and must have no part in the training.
    """
    values = {**_common(context, data), **asdict(preset), "perceptual": 0.0, **changed}
    return training.train_vae(context, name, TrainVAE.model_validate(values), data=data)


def train_denoiser(
    context: StudyContext,
    name: str,
    preset: MLPPreset | PixelPreset | TextPreset,
    *,
    vae: Trained | None = None,
    data: Dataset | None = None,
    **changed: Any,
) -> Trained:
    """Train a denoiser on the latents of a VAE, or on pixels; ``changed`` are options that differ."""
    values = {**_common(context, data), **asdict(preset), "vae": None, **changed}
    options = TrainDenoiser.model_validate(values)
    assert options.steps is not None
    return training.train_denoiser(context, name, options, vae=vae, marks=(options.steps,), data=data)


def train_pixels(
    context: StudyContext, name: str, preset: PixelPreset, *, data: Dataset | None = None, **changed: Any
) -> Trained:
    """Train a denoiser on pixels; ``changed`` are options that differ. See :func:`fitting` for patches."""
    patch = fitting(preset.patch, data or context.data)
    changed = {"pixel": True, "prediction": "x0", "patch": patch, **changed}
    return train_denoiser(context, name, preset, data=data, **changed)


def fitting(patch: int, data: Dataset) -> int:
    """The patch size, halved until it divides the images into at least 4 x 4 patches."""
    while any(side % patch or side // patch < 4 for side in (data.height, data.width)) and patch > 1:
        patch //= 2
    return patch


def train_texts(context: StudyContext, name: str, preset: TextPreset, *, data: Dataset) -> Trained:
    """Train a VAE on captioned images, and a denoiser conditioned on their captions."""
    encoder = train_vae(context, f"{name}-vae", preset.vae, data=data)
    return train_denoiser(context, name, preset, data=data, text=True, vae=encoder)


def train_students(
    context: StudyContext, teacher: Pipeline, calls: Sequence[int], *, trajectories: int, steps: int
) -> list[Trained]:
    """Train a student for each number of ``calls``, without guidance, from so many samples of the teacher."""
    values = {"trajectories": trajectories, "steps": steps, "guidance_high": 1.0, "seed": context.seed}
    options = {
        f"student-{n}": TrainStudent.model_validate(values | {"calls": n, "device": str(context.device)})
        for n in calls
    }
    return training.train_students(context, options, teacher)


def train_epochs(
    context: StudyContext,
    name: str,
    epochs: Sequence[int],
    values: Mapping[str, Any],
    *,
    vae: Trained | None,
    data: Dataset | None = None,
) -> tuple[Trained, dict[int, int]]:
    """Train a denoiser by the options ``values``; returns it and the optimizer step of each of ``epochs``.

    The learning rate is constant, so that the checkpoint of an epoch is that of a training of this length.
    Timesteps are stratified as in validation, so that both losses are means over the same levels.
    """
    size, batch = len((data or context.data).train), int(values["batch"])
    schedule = {"decay": "constant", "time_sampling": "stratified"}
    each = {"validate_every": epoch_marks((1,), size=size, batch=batch)[1]}
    options = TrainDenoiser.model_validate({**_common(context, data), **schedule, **each, **values})
    marks = epoch_marks(epochs, size=size, batch=batch)
    return training.train_denoiser(
        context, name, options, vae=vae, marks=tuple(marks.values()), data=data
    ), marks


def _common(context: StudyContext, data: Dataset | None) -> dict[str, Any]:
    return {"data": (data or context.data).name, "seed": context.seed, "device": str(context.device)}
