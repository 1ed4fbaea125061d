"""The page: what to draw, the picture in its tabs with the settings beside them (below, on a phone), and the
gallery.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from latentdiff.apps.ui.history import gallery
from latentdiff.apps.ui.limits import describe
from latentdiff.apps.ui.models import ListedModel
from latentdiff.apps.ui.request import plain
from latentdiff.apps.ui.service import PageService
from latentdiff.apps.ui.tabs import compare_tab, edit_tab, repeat_tab, sample_tab
from latentdiff.apps.ui.widgets import (
    HEIGHT,
    QUIET,
    SKIP,
    SharedWidgets,
    controls_update,
    error_messages,
    steps_update,
)

AGE = (3600, 86400)  # seconds between deletions of old copies of files, and their greatest age
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # installed: none is fetched
MONO = ["ui-monospace", "Consolas", "monospace"]
TITLE = "# latentdiff\nDraw with a trained model, and watch noise become an image."
EXAMPLES = 6  # prompts to click
NARROW = 700  # pixels: a phone
CONTRAST = {  # of white on the button that draws: above 4.5
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_background_fill_dark": "*primary_700",
    "button_primary_background_fill_hover_dark": "*primary_800",
}
CSS = f"""
.pixels img {{ image-rendering: pixelated; object-fit: contain; }}
.pair {{ flex-wrap: nowrap !important; min-height: {HEIGHT}; }}
.buttons {{ flex-wrap: nowrap !important; gap: 0.5rem; min-height: 40px; }}
.gradio-container {{ visibility: hidden; animation: shown 0s 3s forwards; }}
.ready .gradio-container {{ visibility: visible; }}
@keyframes shown {{ to {{ visibility: visible; }} }}
.files {{ flex-wrap: wrap; gap: 0.5rem; }}
.quiet p {{ font-size: var(--text-sm); }}
.status {{ min-height: 1.6rem; }}
body:not(.ready)::before {{
  content: "The page is loading …"; position: fixed; top: 40vh; width: 100%; text-align: center;
  color: var(--body-text-color); pointer-events: none; animation: hidden 0s 3s forwards;
}}
@keyframes hidden {{ to {{ visibility: hidden; }} }}
#body {{ flex-direction: row-reverse; }}
#what-row > .column:not(:has(.block)) {{ display: none; }}  /* a model without classes and prompts */
#pictures {{ min-height: calc({HEIGHT} + 300px); }}  /* before the tab is there, too */
#prompts {{ gap: 0.4rem; flex-wrap: wrap; }}
#prompts button {{ font-weight: 400; flex: 0 0 auto !important; width: auto; white-space: nowrap; }}
#gallery .grid-wrap {{ min-height: 0; max-height: none; }}
#gallery .grid-container {{ grid-template-columns: repeat(auto-fill, minmax(92px, 1fr)) !important; }}
button[role=tab].selected {{ color: var(--primary-700) !important; }}
.dark button[role=tab].selected {{ color: var(--primary-300) !important; }}
.min_value, .max_value, .info-text, .or {{ color: var(--body-text-color) !important; opacity: 1 !important; }}
#chosen-words {{ padding: 0.5rem 0.8rem; }}
#chosen-image {{ border-style: none !important; }}
#chosen .files {{ padding: 0 0.8rem 0.8rem; }}
#chosen .files :is(button, a) {{ background: var(--background-fill-primary); }}
:focus-visible {{ outline: 3px solid var(--color-accent); outline-offset: 2px; }}
@media (max-width: {NARROW}px) {{
  #body {{ flex-direction: column; }}
  #title p {{ display: none; }}
  #prompts {{ flex-wrap: nowrap !important; overflow-x: auto; }}
  .buttons button, .files button, .files a, #prompts button, button[role=tab] {{ min-height: 44px; }}
  .tab-container button {{ padding: 0 0.55rem !important; }}
  .pair:has(#pair-edit) {{ flex-wrap: wrap !important; }}
  #pair-edit {{ flex-basis: 100% !important; }}
  #chosen {{ scroll-margin-top: 0.5rem; }}
}}
"""
# status lines are read out, pictures of the gallery are called by their captions, Ctrl+Enter (in a
# prompt Enter alone) draws in the tab that is shown, and the settings are folded on a phone alone
READY = f"""() => {{
  // nothing is shown before all of it is there: parts that come later would push others away
  const ready = () => document.querySelector('#right-sample') && document.querySelector('#run input')
    ? setTimeout(() => document.body.classList.add('ready'), 200) : setTimeout(ready, 50);
  ready();
  document.querySelectorAll('.status').forEach((line) => {{
    line.setAttribute('role', 'status');
    line.setAttribute('aria-live', 'polite');
  }});
  const named = () => {{
    document.querySelectorAll('#gallery .thumbnail-item').forEach((item) => {{
      const caption = item.querySelector('.caption-label')?.innerText.trim();
      const image = item.querySelector('img');
      if (caption && item.getAttribute('aria-label') !== caption) item.setAttribute('aria-label', caption);
      if (image && image.alt !== '') image.alt = '';
    }});
    document.querySelectorAll('.empty[aria-label]:not([role])').forEach((place) => {{
      place.setAttribute('role', 'img');
    }});
  }};
  named();
  new MutationObserver(named).observe(document.body, {{subtree: true, childList: true}});
  document.addEventListener('click', (event) => {{  // what is drawn is below the fold of a phone
    const which = event.target.closest?.('#draw-edit, #draw-compare')?.id.slice(5);
    if (which && window.innerWidth < {NARROW})
      document.querySelector('#status-' + which)?.scrollIntoView({{behavior: 'smooth'}});
  }});
  document.addEventListener('keydown', (event) => {{
    const prompt = event.target.closest?.('#prompt-a, #prompt-b');
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey || prompt)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.repeat) return;
    const shown = [...document.querySelectorAll('[id^=draw-]')].find((button) => button.offsetParent);
    if (shown) shown.click();
  }}, true);
  if (window.innerWidth >= {NARROW}) document.querySelector('#settings > button')?.click();
}}"""


def page(service: PageService) -> gr.Blocks:
    """Build the page of a service, ready to launch."""
    with gr.Blocks(title="latentdiff", analytics_enabled=False, delete_cache=AGE, fill_width=True) as blocks:
        gr.Markdown(TITLE, elem_id="title")
        widgets = SharedWidgets(service)
        label, prompt, negative, *how = widgets.controls
        with gr.Row(elem_id="what-row"):
            with gr.Column(scale=2, min_width=150):
                widgets.run.render()
            with gr.Column(scale=5, min_width=150):
                label.render()
                prompt.render()
        about = gr.Markdown(plain(widgets.first.about), elem_id="about", elem_classes="quiet")
        shown = (*widgets.first.prompts, *[""] * EXAMPLES)[:EXAMPLES]
        with gr.Row(elem_id="prompts", visible=bool(widgets.first.prompts)) as prompts:
            examples = [
                gr.Button(text, visible=bool(text), size="sm", min_width=60, scale=0) for text in shown
            ]
        with gr.Row(elem_id="body"):
            with (
                gr.Column(scale=5, min_width=320, elem_id="pictures"),
                gr.Tabs(selected="sample", elem_id="tabs") as tabs,
            ):
                with gr.Tab("Sample", id="sample"):
                    sampling = sample_tab(widgets)
                with gr.Tab("Compare", id="compare"):
                    others = compare_tab(widgets)
                with gr.Tab("Edit", id="edit"):
                    editing = edit_tab(widgets)
                with gr.Tab("Repeat", id="repeat"):
                    repeat_tab(widgets)
            with gr.Column(scale=2, min_width=280):
                with gr.Accordion("Settings", open=False, elem_id="settings"):
                    for control in (*how, negative, widgets.seed, widgets.n):
                        control.render()
                gr.Markdown(describe(), elem_classes="quiet")
        widgets.connect(widgets.controls)
        gallery(widgets, tabs, editing)

        def model_updates(model: ListedModel) -> list[Any]:
            """Updates of both groups of controls, the solvers, the line about the model, and the examples."""
            solvers = gr.update(choices=list(model.solvers), value=model.solvers[0])
            shown = model.prompts[:EXAMPLES]
            buttons = [gr.update(value=text, visible=True) for text in shown] + [gr.update(visible=False)] * (
                EXAMPLES - len(shown)
            )
            # two lists: gradio changes the updates that it sends
            groups = [*controls_update(model), *controls_update(model, "dpm++")]
            return [*groups, solvers, plain(model.about), gr.update(visible=bool(shown)), *buttons]

        def fit(run: str) -> list[Any]:
            with error_messages():
                return model_updates(service.models.load(run))

        def opened(last: Any, pictures: Any) -> list[Any]:
            """The page as the browser left it, or with the first model."""
            choices, kept = service.models.choices(), service.kept(pictures)
            names = [name for _, name in choices]
            with error_messages():
                same = isinstance(last, list) and len(last) == len(widgets.inputs) and last[0] in names
                model = service.models.load(last[0]) if same else service.models.first()
                updates = model_updates(model)
                if same:
                    updates[: len(widgets.controls)] = _restored(model, updates, last[1:-2])
                more = [gr.update(value=value) for value in last[-2:]] if same else [SKIP] * 2
            run = gr.update(choices=choices, value=model.name)
            return [run, *updates, *more, gr.update(value=kept)]

        def fit_rest(run: str) -> list[Any]:
            return fit(run)[len(widgets.controls) :]

        rest = [*others, editing.solver, about, prompts, *examples]
        fitted = [*widgets.controls, *rest]
        widgets.run.input(fit, widgets.run, fitted, **QUIET)
        begun = blocks.load(
            opened,
            [widgets.last, widgets.pictures],
            [widgets.run, *fitted, widgets.seed, widgets.n, widgets.gallery],
            **QUIET,
        )
        blocks.load(None, None, None, js=READY)
        begun.success(
            sampling.opening, [widgets.pictures, *widgets.inputs], sampling.event["outputs"], **QUIET
        )
        changes = [control.change for control in widgets.inputs]
        gr.on(changes, None, widgets.inputs, widgets.last, js="(...values) => [values]", **QUIET)
        for example in examples:
            example.click(lambda text: text, example, prompt, **QUIET).success(**sampling.event)
        for adoption in widgets.adoptions:
            adoption.success(fit_rest, widgets.run, rest, **QUIET)
            adoption.success(list, None, sampling.drawn, **QUIET)  # to draw these again is what is wanted
        blocks.unload(widgets.stop)
    return blocks


def _restored(model: ListedModel, updates: list[Any], values: list[Any]) -> list[Any]:
    """Updates of the controls with the values that a browser kept."""
    restored = [{**update, "value": value} for update, value in zip(updates, values, strict=False)]
    steps = values[4]
    if isinstance(steps, int) and steps >= 1:
        restored[4] = {**restored[4], **steps_update(steps, model.pipeline.schedule.T)}
    return restored
