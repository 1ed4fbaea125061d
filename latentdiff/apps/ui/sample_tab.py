"""The tab that draws from noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from latentdiff.apps.ui.handlers import asked
from latentdiff.apps.ui.widgets import BEGIN, DRAWS, Desk, buttons, download, in_turn, one_line, pair, shown


def sample_tab(desk: Desk) -> None:
    """Its layout, and what its buttons do."""
    draw = buttons("Draw", "sample", desk)
    said = gr.Markdown(BEGIN, elem_id="said-sample")
    pictures = pair("sample", "x_t", "Estimate of x_0")
    file = download("sample")

    def drawn(request: gr.Request, history: list[Any], run: str, *values: Any) -> Iterator[list[Any]]:
        with one_line():
            ask = asked(*values)
            with desk.drawing(request) as place:
                views = desk.studio.sample(run, ask, stop=place.stop)
                yield from in_turn(place, shown(views, history), others=5)

    draw.click(
        drawn, [desk.history, *desk.given], [said, *pictures, file, desk.history, desk.gallery], **DRAWS
    )
