"""--prompt and --prompt-file: texts for models that listen to texts, beside --label for models of classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.errors import InputError

if TYPE_CHECKING:
    from latentdiff.pipeline import Pipeline

F = TypeVar("F", bound=Callable[..., Any])
MAX_FILE = 2**22  # bytes of a prompt file
MAX_PROMPT = 2000  # characters


def prompt_options(function: F) -> F:
    """--prompt, which may come several times, and --prompt-file."""
    prompt = click.option(
        "--prompt",
        "prompts",
        multiple=True,
        help="Text to draw, for a model that listens to texts; several are taken in turn (default: none).",
    )
    file = click.option(
        "--prompt-file",
        type=click.Path(path_type=Path),
        default=None,
        help="Texts to draw, one a line; empty lines are left out (default: none).",
    )
    return prompt(file(function))


def prompts_of(values: dict[str, Any]) -> list[str]:
    """The texts of --prompt and then of --prompt-file; [] if neither is given. UsageError for what cannot be used."""
    texts, path = list(values.get("prompts") or ()), values.get("prompt_file")
    if path is not None:
        lines = [line.strip() for line in _read(path).splitlines()]
        texts += [line for line in lines if line]
        if not any(lines):
            raise click.UsageError(f"--prompt-file {path}: expected a text on each line, found none")
    check_texts(texts)
    if texts and values.get("label") is not None:
        raise click.UsageError("--prompt is for models that listen to texts, --label for models of classes; give one")
    return texts


def check_texts(texts: Sequence[str]) -> None:
    """UsageError for texts that are too long, or that hold what cannot be written in a figure."""
    for text in texts:
        if len(text) > MAX_PROMPT:
            raise click.UsageError(f"--prompt: expected at most {MAX_PROMPT} characters, found {len(text)}")
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in text if char not in "\n\t"):
            raise click.UsageError(f"--prompt: expected a text without control characters, found {text!r:.60}")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise click.UsageError(f"--prompt-file {path}: expected at most {MAX_FILE} bytes, found more")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise click.UsageError(f"--prompt-file {path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"--prompt-file {path}: expected UTF-8 text, found something else") from None


def check_asked(pipeline: Pipeline, *, texts: Sequence[str], label: str | None) -> None:
    """InputError where texts are given to a model of classes or a label to one that listens to texts; notes long texts."""
    from latentdiff.cli.report import note

    check_texts(texts)
    if pipeline.tokenizer is None:
        if texts:
            raise InputError(f"--prompt {texts[0]!r:.60}: this model does not listen to texts; --label names a class")
        return
    if label is not None:
        raise InputError(f"--label {label}: this model listens to texts; use --prompt")
    for text in texts:
        if pipeline.tokenizer.truncates(text):
            note(f"the end of {text!r:.60} is cut off: the model hears {pipeline.tokenizer.length - 2} word pieces")


def name_of(pipeline: Pipeline, label: int | str) -> str:
    """A class or a text asked for, as words."""
    return label if isinstance(label, str) else pipeline.classes[label]


def names_of(pipeline: Pipeline, labels: Sequence[int | str] | None) -> list[str] | None:
    """The classes or texts asked for, as words."""
    return None if labels is None else [name_of(pipeline, label) for label in labels]
