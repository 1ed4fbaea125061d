"""The page: a model and its controls on one side, the tabs and the gallery on the other, on a phone below
each other.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentdiff.apps.ui.compare_tab import compare_tab
from latentdiff.apps.ui.edit_tab import edit_tab, solvers
from latentdiff.apps.ui.handlers import Sessions
from latentdiff.apps.ui.limits import IMAGES, describe
from latentdiff.apps.ui.queue import DrawingQueue
from latentdiff.apps.ui.repeat_tab import repeat_tab
from latentdiff.apps.ui.sample_tab import sample_tab
from latentdiff.apps.ui.service import PageService
from latentdiff.apps.ui.widgets import QUIET, SharedWidgets, controls, controls_update, error_messages

AGE = (3600, 86400)  # seconds between deletions of old copies of files, and their greatest age


def page(service: PageService) -> gr.Blocks:
    """Build the page of a service, ready to launch."""
    names = service.models.names()
    with gr.Blocks(title="latentdiff", analytics_enabled=False, delete_cache=AGE, fill_width=True) as blocks:
        gr.Markdown("# latentdiff\nDraw with a trained model, and watch noise become an image.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                widgets = _shared_widgets(service, names)
                gr.Markdown(describe(), elem_classes="quiet")
            with gr.Column(scale=5, min_width=320):
                with gr.Tab("Sample"):
                    sample_tab(widgets)
                with gr.Tab("Compare"):
                    others = compare_tab(widgets)
                with gr.Tab("Edit"):
                    solver = edit_tab(widgets)
                with gr.Tab("Repeat"):
                    repeat_tab(widgets)
                gr.Markdown("### Gallery\nThe newest first; each is a PNG with its settings inside.")
                widgets.gallery.render()

        def fit(run: str) -> list[Any]:
            with error_messages():
                model = service.models.load(run)
                return [*controls_update(model), *controls_update(model), solvers(model)]

        shown = [*widgets.controls.all, *others.all, solver]
        gr.on([widgets.run.input, blocks.load], fit, widgets.run, shown, **QUIET)
        blocks.load(lambda: gr.update(choices=service.models.names()), None, widgets.run, **QUIET)
        blocks.unload(widgets.stop)
    return blocks


def _shared_widgets(service: PageService, names: list[str]) -> SharedWidgets:
    run = gr.Dropdown(names, value=names[0] if names else None, label="Model", elem_id="run")
    group = controls("a")
    seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
    n = gr.Slider(1, IMAGES, value=4, step=1, label="Images", elem_id="n")
    gallery = gr.Gallery(
        label="Gallery",
        show_label=False,
        columns=6,
        height="auto",
        object_fit="contain",
        buttons=["download", "fullscreen"],
        interactive=False,
        render=False,
        elem_id="gallery",
        elem_classes="pixels",
    )
    return SharedWidgets(service, Sessions(), DrawingQueue(), run, group, seed, n, gr.State([]), gallery)
