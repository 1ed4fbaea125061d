"""The model that a study looks at: one that the user named, or one that the study trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import GIVEN, StudyContext
from latentdiff.apps.studies.kit.presets import PixelNumbers
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.data import Dataset
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.folder import Checkpoint
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline, from_checkpoint
from latentdiff.train.state import STATE, load_train_state

PIXELS = "digits-pixels"  # of the models in the package
LEARNED = ("mnist5k", "mnist")  # data whose test images it has not seen


def pixels_to_look_at(
    lab: StudyContext, numbers: PixelNumbers | None, *, latents: bool = False, **changed: Any
) -> Pipeline:
    """The class-conditional model of pixels of a study: that of --run, which may also be one of ``latents``
    where these do.

    Else trained by ``numbers`` with the options ``changed``, or (None) that of the package for digits, and a
    small one for other images.
    """
    with lab.part("model" if latents else "model of pixels"):
        if lab.run is not None:
            return model_of(lab, lab.run, lab.data, pixels=not latents)
        folder = shipped_folder(PIXELS) if numbers is None and lab.data.name in LEARNED else None
        if folder is not None:
            return model_of(lab, folder, lab.data, pixels=True)
        return pipeline_of(lab, presets.pixels(lab, "pixels", numbers or PixelNumbers(), **changed))


def colours_to_look_at(lab: StudyContext, numbers: PixelNumbers, data: Dataset, **changed: Any) -> Pipeline:
    """The model of colour images: that of --run-colour, or trained by ``numbers``."""
    with lab.part("colour: model"):
        if lab.run_colour is not None:
            return model_of(lab, lab.run_colour, data, name=GIVEN[1])
        return pipeline_of(lab, presets.pixels(lab, "colour-pixels", numbers, data=data, **changed))


def model_of(
    lab: StudyContext,
    run: Path,
    data: Dataset,
    *,
    name: str = GIVEN[0],
    pixels: bool = False,
    texts: bool = False,
) -> Pipeline:
    """The model in a run folder, noted in the results.

    InputError for one that does not draw such images, or not in this way.
    """
    checkpoint = locate(run)
    pipeline = from_checkpoint(checkpoint).to(lab.device)
    shape = tuple(pipeline.codec.image_shape)
    if shape != tuple(data.shape):
        raise InputError(
            f"{run}: expected a model of images {list(data.shape)}, as {data.name} has, got {list(shape)}"
        )
    if pixels and not isinstance(pipeline.codec, IdentityCodec):
        raise InputError(
            f"{run}: expected a model of pixels, whose noise turns and splits as its images do, got one of"
            " latents"
        )
    if texts and pipeline.tokenizer is None:
        raise InputError(
            f"{run}: expected a model that listens to texts (`train-denoiser --text`), got one that does not"
        )
    if not texts and pipeline.classes and pipeline.classes != data.classes:
        raise InputError(
            f"{run}: expected the classes of {data.name}, {_few(data.classes)}, got {_few(pipeline.classes)}"
        )
    lab.runs[name] = {"folder": str(checkpoint.folder), "reused": False, **_trained(checkpoint)}
    return pipeline


def _few(names: tuple[str, ...] | None) -> str:
    """Some names, and how many more there are."""
    names = names or ()
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"


def _trained(checkpoint: Checkpoint) -> dict[str, Any]:
    """Steps, seconds and options of its training, where the checkpoint knows them."""
    if STATE not in checkpoint:
        return {}
    progress = load_train_state(checkpoint)
    return {"step": progress.step, "seconds": progress.elapsed, "options": progress.options}
