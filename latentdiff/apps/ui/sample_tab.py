"""The tab that draws from noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from latentdiff.apps.ui.handlers import parse_controls
from latentdiff.apps.ui.widgets import (
    BEGIN,
    DRAWS,
    SharedWidgets,
    buttons,
    download,
    error_messages,
    image_pair,
    queued,
    view_updates,
)


def sample_tab(widgets: SharedWidgets) -> None:
    """Lay out the tab and connect its buttons."""
    draw = buttons("Draw", "sample", widgets)
    status = gr.Markdown(BEGIN, elem_id="status-sample")
    pictures = image_pair("sample", "x_t", "Estimate of x_0")
    file = download("sample")

    def drawn(request: gr.Request, history: list[Any], run: str, *values: Any) -> Iterator[list[Any]]:
        with error_messages():
            controls = parse_controls(*values)
            with widgets.drawing(request) as ticket:
                views = widgets.service.sample(run, controls, stop=ticket.stop)
                yield from queued(ticket, view_updates(views, history), others=5)

    draw.click(
        drawn,
        [widgets.history, *widgets.given],
        [status, *pictures, file, widgets.history, widgets.gallery],
        **DRAWS,
    )
