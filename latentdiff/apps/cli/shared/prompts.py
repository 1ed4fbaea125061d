"""--prompt and --prompt-file, for text-conditional models, as --label is for class-conditional ones."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.shared.help import combined, option

if TYPE_CHECKING:
    from latentdiff.config.sampling import Sampling
    from latentdiff.pipeline.capabilities import Need
    from latentdiff.pipeline.checkpoint.pretrained import Shipped
    from latentdiff.pipeline.pipeline import Pipeline

T = TypeVar("T")
MENTIONED = 10  # class names in a note
MAX_FILE = 2**22  # bytes of a prompt file
MAX_PROMPT = 2000  # characters
SHOWN = 8  # unknown words in a warning


prompt_options = combined(
    option(
        "--prompt",
        "prompts",
        group="Images",
        multiple=True,
        help="Text to draw, for text-conditional models; several are taken in turn (default: none).",
    ),
    option(
        "--prompt-file",
        group="Images",
        advanced=True,
        type=click.Path(path_type=Path),
        help="Texts to draw, one a line; empty lines are left out (default: none).",
    ),
)


def prompts_of(values: dict[str, Any]) -> list[str]:
    """The texts of --prompt and then of --prompt-file; [] if neither is given.

    UsageError for what cannot be used.
    """
    texts, path = list(values.get("prompts") or ()), values.get("prompt_file")
    if path is not None:
        lines = [line.strip() for line in _read(path).splitlines()]
        texts += [line for line in lines if line]
        if not any(lines):
            raise click.UsageError(f"--prompt-file {path}: expected a text on each line, found none")
    check_texts(texts)
    if texts and values.get("label") is not None:
        raise click.UsageError(
            "--prompt is for text-conditional models, --label for class-conditional ones; give one of them"
        )
    return texts


def in_turn(items: Sequence[T], n: int, option: str) -> list[T]:
    """One item for each of ``n`` images, the items again and again; a note where some are left out."""
    from latentdiff.apps.cli.shared.progress import note
    from latentdiff.errors import counted

    if n < len(items):
        note(
            f"{counted(n, 'image')}: of the {len(items)} given with {option} the first {n} are used, the"
            " others are not"
        )
    return [items[k % len(items)] for k in range(n)]


def check_texts(texts: Sequence[str]) -> None:
    """UsageError for texts that are too long, or that hold what cannot be written in a figure."""
    for text in texts:
        if len(text) > MAX_PROMPT:
            raise click.UsageError(f"--prompt: expected at most {MAX_PROMPT} characters, found {len(text)}")
        if any(unicodedata.category(char) in ("Cc", "Cs") for char in text if char not in "\n\t"):
            raise click.UsageError(
                f"--prompt: expected a text without control characters, found {text!r:.60}"
            )


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


def needs_of(
    values: Mapping[str, Any], prompts: Sequence[str], settings: Sampling | None = None
) -> list[Need]:
    """The conditioning that --prompt, --label and the ``settings`` of a sampler need of a model."""
    from latentdiff.pipeline.capabilities import Need

    found, label = [], values.get("label")
    if prompts:
        found.append(Need("text", f"--prompt {prompts[0]!r:.60}"))
    if label is not None:
        found.append(Need("classes", f"--label {','.join(label)}"))
    if values.get("class_balance") == "data":
        found.append(Need("classes", "--class-balance data"))
    if settings is not None and settings.negative_prompt:
        found.append(Need("text", f"--negative-prompt {settings.negative_prompt!r:.60}"))
    if settings is not None and settings.exaggerates:
        found.append(Need("condition", f"--guidance {settings.guidance:g}"))
    return found


def note_texts(pipeline: Pipeline, texts: Sequence[str]) -> None:
    """Notes on truncated prompts, and on words that the model was not trained on."""
    from latentdiff.apps.cli.shared.progress import note

    if pipeline.tokenizer is None:
        return
    for text in texts:
        if pipeline.tokenizer.truncates(text):
            note(f"prompt truncated to the model's {pipeline.tokenizer.length - 2} word pieces: {text!r:.60}")
    if unknown := list(dict.fromkeys(word for text in texts for word in pipeline.tokenizer.unknown(text))):
        more = f" and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
        named = ", ".join(f"{word!r:.40}" for word in unknown[:SHOWN])
        verb = "is not among the words" if len(unknown) == 1 else "are not among the words"
        note(
            f"warning: {named}{more} {verb} that the model was trained on; "
            "`latentdiff inspect RUN` lists its vocabulary"
        )


def name_of(pipeline: Pipeline, label: int | str) -> str:
    """The name of a class, or the text itself."""
    return label if isinstance(label, str) else pipeline.classes[label]


def names_of(pipeline: Pipeline, labels: Sequence[int | str] | None) -> list[str] | None:
    """The names of classes, or the texts themselves; None for None."""
    return None if labels is None else [name_of(pipeline, label) for label in labels]


def first_classes(classes: Sequence[str], drawn: int) -> str:
    """The first ``drawn`` of the classes in words."""
    if drawn == len(classes):
        return f"all {drawn} classes in turn"
    if drawn == 1:
        return f"class {classes[0]}"
    names = ", ".join(classes[:drawn][:MENTIONED]) + (", ..." if drawn > MENTIONED else "")
    return f"the first {drawn} of {len(classes)} classes ({names})"


def knows(texts: Iterable[str | None]) -> Callable[[Shipped], bool]:
    """Whether a model of the package was trained on captions with all words of the texts."""
    from latentdiff.pipeline.checkpoint.folder import open_checkpoint
    from latentdiff.pipeline.text.encoder import TOKENIZER
    from latentdiff.pipeline.text.tokenizer import Tokenizer

    wanted = [text for text in texts if text]

    def fits(model: Shipped) -> bool:
        checkpoint = open_checkpoint(model.folder)
        if not wanted or TOKENIZER not in checkpoint:
            return True
        tokenizer = Tokenizer.parse(checkpoint.json(TOKENIZER), f"{model.folder}/{TOKENIZER}")
        return not any(tokenizer.unknown(text) for text in wanted)

    return fits
