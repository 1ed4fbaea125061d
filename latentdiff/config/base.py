"""The base of every configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator
from pydantic.fields import FieldInfo

from latentdiff.errors import InputError, explain

M = TypeVar("M", bound=BaseModel)


def device_name(text: str) -> str:
    """``text`` if it names a kind of device that there could be; ValueError otherwise."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


def option(*, was: str | None = None) -> dict[str, JsonValue]:
    """The ``json_schema_extra`` of a field; ``was``: its name in the version before, which is still read.

    The old name works on the command line, as a key of a --config file, in saved runs and in the settings of
    a picture.
    """
    return {} if was is None else {"was": was}


def former_name(field: FieldInfo) -> str | None:
    """The name of a field in the version before, None where it is the same."""
    extra = field.json_schema_extra
    return str(extra["was"]) if isinstance(extra, dict) and "was" in extra else None


def current_names(model: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """``values`` by the names that the fields of ``model`` have now; one that is there by both is kept by
    both.
    """
    former = {old: name for name, field in model.model_fields.items() if (old := former_name(field))}
    return {
        former[key] if key in former and former[key] not in values else key: value
        for key, value in values.items()
    }


class Config(BaseModel):
    """Frozen, closed (an unknown key is an error), finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _current_names(cls, values: Any) -> Any:
        return current_names(cls, values) if isinstance(values, dict) else values


def parse(model: type[M], values: Any, where: str = "") -> M:
    """``values`` (from a file called ``where``) as ``model``; InputError names the file and the first
    problem.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}" if where else explain(error)) from None
