"""The base of every configuration, and one-line messages for what does not fit it."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from latentdiff.errors import InputError

M = TypeVar("M", bound=BaseModel)


def device_name(text: str) -> str:
    """``text`` if it names a kind of device that there could be; ValueError otherwise."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


class Config(BaseModel):
    """Frozen, closed (an unknown key is an error), finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def explain(error: ValidationError) -> str:
    """The first problem of a failed validation in one line: the key, what was expected and what was found."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"unknown key '{key}'"
    if first["type"] == "missing":
        return f"missing key '{key}'"
    found = repr(first["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    if not key:
        return message
    if first["type"] == "value_error":  # a validator's own message says what was found
        return f"{key}: {message.removeprefix(f'{key}: ')}"
    return f"{key}: {message[:1].lower()}{message[1:]}, got {found}"


def parse(model: type[M], values: Any, where: str = "") -> M:
    """``values`` (from a file called ``where``) as ``model``; InputError names the file and the first problem."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}" if where else explain(error)) from None
