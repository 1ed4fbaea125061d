"""The tab that sets two settings side by side, from the same noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from latentdiff.apps.ui.handlers import parse_controls
from latentdiff.apps.ui.service import PageView
from latentdiff.apps.ui.widgets import (
    BEGIN,
    DRAWS,
    SKIP,
    Controls,
    SharedWidgets,
    buttons,
    controls,
    download,
    error_messages,
    file_update,
    history_update,
    image_pair,
    queued,
)


def compare_tab(widgets: SharedWidgets) -> Controls:
    """Lay out the tab and connect its buttons; returns the controls of the right side."""
    gr.Markdown(
        "Left: the settings of the page. Right: these. Both start from the same noise.", elem_classes="quiet"
    )
    with gr.Accordion("Settings of the right side", open=True):
        others = controls("b", sampler="dpm++")
    draw = buttons("Draw both", "compare", widgets)
    status = gr.Markdown(BEGIN, elem_id="status-compare")
    pictures = image_pair("compare", "Left", "Right")
    with gr.Row():
        files = [download("left", "Download the left"), download("right", "Download the right")]

    def drawn(request: gr.Request, history: list[Any], run: str, *values: Any) -> Iterator[list[Any]]:
        with error_messages():
            first, same, second = values[:5], values[5:7], values[7:]
            requests = parse_controls(*first, *same), parse_controls(*second, *same)
            with widgets.drawing(request) as ticket:
                sides = widgets.service.compare(run, requests, stop=ticket.stop)
                yield from queued(ticket, _shown(sides, history), others=6)

    draw.click(
        drawn,
        [widgets.history, *widgets.given, *others.all],
        [status, *pictures, *files, widgets.history, widgets.gallery],
        **DRAWS,
    )
    return others


def _shown(
    sides: Iterator[tuple[PageView | None, PageView | None]], history: list[Any]
) -> Iterator[list[Any]]:
    """Updates of the status, both pictures, both downloads, the history and the gallery."""
    for left, right in sides:
        finished = right if right else left
        pictured = [SKIP if side is None else side.estimate for side in (left, right)]
        gallery = history_update(history, finished)
        history = history if gallery[0] is SKIP else gallery[0]
        yield [_status(left, right), *pictured, file_update(left), file_update(right), *gallery]


def _status(left: PageView | None, right: PageView | None) -> str:
    sides = (("Left", left), ("right", right))
    return " · ".join(f"{name}: {view.status}" for name, view in sides if view is not None)
