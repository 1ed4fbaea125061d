"""The tab that takes over the settings of a picture."""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentdiff.apps.ui.widgets import QUIET, SKIP, Desk, fitted, one_line


def repeat_tab(desk: Desk) -> None:
    """Its layout, and what an upload does."""
    gr.Markdown(
        "Every PNG from this page or from `latentdiff sample` carries its settings. Give one back and the"
        " page takes them over; *Draw* in the tab *Sample* then draws it again."
    )
    upload = gr.File(label="A PNG", file_types=[".png"], elem_id="upload")
    said = gr.Markdown(elem_id="said-repeat")
    about = gr.JSON(label="Its settings", visible=False, elem_id="about")

    def read(path: str) -> list[Any]:
        with one_line():
            name, ask, recipe = desk.studio.repeat(path)
            if name is None:
                words = (
                    "The model that drew this picture is not here: with another one it becomes another"
                    " picture."
                )
                changed = [SKIP] * 5
            elif recipe.made_by != "sample":
                words = (
                    "An edit, whose image is not in the file. Its settings are taken over; give the image in"
                    " *Edit*."
                )
                changed = fitted(desk.studio.shelf.model(name))
            else:
                words = "Its settings are taken over: *Draw* in the tab *Sample* draws it again."
                changed = fitted(desk.studio.shelf.model(name))
            values = (ask.label, ask.prompt, ask.sampler, ask.steps, ask.guidance)
            controls = [_valued(update, value) for update, value in zip(changed, values, strict=True)]
            run = SKIP if name is None else gr.update(value=name, choices=desk.studio.shelf.names(also=name))
            shown = gr.update(value=recipe.model_dump(mode="json", exclude_defaults=True), visible=True)
            return [run, *controls, ask.seed, ask.n, words, shown]

    upload.upload(read, upload, [*desk.given, said, about], **QUIET)


def _valued(update: Any, value: Any) -> Any:
    """An update with a value of its own."""
    return gr.update(value=value) if update is SKIP else update | {"value": value}
