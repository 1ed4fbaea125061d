"""`latentdiff invert`."""

from __future__ import annotations

import click

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.shared.options import build, options_of
from latentdiff.apps.cli.shared.pair_scores import scores_dict, scores_text
from latentdiff.config.base import Config, setting
from latentdiff.config.sampling import Sampling

PLAUSIBLE = (0.7, 1.4)  # deviations of an inverted noise from which the model can draw


class Inversion(Config):
    """The start of an inversion, and what is drawn from its end."""

    to: str | None = setting(
        None,
        "draw this class or prompt from the inverted noise: an edit (default: that of --label or --prompt, a"
        " reconstruction)",
    )
    start_level: int | None = setting(
        None,
        "level at which the inversion starts; images are noised to it first, 0 starts from the images as they"
        " are (default: the lowest level at which the network's noise estimate is plausible)",
        argument="start",
        ge=0,
        le=100_000,
    )


@driver.edit_command(
    "invert",
    "latentdiff invert --steps 100",
    "latentdiff invert --label own --to 3 --guidance 2",
    title="Inversion",
    out="inverted.png",
)
@options_of(Inversion)
def command(values: driver.Values) -> driver.EditFunction:
    """Find the noise that DDIM would draw images from.

    Then draw them again from it. The error of the round trip falls with --steps. With --to the same noise is
    drawn as another class or prompt. --guidance acts in the drawing alone: the inversion has none.
    """
    if values["sampler"] != "ddim" or values["eta"]:
        given = f"--eta {values['eta']:g}" if values["eta"] else f"--sampler {values['sampler']}"
        raise click.UsageError(f"inversion is of the deterministic ddim sampler, got {given}")
    build(Inversion, values)
    return _invert


def _invert(values: driver.Values) -> driver.EditResult:
    from latentdiff.apps.cli.shared.progress import SamplingBar, note
    from latentdiff.edit import first_level, from_noise, invert, relative_error
    from latentdiff.pipeline.codec import IdentityCodec

    inputs = driver.load_inputs(values)
    pipeline, images = inputs.pipeline, inputs.images
    plain = Sampling(steps=inputs.settings.steps, spacing=inputs.settings.spacing)  # guided inversions drift
    to = pipeline.conditioner.resolve(values["to"], len(images))
    unguided = inputs.conditions | {"settings": plain}
    if (level := values["start_level"]) is None:
        level = first_level(pipeline, images, **unguided)
    with SamplingBar("inversion") as bar:
        noise = invert(pipeline, images, start=level, progress=bar.update, **unguided)
    label = to or inputs.labels
    made = inputs.run("drawing again", from_noise, noise, start=level, label=label, frames=driver.FRAMES)
    if not PLAUSIBLE[0] < (deviation := float(noise.std())) < PLAUSIBLE[1]:
        note(
            f"warning: the noise has a deviation of {deviation:.3g}, not about 1: another class will change"
            " little (see --start-level)"
        )
    scores = inputs.scores(made.images)
    error = float(relative_error(made.images, pipeline.reconstruct(images)).mean())
    shown = noise.cpu() if noise.ndim == 4 and noise.shape[1] in (1, 3) else None
    stages = [("input", images), *([("noise", shown.clamp(-3, 3) / 3)] if shown is not None else [])]
    stages += [(f"on the way\nt = {frame.t}", frame.noisy) for frame in made.frames[1:-1]]
    last = "drawn again" if values["to"] is None else f"as {values['to']}"
    stages.append((last, made.images))
    pixels = isinstance(pipeline.codec, IdentityCodec)
    return driver.EditResult(
        model=inputs,
        stages=stages,
        scores={last: scores},
        images=made.images,
        facts={
            "start_level": level,
            "to": values["to"],
            "noise_mean": float(noise.mean()),
            "noise_std": deviation,
            "round_trip_error": error,
            **scores_dict(scores),
        },
        lines=[
            f"inverted from level {level}, against the input: {scores_text(scores)}",
            f"round trip: {error:.1%} from the {'input' if pixels else 'reconstruction by the codec'}",
        ],
    )
