"""The tabs of the page: sample, compare, edit, repeat."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event
from typing import Any

import gradio as gr

from latentdiff.apps.ui.canvas import blank, canvas, editor_image, open_upload
from latentdiff.apps.ui.limits import STEPS
from latentdiff.apps.ui.request import in_words, parse_controls, plain
from latentdiff.apps.ui.service import PageView
from latentdiff.apps.ui.widgets import (
    QUIET,
    SKIP,
    DrawingWidgets,
    SharedWidgets,
    Updates,
    controls,
    controls_update,
    error_messages,
    file_update,
    new_seed,
    steps_update,
)
from latentdiff.viz.images import Pixels

EDIT, FILL = "Edit: change the whole image", "Fill in: brush over what is missing"
COLORS = ["#000000", "#ffffff", "#d62728", "#ffdd33", "#2ca02c", "#1f77b4"]
MIDDLE = 128  # of an image that is bright on average: it is painted on in black
MASK = ["#ff2d95"]
SMALL: dict[str, Any] = {"size": "sm", "min_width": 110}


def sample_tab(widgets: SharedWidgets) -> DrawingWidgets:
    """Lay out the tab that draws from noise."""
    another: list[gr.Button] = []

    def start(stop: Event, run: str, *values: Any) -> Iterator[PageView]:
        return widgets.service.sample(run, parse_controls(*values), stop=stop)

    def more() -> None:
        another.append(gr.Button("Another", scale=1, min_width=80, elem_id="another"))

    made = widgets.drawing("sample", start, [], more=more)
    another[0].click(new_seed, None, widgets.seed, **QUIET).success(**made.event)

    def renewed(drawn: list[Any], *values: Any) -> Any:
        """A new seed where the pictures of these settings are shown already."""
        return gr.update(value=new_seed()) if drawn == [*values] else SKIP

    inputs = [made.drawn, *widgets.inputs]
    made.draw.click(renewed, inputs, widgets.seed, **QUIET).success(**made.event)
    return made


def compare_tab(widgets: SharedWidgets) -> list[Any]:
    """Lay out the tab that draws by two settings from the same noise; returns the right side's controls."""
    gr.Markdown(
        "Left: the settings of the page. Right: these. Both start from the same noise.", elem_classes="quiet"
    )
    others = controls("b", widgets.first, sampler="dpm++")
    with gr.Accordion("Settings of the right side", open=True):
        for control in others:
            control.render()
    widgets.connect(others)

    def start(stop: Event, pictures: Any, *values: Any) -> Updates:
        k = len(others)
        second, run, first, same = values[:k], values[k], values[k + 1 : 2 * k + 1], values[2 * k + 1 :]
        requests = parse_controls(*first, *same), parse_controls(*second, *same)
        return _pair_updates(widgets, widgets.service.compare(run, requests, stop=stop), pictures)

    draw, status = widgets.buttons("compare", "Draw both")
    with gr.Row(elem_classes=["pair", "pixels"]):  # beside each other, on a phone too
        sides = [
            widgets.picture(f"{side}-compare", side.title(), f"The pictures of the {side} side")
            for side in ("left", "right")
        ]
    with gr.Row(elem_classes="files"):
        files = [
            gr.DownloadButton(f"Download the {side}", interactive=False, elem_id=f"file-{side}", **SMALL)
            for side in ("left", "right")
        ]
    outputs = [status, *sides, *files, widgets.pictures, widgets.gallery]
    draw.click(**widgets.event(start, [widgets.pictures, *others, *widgets.inputs], outputs))
    return others


def _pair_updates(
    widgets: SharedWidgets, pairs: Iterator[tuple[PageView | None, PageView | None]], pictures: Any
) -> Updates:
    """Updates of the status, both pictures, both downloads, the kept pictures and the gallery."""
    for left, right in pairs:
        named = [(name, view) for name, view in (("Left", left), ("right", right)) if view is not None]
        status = plain(" · ".join(f"{name}: {view.status}" for name, view in named))
        images = [SKIP if view is None else view.estimate for view in (left, right)]
        gallery = widgets.history_update(pictures, right or left)
        pictures = pictures if gallery[0] is SKIP else gallery[0]
        yield [status, *images, file_update(left), file_update(right), *gallery]


@dataclass(frozen=True, eq=False)
class EditWidgets:
    """What other parts of the page change of the tab that edits."""

    editor: gr.ImageEditor
    purpose: gr.Radio
    strength: gr.Slider
    solver: gr.Dropdown
    drawing: DrawingWidgets


