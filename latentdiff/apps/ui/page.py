"""The page: a model and its controls beside the tabs and the gallery, or above them on a phone."""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentdiff.apps.ui.limits import describe
from latentdiff.apps.ui.service import PageService
from latentdiff.apps.ui.tabs import compare_tab, edit_tab, repeat_tab, sample_tab
from latentdiff.apps.ui.widgets import QUIET, SharedWidgets, controls_update, error_messages

AGE = (3600, 86400)  # seconds between deletions of old copies of files, and their greatest age
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # installed: none is fetched
MONO = ["ui-monospace", "Consolas", "monospace"]
CSS = """
.pixels img { image-rendering: pixelated; }
.pair { flex-wrap: nowrap !important; }
.pair .image-container { padding-top: 2rem; }
.quiet p { font-size: var(--text-sm); opacity: 0.8; }
#gallery .grid-wrap { min-height: 0; max-height: none; }
#gallery .grid-container { grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)) !important; }
"""


def page(service: PageService) -> gr.Blocks:
    """Build the page of a service, ready to launch."""
    with gr.Blocks(title="latentdiff", analytics_enabled=False, delete_cache=AGE, fill_width=True) as blocks:
        gr.Markdown("# latentdiff\nDraw with a trained model, and watch noise become an image.")
        with gr.Row():
            with gr.Column(scale=2, min_width=300):
                widgets = SharedWidgets(service)
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
                solvers = gr.update(choices=list(model.solvers), value=model.solvers[0])
                # two lists: gradio changes the updates that it sends
                return [*controls_update(model), *controls_update(model), solvers]

        shown = [*widgets.controls, *others, solver]
        gr.on([widgets.run.input, blocks.load], fit, widgets.run, shown, **QUIET)
        blocks.load(lambda: gr.update(choices=service.models.names()), None, widgets.run, **QUIET)
        blocks.unload(widgets.stop)
    return blocks
