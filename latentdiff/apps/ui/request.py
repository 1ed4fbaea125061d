"""A request of the page: its controls, checked, and as the settings of the package; errors as one line."""

from __future__ import annotations

import html
import math
import re
from pathlib import Path
from tempfile import gettempdir
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from latentdiff.apps.ui.limits import GUIDANCE, IMAGES, PROMPT, STEPS
from latentdiff.apps.ui.models import ListedModel
from latentdiff.config.base import Config, parse
from latentdiff.config.recipe import Recipe
from latentdiff.config.sampling import SAMPLERS, Sampler, Sampling
from latentdiff.data.classes import class_index
from latentdiff.errors import InputError, is_out_of_memory
from latentdiff.pipeline.checkpoint.runs import recipe_of

ALL_CLASSES = ""  # the value of the class control that stands for all classes in turn


def _whole(value: Any) -> int:
    if not isinstance(value, int | float) or not math.isfinite(value) or value != int(value):
        found = "nothing" if value is None else f"{value!r:.60}"
        raise ValueError(f"expected a whole number, got {found}")
    return int(value)


Whole = Annotated[int, BeforeValidator(_whole)]


class PageRequest(Config):
    """The controls; ``label`` is a class by name or ALL_CLASSES, ``prompt`` and ``negative`` "" for none."""

    label: str = Field(ALL_CLASSES, max_length=300)
    prompt: str = Field("", max_length=PROMPT)
    negative: str = Field("", max_length=PROMPT)
    sampler: Sampler = "ddim"
    steps: Whole = Field(50, ge=1, le=STEPS)
    guidance: float = Field(1.0, ge=0, le=GUIDANCE)
    seed: Whole = Field(0, ge=0, le=2**62)
    n: Whole = Field(4, ge=1, le=IMAGES)

    def settings(self, model: ListedModel) -> Sampling:
        """The settings for a model; InputError for a guidance that lacks a prompt or a conditional model."""
        if self.guidance not in (0, 1) and not self._names(model):
            what = "a prompt" if model.takes_text else "a model conditioned on classes or texts"
            raise InputError(f"guidance {self.guidance:g} needs {what} to exaggerate; expected 1 here")
        if model.pipeline.student is not None:  # it has one sampler and one number of steps
            return Sampling(guidance=self.guidance)
        guided = model.takes_text and self.prompt and self.guidance != 1
        negative = self.negative if guided else ""
        return Sampling(
            sampler=self.sampler, steps=self.steps, guidance=self.guidance, negative_prompt=negative
        )

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
        eta = 0.0 if "made_by" in more else None  # edits add no noise on the way
        settings = model.pipeline.with_defaults(self.settings(model), eta=eta)
        return recipe_of(
            model.checkpoint,
            n=self.n,
            seed=self.seed,
            label=label,
            prompts=prompts,
            settings=(settings,),
            **more,
        )


def usual_request(model: ListedModel, sampler: Sampler = "ddim") -> PageRequest:
    """The controls as they are for a model before anybody changes them."""
    classes, scale = model.pipeline.classes, model.pipeline.guidance
    if scale == 1 and model.calls is None:
        scale = 4 if model.takes_text else 2 if classes else 1
    return PageRequest(
        prompt=next(iter(model.prompts), "") if model.takes_text else "",
        sampler=sampler,
        steps=min(usual_steps(sampler), model.pipeline.schedule.T),
        guidance=min(scale, GUIDANCE),
    )


def usual_steps(sampler: Sampler) -> int:
    """The default steps of a sampler; as many as the page allows where it visits every level."""
    return min(STEPS, SAMPLERS[sampler].steps or STEPS)


def parse_controls(label: Any, prompt: Any, negative: Any, *others: Any) -> PageRequest:
    """The controls' values, in the order of the fields, checked. InputError names the first wrong one."""
    values = (label or "", (prompt or "").strip(), (negative or "").strip(), *others)
    return parse(PageRequest, dict(zip(PageRequest.model_fields, values, strict=True)))


def controls_of(recipe: Recipe, *, eta: float | None = 0.0) -> PageRequest:
    """The controls that repeat a recipe, with a model whose own noise of ddim is ``eta`` (None: not known).

    InputError, one line, for what the page has no control for.
    """
    settings = recipe.settings[0]
    controls = {"sampler", "steps", "guidance", "negative_prompt"}
    usual = eta if recipe.made_by == "sample" else 0.0
    same = usual is None or settings.eta in (None, usual)
    others = settings.model_dump(exclude_defaults=True, exclude=controls | ({"eta"} if same else set()))
    beyond = [
        *(name.replace("_", " ") for name, value in others.items() if (name, value) != ("variance", "small")),
        *["several steps"] * (len(recipe.settings) > 1),
        *["an interpolation"] * (recipe.interpolate is not None),
        *["several prompts"] * (len(recipe.prompts) > 1),
    ]
    if beyond:
        raise InputError(
            f"the picture was made with {beyond[0]}, which this page has no control for;"
            " `latentdiff sample --like` repeats it"
        )
    if recipe.n > IMAGES or (settings.steps or 1) > STEPS:
        raise InputError(
            f"the picture shows {recipe.n} images of {settings.steps} steps, expected at most {IMAGES} of"
            f" {STEPS} here; `latentdiff sample --like` repeats it"
        )
    values = settings.model_dump(include=controls - {"negative_prompt"}) | {
        "label": recipe.label or ALL_CLASSES,
        "prompt": next(iter(recipe.prompts), ""),
        "negative": settings.negative_prompt,
        "steps": settings.steps or usual_steps(settings.sampler),
        "guidance": 1.0 if settings.guidance is None else settings.guidance,
        "seed": recipe.seed,
        "n": recipe.n,
    }
    return parse(PageRequest, values, "the picture")


def in_words(recipe: Recipe) -> str:
    """The settings of a picture in a line of words."""
    settings, steps = recipe.settings[0], recipe.settings[0].steps
    made = {"edit": "an edit", "inpaint": "a filled-in picture"}.get(recipe.made_by, "")
    scale = settings.guidance
    parts = [
        re.sub("/checkpoint-[^/]*$", "", recipe.run).rsplit("/", 1)[-1],
        made,
        *(f"“{prompt}”" for prompt in recipe.prompts),
        f"not “{settings.negative_prompt}”" if settings.negative_prompt else "",
        f"class {recipe.label}" if recipe.label else "",
        f"strength {recipe.strength:g}" if recipe.made_by == "edit" and recipe.strength is not None else "",
        f"{settings.sampler}" + (f", {steps} steps" if steps else ""),
        f"guidance {scale:g}" if scale is not None and scale != 1 else "",
        f"seed {recipe.seed}",
    ]
    return " · ".join(part for part in parts if part)


def plain(text: str) -> str:
    """A text as Markdown that shows it as it is: what a file brings is neither laid out nor fetched."""
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", text)


def error_html(error: BaseException) -> str:
    """The message of an InputError, or of memory that ran out, as one escaped line of HTML, with names of
    arguments as code and without the folders of this machine; re-raises other errors.
    """
    if not isinstance(error, InputError) and not is_out_of_memory(error):
        raise error
    text = str(error) if isinstance(error, InputError) else "out of memory; fewer images need less"
    for folder in (Path.cwd(), Path(gettempdir())):
        text = text.replace(f"{folder}/", "")
    text = re.sub(r"(?<![\w./])/(?:[^\s/]+/)+", "…/", text)
    return re.sub(r"`(\w+)`", r"<code>\1</code>", html.escape(" ".join(text.split())[:500]))
