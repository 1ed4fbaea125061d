"""`latentdiff denoise`."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.edit.common import model_options, output_options, sampling_options, scores_text
from latentdiff.apps.cli.edit.driver import EditResult, load_inputs, run_edit, scores_by_name, with_bar
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import cli_command
from latentdiff.apps.cli.shared.types import Finite

if TYPE_CHECKING:
    from torch import Tensor

HARM = " (farther from the original than the noisy image)"


@cli_command(
    "denoise",
    "latentdiff denoise --level 250,500,750",
    "latentdiff denoise --level 500 --blur-sigma 2 --moments 8",
    title="Noise",
)
@model_options
@image_options
@sampling_options
@option(
    "--level",
    cls=Several,
    default=None,
    help=(
        "Noise levels to start from, as 250,500,750 (default: a quarter, half and three quarters of the"
        " model's T)."
    ),
)
@option(
    "--blur-sigma", type=Finite(0.1, 100), default=1.0, show_default=True, help="Sigma of the blur in pixels."
)
@option(
    "--blur-kernel",
    type=click.IntRange(3, 255),
    default=None,
    help="Odd side of the blur's window in pixels (default: 3 sigma to each side).",
)
@option(
    "--blur-times",
    type=click.IntRange(1, 100),
    default=1,
    show_default=True,
    help="How often the blur is applied.",
)
@option(
    "--moments",
    "frames",
    was="--frames",
    type=click.IntRange(2, 20),
    default=6,
    show_default=True,
    help="Moments of the step-by-step denoising from the highest level in the figure.",
)
@option(
    "--show",
    cls=Several,
    default=None,
    help=(
        "Instead of --moments: the levels to show, as 690,540,390,240,90; the nearest that are"
        " visited (default: none)."
    ),
)
@output_options("denoised.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Add noise to images and take it away again.

    By a blur, in one step, and step by step, each compared with the original beside the noisy image itself.
    One step estimates the mean of all images that the noisy one could have been, which is blurred; step by
    step ends in one of them. Where there is little noise, the network's own error can be larger than the
    noise.
    """
    levels, shown = _levels("level", values["level"]), _levels("show", values["show"])
    if values["blur_kernel"] is not None and values["blur_kernel"] % 2 == 0:
        raise click.UsageError(
            f"--blur-kernel: expected an odd number of pixels, got {values['blur_kernel']}"
        )
    return run_edit(partial(_denoise, levels=levels, shown=shown), values, as_json=as_json)


def _denoise(values: dict[str, Any], levels: list[int] | None, shown: list[int] | None) -> EditResult:
    from latentdiff.edit import blurred, iterated, noisy, one_step
    from latentdiff.viz.image_folder import aligned, variant

    inputs = load_inputs(values)
    pipeline, T = inputs.pipeline, inputs.pipeline.schedule.T
    levels = levels or [round(T * share) for share in (0.25, 0.5, 0.75)]
    moments = values["frames"] if shown is None else tuple(shown)
    blur = {"sigma": values["blur_sigma"], "size": values["blur_kernel"], "times": values["blur_times"]}
    rows, found, lines = [("original", inputs.images)], [], []
    results: dict[str, Tensor] = {}
    for t, text in zip(levels, aligned(levels), strict=True):
        x = noisy(pipeline, inputs.images, t, seed=inputs.seed)
        frames = moments if t == max(levels) else 0
        slow = with_bar(f"t = {t}", iterated, pipeline, x, t, frames=frames, **inputs.conditions)
        images = {
            "noisy": pipeline.decode(x),
            "blur": blurred(pipeline, x, t, **blur),
            "one step": one_step(pipeline, x, t, settings=inputs.settings, label=inputs.labels),
            "step by step": slow.images,
        }
        rows += [(f"t = {t}: {name}", each) for name, each in images.items()]
        rows += [(f"on the way, t = {frame.t}", frame.noisy) for frame in slow.frames[:-1]]
        results |= {
            variant(level=text, method=name.replace(" ", "-")): each
            for name, each in images.items()
            if name != "noisy"
        }
        scores = {name: inputs.scores(each) for name, each in images.items()}
        worse = [name for name, each in scores.items() if each.rmse.value > scores["noisy"].rmse.value]
        harmful = [name.replace(" ", "_") for name in worse]
        found.append({"level": t, **scores_by_name(scores), "worse_than_noisy": harmful})
        lines += [
            f"t = {t}, {name}: {scores_text(each)}{HARM * (name in worse)}" for name, each in scores.items()
        ]
    return EditResult(
        model=inputs,
        rows=rows,
        images=results,
        facts={"blur": blur, "levels": found},
        lines=lines,
    )


def _levels(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in str(text).split(",")]
    if not all(re.fullmatch("[0-9]{1,6}", part) and int(part) > 0 for part in parts):
        raise click.UsageError(f"--{option}: expected levels of 1 or more, separated by commas, got {text!r}")
    return [int(part) for part in parts]
