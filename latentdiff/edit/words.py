"""Alignment of the words of an edited prompt with those of the source, for prompt-to-prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache

import torch
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.pipeline.text.tokenizer import TextTokenizer, words


@dataclass(frozen=True, eq=False)
class Alignment:
    """Maps the attention to a source text to that of an edited one, by position.

    mapping [L, L]: the share of the attention to source position i that goes to position j of the edited
    text; own [L]: 1 where the edited text keeps its own attention, as no source word corresponds.
    """

    mapping: Tensor
    own: Tensor

    def __call__(self, source: Tensor, edited: Tensor) -> Tensor:
        """Attention [..., L]: the source's where words correspond (Hertz et al. 2023, eq. 3 to 5)."""
        mapping, own = self.mapping.to(source), self.own.to(source)
        return source @ mapping * (1 - own) + edited * own


def align(tokenizer: TextTokenizer, source: str, edited: str) -> Alignment:
    """Align words: kept ones to themselves, replaced ones to their replacement, added ones to nothing.

    The attention to a replaced word is shared evenly by the pieces of its replacement. Start, end and padding
    are aligned in their order.
    """
    length = tokenizer.length
    mapping, own = torch.zeros(length, length), torch.ones(length)
    source_words, edited_words = tokenizer.places(source), tokenizer.places(edited)
    matcher = SequenceMatcher(
        None, [word for word, _ in source_words], [word for word, _ in edited_words], autojunk=False
    )
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    for what, a, b, c, d in matcher.get_opcodes():
        before = [places for _, places in source_words[a:b]]
        after = [places for _, places in edited_words[c:d]]
        if what == "equal":  # piece by piece
            pairs += [
                ((i,), (j,))
                for one, two in zip(before, after, strict=True)
                for i, j in zip(one, two, strict=False)
            ]
        elif what == "replace" and len(before) == len(after):  # word by word
            pairs += list(zip(before, after, strict=True))
        elif what == "replace":
            pairs.append((sum(before, ()), sum(after, ())))
    pairs += _rest(tokenizer, source, edited)
    for one, two in pairs:
        for j in two:
            own[j] = 0 if one else 1
            for i in one:
                mapping[i, j] += 1 / len(two)
    return Alignment(mapping, own)


@cache
def _colours() -> frozenset[str]:
    """The names of colours that Pillow and CSS know."""
    from PIL import ImageColor

    return frozenset(ImageColor.colormap)


def exchanges_a_thing(source: str, edited: str) -> bool:
    """Whether an edited text has another word in the place of one, and that is not a colour for a colour.

    Another thing has another shape, which the attention of the source would keep from appearing.
    """
    before, after = words(source), words(edited)
    for what, a, b, c, d in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if what == "replace" and not {*before[a:b], *after[c:d]} <= _colours():
            return True
    return False


def _rest(
    tokenizer: TextTokenizer, source: str, edited: str
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The start, the end and the padding; the last place takes source padding beyond the room for it."""
    lead = tokenizer.lead
    source_free, edited_free = (_free(tokenizer, text) for text in (source, edited))
    pairs: list[tuple[tuple[int, ...], tuple[int, ...]]] = [((i,), (i,)) for i in range(lead)]
    for k, j in enumerate(edited_free[lead:], lead):
        more = source_free[k:] if k == len(edited_free) - 1 else source_free[k : k + 1]
        pairs.append((tuple(more), (j,)))
    return pairs


def _free(tokenizer: TextTokenizer, text: str) -> list[int]:
    """The positions that belong to no word."""
    taken = {place for _, places in tokenizer.places(text) for place in places}
    return [place for place in range(tokenizer.length) if place not in taken]


def positions(
    tokenizer: TextTokenizer, text: str, wanted: Sequence[str], name: str = "wanted"
) -> tuple[int, ...]:
    """All positions of words in an encoded text; InputError for one that is not in it, or was cut off.

    ``name``: of the argument with the words, for the error.
    """
    found: list[int] = []
    for word in wanted:
        parts = words(word)
        here = [places for known, places in tokenizer.places(text) if known in parts]
        if not here:
            raise InputError(f"`{name}` {word!r:.40}: expected a word of {text!r:.80}")
        if not any(here):
            raise InputError(
                f"`{name}` {word!r:.40}: is beyond the {tokenizer.length} positions of the model"
            )
        found += [place for places in here for place in places]
    return tuple(sorted(set(found)))


def weights(tokenizer: TextTokenizer, text: str, factors: Mapping[str, float]) -> Tensor:
    """The factor of the attention to each position, [L]: that of its word, else 1.

    InputError for unknown words.
    """
    row = torch.ones(tokenizer.length)
    for word, factor in factors.items():
        row[list(positions(tokenizer, text, [word], "factors"))] = factor
    return row
