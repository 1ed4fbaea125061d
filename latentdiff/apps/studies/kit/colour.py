"""The part of a study on colour pictures: its model, and pictures that take no part in a training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from latentdiff.apps.studies.kit.context import GIVEN, StudyContext
from latentdiff.apps.studies.kit.model import load_given, train_colour
from latentdiff.apps.studies.kit.paired import PairedMetrics
from latentdiff.apps.studies.kit.presets import PixelPreset
from latentdiff.data import to_float
from latentdiff.data.classes import indices_by_class
from latentdiff.edit.originals import originals
from latentdiff.pipeline.checkpoint.pretrained import shipped_folder
from latentdiff.pipeline.pipeline import Pipeline, load

COLOUR = "clothes"  # a model of the package


@dataclass(frozen=True, eq=False)
class ColourPart:
    """``images`` float32 [n, C, H, W] in [-1, 1], the class of each in ``labels`` (None without), a model for
    them, their metrics, and ``about``, where both come from.
    """

    pipeline: Pipeline
    images: Tensor
    labels: list[int] | None
    metrics: PairedMetrics
    about: str


def trains_colour(context: StudyContext) -> bool:
    """Whether the study trains a model of colour images: of --data-colour, without --run-colour."""
    return context.colour is not None and context.run_colour is None


def known_model(context: StudyContext) -> tuple[Pipeline, str]:
    """The model of colour images that is not trained: of --run-colour, or the shipped one; its name.

    InputError for a model that does not fit the images of --data-colour.
    """
    with context.part("colour: model"):
        if (run := context.run_colour) is not None:
            return load_given(context, run, context.colour, name=GIVEN[1]), str(run)
        folder = shipped_folder(COLOUR)
        assert folder is not None
        return load(folder).to(context.device), f"{COLOUR} of the package"


def colour_part(context: StudyContext, preset: PixelPreset, n: int) -> ColourPart:
    """The model of --run-colour, one trained from ``preset`` on the images of --data-colour, or the shipped
    one, and ``n`` pictures: test images of --data-colour, else pictures that the model draws itself.

    InputError for a model and data that do not fit each other.
    """
    data = context.colour
    if trains_colour(context):
        assert data is not None
        with context.part("colour: model"):
            pipeline, name = train_colour(context, preset, data, labels=False), "trained for this page"
    else:
        pipeline, name = known_model(context)
    if data is not None:
        chosen = indices_by_class(data.test, n)
        images, known = to_float(data.test.images[chosen]), data.test.labels
        labels = known[chosen].tolist() if known is not None and pipeline.classes else None
        about = f"{data.name}, {len(data.train):,} training images. The model: {name}."
    else:
        images, drawn = originals(pipeline, n, seed=context.seed)
        labels = None if drawn is None else drawn.tolist()
        about = (
            f"The model: {name}. The originals are pictures that it draws itself by DDIM in 50 steps, so that"
            " its prior is the right one and nothing but the degradation hides them."
        )
    return ColourPart(pipeline, images, labels, PairedMetrics.of(context, images=images), about)
