"""`latentdiff invert`."""

from __future__ import annotations

from typing import Any

import click

from latentdiff.apps.cli.edit.common import model_options, output_options, sampling_options
from latentdiff.apps.cli.shared.help import option
from latentdiff.apps.cli.shared.inputs import image_options
from latentdiff.apps.cli.shared.options import cli_command
from latentdiff.apps.cli.shared.prompts import names_of
from latentdiff.config.sampling import Sampling

WAY = 5  # moments of the drawing in the figure
LIKELY = (0.7, 1.4)  # deviations of noise that a model knows


@cli_command(
    "invert",
    "latentdiff invert --steps 100",
    "latentdiff invert --label own --to 3 --guidance 2",
)
@model_options
@image_options
@sampling_options
@option(
    "--to",
    default=None,
    help=(
        "Draw images of this class or text from the noise that was found: an edit (default: those of --label"
        " or --prompt, a reconstruction)."
    ),
)
@option(
    "--start-level",
    type=click.IntRange(0, 100_000),
    default=None,
    help=(
        "Noise level that images are brought to before they are followed; 0: as they are (default: the lowest"
        " at which the network sees no more noise than there is)."
    ),
)
@output_options("inverted.png")
def command(*, as_json: bool, **values: Any) -> int:
    """Find the noise that DDIM would draw images from.

    Then draw them again from it. The error of the round trip falls with --steps. With --to the same noise is
    drawn as another class or text.
    --guidance is of the drawing: the inversion has none.
    """
    if values["sampler"] != "ddim" or values["eta"]:
        given = f"--eta {values['eta']:g}" if values["eta"] else f"--sampler {values['sampler']}"
        raise click.UsageError(f"inversion is of the deterministic ddim sampler, got {given}")

    from latentdiff.apps.cli.edit import common
    from latentdiff.apps.cli.shared import outputs
    from latentdiff.apps.cli.shared.progress import SamplingBar, note, result
    from latentdiff.edit import Recorder, first_level, from_noise, invert, relative_error
    from latentdiff.pipeline.codec import IdentityCodec

    outputs.settle(values)
    work = common.bench(values)
    plain = Sampling(steps=work.settings.steps, spacing=work.settings.spacing)  # guided inversions drift
    to = work.pipeline.conditioner.resolve(values["to"], len(work.images))
    labels = common.labels_of(values | {"guided": to is None}, work)
    asked: dict[str, Any] = {"label": labels, "seed": values["seed"]}
    if (first := values["start_level"]) is None:
        first = first_level(work.pipeline, work.images, settings=plain, **asked)
    with SamplingBar("inversion") as bar:
        noise = invert(work.pipeline, work.images, start=first, settings=plain, **asked, progress=bar.update)
    with SamplingBar("drawing again") as bar:
        recorder = Recorder(frames=WAY, progress=bar.update)
        made = from_noise(
            work.pipeline,
            noise,
            start=first,
            settings=work.settings,
            label=to or labels,
            seed=values["seed"],
            recorder=recorder,
        )
    if not LIKELY[0] < (deviation := float(noise.std())) < LIKELY[1]:
        note(
            f"warning: the noise has a deviation of {deviation:.3g}, not about 1: another class will change"
            " little (see --start-level)"
        )
    best = work.pipeline.reconstruct(work.images)
    scores = common.scores_of(made.images, work.images, work.pipeline.classes)
    error = float(relative_error(made.images, best).mean())
    shown = noise.cpu() if noise.ndim == 4 and noise.shape[1] in (1, 3) else None
    rows = [("input", work.images), *([("noise", shown.clamp(-3, 3) / 3)] if shown is not None else [])]
    rows += [(f"on the way, t = {frame.t}", frame.noisy) for frame in made.frames[1:-1]]
    rows.append(("drawn again" if values["to"] is None else f"as {values['to']}", made.images))
    written = common.save_rows(rows, values, made.images)
    answer = {
        "run": str(work.checkpoint.folder),
        "input": work.source,
        "n": len(work.images),
        "seed": values["seed"],
        "start_level": first,
        "labels": names_of(work.pipeline, labels),
        "to": values["to"],
        "settings": work.pipeline.with_defaults(work.settings).model_dump(),
        "noise_mean": float(noise.mean()),
        "noise_std": float(noise.std()),
        "round_trip_error": error,
        **common.as_json(scores),
        "wrote": written,
    }
    far = (
        "from the input"
        if isinstance(work.pipeline.codec, IdentityCodec)
        else "from what the codec alone gives back"
    )
    text = f"{', '.join(written)}: {common.as_text(scores)}; {error:.1%} {far}; inverted from level {first}"
    result(answer, as_json=as_json, text=text)
    return 0
