"""The report of a reader: the files that became images and those that did not, by reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from latentdiff.data.scan import shown
from latentdiff.errors import InputError

MOST_REASONS = 8  # in one line
MOST_NAMES = 5


class ReadReport:
    """Counts of the files that a reader found; every reader fills one, commands print its :meth:`lines`.

    May be read while threads that decode images still fill it.

    ``used``: number of images. The rest is counted by reason: ``converted`` and ``resized`` images are used,
    ``refused`` ones are images that cannot be, ``left_out`` is everything else that was found and is not
    used. ``decoded``: whether images were decoded; where not, damaged ones are still among those that are
    used.
    """

    def __init__(self) -> None:
        self.used = 0
        self.decoded = True
        self.converted: dict[str, Count] = {}
        self.resized: dict[str, Count] = {}
        self.refused: dict[str, Count] = {}
        self.left_out: dict[str, Count] = {}
        self._remarks: list[str] = []

    def convert(self, name: str, whats: Iterable[str]) -> None:
        """Count an image that is used but was changed, once for each of ``whats``."""
        for what in whats:
            _add(self.converted, what, name)

    def add(self, kind: str, reason: str, name: str, count: int) -> None:
        """Count images of a ``kind``, "converted" or "resized", of which ``name`` is the first."""
        _add({"converted": self.converted, "resized": self.resized}[kind], reason, name, count)

    def resize(self, name: str, effects: Iterable[str], count: int = 1) -> None:
        """Count images whose resizing has side effects (:func:`latentdiff.data.resize.resize_effects`)."""
        for effect in effects:
            _add(self.resized, effect, name, count)

    def refuse(self, name: str, reason: str) -> None:
        """Count an image file that cannot be used."""
        _add(self.refused, reason, name)

    def leave_out(self, name: str, reason: str, count: int = 1) -> None:
        """Count files (or arrays) that are no images, or that the layout or an option leaves out."""
        _add(self.left_out, reason, name, count)

    def remark(self, text: str) -> None:
        """Add a line of its own; the same one is kept once."""
        if text not in self._remarks:
            self._remarks.append(text)

    def first_refused(self) -> tuple[str, str]:
        """Name and reason of the first refused file. StopIteration if there is none."""
        reason, count = next(iter(self.refused.items()))
        return count.first, reason

    @contextmanager
    def explaining(self, source: str) -> Iterator[None]:
        """Add to an InputError raised inside its data, and what was refused and left out there."""
        try:
            yield
        except InputError as error:
            text = str(error) if str(error).startswith(f"{source}: ") else f"{source}: {error}"
            raise InputError("; ".join((text, *self._unused_lines()))) from error

    def _unused_lines(self) -> tuple[str, ...]:
        """The lines of what is not used."""
        refused, left_out = total(self.refused), total(self.left_out)
        parts = {
            f"refused {refused} of {refused + self.used}: ": self.refused,
            f"left out {left_out}: ": self.left_out,
        }
        return tuple(begin + _listed(counts) for begin, counts in parts.items() if counts)

    def lines(self) -> tuple[str, ...]:
        """One line for each kind of entry, for the user."""
        parts = {"converted ": self.converted, "resized with side effects: ": self.resized}
        changed = (begin + _listed(counts) for begin, counts in parts.items() if counts)
        return (*changed, *self._unused_lines(), *self._remarks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: {"used": n, "decoded": true, "refused": {reason: {"count": n, "first": name}}, ...}."""
        kinds = ("converted", "resized", "refused", "left_out")
        counts: dict[str, dict[str, Count]] = {kind: dict(getattr(self, kind)) for kind in kinds}
        plain = {
            kind: {why: count.as_dict() for why, count in found.items()} for kind, found in counts.items()
        }
        return {"used": self.used, "decoded": self.decoded, **plain, "remarks": list(self._remarks)}


class Count:
    """How many, and the name of the first."""

    def __init__(self, first: str) -> None:
        self.number, self.first = 0, shown(first)

    def as_dict(self) -> dict[str, Any]:
        return {"count": self.number, "first": self.first}


def total(counts: dict[str, Count]) -> int:
    """The sum over all reasons."""
    return sum(count.number for count in list(counts.values()))


def named(names: Sequence[str]) -> str:
    """The first names, and how many more there are, for one line."""
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(shown(name) for name in names[:MOST_NAMES]) + more


def _add(counts: dict[str, Count], reason: str, name: str, count: int = 1) -> None:
    if count:
        counts.setdefault(reason, Count(name)).number += count


def _listed(counts: dict[str, Count]) -> str:
    """ "2 truncated or damaged (first: a.png), 1 empty (b.png)", the most frequent reasons first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1].number)
    parts = [f"{count.number} {reason}{_first(count)}" for reason, count in ordered[:MOST_REASONS]]
    if rest := ordered[MOST_REASONS:]:
        parts.append(f"{sum(count.number for _, count in rest)} for {len(rest)} other reasons")
    return ", ".join(parts)


def _first(count: Count) -> str:
    if not count.first:
        return ""
    return f" ({'first: ' if count.number > 1 else ''}{count.first})"
