"""The tab that sets two settings side by side, from the same noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from latentdiff.apps.ui.handlers import asked
from latentdiff.apps.ui.service import PageView
from latentdiff.apps.ui.widgets import (
    BEGIN,
    DRAWS,
    SKIP,
    Controls,
    Desk,
    added,
    buttons,
    controls,
    download,
    file_update,
    in_turn,
    one_line,
    pair,
)


def compare_tab(desk: Desk) -> Controls:
    """Its layout, and what its buttons do; the controls of the right side."""
    gr.Markdown(
        "Left: the settings of the page. Right: these. Both start from the same noise.", elem_classes="quiet"
    )
    with gr.Accordion("Settings of the right side", open=True):
        others = controls("b", sampler="dpm++")
    draw = buttons("Draw both", "compare", desk)
    said = gr.Markdown(BEGIN, elem_id="said-compare")
    pictures = pair("compare", "Left", "Right")
    with gr.Row():
        files = [download("left", "Download the left"), download("right", "Download the right")]

    def drawn(request: gr.Request, history: list[Any], run: str, *values: Any) -> Iterator[list[Any]]:
        with one_line():
            first, same, second = values[:5], values[5:7], values[7:]
            asks = asked(*first, *same), asked(*second, *same)
            with desk.drawing(request) as place:
                sides = desk.studio.compare(run, asks, stop=place.stop)
                yield from in_turn(place, _shown(sides, history), others=6)

    draw.click(
        drawn,
        [desk.history, *desk.given, *others.all],
        [said, *pictures, *files, desk.history, desk.gallery],
        **DRAWS,
    )
    return others


def _shown(
    sides: Iterator[tuple[PageView | None, PageView | None]], history: list[Any]
) -> Iterator[list[Any]]:
    """Updates of the words, both pictures, both downloads, the history and the gallery."""
    for left, right in sides:
        finished = right if right else left
        pictured = [SKIP if side is None else side.estimate for side in (left, right)]
        gallery = added(history, finished)
        history = history if gallery[0] is SKIP else gallery[0]
        yield [_words(left, right), *pictured, file_update(left), file_update(right), *gallery]


def _words(left: PageView | None, right: PageView | None) -> str:
    sides = (("Left", left), ("right", right))
    return " · ".join(f"{name}: {view.said}" for name, view in sides if view is not None)
