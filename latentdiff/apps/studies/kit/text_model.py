"""The model of a study about texts: one that the user named, the one that ships with the package, or one that
the study trains.
"""

from __future__ import annotations

from pathlib import Path

from latentdiff.apps.studies.kit import presets
from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.kit.model import model_of
from latentdiff.apps.studies.kit.presets import TextNumbers
from latentdiff.apps.studies.kit.training import pipeline_of
from latentdiff.apps.studies.report.blocks import Words
from latentdiff.data import Dataset
from latentdiff.data.synthetic_scene_images import scenes_of
from latentdiff.data.synthetic_scenes import SETS
from latentdiff.pipeline.checkpoint.pretrained import shipped_models
from latentdiff.pipeline.pipeline import Pipeline, load

SHIPPED = "scenes"  # of the models in the package


def scenes_to_read(lab: StudyContext, counts: tuple[int, int, int]) -> Dataset:
    """The data of the study where their captions can be read back, else ``counts`` of scenes."""
    return lab.data if lab.data.name in SETS else scenes_of(counts, seed=0)


def model_of_texts(lab: StudyContext, numbers: TextNumbers | None, data: Dataset) -> tuple[Pipeline, Words]:
    """A model that listens to texts, trained by ``numbers`` or (None) of the package if it has one, and where
    it comes from.
    """
    if lab.run is not None:
        return _given(lab, lab.run, data)
    if numbers is None and (found := _shipped(lab, SHIPPED)) is not None:
        return found
    numbers = numbers or TextNumbers()
    with lab.part("model"):
        pipeline = pipeline_of(lab, presets.texts(lab, "scenes", numbers, data=data))
    return pipeline, _trained(numbers.steps, numbers.batch)


def _given(lab: StudyContext, run: Path, data: Dataset) -> tuple[Pipeline, Words]:
    with lab.part("model"):
        pipeline = model_of(lab, run, data, texts=True)
    return pipeline, Words(f"The model is {run}, which was given and not trained for this page.")


def _trained(steps: int, batch: int) -> Words:
    return Words(f"The model was trained for this page: {steps:,} steps of {batch} pictures.")


def _shipped(lab: StudyContext, name: str) -> tuple[Pipeline, Words] | None:
    model = next((each for each in shipped_models() if each.name == name), None)
    if model is None:
        return None
    how, where = "; ".join(model.about["commands"]), model.about["hardware"]
    return load(model.folder).to(lab.device), Words(
        f"The model is {name} of the package, made by `{how}` ({where})."
    )
