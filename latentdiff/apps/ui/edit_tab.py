"""The tab that works on an image: one that is uploaded, painted or drawn, edited as a whole or filled in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from latentdiff.apps.ui.canvas import blank, canvas, editor_image, editor_part, open_upload
from latentdiff.apps.ui.handlers import parse_controls
from latentdiff.apps.ui.models import ListedModel
from latentdiff.apps.ui.widgets import (
    BEGIN,
    DRAWS,
    QUIET,
    SKIP,
    SharedWidgets,
    buttons,
    download,
    error_messages,
    image_pair,
    queued,
    view_updates,
)
from latentdiff.viz.images import Pixels

EDIT, FILL = "Edit: noise the image, then denoise it", "Fill in: brush over what is missing"
COLORS = ["#ffffff", "#000000", "#d62728", "#ffdd33", "#2ca02c", "#1f77b4"]
MASK = ["#ff2d95"]


def edit_tab(widgets: SharedWidgets) -> gr.Dropdown:
    """Lay out the tab and connect its buttons; returns the solvers, which depend on the model."""
    what = gr.Radio([EDIT, FILL], value=EDIT, label="What to do", elem_id="what")
    with gr.Row():
        upload = gr.UploadButton(
            "Upload an image", file_types=["image"], size="sm", min_width=120, elem_id="image"
        )
        take, black, white = (
            gr.Button(text, size="sm", min_width=120, elem_id=name)
            for text, name in (
                ("Take a sample", "taken"),
                ("Black canvas", "black"),
                ("White canvas", "white"),
            )
        )
    editor = gr.ImageEditor(
        label="Image",
        type="numpy",
        image_mode="RGBA",
        format="png",
        sources=["clipboard"],
        transforms=[],
        brush=_brush(EDIT),
        layers=gr.LayerOptions(disabled=True),
        buttons=[],
        height=460,
        elem_id="editor",
        elem_classes="pixels",
    )
    strength = gr.Slider(
        0, 1, value=0.6, step=0.01, label="Strength: 0 keeps the image, 1 forgets it", elem_id="strength"
    )
    solver = gr.Dropdown([], label="Solver", visible=False, elem_id="solver")
    draw = buttons("Draw", "edit", widgets)
    status = gr.Markdown(BEGIN, elem_id="status-edit")
    pictures = image_pair("edit", "x_t", "Estimate of x_0")
    file = download("edit")

    def drawn(
        request: gr.Request,
        history: list[Any],
        purpose: str,
        edited: dict[str, Any] | None,
        share: float,
        by: Any,
        run: str,
        *values: Any,
    ) -> Iterator[list[Any]]:
        with error_messages():
            controls = parse_controls(*values)
            with widgets.drawing(request) as ticket:
                if purpose == EDIT:
                    views = widgets.service.edit(run, controls, editor_image(edited), share, stop=ticket.stop)
                else:
                    image, layers = editor_part(edited, "background"), editor_part(edited, "layers") or []
                    views = widgets.service.inpaint(run, controls, image, layers, by, stop=ticket.stop)
                yield from queued(ticket, view_updates(views, history), others=5)

    def sampled(request: gr.Request, run: str, *values: Any) -> Iterator[list[Any]]:
        with error_messages():
            controls = parse_controls(*values)

            def taken() -> Iterator[list[Any]]:
                image = widgets.service.sample_one(run, controls, stop=ticket.stop)
                yield [f"Taken: seed {controls.seed}", _filled(image)]

            with widgets.drawing(request) as ticket:
                yield from queued(ticket, taken(), others=1)

    def emptied(run: str, value: int) -> Any:
        with error_messages():
            return _filled(blank(widgets.shape(run), value))

    def uploaded(run: str, path: str) -> Any:
        with error_messages():
            return _filled(canvas(open_upload(path), widgets.shape(run)))

    def pasted(run: str, edited: dict[str, Any] | None) -> Any:
        with error_messages():
            image = editor_part(edited, "background")
            return SKIP if image is None else _filled(canvas(image, widgets.shape(run)))

    black.click(lambda run: emptied(run, 0), widgets.run, editor, **QUIET)
    white.click(lambda run: emptied(run, 255), widgets.run, editor, **QUIET)
    take.click(sampled, widgets.given, [status, editor], **DRAWS)
    editor.upload(pasted, [widgets.run, editor], editor, **QUIET)
    upload.upload(uploaded, [widgets.run, upload], editor, **QUIET)
    what.change(_for_purpose, what, [strength, solver, editor], **QUIET)
    draw.click(
        drawn,
        [widgets.history, what, editor, strength, solver, *widgets.given],
        [status, *pictures, file, widgets.history, widgets.gallery],
        **DRAWS,
    )
    return solver


def solvers(model: ListedModel) -> Any:
    """The update of the solvers for a model."""
    return gr.update(choices=list(model.solvers), value=model.solvers[0])


def _filled(image: Pixels) -> dict[str, Any]:
    """The value of an editor that shows an image with nothing painted on it."""
    return {"background": image, "layers": [], "composite": None}


def _brush(what: str) -> gr.Brush:
    colors, mode = (COLORS, "defaults") if what == EDIT else (MASK, "fixed")
    return gr.Brush(default_size=30, colors=colors, default_color=colors[0], color_mode=mode)


def _for_purpose(what: str) -> list[Any]:
    return [gr.update(visible=what == EDIT), gr.update(visible=what == FILL), gr.update(brush=_brush(what))]
