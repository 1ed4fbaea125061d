"""The page of a study: well-formed, self-contained, escaped; and cells as people read them."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.apps.studies.report.blocks import (
    IntervalCell,
    Paragraph,
    Picture,
    Report,
    Section,
    Table,
    format_cell,
    to_json,
)
from latentdiff.apps.studies.report.curves import Curve, Panel, draw_panels
from latentdiff.apps.studies.report.html import page
from latentdiff.viz.images import save_image
from latentdiff.viz.rows import draw_rows

EVIL = "</td><script>alert(1)</script><img src=http://evil.test/x onerror='x'>\"&'"
VOID = {"meta", "img", "br"}
LOADS = ("src", "href", "srcset", "data", "poster", "action", "background")


class Reader(HTMLParser):
    """Checks that every element is closed in turn; collects tags, what would be loaded, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in LOADS]
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def hostile(tmp_path: Path) -> str:
    """A page whose every text is an attack."""
    save_image(np.zeros((4, 4, 3), dtype=np.uint8), tmp_path / "x.png")
    table = Table("t", (EVIL, "b"), ((EVIL, 1.0), ("x", IntervalCell(1.5, 1.0, 2.0))), EVIL)
    section = Section(
        EVIL,
        EVIL,
        Paragraph(EVIL, "finding"),
        Paragraph(EVIL, "warning"),
        table,
        Picture("x.png", EVIL, {}),
    )
    return page(EVIL, EVIL, Report((EVIL,), section), {EVIL: EVIL, "command": EVIL}, folder=tmp_path)


def test_a_page_is_well_formed_and_shows_hostile_text_as_text(hostile: str) -> None:
    read = Reader(hostile)
    assert "script" not in read.tags and read.tags.count("img") == 1
    assert read.text.count(EVIL) == 15  # all of it but the picture's alternative text


def test_a_page_loads_nothing(hostile: str) -> None:
    assert Reader(hostile).loads and all(
        value.startswith("data:image/png;base64,") for value in Reader(hostile).loads
    )
    style = re.findall(r"<style>(.*?)</style>", hostile, re.DOTALL)
    assert len(style) == 1 and "url(" not in style[0] and "@import" not in style[0]
    assert "default-src &#x27;none&#x27;; img-src data:;" in hostile


def test_a_picture_travels_whole(tmp_path: Path) -> None:
    import base64

    save_image(np.full((3, 9, 3), 7, dtype=np.uint8), tmp_path / "x.png")
    text = page("t", "q", Report((), Section("s", Picture("x.png", "c", {}))), {}, folder=tmp_path)
    (source,) = Reader(text).loads
    assert base64.b64decode(source.split(",", 1)[1]) == (tmp_path / "x.png").read_bytes()
    assert 'width="9" height="3"' in text and "wide" in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.00999999, "0.0100"),
        (0.5, "0.500"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (-0.25, "−0.250"),
        (2.43e-9, "2.43e−09"),
        (math.inf, "∞"),
        (math.nan, "undefined"),
        (None, "–"),
        (True, "yes"),
        (1200, "1,200"),
        (IntervalCell(0.5), "0.500"),
        (IntervalCell(0.5, 0.4, 0.6), "0.500 (0.400 to 0.600)"),
    ],
)
def test_cells_as_people_read_them(value: object, text: str) -> None:
    assert format_cell(value) == text  # type: ignore[arg-type]


def test_numbers_for_json_are_strict() -> None:
    found = to_json({"a": (1.0, math.nan), "b": IntervalCell(1.0, None, math.inf), 3: Path("x")})
    assert found == {"a": [1.0, None], "b": {"value": 1.0, "low": None, "high": None}, "3": "x"}


def test_every_block_is_in_the_numbers() -> None:
    table = Table("t", ("a", "b"), ((1, 2.0),), "c")
    blocks = (table, Paragraph("f", "finding"), Paragraph("w", "warning"), Picture("p.png", "c", {"n": 3}))
    found = Report(("first",), Section("s", *blocks), v=1).as_dict()
    assert found["findings"] == ["first", "f"] and found["warnings"] == ["w"] and found["values"] == {"v": 1}
    assert found["tables"] == {"t": {"caption": "c", "rows": [{"a": 1, "b": 2.0}]}}
    assert found["figures"] == {"p.png": {"caption": "c", "n": 3}}


def test_a_table_wants_as_many_cells_as_columns() -> None:
    with pytest.raises(ValueError, match="expected 2 cells in a row, found 1"):
        Table("t", ("a", "b"), ((1,),), "c")


def test_curves_are_drawn_where_they_are(tmp_path: Path) -> None:
    figure = draw_panels(
        [Panel("t", "x (s)", "y", [Curve("a", [0, 1, 2], [1, 0, 3]), Curve("b", [1], [2.0])], log_y=True)]
    )
    axes = figure.axes[0]
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[0, 1], [2, 3]], [[1, 2]]]  # log: no zero
    assert (axes.get_xlabel(), axes.get_yscale()) == ("x (s)", "log") and axes.get_legend() is not None


def test_a_curve_to_compare_with_has_the_colour_of_its_own() -> None:
    """A dashed curve without a colour is black; panels of the same many names share a legend below."""
    names = ["a", "b", "c", "d"]
    curves = [Curve(name, [0, 1], [0, k]) for k, name in enumerate(names)]
    curves += [Curve("a before", [0, 1], [1, 1], "dashed", color=0), Curve("law", [0, 1], [2, 2], "dashed")]
    figure = draw_panels([Panel(title, "x", "y", curves) for title in ("left", "right")])
    lines = figure.axes[0].lines
    assert lines[4].get_color() == lines[0].get_color() != lines[1].get_color()
    assert lines[5].get_color() == "black"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*names, "a before", "law"]
    assert all(axes.get_legend() is None for axes in figure.axes)
    few = draw_panels([Panel(title, "x", "y", curves[:2]) for title in ("left", "right")])
    assert not few.legends and all(axes.get_legend() is not None for axes in few.axes)


@pytest.mark.parametrize("channels", [1, 3])
def test_rows_show_the_images_and_leave_gaps_white(channels: int) -> None:
    images = torch.stack([torch.full((channels, 5, 7), float(value)) for value in (-1, 0, 1)])
    figure = draw_rows([("all", images), ("one", images[:1])], columns=["a", "b", "c"])
    shown_array = np.asarray(figure.axes[0].images[0].get_array())
    rows, columns = shown_array.shape[0] / 2, shown_array.shape[1] / 3
    centres = [
        [int(shown_array[int((y + 0.5) * rows), int((x + 0.5) * columns), 0]) for x in range(3)]
        for y in range(2)
    ]
    assert centres == [[0, 128, 255], [0, 255, 255]]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["all", "one"]
    assert figure.axes[0].get_yticks().tolist() == [rows / 2, rows * 1.5]


def test_a_picture_is_a_png(tmp_path: Path) -> None:
    save_image(np.zeros((4, 4, 3), dtype=np.uint8), tmp_path / "x.png")
    assert Image.open(tmp_path / "x.png").format == "PNG"
