"""The model of a study: the one of --run, one that ships with the package, or one trained from a preset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import GIVEN, StudyContext
from latentdiff.apps.studies.kit.presets import PixelPreset, TextPreset
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Block, Paragraph, Section
from latentdiff.data import Dataset
from latentdiff.data.synthetic_scene_images import scenes_of
from latentdiff.data.synthetic_scenes import SETS
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.pretrained import about as shipped_about
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder, shipped_models
from latentdiff.pipeline.checkpoint.runs import locate
from latentdiff.pipeline.codec import IdentityCodec
from latentdiff.pipeline.pipeline import Pipeline, from_checkpoint, load
from latentdiff.train.state import STATE, load_train_state

DIGITS, LATENT_DIGITS, SCENES = "digits-pixels", "digits", "scenes"  # in the package
THINGS_MODEL, PHOTOS_MODEL = "things", "clothes-text"  # of 64 x 64 pixels, for texts
# data whose test images took no part in the training of these models: the images of mnist5k, on which DIGITS
# was trained, are test images of mnist
DIGITS_DATA, LATENT_DIGITS_DATA = ("mnist5k",), ("mnist5k", "mnist")


def pixel_model(
    context: StudyContext, preset: PixelPreset, *, latents: bool = False, **changed: Any
) -> Pipeline:
    """The class-conditional pixel model: of --run (with ``latents`` also a latent model), else the shipped
    one for its digits, else trained from ``preset`` with the options ``changed``.
    """
    with context.part("model" if latents else "model of pixels"):
        folder = context.run
        if folder is None and context.data.name in DIGITS_DATA:
            folder = shipped_folder(DIGITS)
        if folder is not None:
            return load_given(context, folder, context.data, pixels=not latents)
        return pipeline_of(context, presets.train_pixels(context, "pixels", preset, **changed))


def latent_model(context: StudyContext) -> tuple[Pipeline, Paragraph, list[Pipeline]] | None:
    """The model of --run, or the shipped one of the latents of digits; its origin as text, and its students
    in the package.

    None for other data, which need a training. InputError for a student, which has one number of steps.
    """
    if context.run is not None:
        with context.part("model"):
            pipeline = load_given(context, context.run, context.data)
        pipeline.check_levels()
        students = students_of(context, context.run.name) if shipped_about(context.run) else []
        return pipeline, Paragraph(f"The model is {context.run}, given with --run."), students
    folder = shipped_folder(LATENT_DIGITS)
    if folder is None or context.data.name not in LATENT_DIGITS_DATA:
        return None
    text = f"The model is {LATENT_DIGITS} of the package, trained on {shipped_about(folder)['data']}."
    return load(folder).to(context.device), Paragraph(text), students_of(context, LATENT_DIGITS)


def students_of(context: StudyContext, name: str) -> list[Pipeline]:
    """The shipped students of a shipped model, on the device of the study."""
    found = [model for model in shipped_models() if model.about.get("teacher") == name]
    return [load(model.folder).to(context.device) for model in found]


def colour_model(context: StudyContext, preset: PixelPreset, data: Dataset, **changed: Any) -> Pipeline:
    """The model of colour images: of --run-colour, else trained from ``preset``."""
    with context.part("colour: model"):
        if context.run_colour is not None:
            return load_given(context, context.run_colour, data, name=GIVEN[1])
        return train_colour(context, preset, data, **changed)


def train_colour(context: StudyContext, preset: PixelPreset, data: Dataset, **changed: Any) -> Pipeline:
    """A model of the pixels of colour images, trained from ``preset``."""
    return pipeline_of(context, presets.train_pixels(context, "colour-pixels", preset, data=data, **changed))


def readable_scenes(context: StudyContext, counts: tuple[int, int, int]) -> Dataset:
    """The data of the study if their captions can be parsed, else ``counts`` of generated scenes."""
    return context.data if context.data.name in SETS else scenes_of(counts, seed=0)


def text_model(context: StudyContext, preset: TextPreset | None, data: Dataset) -> tuple[Pipeline, Paragraph]:
    """The text-conditional model, of --run, trained from ``preset`` or (None) shipped; its origin as text."""
    if context.run is not None:
        with context.part("model"):
            pipeline = load_given(context, context.run, data, texts=True)
        return pipeline, Paragraph(f"The model is {context.run}, given with --run.")
    shipped = [model for model in shipped_models() if model.name == SCENES]
    if preset is None and shipped:
        commands, hardware = "; ".join(shipped[0].about["commands"]), shipped[0].about["hardware"]
        text = f"The model is {SCENES} of the package, trained by `{commands}` ({hardware})."
        return load(shipped[0].folder).to(context.device), Paragraph(text)
    preset = preset or TextPreset()
    with context.part("model"):
        pipeline = pipeline_of(context, presets.train_texts(context, "scenes", preset, data=data))
    text = f"The model was trained for this page: {preset.steps:,} steps of {preset.batch} images."
    return pipeline, Paragraph(text)


def larger_section(
    context: StudyContext, model: str, title: str, about: str, draw: Callable[[Pipeline], Iterable[Block]]
) -> Iterator[Section]:
    """The section of what ``draw`` makes by a shipped text-conditional model of 64 x 64 pixels; none where
    --run gives the model of the study.
    """
    folder = None if context.run is not None else shipped_folder(model)
    if folder is None:
        return
    where = f"The model is {model} of the package, of 64 x 64 pixels: {shipped_about(folder)['data']}."
    with context.part(f"larger pictures: {model}"):
        blocks = tuple(draw(load(folder).to(context.device)))
    yield Section(title, about, Paragraph(where), *blocks)


def load_given(
    context: StudyContext,
    run: Path,
    data: Dataset | None,
    *,
    name: str = GIVEN[0],
    pixels: bool = False,
    texts: bool = False,
) -> Pipeline:
    """The model of a run folder, recorded in the results; ``data`` None: of any images.

    InputError for another image shape, other classes, latents where ``pixels`` are needed, or no text
    conditioning where ``texts`` need it.
    """
    checkpoint = locate(run)
    pipeline = from_checkpoint(checkpoint).to(context.device)
    shape = tuple(pipeline.codec.image_shape)
    if data is not None and shape != tuple(data.shape):
        raise InputError(
            f"{run}: expected a model of images {list(data.shape)}, as {data.name} has, got {list(shape)}"
        )
    if pixels and not isinstance(pipeline.codec, IdentityCodec):
        raise InputError(
            f"{run}: expected a model of pixels, whose noise turns and splits as its images do, got one of"
            " latents"
        )
    if texts and pipeline.tokenizer is None:
        raise InputError(f"{run}: expected a text-conditional model (`train-denoiser --text`), got another")
    if data is not None and not texts and pipeline.classes and pipeline.classes != data.classes:
        raise InputError(
            f"{run}: expected the classes of {data.name}, {_few(data.classes)}, got {_few(pipeline.classes)}"
        )
    context.runs[name] = {"folder": str(checkpoint.folder), "reused": False}
    if STATE in checkpoint:
        state = load_train_state(checkpoint)
        context.runs[name] |= {"step": state.step, "seconds": state.elapsed, "options": state.options}
    return pipeline


def _few(names: tuple[str, ...] | None) -> str:
    """The first three names and the number of the others."""
    names = names or ()
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "") or "none"
