"""`latentdiff denoise`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click
from pydantic import field_validator

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import (
    build,
    command_line_wins,
    flag_of,
    given,
    numbers_of,
    options_of,
)
from latentdiff.apps.cli.shared.pair_scores import scores_by_name, scores_text
from latentdiff.config.base import Config, setting

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.evaluate.images import PairScores

HARM = " (farther from the original than the noisy image)"
MOMENTS = ("moments", "show")  # options of which one is given


class Denoising(Config):
    """The blur beside the model, and the moments of the model that are shown."""

    blur_sigma: float = setting(1.0, "sigma of the blur in pixels", ge=0.1, le=100)
    blur_kernel: int | None = setting(
        None, "odd side of the blur's window in pixels (default: 3 sigma to each side)", ge=3, le=255
    )
    blur_times: int = setting(1, "how often the blur is applied", ge=1, le=100)
    moments: int = setting(
        6,
        "moments of the step-by-step denoising from the highest level in the figure",
        was="frames",
        ge=2,
        le=20,
    )

    @field_validator("blur_kernel")
    @classmethod
    def _odd(cls, side: int | None) -> int | None:
        if side is not None and side % 2 == 0:
            raise ValueError(f"expected an odd number of pixels, got {side}")
        return side


@driver.edit_command(
    "denoise",
    "latentdiff denoise --level 250,500,750",
    "latentdiff denoise --level 500 --blur-sigma 2 --moments 8",
    title="Noise",
    out="denoised.png",
)
@option(
    "--level",
    cls=Several,
    argument="t",
    default=None,
    help=(
        "Noise levels to start from, as 250,500,750 (default: a quarter, half and three quarters of the"
        " model's T)."
    ),
)
@options_of(Denoising)
@option(
    "--show",
    cls=Several,
    default=None,
    help=(
        "Instead of --moments: the levels to show, as 690,540,390,240,90; the nearest that are"
        " visited (default: none)."
    ),
)
def command(values: driver.Values) -> driver.EditFunction:
    """Add noise to images and take it away again.

    By a blur, in one step, and step by step, each compared with the original beside the noisy image itself.
    One step estimates the mean of all images that the noisy one could have been, which is blurred; step by
    step ends in one of them. Where there is little noise, the network's own error can be larger than the
    noise.
    """
    command_line_wins(values, MOMENTS)
    if values["show"] is not None and values["moments"] is not None and given(["moments"]):
        raise click.UsageError(f"give one of {', '.join(map(flag_of, MOMENTS))}")
    how, levels, shown = build(Denoising, values), _levels(values, "level"), _levels(values, "show")
    return partial(_denoise, how=how, levels=levels, moments=shown or how.moments)


def _denoise(
    values: driver.Values, how: Denoising, levels: list[int] | None, moments: list[int] | int
) -> driver.EditResult:
    from latentdiff.edit import add_noise, blur, denoise_iteratively, one_step
    from latentdiff.viz.image_folder import aligned, variant

    inputs = driver.load_inputs(values)
    pipeline, T = inputs.pipeline, inputs.pipeline.schedule.T
    levels = levels or [round(T * share) for share in (0.25, 0.5, 0.75)]
    of_blur: dict[str, Any] = {"sigma": how.blur_sigma, "size": how.blur_kernel, "times": how.blur_times}
    original, found, lines = ("original", inputs.images), [], []
    bands: list[list[driver.Stage]] = []
    way: list[driver.Stage] = []
    results: dict[str, Tensor] = {}
    compared: dict[str, PairScores] = {}
    for t, text in zip(levels, aligned(levels), strict=True):
        x = add_noise(pipeline, inputs.images, t, seed=inputs.seed)
        frames = moments if t == max(levels) else 0
        slow = inputs.run(f"t = {t}", denoise_iteratively, x, t, frames=frames)
        images = {
            "noisy": pipeline.decode(x),
            "blur": blur(pipeline, x, t, **of_blur),
            "one step": one_step(pipeline, x, t, settings=inputs.settings, label=inputs.labels),
            "step by step": slow.images,
        }
        bands.append([(f"t = {t}\n{name}", each) for name, each in images.items()])
        if frames:
            way = [(f"on the way\nt = {frame.t}", frame.noisy) for frame in slow.frames[:-1]]
        results |= {
            variant(level=text, method=name.replace(" ", "-")): each
            for name, each in images.items()
            if name != "noisy"
        }
        scores = {name: inputs.scores(each) for name, each in images.items()}
        compared |= {f"t = {t}\n{name}": each for name, each in scores.items()}
        worse = [name for name, each in scores.items() if each.rmse.value > scores["noisy"].rmse.value]
        harmful = [name.replace(" ", "_") for name in worse]
        found.append({"level": t, **scores_by_name(scores), "worse_than_noisy": harmful})
        for name, each in scores.items():
            lines.append(f"t = {t}, {name}: {scores_text(each)}{HARM * (name in worse)}")
    return driver.EditResult(
        model=inputs,
        stages=[original, *bands[0]],
        bands=[*bands[1:], *([way] if way else [])],
        scores=compared,
        images=results,
        facts={"blur": of_blur, "levels": found},
        lines=lines,
    )


def _levels(values: driver.Values, name: str) -> list[int] | None:
    if values[name] is None:
        return None
    expected = "levels of 1 or more, separated by commas"
    return [int(t) for t in numbers_of(f"--{name}", values[name], expected, all, whole=True)]
