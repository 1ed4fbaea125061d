"""Classes and captions in file names: cat_001.png is of the class cat, red-hat 03.jpg shows a red hat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentdiff.data.captions import nfc
from latentdiff.data.read_report import ReadReport
from latentdiff.data.scan import shown
from latentdiff.errors import InputError

EXAMPLES = 3  # of classes, in a line
_GAP = r"[\s_\-.,()\[\]{}#+~]"  # a character between words
_CAMERA = re.compile(
    rf"(?:whatsapp image.*|(?:img[pe]?|imag|dsc[nf]?|pxl|mvimg|gopr|pict)(?={_GAP}|\d|\Z))", re.IGNORECASE
)
"""What cameras and telephones begin their names with."""
_END = re.compile(rf"(?:\A|{_GAP}+)(?:\d+|copy|kopie|copie|copia){_GAP}*\Z", re.IGNORECASE)
"""A number at the end, or the mark of a copy."""
_START = re.compile(rf"\A{_GAP}*\d+(?:{_GAP}+|\Z)")
_NUMBERED = re.compile(r"(.*[^\W\d_]{2})\d+", re.DOTALL)
_NUMBER, _LETTER = re.compile(r"\d+"), re.compile(r"[^\W\d_]")
_IDENTIFIER = re.compile(r"(?=.{6})(?=.*\d.*[^\W\d_]).*|[^\W\d_]\d{4,}", re.DOTALL)
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def _trimmed(stem: str) -> str:
    """A file name without its suffix, cameras' beginnings, and the numbers at its start and end."""
    text = _CAMERA.sub("", nfc(stem), count=1) if _CAMERA.match(nfc(stem)) else nfc(stem)
    before, ends = "", 0
    while text != before:
        before, text = text, _END.sub("", text)
        ends += text != before
    while (found := _START.match(text)) is not None:
        text = text[found.end() :]
    if not ends and (numbered := _NUMBERED.fullmatch(text)) is not None:
        text = numbered[1]
    return re.sub(rf"\A{_GAP}+|{_GAP}+\Z", "", text)


def class_in(stem: str) -> str | None:
    """The class in a file name without its suffix: what stands before the number, as it is written; None
    where there is no word.

    ``cat_001``, ``cat12``, ``cat (3)``, ``cat.7`` and ``007-cat`` are of the class cat; ``IMG_1234`` and
    ``20240131_120000`` of none.
    """
    text = _trimmed(stem)
    return text if _LETTER.search(text) else None


def words_in(stem: str) -> str:
    """The words of a file name without its suffix, with a space between them; "" where there are none.

    ``red-hat 03``, ``redHat03`` (as red Hat) and ``2024_red_hat`` have two; numbers and identifiers, as
    ``n01440764`` or ``a3f5c9e1``, are no words.
    """
    words = re.split(f"{_GAP}+", _HUMP.sub(" ", _trimmed(stem)))
    plain = [word for word in words if not _NUMBER.fullmatch(word) and not _IDENTIFIER.fullmatch(word)]
    text = " ".join(word for word in plain if word)
    return text if _LETTER.search(text) else ""


def labels_by_name(
    stems: Sequence[str], paths: Sequence[str], report: ReadReport, *, source: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Labels [N] and class names of images by their file names without suffix; a remark gives examples.

    Names that differ in upper and lower case or in what separates their words are one class, spelled as most
    of its files are. ``paths`` name the images in messages. InputError where a name has no class, where all
    are of one class, or where most images would be the only one of theirs.
    """
    found = [class_in(stem) for stem in stems]
    begin = f"{source}: `labels_from` name: expected file names of a class and a number, as cat_001.png"
    nameless = [path for path, name in zip(paths, found, strict=True) if name is None]
    if nameless:
        one = len(nameless) == 1
        which = shown(nameless[0]) if one else f"the first {shown(nameless[0])}"
        raise InputError(f"{begin}, found no class in {len(nameless)} of {len(paths)}, {which}")
    names = [name or "" for name in found]
    keys = [re.sub(f"{_GAP}+", " ", name).casefold() for name in names]
    spellings: dict[str, Counter[str]] = {}
    for key, name in zip(keys, names, strict=True):
        spellings.setdefault(key, Counter())[name] += 1
    counts = {key: spellings[key].total() for key in sorted(spellings)}
    classes = {key: min(spellings[key], key=lambda name: (-spellings[key][name], name)) for key in counts}
    first = dict(zip(reversed(keys), reversed(paths), strict=True))
    if len(counts) < 2:
        only = next(iter(classes.values()), "none")
        raise InputError(f"{begin}, of two classes or more, found one class, {shown(only)}")
    alone = [key for key, count in counts.items() if count == 1]
    if 2 * len(alone) > len(paths):
        examples = ", ".join(f"{shown(classes[key])!r} of {shown(first[key])}" for key in alone[:EXAMPLES])
        raise InputError(
            f"{begin}, found {len(alone)} of {len(paths)} images each the only one of its class ({examples})"
        )
    often = sorted(counts, key=lambda key: -counts[key])[:EXAMPLES]
    examples = ", ".join(f"{shown(classes[key])} ({counts[key]}, {shown(first[key])})" for key in often)
    report.remark(f"labels: {len(counts)} classes from file names, as {examples}")
    numbers = {key: number for number, key in enumerate(counts)}
    return np.array([numbers[key] for key in keys], dtype=np.int64), tuple(map(shown, classes.values()))


def captions_by_name(
    stems: Sequence[str], paths: Sequence[str], written: Sequence[str] | None, report: ReadReport
) -> tuple[str, ...]:
    """The ``written`` caption of each image, else the words of its file name; a remark gives an example."""
    texts = written or [""] * len(stems)
    captions = tuple(text or words_in(stem) for text, stem in zip(texts, stems, strict=True))
    made = [k for k, text in enumerate(texts) if not text and captions[k]]
    if made:
        example = f"{captions[made[0]]!r} of {shown(paths[made[0]])}"
        report.remark(f"captions: {len(made)} of {len(paths)} from file names, as {example}")
    else:
        report.remark(f"captions: no file name of {len(paths)} images has a word that they lack")
    return captions
