"""What the tabs of the page share: the model and its controls, the gallery, how drawings are shown, how
errors are told.
"""

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
from latentdiff.apps.ui.request import EVERY, usual_steps
from latentdiff.apps.ui.service import PageView, Studio
from latentdiff.config.sampling import Sampler
from latentdiff.pipeline.batching import Cancelled

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
DRAWS: dict[str, Any] = {
    **QUIET,
    "concurrency_limit": None,
}  # they stand in a line of our own, which one can leave
BEGIN = "Nothing drawn yet."
SKIP = gr.skip()


@contextmanager
def one_line() -> Iterator[None]:
    """Errors as one line on the page, never as a traceback."""
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
    """A group of controls at this place of the layout."""
    every = [("all in turn", EVERY)]
    found = Controls(
        gr.Dropdown(every, value=EVERY, label="Class", visible=False, elem_id=f"label-{which}"),
        gr.Textbox(label="Prompt", max_length=PROMPT, visible=False, elem_id=f"prompt-{which}"),
        gr.Dropdown(list(get_args(Sampler)), value=sampler, label="Sampler", elem_id=f"sampler-{which}"),
        gr.Slider(1, STEPS, value=usual_steps(sampler), step=1, label="Steps", elem_id=f"steps-{which}"),
        gr.Slider(
            0, GUIDANCE, value=1, step=0.1, label="Guidance", visible=False, elem_id=f"guidance-{which}"
        ),
    )
    found.sampler.input(usual_steps, found.sampler, found.steps, **QUIET)
    return found


def fitted(model: ListedModel) -> list[Any]:
    """Updates of a group of controls that suit a model: what it does not listen to is hidden."""
    classes, listens, T = model.pipeline.classes, model.listens, model.pipeline.schedule.T
    names = [("all in turn", EVERY), *((name, name) for name in classes)]
    return [
        gr.update(choices=names, value=EVERY, visible=bool(classes)),
        gr.update(visible=listens, placeholder=model.example and f"such as: {model.example}"),
        SKIP,
        gr.update(maximum=min(STEPS, T), **({"value": T} if usual_steps("ddim") > T else {})),
        gr.update(value=4 if listens else 2 if classes else 1, visible=bool(classes) or listens),
    ]


@dataclass(frozen=True)
class Desk:
    """The part of the page beside and below the tabs."""

    studio: Studio
    visits: Sessions
    line: DrawingQueue
    run: gr.Dropdown
    controls: Controls
    seed: gr.Number
    n: gr.Slider
    history: gr.State
    gallery: gr.Gallery

    @property
    def given(self) -> list[Any]:
        """The model, and what :func:`latentdiff.apps.ui.handlers.asked` takes."""
        return [self.run, *self.controls.all, self.seed, self.n]

    @contextmanager
    def drawing(self, request: gr.Request) -> Iterator[Ticket]:
        """The place in the line of a drawing that begins, with its stop; an earlier one of this visitor
        ends.
        """
        with self.line.place() as place:  # first of all: who finds no place loses nothing
            self.visits.begin(str(request.session_hash), place.stop)
            yield place

    def stop(self, request: gr.Request) -> None:
        """End what this visitor has drawn."""
        self.visits.stop(str(request.session_hash))

    def shape(self, run: str) -> tuple[int, ...]:
        """[C, H, W] of the model's images."""
        return self.studio.shelf.model(run).pipeline.codec.image_shape


def buttons(text: str, which: str, desk: Desk) -> gr.Button:
    """A button that draws, beside one that stops."""
    with gr.Row():
        draw = gr.Button(text, variant="primary", scale=3, min_width=120, elem_id=f"draw-{which}")
        stop = gr.Button("Stop", scale=1, min_width=80, elem_id=f"stop-{which}")
    stop.click(desk.stop, None, None, queue=False, **QUIET)
    return draw


def pair(which: str, left: str, right: str) -> list[Any]:
    """Two pictures beside each other, on a phone too."""

    def picture(side: str, label: str) -> gr.Image:
        name = f"{side}-{which}"
        return gr.Image(
            label=label, format="png", interactive=False, buttons=["fullscreen"], elem_id=name, min_width=100
        )

    with gr.Row(elem_classes=["pair", "pixels"]):
        return [picture("left", left), picture("right", right)]


def download(which: str, text: str = "Download all as one PNG") -> gr.DownloadButton:
    """A button that is there once there is a file."""
    return gr.DownloadButton(text, visible=False, min_width=120, elem_id=f"file-{which}")


def file_update(view: PageView | None) -> Any:
    """The update of a download button."""
    return SKIP if view is None or view.grid is None else gr.update(value=str(view.grid), visible=True)


def added(history: list[Any], view: PageView | None) -> list[Any]:
    """Updates of the history and of the gallery: a finished drawing stands first."""
    if view is None or view.grid is None:
        return [SKIP, SKIP]
    now = ([(str(path), caption) for path, caption in view.shots] + history)[:HISTORY]
    return [now, now]


def shown(views: Iterator[PageView], history: list[Any]) -> Iterator[list[Any]]:
    """Updates of the words, both pictures, the download, the history and the gallery, as a drawing goes
    on.
    """
    for view in views:
        yield [view.said, view.noisy, view.estimate, file_update(view), *added(history, view)]


def in_turn(place: Ticket, updates: Iterator[list[Any]], *, others: int) -> Iterator[list[Any]]:
    """The updates (of the words and of ``others``) of a drawing when its turn has come; before, how many are
    before it, and at last where it was stopped.
    """
    said = ""
    try:
        for before in place:
            yield [
                f"Waiting for {before} other {'drawing' if before == 1 else 'drawings'} to end",
                *[SKIP] * others,
            ]
        for update in updates:
            said = update[0]
            yield update
    except Cancelled:
        yield [f"Stopped at {said}" if said else "Stopped", *[SKIP] * others]
