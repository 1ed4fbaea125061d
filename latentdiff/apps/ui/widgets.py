"""What the tabs of the page share: controls, the gallery, the updates of a drawing, error messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from latentdiff.apps.ui.handlers import Sessions, error_html
from latentdiff.apps.ui.limits import GUIDANCE, HISTORY, PROMPT, STEPS
from latentdiff.apps.ui.models import ListedModel
from latentdiff.apps.ui.queue import DrawingQueue, Ticket
from latentdiff.apps.ui.request import ALL_CLASSES, usual_steps
from latentdiff.apps.ui.service import PageService, PageView
from latentdiff.config.sampling import Sampler
from latentdiff.pipeline.batching import Cancelled

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
DRAWS: dict[str, Any] = {
    **QUIET,
    "concurrency_limit": None,
}  # DrawingQueue orders the drawings, and lets them be cancelled while they wait
BEGIN = "Nothing drawn yet."
SKIP = gr.skip()


@contextmanager
def error_messages() -> Iterator[None]:
    """Show errors as one line on the page, never as a traceback."""
    try:
        yield
    except Exception as error:
        raise gr.Error(error_html(error), title="That did not work", print_exception=False) from None


@dataclass(frozen=True)
class Controls:
    """Class, prompt, sampler, steps and guidance."""

    label: gr.Dropdown
    prompt: gr.Textbox
    sampler: gr.Dropdown
    steps: gr.Slider
    guidance: gr.Slider

    @property
    def all(self) -> list[Any]:
        return [self.label, self.prompt, self.sampler, self.steps, self.guidance]


def controls(which: str, *, sampler: Sampler = "ddim") -> Controls:
    """Create a group of controls at this position of the layout."""
    every = [("all in turn", ALL_CLASSES)]
    found = Controls(
        gr.Dropdown(every, value=ALL_CLASSES, label="Class", visible=False, elem_id=f"label-{which}"),
        gr.Textbox(label="Prompt", max_length=PROMPT, visible=False, elem_id=f"prompt-{which}"),
        gr.Dropdown(list(get_args(Sampler)), value=sampler, label="Sampler", elem_id=f"sampler-{which}"),
        gr.Slider(1, STEPS, value=usual_steps(sampler), step=1, label="Steps", elem_id=f"steps-{which}"),
        gr.Slider(
            0, GUIDANCE, value=1, step=0.1, label="Guidance", visible=False, elem_id=f"guidance-{which}"
        ),
    )
    found.sampler.input(usual_steps, found.sampler, found.steps, **QUIET)
    return found


def controls_update(model: ListedModel) -> list[Any]:
    """Updates that fit a group of controls to a model: controls without effect are hidden."""
    classes, takes_text, T = model.pipeline.classes, model.takes_text, model.pipeline.schedule.T
    names = [("all in turn", ALL_CLASSES), *((name, name) for name in classes)]
    return [
        gr.update(choices=names, value=ALL_CLASSES, visible=bool(classes)),
        gr.update(visible=takes_text, placeholder=model.example and f"such as: {model.example}"),
        SKIP,
        gr.update(maximum=min(STEPS, T), **({"value": T} if usual_steps("ddim") > T else {})),
        gr.update(value=4 if takes_text else 2 if classes else 1, visible=bool(classes) or takes_text),
    ]


@dataclass(frozen=True)
class SharedWidgets:
    """The widgets beside and below the tabs, with the service and the queue behind them."""

    service: PageService
    sessions: Sessions
    queue: DrawingQueue
    run: gr.Dropdown
    controls: Controls
    seed: gr.Number
    n: gr.Slider
    history: gr.State
    gallery: gr.Gallery

    @property
    def given(self) -> list[Any]:
        """The model and the arguments of :func:`latentdiff.apps.ui.handlers.parse_controls`."""
        return [self.run, *self.controls.all, self.seed, self.n]

    @contextmanager
    def drawing(self, request: gr.Request) -> Iterator[Ticket]:
        """The ticket of a new drawing; an earlier drawing of this session is stopped."""
        with self.queue.enter() as ticket:  # first, so that a full queue stops no earlier drawing
            self.sessions.begin(str(request.session_hash), ticket.stop)
            yield ticket

    def stop(self, request: gr.Request) -> None:
        """Stop the drawing of this session."""
        self.sessions.stop(str(request.session_hash))

    def shape(self, run: str) -> tuple[int, ...]:
        """[C, H, W] of the model's images."""
        return self.service.models.load(run).pipeline.codec.image_shape


def buttons(text: str, which: str, widgets: SharedWidgets) -> gr.Button:
    """A button that draws, beside one that stops."""
    with gr.Row():
        draw = gr.Button(text, variant="primary", scale=3, min_width=120, elem_id=f"draw-{which}")
        stop = gr.Button("Stop", scale=1, min_width=80, elem_id=f"stop-{which}")
    stop.click(widgets.stop, None, None, queue=False, **QUIET)
    return draw


def image_pair(which: str, left: str, right: str) -> list[Any]:
    """Two pictures beside each other, on a phone too."""

    def picture(side: str, label: str) -> gr.Image:
        name = f"{side}-{which}"
        return gr.Image(
            label=label, format="png", interactive=False, buttons=["fullscreen"], elem_id=name, min_width=100
        )

    with gr.Row(elem_classes=["pair", "pixels"]):
        return [picture("left", left), picture("right", right)]


def download(which: str, text: str = "Download all as one PNG") -> gr.DownloadButton:
    """A download button, hidden until there is a file."""
    return gr.DownloadButton(text, visible=False, min_width=120, elem_id=f"file-{which}")


def file_update(view: PageView | None) -> Any:
    """The update of a download button."""
    return SKIP if view is None or view.grid is None else gr.update(value=str(view.grid), visible=True)


def history_update(history: list[Any], view: PageView | None) -> list[Any]:
    """Updates of the history and of the gallery: a finished drawing comes first."""
    if view is None or view.grid is None:
        return [SKIP, SKIP]
    now = ([(str(path), caption) for path, caption in view.shots] + history)[:HISTORY]
    return [now, now]


def view_updates(views: Iterator[PageView], history: list[Any]) -> Iterator[list[Any]]:
    """Updates of the status, both pictures, the download, the history and the gallery, for each view."""
    for view in views:
        yield [view.status, view.noisy, view.estimate, file_update(view), *history_update(history, view)]


def queued(ticket: Ticket, updates: Iterator[list[Any]], *, others: int) -> Iterator[list[Any]]:
    """The updates (of the status and of ``others``) of a drawing once its ticket is first; before that the
    number of drawings ahead, and at last where it was stopped.
    """
    status = ""
    try:
        for ahead in ticket:
            yield [
                f"Waiting for {ahead} other {'drawing' if ahead == 1 else 'drawings'} to end",
                *[SKIP] * others,
            ]
        for update in updates:
            status = update[0]
            yield update
    except Cancelled:
        yield [f"Stopped at {status}" if status else "Stopped", *[SKIP] * others]
