"""`latentdiff denoise`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from latentdiff.apps.cli.edit.common import model_options, output_options, sampling_options
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import cli_command
from latentdiff.apps.cli.shared.prompts import names_of
from latentdiff.apps.cli.shared.types import Finite

if TYPE_CHECKING:
    from torch import Tensor

HARM = " (farther from the original than the noisy image)"


@cli_command(
    "denoise",
    "latentdiff denoise --level 250,500,750",
    "latentdiff denoise --level 500 --blur-sigma 2 --frames 8",
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
    "--frames",
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
        "Instead of --frames: the levels on the way to show, as 690,540,390,240,90; the nearest that are"
        " visited (default: none)."
    ),
)
@output_options("denoised.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Add noise to images and take it away again.

    By a blur, in one step, and step by step, each compared with the original beside the noisy image itself.
    One step aims at the mean of all images that the noisy one could have been, which is blurred; step by step
    ends in one of them. Where there is little noise, the network's own error can be larger than the noise.
    """
    levels, shown = _levels("level", values["level"]), _levels("show", values["show"])
    if values["blur_kernel"] is not None and values["blur_kernel"] % 2 == 0:
        raise click.UsageError(
            f"--blur-kernel: expected an odd number of pixels, got {values['blur_kernel']}"
        )

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, result
    from latentdiff.edit import Recorder, blurred, iterated, noisy, one_step
    from latentdiff.viz.image_folder import aligned, variant

    outputs.settle(values)
    work = common.bench(values)
    labels = common.labels_of(values, work)
    T = work.pipeline.schedule.T
    rows, found = [("original", work.images)], []
    lines = []
    blur = {"sigma": values["blur_sigma"], "size": values["blur_kernel"], "times": values["blur_times"]}
    asked = levels or [round(T * share) for share in (0.25, 0.5, 0.75)]
    moments = values["frames"] if shown is None else tuple(shown)
    results: dict[str, Tensor] = {}
    for t, text in zip(asked, aligned(asked), strict=True):
        x = noisy(work.pipeline, work.images, t, seed=values["seed"])
        with SamplingBar(f"t = {t}") as bar:
            slow = iterated(
                work.pipeline,
                x,
                t,
                settings=work.settings,
                label=labels,
                seed=values["seed"],
                recorder=Recorder(frames=moments if t == max(asked) else 0, progress=bar.update),
            )
        ways = {
            "noisy": work.pipeline.decode(x),
            "blur": blurred(work.pipeline, x, t, **blur),
            "one step": one_step(work.pipeline, x, t, settings=work.settings, label=labels),
            "step by step": slow.images,
        }
        rows += [(f"t = {t}: {name}", images) for name, images in ways.items()]
        results |= {
            variant(level=text, method=name.replace(" ", "-")): images
            for name, images in ways.items()
            if name != "noisy"
        }
        scores = {
            name: common.scores_of(images, work.images, work.pipeline.classes)
            for name, images in ways.items()
        }
        worse = [name for name, each in scores.items() if each.rmse.value > scores["noisy"].rmse.value]
        measured = {name.replace(" ", "_"): common.as_json(each) for name, each in scores.items()}
        found.append({"level": t, **measured, "worse_than_noisy": [name.replace(" ", "_") for name in worse]})
        lines += [
            f"  t = {t}, {name}: {common.as_text(each)}{HARM * (name in worse)}"
            for name, each in scores.items()
        ]
        if t == max(asked):
            rows += [(f"on the way, t = {frame.t}", frame.noisy) for frame in slow.frames[:-1]]
    written = common.save_rows(rows, values, results)
    answer = {
        "run": str(work.checkpoint.folder),
        "input": work.source,
        "n": len(work.images),
        "seed": values["seed"],
        "labels": names_of(work.pipeline, labels),
        "blur": blur,
        "settings": work.pipeline.with_defaults(work.settings).model_dump(),
        "levels": found,
        "wrote": written,
    }
    result(answer, as_json=as_json, text="\n".join([", ".join(written), *lines]))
    return 0


def _levels(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in str(text).split(",")]
    if not all(re.fullmatch("[0-9]{1,6}", part) and int(part) > 0 for part in parts):
        raise click.UsageError(f"--{option}: expected levels of 1 or more, separated by commas, got {text!r}")
    return [int(part) for part in parts]
