"""The blocks of a report: paragraphs, tables and figures, each with all numbers behind it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class IntervalCell:
    """A figure with the interval that resampling gives it, where it was resampled."""

    value: float
    low: float | None = None
    high: float | None = None


Cell = str | int | float | bool | IntervalCell | None


@dataclass(frozen=True)
class Paragraph:
    """Text; a ``finding`` is computed from the numbers, a ``warning`` says what not to conclude."""

    text: str
    kind: Literal["text", "finding", "warning"] = "text"


@dataclass(frozen=True)
class Table:
    """Rows under columns; a number is shown with ``digits`` significant digits and stored in full."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str
    digits: int = 3

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.name}: expected {len(self.columns)} cells in a row, found {len(row)}"
                )


@dataclass(frozen=True)
class Picture:
    """A PNG in the study's folder, what it shows, and the numbers or images that it was drawn from."""

    file: str
    caption: str
    numbers: Mapping[str, Any]


Block = Paragraph | Table | Picture


class Section:
    """A title and the blocks below it; plain text is a paragraph."""

    def __init__(self, title: str, *blocks: Block | str) -> None:
        self.title = title
        self.blocks: tuple[Block, ...] = tuple(Paragraph(b) if isinstance(b, str) else b for b in blocks)


class Report:
    """``findings`` open the page; ``values`` are numbers of the study that stand in no table or figure."""

    def __init__(self, findings: Iterable[str], *sections: Section, **values: Any) -> None:
        self.findings, self.sections, self.values = tuple(findings), sections, values

    def as_dict(self) -> dict[str, Any]:
        """Every number of the report for results.json."""
        blocks = [block for section in self.sections for block in section.blocks]
        words = {
            kind: [b.text for b in blocks if isinstance(b, Paragraph) and b.kind == kind]
            for kind in ("finding", "warning")
        }
        tables = {
            b.name: {"caption": b.caption, "rows": [dict(zip(b.columns, row, strict=True)) for row in b.rows]}
            for b in blocks
            if isinstance(b, Table)
        }
        figures = {b.file: {"caption": b.caption, **b.numbers} for b in blocks if isinstance(b, Picture)}
        return {
            "findings": [*self.findings, *words["finding"]],
            "warnings": words["warning"],
            "tables": tables,
            "figures": figures,
            "values": self.values,
        }


def to_json(value: Any) -> Any:
    """``value`` for strict JSON: arrays as lists, numbers that are not finite as null, keys as text."""
    if isinstance(value, Mapping):
        return {str(key): to_json(entry) for key, entry in value.items()}
    if isinstance(value, IntervalCell):
        return to_json(asdict(value))
    if isinstance(value, Tensor | np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str | int | bool) or value is None:
        return value
    if isinstance(value, Sequence):
        return [to_json(entry) for entry in value]
    return str(value)


def format_cell(value: Cell, digits: int = 3) -> str:
    """A cell as text: numbers with ``digits`` significant digits, very large and small ones by exponent."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, str):
        return value
    if isinstance(value, IntervalCell):
        if value.low is None or value.high is None:
            return format_cell(value.value, digits)
        center, low, high = (format_cell(each, digits) for each in (value.value, value.low, value.high))
        return f"{center} ({low} to {high})"
    if not math.isfinite(value):
        return "∞" if value > 0 else "−∞" if value < 0 else "undefined"
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    if not 1e-4 <= abs(rounded) < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", "−")
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{value:,.{places}f}".replace("-", "−")
