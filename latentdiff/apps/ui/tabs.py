"""The tabs of the page: sample, compare, edit, repeat."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import gradio as gr

from latentdiff.apps.ui.canvas import blank, canvas, editor_image, open_upload
from latentdiff.apps.ui.request import parse_controls
from latentdiff.apps.ui.service import PageView
from latentdiff.apps.ui.widgets import (
    QUIET,
    SKIP,
    SharedWidgets,
    Updates,
    controls,
    controls_update,
    error_messages,
    file_update,
    history_update,
    view_updates,
)
from latentdiff.viz.images import Pixels

EDIT, FILL = "Edit: noise the image, then denoise it", "Fill in: brush over what is missing"
COLORS = ["#ffffff", "#000000", "#d62728", "#ffdd33", "#2ca02c", "#1f77b4"]
MASK = ["#ff2d95"]


def sample_tab(widgets: SharedWidgets) -> None:
    """Lay out the tab that draws from noise."""

    def start(stop: Event, history: list[Any], run: str, *values: Any) -> Updates:
        views = widgets.service.sample(run, parse_controls(*values), stop=stop)
        return view_updates(views, history)

    widgets.drawing("sample", start, [])


def compare_tab(widgets: SharedWidgets) -> list[Any]:
    """Lay out the tab that draws by two settings from the same noise; returns the right side's controls."""
    gr.Markdown(
        "Left: the settings of the page. Right: these. Both start from the same noise.", elem_classes="quiet"
    )
    with gr.Accordion("Settings of the right side", open=True):
        others = controls("b", sampler="dpm++")

    def start(stop: Event, history: list[Any], *values: Any) -> Updates:
        second, run, first, same = values[:5], values[5], values[6:11], values[11:]
        requests = parse_controls(*first, *same), parse_controls(*second, *same)
        return _pair_updates(widgets.service.compare(run, requests, stop=stop), history)

    files = {"left": "Download the left", "right": "Download the right"}
    widgets.drawing("compare", start, others, button="Draw both", pictures=("Left", "Right"), files=files)
    return others


def _pair_updates(pairs: Iterator[tuple[PageView | None, PageView | None]], history: list[Any]) -> Updates:
    """Updates of the status, both pictures, both downloads, the history and the gallery, for each pair."""
    for left, right in pairs:
        named = [(name, view) for name, view in (("Left", left), ("right", right)) if view is not None]
        status = " · ".join(f"{name}: {view.status}" for name, view in named)
        images = [SKIP if view is None else view.estimate for view in (left, right)]
        gallery = history_update(history, right or left)
        history = history if gallery[0] is SKIP else gallery[0]
        yield [status, *images, file_update(left), file_update(right), *gallery]


def edit_tab(widgets: SharedWidgets) -> gr.Dropdown:
    """Lay out the tab that works on an image: one that is uploaded, painted or drawn, edited as a whole or
    filled in; returns the solvers, which depend on the model.
    """
    purpose = gr.Radio([EDIT, FILL], value=EDIT, label="What to do", elem_id="what")
    with gr.Row():
        small: dict[str, Any] = {"size": "sm", "min_width": 120}
        upload = gr.UploadButton("Upload an image", file_types=["image"], elem_id="image", **small)
        take = gr.Button("Take a sample", elem_id="taken", **small)
        black = gr.Button("Black canvas", elem_id="black", **small)
        white = gr.Button("White canvas", elem_id="white", **small)
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

    def start(
        stop: Event,
        history: list[Any],
        purpose: str,
        edited: dict[str, Any] | None,
        strength: float,
        solver: Any,
        run: str,
        *values: Any,
    ) -> Updates:
        request, parts = parse_controls(*values), edited or {}
        if purpose == EDIT:
            views = widgets.service.edit(run, request, editor_image(edited), strength, stop=stop)
        else:
            image, layers = parts.get("background"), parts.get("layers") or []
            views = widgets.service.inpaint(run, request, image, layers, solver, stop=stop)
        return view_updates(views, history)

    def taken(stop: Event, run: str, *values: Any) -> Updates:
        request = parse_controls(*values)

        def updates() -> Updates:
            image = widgets.service.sample_one(run, request, stop=stop)
            yield [f"Taken: seed {request.seed}", _filled(image)]

        return updates()

    def emptied(run: str, value: int) -> Any:
        with error_messages():
            return _filled(blank(widgets.service.models.load(run).shape, value))

    def uploaded(run: str, path: str) -> Any:
        with error_messages():
            return _filled(canvas(open_upload(path), widgets.service.models.load(run).shape))

    def pasted(run: str, edited: dict[str, Any] | None) -> Any:
        with error_messages():
            image = (edited or {}).get("background")
            return SKIP if image is None else _filled(canvas(image, widgets.service.models.load(run).shape))

    status = widgets.drawing("edit", start, [purpose, editor, strength, solver])
    widgets.on_click(take, taken, widgets.inputs, [status, editor])
    black.click(lambda run: emptied(run, 0), widgets.run, editor, **QUIET)
    white.click(lambda run: emptied(run, 255), widgets.run, editor, **QUIET)
    editor.upload(pasted, [widgets.run, editor], editor, **QUIET)
    upload.upload(uploaded, [widgets.run, upload], editor, **QUIET)
    purpose.change(_for_purpose, purpose, [strength, solver, editor], **QUIET)
    return solver


def _filled(image: Pixels) -> dict[str, Any]:
    """The value of an editor that shows an image with nothing painted on it."""
    return {"background": image, "layers": [], "composite": None}


def _brush(purpose: str) -> gr.Brush:
    colors, mode = (COLORS, "defaults") if purpose == EDIT else (MASK, "fixed")
    return gr.Brush(default_size=30, colors=colors, default_color=colors[0], color_mode=mode)


def _for_purpose(purpose: str) -> list[Any]:
    """Updates of the strength, the solvers and the editor."""
    edits = purpose == EDIT
    return [gr.update(visible=edits), gr.update(visible=not edits), gr.update(brush=_brush(purpose))]


def repeat_tab(widgets: SharedWidgets) -> None:
    """Lay out the tab that loads the settings of a picture."""
    gr.Markdown(
        "Every PNG from this page or from `latentdiff sample` carries its settings. Give one back and the"
        " page takes them over; *Draw* in the tab *Sample* then draws it again."
    )
    upload = gr.File(label="A PNG", file_types=[".png"], elem_id="upload")
    status = gr.Markdown(elem_id="status-repeat")
    about = gr.JSON(label="Its settings", visible=False, elem_id="about")

    def read(path: str) -> list[Any]:
        with error_messages():
            models = widgets.service.models
            name, request, recipe = widgets.service.repeat(path)
            if name is None:
                run, fitted = SKIP, [SKIP] * 5
                message = (
                    "The model that drew this picture is not here: with another one it becomes another"
                    " picture."
                )
            else:
                fitted = controls_update(models.load(name))
                run = gr.update(value=name, choices=models.names(also=name))
                message = (
                    "Its settings are taken over: *Draw* in the tab *Sample* draws it again."
                    if recipe.made_by == "sample"
                    else "An edit, whose image is not in the file. Its settings are taken over; give the"
                    " image in *Edit*."
                )
            values = dict(request).values()  # in the order of the controls
            updates = [
                update | {"value": value} for update, value in zip([*fitted, SKIP, SKIP], values, strict=True)
            ]
            shown = gr.update(value=recipe.model_dump(mode="json", exclude_defaults=True), visible=True)
            return [run, *updates, message, shown]

    upload.upload(read, upload, [*widgets.inputs, status, about], **QUIET)
