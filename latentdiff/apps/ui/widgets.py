"""What the tabs of the page share: controls, the widgets of a drawing, the gallery, error messages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from threading import Event
from typing import Any, get_args

import gradio as gr

from latentdiff.apps.ui.drawing import DrawingQueue
from latentdiff.apps.ui.limits import GUIDANCE, HISTORY, IMAGES, PROMPT, STEPS
from latentdiff.apps.ui.models import ListedModel
from latentdiff.apps.ui.request import ALL_CLASSES, error_html, usual_steps
from latentdiff.apps.ui.service import PageService, PageView
from latentdiff.config.sampling import Sampler
from latentdiff.pipeline.batching import Cancelled

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
SKIP = gr.skip()
Updates = Iterator[list[Any]]


@contextmanager
def error_messages() -> Iterator[None]:
    """Show errors as one line on the page, never as a traceback."""
    try:
        yield
    except Exception as error:
        raise gr.Error(error_html(error), title="That did not work", print_exception=False) from None


def controls(which: str, *, sampler: Sampler = "ddim") -> list[Any]:
    """Create the controls of class, prompt, sampler, steps and guidance at this position of the layout."""
    every = [("all in turn", ALL_CLASSES)]
    found = [
        gr.Dropdown(every, value=ALL_CLASSES, label="Class", visible=False, elem_id=f"label-{which}"),
        gr.Textbox(label="Prompt", max_length=PROMPT, visible=False, elem_id=f"prompt-{which}"),
        gr.Dropdown(list(get_args(Sampler)), value=sampler, label="Sampler", elem_id=f"sampler-{which}"),
        gr.Slider(1, STEPS, value=usual_steps(sampler), step=1, label="Steps", elem_id=f"steps-{which}"),
        gr.Slider(
            0, GUIDANCE, value=1, step=0.1, label="Guidance", visible=False, elem_id=f"guidance-{which}"
        ),
    ]
    samplers, steps = found[2:4]
    samplers.input(usual_steps, samplers, steps, **QUIET)
    return found


def controls_update(model: ListedModel) -> list[Any]:
    """Updates that fit a group of controls to a model: controls without effect are hidden."""
    classes, takes_text, T = model.pipeline.classes, model.takes_text, model.pipeline.schedule.T
    student = model.pipeline.student
    scale = model.pipeline.guidance
    if scale == 1 and student is None:
        scale = 4 if takes_text else 2 if classes else 1
    names = [("all in turn", ALL_CLASSES), *((name, name) for name in classes)]
    return [
        gr.update(choices=names, value=ALL_CLASSES, visible=bool(classes)),
        gr.update(visible=takes_text, placeholder=model.example and f"such as: {model.example}"),
        gr.update(visible=student is None),
        gr.update(
            maximum=min(STEPS, T),
            visible=student is None,
            **({"value": T} if usual_steps("ddim") > T else {}),
        ),
        gr.update(value=scale, visible=bool(classes) or takes_text),
    ]


class SharedWidgets:
    """The widgets beside and below the tabs, with the service and the queue behind them.

    ``inputs``: the model and the arguments of :func:`latentdiff.apps.ui.request.parse_controls`.
    """

    def __init__(self, service: PageService) -> None:
        names = service.models.names()
        self.service, self._queue = service, DrawingQueue()
        self.run = gr.Dropdown(names, value=names[0] if names else None, label="Model", elem_id="run")
        self.controls = controls("a")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed")
        n = gr.Slider(1, IMAGES, value=4, step=1, label="Images", elem_id="n")
        self.inputs = [self.run, *self.controls, seed, n]
        self._history = gr.State([])
        self.gallery = gr.Gallery(
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

    def stop(self, request: gr.Request) -> None:
        """Stop the drawing of this session."""
        self._queue.stop(str(request.session_hash))

    def drawing(
        self,
        which: str,
        start: Callable[..., Updates],
        inputs: list[Any],
        *,
        button: str = "Draw",
        pictures: tuple[str, str] = ("x_t", "Estimate of x_0"),
        files: Mapping[str, str] | None = None,
    ) -> gr.Markdown:
        """Lay out a drawing: buttons that draw and stop, the status line, two pictures, downloads by name,
        hidden until there is a file; returns the status line.

        ``start``: as of :meth:`on_click`, for the history, ``inputs`` and those of the page; it updates all
        of these, the history and the gallery.
        """
        with gr.Row():
            draw = gr.Button(button, variant="primary", scale=3, min_width=120, elem_id=f"draw-{which}")
            stop = gr.Button("Stop", scale=1, min_width=80, elem_id=f"stop-{which}")
        status = gr.Markdown("Nothing drawn yet.", elem_id=f"status-{which}")
        with gr.Row(elem_classes=["pair", "pixels"]):  # beside each other, on a phone too
            images = [
                gr.Image(
                    label=label,
                    format="png",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id=f"{side}-{which}",
                    min_width=100,
                )
                for side, label in zip(("left", "right"), pictures, strict=True)
            ]
        with gr.Row() if files else nullcontext():
            downloads = [
                gr.DownloadButton(text, visible=False, min_width=120, elem_id=f"file-{name}")
                for name, text in (files or {which: "Download all as one PNG"}).items()
            ]
        stop.click(self.stop, None, None, queue=False, **QUIET)
        outputs = [status, *images, *downloads, self._history, self.gallery]
        self.on_click(draw, start, [self._history, *inputs, *self.inputs], outputs)
        return status

    def on_click(
        self, button: gr.Button, start: Callable[..., Updates], inputs: list[Any], outputs: list[Any]
    ) -> None:
        """Let a button draw, in its turn.

        ``start``, of a stop event and the values of ``inputs``, checks them and returns the updates of
        ``outputs``, whose first is the status line: it shows the number of drawings ahead, and where one was
        stopped.
        """
        others = [SKIP] * (len(outputs) - 1)

        def drawn(request: gr.Request, *values: Any) -> Updates:
            stop, status = Event(), ""
            with error_messages():
                updates = start(stop, *values)
                with self._queue.enter(str(request.session_hash), stop) as waiting:
                    try:
                        for ahead in waiting:
                            noun = "drawing" if ahead == 1 else "drawings"
                            yield [f"Waiting for {ahead} other {noun} to end", *others]
                        for update in updates:
                            status = update[0]
                            yield update
                    except Cancelled:
                        yield [f"Stopped at {status}" if status else "Stopped", *others]

        # without gradio's limit: DrawingQueue orders the drawings, and those that wait can be stopped
        button.click(drawn, inputs, outputs, concurrency_limit=None, **QUIET)


def file_update(view: PageView | None) -> Any:
    """The update of a download button."""
    return SKIP if view is None or view.grid is None else gr.update(value=str(view.grid), visible=True)


def history_update(history: list[Any], view: PageView | None) -> list[Any]:
    """Updates of the history and of the gallery: a finished drawing comes first."""
    if view is None or view.grid is None:
        return [SKIP, SKIP]
    return [[*((str(path), caption) for path, caption in view.files), *history][:HISTORY]] * 2


def view_updates(views: Iterator[PageView], history: list[Any]) -> Updates:
    """Updates of the status, both pictures, the download, the history and the gallery, for each view."""
    for view in views:
        yield [view.status, view.noisy, view.estimate, file_update(view), *history_update(history, view)]
