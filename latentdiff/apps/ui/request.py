"""What a visitor asks for: the controls of the page, checked, and as the settings of the package."""

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

EVERY = ""  # the class of someone who wants all of them in turn


class PageRequest(Config):
    """The controls; ``label`` is a class by name or EVERY, ``prompt`` a text or nothing in particular."""

    label: str = Field(EVERY, max_length=300)
    prompt: str = Field("", max_length=PROMPT)
    sampler: Sampler = "ddim"
    steps: int = Field(50, ge=1, le=STEPS)
    guidance: float = Field(1.0, ge=0, le=GUIDANCE)
    seed: int = Field(0, ge=0, le=2**62)
    n: int = Field(4, ge=1, le=IMAGES)

    def settings(self, model: ListedModel) -> Sampling:
        """The settings for a model; InputError for a guidance that it has nothing to exaggerate with."""
        if self.guidance not in (0, 1) and not self._names(model):
            what = "a prompt" if model.listens else "a model that knows classes or texts"
            raise InputError(f"guidance {self.guidance:g} needs {what} to exaggerate; expected 1 here")
        return Sampling(sampler=self.sampler, steps=self.steps, guidance=self.guidance)

    def labels(self, model: ListedModel) -> list[str] | list[int] | None:
        """A text or a class for each image; None: nothing in particular."""
        names = self._names(model)
        if not names or self.guidance == 0:
            return None
        if model.listens:
            return [names[0]] * self.n
        asked = [class_index(model.pipeline.classes, name) for name in names]
        return [asked[k % len(asked)] for k in range(self.n)]

    def _names(self, model: ListedModel) -> list[str]:
        """The text, the class, or all classes; [] where there is nothing to ask for."""
        if model.listens:
            return [self.prompt] if self.prompt else []
        classes = model.pipeline.classes
        return [self.label] if self.label and classes else list(classes)

    def thing(self, model: ListedModel) -> int | str | None:
        """The one class or text that an image is edited towards; None: nothing in particular."""
        labels = self.labels(model) if model.listens or self.label else None
        return None if labels is None else labels[0]

    def of_one_thing(self, model: ListedModel) -> PageRequest:
        """These controls for an edit: where it goes towards nothing in particular, there is nothing that
        guidance could exaggerate.
        """
        return self if self.thing(model) is not None else self.model_copy(update={"guidance": 1.0})

    def recipe(self, model: ListedModel, **more: Any) -> Recipe:
        """What `latentdiff sample --like` repeats the pictures by."""
        prompts = (self.prompt,) if model.listens and self.prompt else ()
        label = None if model.listens or not model.pipeline.classes else self.label or None
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
    """The steps that a sampler takes where nobody says otherwise; of one that visits every level, as many as
    the page allows.
    """
    return min(STEPS, SAMPLERS[sampler].steps or STEPS)


def asked_by(recipe: Recipe) -> PageRequest:
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
        "label": recipe.label or EVERY,
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
