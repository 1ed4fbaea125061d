"""The settings of a picture, which are stored inside its PNG file."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator
from pydantic_core import from_json

from latentdiff.config.base import Config, setting
from latentdiff.config.restoration import Restoration
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError, explain

MAX_CHARACTERS = 2**18  # of a recipe's JSON; Pillow reads 2^20 of a text chunk

NetworkType = Literal["auto", "float32", "bfloat16", "float16"]
Name = Annotated[str, StringConstraints(max_length=300)]


class SampleOptions(Config):
    """Options of `latentdiff sample` that a picture repeats, beside those of the sampler."""

    option_group: ClassVar[str] = "Images"

    seed: int = setting(0, "image k has seed + k, whatever the batch", ge=0, le=2**62)
    class_balance: Literal["equal", "data"] = setting(
        "equal",
        "class frequencies where --label names none; equal: all in turn, data: as in the training data",
        advanced=True,
    )
    interpolate: int | None = setting(
        None, "draw -n images on the way from --seed to this seed", ge=0, le=2**62, advanced=True
    )
    dtype: NetworkType = setting(
        "auto",
        "floating-point type of network and decoder; auto: bfloat16 where the processor computes in it",
        group="Compute",
        advanced=True,
    )
    batch: int | None = setting(
        None,
        "images in a batch; changes memory, no image (default: as many as fit in memory)",
        ge=1,
        le=65536,
        group="Compute",
        advanced=True,
    )
    columns: int | None = setting(
        None,
        "columns of the grid (default: about square, or one a class)",
        ge=1,
        le=1000,
        group="Output",
        advanced=True,
    )


class MadeWith(Config):
    """The model of a picture: ``run`` is a name for people, ``weights`` is what a run is known by."""

    version: Literal[1] = 1
    latentdiff: Name = setting("", "version of the package")
    run: Name = setting("", "run and checkpoint, as it was called")
    weights: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the model's files")

    def text(self) -> str:
        """As JSON in ASCII, what is left at its default left out; "" where it is too long for a picture."""
        found = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return found if len(found) <= MAX_CHARACTERS else ""


class CommandRecipe(MadeWith):
    """The ``options`` of one editing ``command`` that were given, by their parameters as texts, but for the
    model and the outputs. ``input``, ``mask``: the names of the images that it began with and of a mask,
    which it does not hold; "" for the model's own data and for masks that are drawn.
    """

    command: Annotated[str, StringConstraints(pattern="^[a-z0-9-]{1,40}$")]
    options: dict[Name, str | tuple[str, ...]] = Field(default_factory=dict)
    input: Name = setting("", "name of the images of --input")
    mask: Name = setting("", "name of the image of --mask")


class Recipe(SampleOptions, MadeWith):
    """The options of one `latentdiff sample` (or of an edit of the page), and the weights that followed them.

    An edit does not hold the image that it began with.
    """

    made_by: Literal["sample", "edit", "inpaint"] = "sample"
    n: int = Field(1, ge=1, le=1_000_000)
    label: str | None = setting(None, "classes, by name or index, taken in turn")
    prompts: tuple[str, ...] = setting((), "texts, taken in turn")
    dtype: NetworkType = setting("float32", "floating-point type of network and decoder")
    settings: tuple[Sampling, ...] = Field(min_length=1, description="several differ in their steps alone")
    strength: float | None = setting(None, "of an edit", ge=0, le=1)
    restoration: Restoration | None = setting(None, "of an inpainting")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len({each.model_copy(update={"steps": None}) for each in self.settings}) > 1:
            raise ValueError("settings differ in more than their steps")
        return self

    def of_one(self, k: int, condition: str | None) -> Recipe:
        """Image ``k`` alone, whose class or text is ``condition``: the same to a grey level, as matrix
        products depend on the batch in their last bits.
        """
        prompts = (condition,) if self.prompts and condition is not None else ()
        label = None if prompts else condition
        one = {"n": 1, "seed": self.seed + k, "label": label, "prompts": prompts, "class_balance": "equal"}
        return self.model_copy(update={**one, "batch": None, "columns": None})


def recipe_from(text: str, where: str) -> Recipe | CommandRecipe:
    """The recipe of :meth:`MadeWith.text`; else InputError, one line that begins with ``where``."""
    if len(text) > MAX_CHARACTERS:
        raise InputError(
            f"{where}: its settings are too long, expected at most {MAX_CHARACTERS} characters, found"
            f" {len(text)}"
        )
    found: Any = None
    with contextlib.suppress(ValueError):  # the model below says what is wrong
        found = from_json(text)
    kind = CommandRecipe if isinstance(found, dict) and "command" in found else Recipe
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: its settings cannot be read ({explain(error)})") from None
