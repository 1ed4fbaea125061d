"""The tab that loads the settings of a picture."""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentdiff.apps.ui.widgets import QUIET, SKIP, SharedWidgets, controls_update, error_messages


def repeat_tab(widgets: SharedWidgets) -> None:
    """Lay out the tab and connect its upload."""
    gr.Markdown(
        "Every PNG from this page or from `latentdiff sample` carries its settings. Give one back and the"
        " page takes them over; *Draw* in the tab *Sample* then draws it again."
    )
    upload = gr.File(label="A PNG", file_types=[".png"], elem_id="upload")
    status = gr.Markdown(elem_id="status-repeat")
    about = gr.JSON(label="Its settings", visible=False, elem_id="about")

    def read(path: str) -> list[Any]:
        with error_messages():
            name, controls, recipe = widgets.service.repeat(path)
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
                changed = controls_update(widgets.service.models.load(name))
            else:
                words = "Its settings are taken over: *Draw* in the tab *Sample* draws it again."
                changed = controls_update(widgets.service.models.load(name))
            values = (controls.label, controls.prompt, controls.sampler, controls.steps, controls.guidance)
            updates = [_valued(update, value) for update, value in zip(changed, values, strict=True)]
            run = (
                SKIP
                if name is None
                else gr.update(value=name, choices=widgets.service.models.names(also=name))
            )
            shown = gr.update(value=recipe.model_dump(mode="json", exclude_defaults=True), visible=True)
            return [run, *updates, controls.seed, controls.n, words, shown]

    upload.upload(read, upload, [*widgets.given, status, about], **QUIET)


def _valued(update: Any, value: Any) -> Any:
    """An update with a value of its own."""
    return gr.update(value=value) if update is SKIP else update | {"value": value}
