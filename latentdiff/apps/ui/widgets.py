"""What the tabs of the page share: controls, the widgets of a drawing, errors, what a browser keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from secrets import randbelow
from threading import Event
from typing import Any, get_args

import gradio as gr

from latentdiff.apps.ui.drawing import DrawingQueue
from latentdiff.apps.ui.limits import GUIDANCE, IMAGES, PROMPT, STEPS, USUAL_STEPS
from latentdiff.apps.ui.models import ListedModel
from latentdiff.apps.ui.request import (
    ALL_CLASSES,
    error_html,
    parse_controls,
    plain,
    usual_request,
    usual_steps,
)
from latentdiff.apps.ui.service import Moment, PageService, PageView
from latentdiff.config.sampling import Sampler
from latentdiff.pipeline.batching import Cancelled

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
SKIP = gr.skip()
HEIGHT = "min(58vh, 560px)"  # of the pictures, whatever is in them, so that nothing moves
WAITING_LINE = "Nothing drawn yet."
SEEDS = 10**6  # new ones are drawn below
Updates = Iterator[list[Any]]


@contextmanager
def error_messages() -> Iterator[None]:
    """Show errors as one line on the page, never as a traceback."""
    try:
        yield
    except Exception as error:
        raise gr.Error(error_html(error), title="That did not work", print_exception=False) from None


def controls(which: str, model: ListedModel, *, sampler: Sampler = "ddim") -> list[Any]:
    """Create the controls of class, prompt, negative prompt, sampler, steps and guidance as they fit the
    first model, so that nothing moves when the page opens; not laid out.
    """
    fitting = [
        {name: value for name, value in update.items() if name != "__type__"}
        for update in controls_update(model, sampler)
    ]
    label, prompt, negative, samplers, steps, guidance = ({**fit, "render": False} for fit in fitting)
    return [
        gr.Dropdown(label="Class", elem_id=f"label-{which}", **label),
        gr.Textbox(label="Prompt", max_length=PROMPT, elem_id=f"prompt-{which}", **prompt),
        gr.Textbox(
            label="Negative prompt: what guidance leads away from",
            max_length=PROMPT,
            elem_id=f"negative-{which}",
            **negative,
        ),
        gr.Dropdown(list(get_args(Sampler)), label="Sampler", elem_id=f"sampler-{which}", **samplers),
        gr.Slider(1, step=1, label="Steps", elem_id=f"steps-{which}", **steps),
        gr.Slider(0, GUIDANCE, step=0.1, label="Guidance", elem_id=f"guidance-{which}", **guidance),
    ]


def guided(model: ListedModel, prompt: str) -> Any:
    """The update of the guidance: that of a model of texts has no effect without a prompt."""
    written = bool((prompt or "").strip()) or not model.takes_text
    return gr.update(interactive=written, info=None if written else "has no effect without a prompt")


def steps_update(steps: int, T: int = STEPS) -> Any:
    """The scale of the steps of a process of T levels, with a value that may be beyond the usual ones."""
    steps = min(steps, T)
    return gr.update(value=steps, maximum=max(min(USUAL_STEPS, T), steps))


def controls_update(model: ListedModel, sampler: Sampler = "ddim") -> list[Any]:
    """Updates that fit a group of controls to a model: controls without effect are hidden."""
    classes, takes_text, T = model.pipeline.classes, model.takes_text, model.pipeline.schedule.T
    usual, any_sampler = usual_request(model, sampler), model.calls is None
    names = [("all in turn", ALL_CLASSES), *((name, name) for name in classes)]
    return [
        gr.update(choices=names, value=usual.label, visible=bool(classes)),
        gr.update(visible=takes_text, value=usual.prompt),
        gr.update(visible=takes_text and any_sampler, value=usual.negative),
        gr.update(visible=any_sampler, value=usual.sampler),
        {**steps_update(usual.steps, T), "visible": any_sampler},
        {**guided(model, usual.prompt), "value": usual.guidance, "visible": bool(classes) or takes_text},
    ]


@dataclass(frozen=True, eq=False)
class DrawingWidgets:
    """The button of a drawing and its status line; ``event``: the arguments of another event that draws.

    ``opening``: updates of the outputs of that event when the page opens, for the kept pictures and
    ``inputs`` of the page. ``drawn``: the inputs of the page by which the shown pictures were drawn.
    """

    draw: gr.Button
    status: gr.Markdown
    event: Mapping[str, Any]
    opening: Callable[..., list[Any]]
    drawn: gr.State


class SharedWidgets:
    """The widgets of all tabs, with the service and the queue behind them.

    ``first``: the model that the page opens with. ``inputs``: the model and the arguments of
    :func:`latentdiff.apps.ui.request.parse_controls`. ``pictures`` (places and captions of what is in the
    gallery) and ``last`` (the last values of ``inputs``) are kept by the browser, also over a reload.
    ``adoptions``: the events that take over the settings of a picture, maybe with its model.
    """

    def __init__(self, service: PageService) -> None:
        names = service.models.choices()
        self.service, self._queue = service, DrawingQueue()
        self.first = service.models.first()
        self.run = gr.Dropdown(names, value=self.first.name, label="Model", elem_id="run", render=False)
        self.controls = controls("a", self.first)
        self.seed = gr.Number(0, label="Seed", precision=0, minimum=0, elem_id="seed", render=False)
        self.n = gr.Slider(1, IMAGES, value=4, step=1, label="Images", elem_id="n", render=False)
        self.inputs = [self.run, *self.controls, self.seed, self.n]
        self.adoptions: list[Any] = []
        self.pictures = gr.BrowserState([], storage_key="latentdiff-pictures")
        self.last = gr.BrowserState([], storage_key="latentdiff-last")
        self.gallery = gr.Gallery(
            label="Gallery",
            show_label=False,
            allow_preview=False,
            height="auto",
            object_fit="contain",
            buttons=[],
            interactive=False,
            render=False,
            elem_id="gallery",
            elem_classes="pixels",
        )

    def connect(self, found: list[Any]) -> None:
        """Let steps follow the sampler, and guidance the prompt, once a group of controls is laid out."""
        _, prompt, _, samplers, steps, guidance = found

        def fitting(run: str, sampler: Sampler) -> Any:
            with error_messages():
                return steps_update(usual_steps(sampler), self.service.models.load(run).pipeline.schedule.T)

        samplers.input(fitting, [self.run, samplers], steps, **QUIET)

        def written(run: str, prompt: str) -> Any:
            with error_messages():
                return guided(self.service.models.load(run), prompt)

        prompt.change(written, [self.run, prompt], guidance, trigger_mode="always_last", **QUIET)

    def stop(self, request: gr.Request) -> None:
        """Stop the drawing of this session."""
        self._queue.stop(str(request.session_hash))

    def buttons(
        self, which: str, text: str = "Draw", *, more: Callable[[], None] = lambda: None
    ) -> tuple[gr.Button, gr.Markdown]:
        """Lay out the buttons that draw and stop, those of ``more``, and the status line."""
        with gr.Row(elem_classes="buttons"):
            draw = gr.Button(text, variant="primary", scale=3, min_width=90, elem_id=f"draw-{which}")
            more()
            stop = gr.Button("Stop", scale=1, min_width=60, elem_id=f"stop-{which}")
        status = gr.Markdown(WAITING_LINE, elem_id=f"status-{which}", elem_classes="status")
        stop.click(self.stop, None, None, queue=False, **QUIET)
        return draw, status

    def picture(self, which: str, label: str, alt: str, **more: Any) -> gr.Image:
        """Create a picture of fixed height."""
        return gr.Image(
            label=label,
            alt_text=alt,
            format="png",
            interactive=False,
            buttons=["fullscreen"],
            height=HEIGHT,
            elem_id=which,
            min_width=90,
            **more,
        )

    def drawing(
        self,
        which: str,
        start: Callable[..., Iterator[PageView]],
        inputs: list[Any],
        *,
        pair: bool = False,
        more: Callable[[], None] = lambda: None,
    ) -> DrawingWidgets:
        """Lay out a drawing: buttons, status line, one large picture with the noise beside it while it is
        drawn, a slider back through the denoising, and files; ``more`` lays out further buttons. The button
        that draws does nothing yet.

        ``start``, of a stop event, ``inputs`` and those of the page, gives the views. ``pair``: an image is
        edited, and shown before and after.
        """
        draw, status = self.buttons(which, more=more)
        with gr.Row(elem_classes=["pair", "pixels"]):
            picture = self.picture(f"right-{which}", "Picture", "The drawn pictures", scale=3)
            noise = self.picture(f"left-{which}", "Noise", "The noise that is left", scale=1, visible=False)
            compared = gr.ImageSlider(
                label="Before and after",
                height=HEIGHT,
                interactive=False,
                buttons=[],
                elem_id=f"pair-{which}",
                scale=3,
                visible=False,
            )
        moments = gr.State([])
        scrubber = gr.Slider(
            0,
            1,
            value=1,
            step=1,
            label="Back to the noise",
            interactive=False,
            buttons=[],
            elem_id=f"moment-{which}",
        )
        with gr.Row(elem_classes="files"):
            files = [
                gr.DownloadButton(text, interactive=False, size="sm", min_width=90, elem_id=f"{name}-{which}")
                for name, text in (("file", "Grid as PNG"), ("zip", "All as ZIP"), ("gif", "Film as GIF"))
            ]
        shown = [picture, noise, compared]
        scrubber.input(
            partial(self._moment, pair=pair), [moments, scrubber], shown, trigger_mode="always_last", **QUIET
        )
        drawn = gr.State([])
        outputs = [status, *shown, moments, scrubber, *files, self.pictures, self.gallery, drawn]
        own = len(self.inputs)

        def updates(stop: Event, pictures: Any, *values: Any) -> Updates:
            views = start(stop, *values)
            used = [*values[-own:]]  # by a finished drawing: a stopped one is repeated
            return (
                [*self._view_update(view, pictures, pair=pair), SKIP if view.done is None else used]
                for view in views
            )

        event = self.event(updates, [self.pictures, *inputs, *self.inputs], outputs)

        def opening(pictures: Any, *values: Any) -> list[Any]:
            if kept := self.service.kept(pictures):
                path, caption = kept[0]
                skipped = [SKIP] * (len(outputs) - 3)
                with error_messages():
                    same = self.service.is_first_of(path, values[0], parse_controls(*values[1:]))
                used = [*values] if same else []
                return [plain(f"Drawn before: {caption}"), path, *skipped, used]
            view = self.service.opening(values[0])
            if view is None:
                return [SKIP] * len(outputs)
            return [*self._view_update(view, pictures, pair=pair), [*values]]

        return DrawingWidgets(draw, status, event, opening, drawn)

    def _view_update(self, view: PageView, pictures: Any, *, pair: bool) -> list[Any]:
        """Updates of the outputs of a drawing."""
        done = view.done
        if done is None:
            guess = gr.update(value=view.estimate, label="The guess so far")
            noise, compared = gr.update(value=view.noisy, visible=True), gr.update(visible=False)
            off = gr.update(interactive=False)
            return [plain(view.status), guess, noise, compared, SKIP, off, *[off] * 3, SKIP, SKIP]
        last = len(done.moments) - 1
        compared = gr.update(value=done.pair, visible=True) if pair else SKIP
        files = [gr.update(value=str(path), interactive=True) for path in (done.grid, done.archive, done.gif)]
        return [
            plain(view.status),
            gr.update(value=str(done.grid), label="Picture"),  # a file that nobody writes again
            gr.update(visible=False),
            compared,
            list(done.moments),
            gr.update(maximum=last, value=last, interactive=True),
            *files,
            *self.history_update(pictures, view),
        ]

    def _moment(self, moments: Sequence[Moment], k: int, *, pair: bool) -> list[Any]:
        """Updates of picture, noise and comparison to a moment of a finished drawing."""
        if not 0 <= k < len(moments):
            return [SKIP] * 3
        line, noisy, estimate = moments[int(k)]
        if k == len(moments) - 1:
            compared = gr.update(visible=True) if pair else SKIP
            return [gr.update(value=estimate, label="Picture"), gr.update(visible=False), compared]
        return [
            gr.update(value=estimate, label=f"The guess at {line}"),
            gr.update(value=noisy, visible=True),
            gr.update(visible=False),
        ]

    def history_update(self, pictures: Any, view: PageView | None) -> list[Any]:
        """Updates of the kept pictures and of the gallery: a finished drawing comes first."""
        if view is None or view.done is None:
            return [SKIP, SKIP]
        new = [[self.service.place(path), caption] for path, caption in view.files]
        shown = self.service.kept([*new, *(pictures if isinstance(pictures, list) else [])])
        return [[[self.service.place(Path(path)), caption] for path, caption in shown], shown]

    def event(self, start: Callable[..., Updates], inputs: list[Any], outputs: list[Any]) -> dict[str, Any]:
        """The arguments of an event that draws, in its turn.

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
        return {"fn": drawn, "inputs": inputs, "outputs": outputs, "concurrency_limit": None, **QUIET}


def new_seed() -> int:
    """A seed at random."""
    return randbelow(SEEDS)


def file_update(view: PageView | None) -> Any:
    """The update of a download button."""
    return SKIP if view is None or view.grid is None else gr.update(value=str(view.grid), interactive=True)
