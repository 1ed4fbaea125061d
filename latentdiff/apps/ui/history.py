"""The gallery of the page: what was drawn, a chosen picture large with its settings in words, what to do
with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from latentdiff.apps.ui.canvas import canvas, open_upload
from latentdiff.apps.ui.request import in_words, plain
from latentdiff.apps.ui.tabs import EDIT, SMALL, EditWidgets, filled, settings_of
from latentdiff.apps.ui.widgets import QUIET, SKIP, SharedWidgets, error_messages
from latentdiff.config.recipe import Recipe
from latentdiff.viz.images import read_recipe

VARIATIONS, STRENGTH = 4, 0.6  # drawn of a picture, and how far they are from it
TO_PICTURE = "() => document.querySelector('#tabs')?.scrollIntoView({behavior: 'smooth'})"
TO_EDITED = "() => document.querySelector('#status-edit')?.scrollIntoView({behavior: 'smooth'})"
# which is laid out a moment later where it was hidden
TO_CHOSEN = """() => setTimeout(() => {
  const chosen = document.querySelector('#chosen'), place = chosen?.getBoundingClientRect();
  if (place && place.bottom > window.innerHeight) chosen.scrollIntoView({behavior: 'smooth'});
}, 300)"""


@dataclass(frozen=True, eq=False)
class ChosenPicture:
    """The widgets of the picture that was clicked."""

    group: gr.Group
    image: gr.Image
    words: gr.Markdown
    use: gr.Button
    edit: gr.Button
    vary: gr.Button
    file: gr.DownloadButton


def gallery(widgets: SharedWidgets, tabs: gr.Tabs, editing: EditWidgets) -> None:
    """Lay out the gallery."""
    gr.Markdown("## Gallery\nThe newest first; each is a PNG with its settings inside. Choose one.")
    widgets.gallery.render()
    chosen, path = _chosen(widgets), gr.State("")
    shown = [chosen.group, chosen.image, chosen.words, chosen.vary, chosen.file, path]

    def choose(pictures: Any, event: gr.SelectData) -> list[Any]:
        found = widgets.service.kept(pictures)
        if not event.index < len(found):
            return [SKIP] * 6
        place, caption = found[event.index]
        with error_messages():
            recipe = read_recipe(place)
            assert isinstance(recipe, Recipe)  # of this page
            name = widgets.service.models.of_weights(recipe.weights)
            editable = name is not None and widgets.service.models.load(name).calls is None
        image = gr.update(value=place, alt_text=f"Picture with {caption}")
        file = gr.update(value=place, interactive=True)
        return [
            gr.update(visible=True),
            image,
            plain(in_words(recipe)),
            gr.update(visible=editable),
            file,
            place,
        ]

    def use(place: str) -> list[Any]:
        with error_messages():
            updates, _ = settings_of(widgets, place)
            return [gr.update(selected="sample"), *updates]

    def edit(run: str, place: str) -> list[Any]:
        with error_messages():
            image = canvas(open_upload(place), widgets.service.models.load(run).shape)
            return [gr.update(selected="edit"), filled(image, EDIT), EDIT]

    def vary(place: str) -> list[Any]:
        with error_messages():
            updates, _ = settings_of(widgets, place)
            run = widgets.service.models.of_weights(read_recipe(place).weights)
            image = canvas(open_upload(place), widgets.service.models.load(run or "").shape)
            updates[-1] = gr.update(value=VARIATIONS)
            return [gr.update(selected="edit"), *updates, filled(image, EDIT), EDIT, STRENGTH]

    widgets.gallery.select(choose, widgets.pictures, shown, **QUIET).success(None, None, None, js=TO_CHOSEN)
    used = chosen.use.click(use, path, [tabs, *widgets.inputs], **QUIET)
    used.success(None, None, None, js=TO_PICTURE)
    begun = chosen.edit.click(edit, [widgets.run, path], [tabs, editing.editor, editing.purpose], **QUIET)
    begun.success(None, None, None, js=TO_PICTURE)
    varied = [tabs, *widgets.inputs, editing.editor, editing.purpose, editing.strength]
    variation = chosen.vary.click(vary, path, varied, **QUIET)
    variation.success(None, None, None, js=TO_EDITED)
    variation.success(**editing.drawing.event)
    widgets.adoptions += [used, variation]


def _chosen(widgets: SharedWidgets) -> ChosenPicture:
    with gr.Group(visible=False, elem_id="chosen") as group:
        image = widgets.picture("chosen-image", "Chosen picture", "The chosen picture", elem_classes="pixels")
        words = gr.Markdown(elem_id="chosen-words", padding=True)
        with gr.Row(elem_classes="files"):
            use = gr.Button("Use these settings", elem_id="use", **SMALL)
            edit = gr.Button("Edit this", elem_id="edit-this", **SMALL)
            vary = gr.Button("Four variations", elem_id="vary", **SMALL)
            file = gr.DownloadButton("Download", elem_id="file-chosen", **SMALL)
    return ChosenPicture(group, image, words, use, edit, vary, file)
