"""The page: a model and its controls on one side, the tabs and the gallery on the other, on a phone below
each other.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentdiff.apps.ui.compare_tab import compare_tab
from latentdiff.apps.ui.edit_tab import edit_tab, solvers
from latentdiff.apps.ui.handlers import Sessions
from latentdiff.apps.ui.limits import IMAGES, told
from latentdiff.apps.ui.queue import DrawingQueue
from latentdiff.apps.ui.repeat_tab import repeat_tab
from latentdiff.apps.ui.sample_tab import sample_tab
from latentdiff.apps.ui.service import Studio
from latentdiff.apps.ui.widgets import QUIET, Desk, controls, fitted, one_line

AGE = (3600, 86400)  # seconds: how often copies of files are looked through, and how old they get


def page(studio: Studio) -> gr.Blocks:
    """The page of a studio, to be launched."""
    names = studio.shelf.names()
    with gr.Blocks(title="latentdiff", analytics_enabled=False, delete_cache=AGE, fill_width=True) as blocks:
        gr.Markdown("# latentdiff\nDraw with a trained model, and watch noise become an image.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                desk = _desk(studio, names)
                gr.Markdown(told(), elem_classes="quiet")
            with gr.Column(scale=5, min_width=320):
                with gr.Tab("Sample"):
                    sample_tab(desk)
                with gr.Tab("Compare"):
                    others = compare_tab(desk)
                with gr.Tab("Edit"):
                    solver = edit_tab(desk)
                with gr.Tab("Repeat"):
                    repeat_tab(desk)
                gr.Markdown("### Gallery\nThe newest first; each is a PNG with its settings inside.")
                desk.gallery.render()

        def fit(run: str) -> list[Any]:
            with one_line():
                model = studio.shelf.model(run)
                return [*fitted(model), *fitted(model), solvers(model)]

        shown = [*desk.controls.all, *others.all, solver]
        gr.on([desk.run.input, blocks.load], fit, desk.run, shown, **QUIET)
        blocks.load(lambda: gr.update(choices=studio.shelf.names()), None, desk.run, **QUIET)
        blocks.unload(desk.stop)
    return blocks


def _desk(studio: Studio, names: list[str]) -> Desk:
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
    return Desk(studio, Sessions(), DrawingQueue(), run, group, seed, n, gr.State([]), gallery)
