"""The base of every configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator
from pydantic.fields import FieldInfo

from latentdiff.errors import InputError, explain

M = TypeVar("M", bound=BaseModel)


def device_name(text: str) -> str:
    """``text`` if it names a kind of device that there could be; ValueError otherwise."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


def setting(
    default: Any,
    description: str,
    *,
    group: str | None = None,
    flag: str | None = None,
    was: str | None = None,
    argument: str | None = None,
    moved: Mapping[str, tuple[str, str]] | None = None,
    advanced: bool = False,
    **bounds: Any,
) -> Any:
    """A field: default, help text, bounds as of pydantic's ``Field``, and how it stands on the command line.

    ``group``: the heading of the help texts (default: that of its class); ``flag``: the option's name without
    dashes (default: the field's); ``advanced``: in --help-all only; ``was``: the name in the version before,
    which still works there, as a key of a --config file, in saved runs and in the settings of a picture;
    ``argument``: the name in errors of the library of what it sets (default: the field's); ``moved``: values
    of the version before that another field has now, as (field, value): they work in the same places.
    """
    given = {"group": group, "flag": flag, "was": was, "argument": argument, "advanced": advanced or None}
    facts: dict[str, JsonValue] = {name: value for name, value in given.items() if value is not None}
    if moved is not None:
        facts["moved"] = {value: list(place) for value, place in moved.items()}
    return Field(default, description=description, json_schema_extra=facts, **bounds)


def option_facts(field: FieldInfo) -> dict[str, Any]:
    """The arguments of :func:`setting` that a field was made with, apart from its bounds."""
    return dict(field.json_schema_extra) if isinstance(field.json_schema_extra, dict) else {}


def current_names(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` by the names that the fields of ``model`` have now; one there by both is kept so.

    A value that another field has now goes there, unless that field has one already.
    """
    facts = {name: option_facts(field) for name, field in model.model_fields.items()}
    former = {fact["was"]: name for name, fact in facts.items() if "was" in fact}
    found = {
        former[key] if key in former and former[key] not in values else key: value
        for key, value in values.items()
    }
    for name, fact in facts.items():
        if isinstance(value := found.get(name), str) and value in fact.get("moved", {}):
            field, new = fact["moved"][value]
            del found[name]
            found.setdefault(field, new)
    return found


class Config(BaseModel):
    """Frozen, closed (an unknown key is an error), finite numbers only."""

    option_group: ClassVar[str] = "Options"  # heading of its fields in the help texts

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, values: Any) -> Any:
        return current_names(cls, values) if isinstance(values, dict) else values


def parse(model: type[M], values: Any, where: str = "") -> M:
    """``values`` (from a file called ``where``) as ``model``; InputError names file and first problem.

    Without ``where`` they are arguments.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}" if where else explain(error, arguments=True)) from None
