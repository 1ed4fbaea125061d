"""A word-piece tokenizer that is trained on captions, and the positions of words in an encoded text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import heappop, heappush
from itertools import pairwise
from typing import Any, ClassVar, Protocol

import torch
from pydantic import BaseModel, InstanceOf, StrictInt
from torch import Tensor

from latentdiff.errors import InputError
from latentdiff.files.untrusted import checked

SPECIAL = ("[pad]", "[unk]", "[start]", "[end]")
PAD, UNKNOWN, START, END = range(len(SPECIAL))
MAX_VOCABULARY, MAX_WORD = 65_536, 64
LEAST = 2  # times that a pair has to come to become one piece
USUAL = 1024  # pieces by default
_IDEOGRAPH = (  # words without spaces between
    "[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]"
)
_WORD = re.compile(rf"{_IDEOGRAPH}|(?:(?!{_IDEOGRAPH})\w)+|[^\w\s]")


def words(text: str) -> list[str]:
    """The words of a text in lower case; a punctuation mark or a Chinese or Japanese sign is one word."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).lower())


class TextTokenizer(Protocol):
    """Splits texts into positions of a context: learned word pieces, or the tokens of a frozen encoder."""

    @property
    def length(self) -> int:
        """Positions of a context."""

    @property
    def lead(self) -> int:
        """Positions before the first word."""

    def places(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """Each word of a text with its positions; words beyond the end have none."""

    def truncates(self, text: str) -> bool:
        """Whether a text is longer than a context."""

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the model has not learned, as far as is known."""


class _Stored(BaseModel):
    """The JSON of a :class:`Tokenizer`."""

    length: StrictInt
    pieces: tuple[InstanceOf[str], ...]
    words: tuple[InstanceOf[str], ...] | None = None


@dataclass(frozen=True)
class Tokenizer:
    """``pieces``: the vocabulary, number by number, the four of SPECIAL first; pieces inside a word begin
    with ##.

    A text is [start], its words' pieces, [end], then [pad] up to ``length``. A word is split into the longest
    pieces that fit from the left, and is [unk] where none fits (Wu et al. 2016, section 4.1, as BERT does
    it). ``learned``: the words of the training captions, the most frequent first; None of a tokenizer that
    was stored without them.
    """

    pieces: tuple[str, ...]
    length: int
    learned: tuple[str, ...] | None = None
    lead: ClassVar[int] = 1  # [start]

    def __post_init__(self) -> None:
        if self.pieces[: len(SPECIAL)] != SPECIAL or len(set(self.pieces)) != len(self.pieces):
            raise InputError(f"tokenizer: expected distinct pieces that begin with {', '.join(SPECIAL)}")
        if not 3 <= self.length <= 1024 or len(self.pieces) > MAX_VOCABULARY:
            raise InputError(
                f"tokenizer: expected a length of 3 to 1024 and at most {MAX_VOCABULARY} pieces, "
                f"found {self.length} and {len(self.pieces)}"
            )

    def __len__(self) -> int:
        return len(self.pieces)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.pieces)}

    @cached_property
    def _learned(self) -> frozenset[str]:
        return frozenset(self.learned or ())

    def split(self, word: str) -> list[int]:
        """The numbers of one word's pieces."""
        found: list[int] = []
        first = 0
        while first < len(word) <= MAX_WORD:
            prefix = "##" if first else ""
            for last in range(len(word), first, -1):
                number = self._numbers.get(prefix + word[first:last])
                if number is not None:
                    break
            else:
                return [UNKNOWN]
            found.append(number)
            first = last
        return found or [UNKNOWN]

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Texts as int64 [N, length]. A text that is too long keeps its beginning."""
        known: dict[str, list[int]] = {}
        rows = torch.full((len(texts), self.length), PAD, dtype=torch.int64)
        for row, text in zip(rows, texts, strict=True):
            if text not in known:
                inner = [number for word in words(text) for number in self.split(word)]
                known[text] = [START, *inner[: self.length - 2], END]
            row[: len(known[text])] = torch.tensor(known[text])
        return rows

    def places(self, text: str) -> list[tuple[str, tuple[int, ...]]]:
        """Each word of a text with its positions in a row of :meth:`encode`; () beyond the end."""
        found, at = [], self.lead
        for word in words(text):
            n = len(self.split(word))
            found.append((word, tuple(i for i in range(at, at + n) if i < self.length - 1)))
            at += n
        return found

    def truncates(self, text: str) -> bool:
        """Whether a text is longer than a row."""
        return self.needs(text) > self.length

    def unknown(self, text: str) -> list[str]:
        """The words of a text that the training captions did not have; punctuation is not counted.

        Where ``learned`` is None, words that are no piece of their own: of a vocabulary that was not full
        merges made one of every word that came twice. Of a full one that says nothing, and only [unk] is
        unknown.
        """
        found = [word for word in words(text) if word.isalnum()]
        if self.learned is not None:
            return [word for word in found if word not in self._learned]
        most = 1 if len(self) < USUAL else MAX_WORD
        return [word for word in found if UNKNOWN in self.split(word) or len(self.split(word)) > most]

    @property
    def vocabulary(self) -> list[str]:
        """The words of the training captions, by the alphabet; if ``learned`` is None, what may be words."""
        if self.learned is not None:
            return sorted(self.learned)
        return sorted(
            word for word in self.pieces[len(SPECIAL) :] if len(word) > 2 and not word.startswith("##")
        )

    def needs(self, text: str) -> int:
        """The length of a row that holds a whole text, with its start and its end."""
        return 2 + sum(len(self.split(word)) for word in words(text))

    def dump(self) -> dict[str, Any]:
        """As JSON; :meth:`parse` reads it."""
        learned = {} if self.learned is None else {"words": list(self.learned)}
        return {"length": self.length, "pieces": list(self.pieces), **learned}

    @classmethod
    def parse(cls, values: object, where: str) -> Tokenizer:
        """From the JSON of :meth:`dump`; InputError naming ``where`` for anything else."""
        stored: _Stored = checked(_Stored, values, where, "a length and a list of pieces")
        try:
            return cls(stored.pieces, stored.length, stored.words)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None


def train_tokenizer(texts: Iterable[str], *, vocabulary: int = USUAL, length: int = 32) -> Tokenizer:
    """A tokenizer for texts like these: all their letters, then the most frequent pairs of neighbours merged
    one by one.

    Byte-pair merges (Sennrich et al. 2016), ties by the alphabet; whole words that are frequent become one
    piece. Letters beyond ``vocabulary`` are left out, the rarest first.
    """
    counts = Counter(word for text in texts for word in words(text) if len(word) <= MAX_WORD)
    merging = _Merging(counts)
    letters: Counter[str] = Counter()
    for word, parts in merging.spelled.items():
        for letter in parts:
            letters[letter] += counts[word]
    room = max(0, vocabulary - len(SPECIAL))
    pieces = [letter for letter, _ in sorted(letters.items(), key=lambda item: (-item[1], item[0]))[:room]]
    known = set(pieces)
    while len(pieces) < room and (pair := merging.best()) is not None:
        merged = merging.merge(pair)
        if merged not in known:
            known.add(merged)
            pieces.append(merged)
    learned = sorted((word for word in counts if word.isalnum()), key=lambda word: (-counts[word], word))
    return Tokenizer((*SPECIAL, *pieces), length, tuple(learned[:MAX_VOCABULARY]))


Pair = tuple[str, str]


class _Merging:
    """Words spelled in pieces, and how often each pair of neighbours comes in them."""

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self.spelled = {
            word: [letter if i == 0 else f"##{letter}" for i, letter in enumerate(word)] for word in counts
        }
        self._pairs: Counter[Pair] = Counter()
        self._words: dict[Pair, set[str]] = {}
        self._heap: list[tuple[int, Pair]] = []  # (-count, pair), with counts of before that are passed over
        for word in self.spelled:
            self._count(word, 1)
        self._push(self._pairs)

    def _count(self, word: str, sign: int) -> None:
        parts = self.spelled[word]
        for pair in pairwise(parts):
            self._pairs[pair] += sign * self._counts[word]
            self._words.setdefault(pair, set()).add(word)

    def _push(self, pairs: Iterable[Pair]) -> None:
        for pair in pairs:
            if self._pairs[pair] >= LEAST:
                heappush(self._heap, (-self._pairs[pair], pair))

    def best(self) -> Pair | None:
        """The pair that comes most often, at least twice, the first by the alphabet of several."""
        while self._heap and -self._heap[0][0] != self._pairs[self._heap[0][1]]:
            heappop(self._heap)
        return self._heap[0][1] if self._heap else None

    def merge(self, pair: Pair) -> str:
        """Make one piece of the pair wherever it comes; returns the piece."""
        merged = pair[0] + pair[1].removeprefix("##")
        changed: set[Pair] = set()
        for word in self._words.pop(pair):
            changed |= set(pairwise(self.spelled[word]))
            self._count(word, -1)
            self.spelled[word] = _joined(self.spelled[word], pair, merged)
            self._count(word, 1)
            changed |= set(pairwise(self.spelled[word]))
        self._push(changed)
        return merged


def _joined(parts: Sequence[str], pair: Pair, merged: str) -> list[str]:
    out: list[str] = []
    for part in parts:
        if out and (out[-1], part) == pair:
            out[-1] = merged
        else:
            out.append(part)
    return out
