"""Saves and loads the text side of a model: its tokenizer, or the name and hash of a frozen text encoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from latentdiff.errors import InputError
from latentdiff.nn import TextConfig
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer
from latentdiff.pipeline.checkpoint.runs import recorded_paths
from latentdiff.pipeline.text.encoder import MINILM, FrozenEncoder, load_encoder
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer

TOKENIZER = "tokenizer/tokenizer.json"
ENCODER = "text_encoder/source.json"


def save_text_tokenizer(writer: Writer, tokenizer: TextTokenizer) -> None:
    """Write a tokenizer, or the name and hash by which a frozen encoder is found again."""
    if isinstance(tokenizer, FrozenEncoder):
        writer.json(ENCODER, tokenizer.facts)
    elif isinstance(tokenizer, Tokenizer):
        writer.json(TOKENIZER, tokenizer.dump())
    else:
        raise TypeError(f"expected a Tokenizer or a FrozenEncoder, got {type(tokenizer).__name__}")


def load_text_tokenizer(
    checkpoint: Checkpoint, text: TextConfig | None, *, moved: str | None = None
) -> TextTokenizer | None:
    """The tokenizer or the frozen encoder of a denoiser with this ``text``, None of one without; ``moved``:
    where the encoder is now.

    InputError where it does not fit.
    """
    if text is None:
        return None
    if not text.vocabulary:
        return _encoder(checkpoint, text, moved)
    where = f"{checkpoint.folder}/{TOKENIZER}"
    tokenizer = Tokenizer.parse(checkpoint.json(TOKENIZER), where)
    if (len(tokenizer), tokenizer.length) != (text.vocabulary, text.length):
        raise InputError(
            f"{where}: expected {text.vocabulary} pieces and a length of {text.length}, as the denoiser has, "
            f"found {len(tokenizer)} and {tokenizer.length}"
        )
    return tokenizer


def _encoder(checkpoint: Checkpoint, text: TextConfig, moved: str | None) -> FrozenEncoder:
    where, values = f"{checkpoint.folder}/{ENCODER}", checkpoint.json(ENCODER)
    name, sha256 = values.get("name"), values.get("sha256")
    if not isinstance(name, str) or not isinstance(sha256, str):
        raise InputError(f"{where}: expected the name and the sha256 of a text encoder, found {values!r:.80}")
    try:
        if moved is not None or name == MINILM:
            paths = [moved or name]
        else:
            paths = recorded_paths(checkpoint.folder, name) or [name]
        encoder = replace(_first_right(paths, length=text.length, sha256=sha256), name=moved or name)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if encoder.width != text.width:
        raise InputError(
            f"{where}: expected tokens of {text.width} numbers, as the denoiser has, found {encoder.width}"
        )
    return encoder


def _first_right(paths: Sequence[str], *, length: int, sha256: str) -> FrozenEncoder:
    """The encoder at the first path whose weights have the hash.

    InputError, that of the first, where none has.
    """
    errors = list[InputError]()
    for path in paths:
        try:
            return load_encoder(path, length=length, sha256=sha256)
        except InputError as error:
            errors.append(error)
    raise errors[0]