def edit_tab(widgets: SharedWidgets) -> EditWidgets:
    """Lay out the tab that works on an image: one that is uploaded, painted or drawn, edited as a whole or
    filled in.
    """
    purpose = gr.Radio(
        [EDIT, FILL],
        value=EDIT,
        label="What to do",
        info="Edits move towards the class or the prompt at the top of the page.",
        elem_id="what",
    )
    with gr.Row(elem_classes="files"):
        upload = gr.UploadButton("Upload an image", file_types=["image"], elem_id="image", **SMALL)
        take = gr.Button("Take a sample", elem_id="taken", **SMALL)
        black = gr.Button("Black canvas", elem_id="black", **SMALL)
        white = gr.Button("White canvas", elem_id="white", **SMALL)
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
        purpose: str,
        edited: dict[str, Any] | None,
        strength: float,
        solver: Any,
        run: str,
        *values: Any,
    ) -> Iterator[PageView]:
        request, parts = parse_controls(*values), edited or {}
        if purpose == EDIT:
            return widgets.service.edit(run, request, editor_image(edited), strength, stop=stop)
        image, layers = parts.get("background"), parts.get("layers") or []
        return widgets.service.inpaint(run, request, image, layers, solver, stop=stop)

    def taken(stop: Event, purpose: str, run: str, *values: Any) -> Updates:
        request = parse_controls(*values)

        def updates() -> Updates:
            image = widgets.service.sample_one(run, request, stop=stop)
            yield [f"Taken: seed {request.seed}", filled(image, purpose)]

        return updates()

    def emptied(purpose: str, run: str, value: int) -> Any:
        with error_messages():
            return filled(blank(widgets.service.models.load(run).shape, value), purpose)

    def uploaded(purpose: str, run: str, path: str) -> Any:
        with error_messages():
            return filled(canvas(open_upload(path), widgets.service.models.load(run).shape), purpose)

    def pasted(purpose: str, run: str, edited: dict[str, Any] | None) -> Any:
        with error_messages():
            image, shape = (edited or {}).get("background"), widgets.service.models.load(run).shape
            # an image that is set here counts as uploaded, too: that of a canvas is left as it is
            fits = image is not None and image.shape[:2] == blank(shape, 0).shape[:2]
            return SKIP if image is None or fits else filled(canvas(image, shape), purpose)

    made = widgets.drawing("edit", start, [purpose, editor, strength, solver], pair=True)
    made.draw.click(**made.event)
    place = [purpose, widgets.run]
    take.click(**widgets.event(taken, [purpose, *widgets.inputs], [made.status, editor]))
    black.click(lambda purpose, run: emptied(purpose, run, 0), place, editor, **QUIET)
    white.click(lambda purpose, run: emptied(purpose, run, 255), place, editor, **QUIET)
    editor.upload(pasted, [*place, editor], editor, **QUIET)
    upload.upload(uploaded, [*place, upload], editor, **QUIET)
    purpose.change(_for_purpose, [purpose, editor], [strength, solver, editor], **QUIET)
    return EditWidgets(editor, purpose, strength, solver, made)


def filled(image: Pixels, purpose: str) -> Any:
    """The update of an editor that shows an image with nothing painted on it, and of its brush."""
    value = {"background": image, "layers": [], "composite": None}
    return gr.update(value=value, brush=_brush(purpose, image))


def _brush(purpose: str, image: Pixels | None = None) -> gr.Brush:
    """The brush for a purpose: black on what is bright or empty, white on what is dark, pink for a mask."""
    if purpose == FILL:
        return gr.Brush(default_size=30, colors=MASK, default_color=MASK[0], color_mode="fixed")
    dark = image is not None and float(image[..., :3].mean()) < MIDDLE
    color = COLORS[1] if dark else COLORS[0]
    return gr.Brush(default_size=30, colors=COLORS, default_color=color, color_mode="defaults")


def _for_purpose(purpose: str, edited: dict[str, Any] | None) -> list[Any]:
    """Updates of the strength, the solvers and the editor."""
    edits, image = purpose == EDIT, (edited or {}).get("background")
    return [gr.update(visible=edits), gr.update(visible=not edits), gr.update(brush=_brush(purpose, image))]


def repeat_tab(widgets: SharedWidgets) -> None:
    """Lay out the tab that loads the settings of a picture."""
    gr.Markdown(
        "Every PNG from this page or from `latentdiff sample` carries its settings. Give one back and the"
        " page takes them over; *Draw* in the tab *Sample* then draws it again."
    )
    upload = gr.File(label="A PNG", file_types=[".png"], elem_id="upload")
    status = gr.Markdown(elem_id="status-repeat", elem_classes="status")

    def read(path: str) -> list[Any]:
        with error_messages():
            updates, message = settings_of(widgets, path)
            return [*updates, message]

    widgets.adoptions.append(upload.upload(read, upload, [*widgets.inputs, status], **QUIET))


def settings_of(widgets: SharedWidgets, path: str) -> tuple[list[Any], str]:
    """Updates of the model and the controls that repeat a picture, and a line about it.

    InputError for a file without settings, or with settings that the page has no control for.
    """
    models = widgets.service.models
    name, request, recipe = widgets.service.repeat(path)
    if name is None:
        run, fitted, T = SKIP, [SKIP] * len(widgets.controls), STEPS
        message = "The model that drew this picture is not here: with another one it becomes another picture."
    else:
        model = models.load(name)
        fitted, T = controls_update(model), model.pipeline.schedule.T
        run = gr.update(value=name, choices=models.choices(also=name))
        message = (
            "Its settings are taken over: *Draw* in the tab *Sample* draws it again."
            if recipe.made_by == "sample"
            else "An edit, whose image is not in the file. Its settings are taken over; give the image in"
            " *Edit*."
        )
    values = dict(request)  # in the order of the controls
    updates: list[Any] = []
    for field, update in zip(values, [*fitted, SKIP, SKIP], strict=True):
        more = steps_update(request.steps, T) if field == "steps" else {"value": values[field]}
        updates.append({**(gr.update() if update is SKIP else update), **more})
    return [run, *updates], f"{message}\n\n{plain(in_words(recipe))}"
