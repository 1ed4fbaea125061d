"""The base of every configuration."""

from __future__ import annotations

import re
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from latentdiff.errors import InputError, explain

M = TypeVar("M", bound=BaseModel)


def device_name(text: str) -> str:
    """``text`` if it names a kind of device that there could be; ValueError otherwise."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"expected auto, cpu, cuda, cuda:N or mps, got {text!r}")
    return text


class Config(BaseModel):
    """Frozen, closed (an unknown key is an error), finite numbers only."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)


def parse(model: type[M], values: Any, where: str = "") -> M:
    """``values`` (from a file called ``where``) as ``model``; InputError names the file and the first
    problem.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InputError(f"{where}: {explain(error)}" if where else explain(error)) from None
