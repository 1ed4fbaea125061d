"""A request of the page: its controls, checked, and as the settings of the package."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from latentdiff.apps.ui.limits import GUIDANCE, IMAGES, PROMPT, STEPS
from latentdiff.apps.ui.models import ListedModel
from latentdiff.config.base import Config, parse
from latentdiff.config.recipe import Recipe
from latentdiff.config.sampling import SAMPLERS, Sampler, Sampling
from latentdiff.data.classes import class_index
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.runs import recipe_of

ALL_CLASSES = ""  # the value of the class control that stands for all classes in turn


class PageRequest(Config):
    """The controls; ``label`` is a class by name or ALL_CLASSES, ``prompt`` "" for none."""

    label: str = Field(ALL_CLASSES, max_length=300)
    prompt: str = Field("", max_length=PROMPT)
    sampler: Sampler = "ddim"
    steps: int = Field(50, ge=1, le=STEPS)
    guidance: float = Field(1.0, ge=0, le=GUIDANCE)
    seed: int = Field(0, ge=0, le=2**62)
    n: int = Field(4, ge=1, le=IMAGES)

    def settings(self, model: ListedModel) -> Sampling:
        """The settings for a model; InputError for a guidance that lacks a prompt or a conditional model."""
        if self.guidance not in (0, 1) and not self._names(model):
            what = "a prompt" if model.takes_text else "a model conditioned on classes or texts"
            raise InputError(f"guidance {self.guidance:g} needs {what} to exaggerate; expected 1 here")
        return Sampling(sampler=self.sampler, steps=self.steps, guidance=self.guidance)

    def labels(self, model: ListedModel) -> list[str] | list[int] | None:
        """A prompt or a class for each image; None: unconditional."""
        names = self._names(model)
        if not names or self.guidance == 0:
            return None
        if model.takes_text:
            return [names[0]] * self.n
        indices = [class_index(model.pipeline.classes, name) for name in names]
        return [indices[k % len(indices)] for k in range(self.n)]

    def _names(self, model: ListedModel) -> list[str]:
        """The prompt, the class, or all classes; [] without a condition."""
        if model.takes_text:
            return [self.prompt] if self.prompt else []
        classes = model.pipeline.classes
        return [self.label] if self.label and classes else list(classes)

    def edit_label(self, model: ListedModel) -> int | str | None:
        """The class or prompt that an image is edited towards; None: unconditional."""
        labels = self.labels(model) if model.takes_text or self.label else None
        return None if labels is None else labels[0]

    def for_edit(self, model: ListedModel) -> PageRequest:
        """These controls for an edit, without guidance where the edit is unconditional."""
        return self if self.edit_label(model) is not None else self.model_copy(update={"guidance": 1.0})

    def recipe(self, model: ListedModel, **more: Any) -> Recipe:
        """The recipe by which `latentdiff sample --like` repeats the pictures."""
        prompts = (self.prompt,) if model.takes_text and self.prompt else ()
        label = None if model.takes_text or not model.pipeline.classes else self.label or None
        settings = model.pipeline.with_defaults(self.settings(model))
        return recipe_of(
            model.checkpoint,
            n=self.n,
            seed=self.seed,
            label=label,
            prompts=prompts,
            settings=(settings,),
            **more,
        )


def usual_steps(sampler: Sampler) -> int:
    """The default steps of a sampler; as many as the page allows where it visits every level."""
    return min(STEPS, SAMPLERS[sampler].steps or STEPS)


def controls_of(recipe: Recipe) -> PageRequest:
    """The controls that repeat a recipe; InputError, one line, for what the page has no control for."""
    settings = recipe.settings[0]
    controls = Sampling(sampler=settings.sampler, steps=settings.steps, guidance=settings.guidance)
    beyond = [
        name
        for name, value in settings
        if value != getattr(controls, name) and (name, value) != ("variance", "small")
    ]
    for name, found in (
        ("several steps", len(recipe.settings) > 1),
        ("an interpolation", recipe.interpolate is not None),
    ):
        beyond += [name] * found
    beyond += ["several prompts"] * (len(recipe.prompts) > 1)
    if beyond:
        raise InputError(
            f"the picture was made with {beyond[0].replace('_', ' ')}, which this page has no control for;"
            " `latentdiff sample --like` repeats it"
        )
    if recipe.n > IMAGES or (settings.steps or 1) > STEPS:
        raise InputError(
            f"the picture shows {recipe.n} images of {settings.steps} steps, expected at most {IMAGES} of"
            f" {STEPS} here; `latentdiff sample --like` repeats it"
        )
    prompt = recipe.prompts[0] if recipe.prompts else ""
    values = {
        "label": recipe.label or ALL_CLASSES,
        "prompt": prompt,
        "sampler": settings.sampler,
        "guidance": settings.guidance,
    }
    return parse(
        PageRequest,
        values
        | {
            "steps": settings.steps or usual_steps(settings.sampler),
            "seed": recipe.seed,
            "n": recipe.n,
        },
        "the picture",
    )
