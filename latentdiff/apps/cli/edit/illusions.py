"""Options and results that `latentdiff anagram` and `latentdiff hybrid` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.edit import driver
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import build, number_option, numbers_of, options_of
from latentdiff.config.base import Config, setting
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.edit import SampleResult
    from latentdiff.pipeline.pipeline import Pipeline

FEW = 0.5  # share of images with all parts recognised, below which the result has a hint
F = TypeVar("F", bound=Callable[..., Any])


class IllusionOptions(Config):
    """The repetitions of each step."""

    resample_steps: int = setting(
        0,
        "renoise after every step and make it again, so many times: the parts agree better, for more work",
        was="refine",
        ge=0,
        le=100,
    )


def _each_label(
    ctx: click.Context, parameter: click.Parameter, labels: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The classes of a repeated --label; of a single one those that commas separate; None without."""
    if len(labels) == 1:
        return tuple(part.strip() for part in labels[0].split(","))
    return labels or None


def illusion_options(part: str) -> Callable[[F], F]:
    """What each ``part`` (view or band) shows, and how the parts are brought together."""
    label = option(
        "--label",
        multiple=True,
        callback=_each_label,
        help=f"A class, once for each {part}: --label 3 --label 5, or 3,5 (no default).",
    )
    prompt = option(
        "--prompt",
        "prompts",
        multiple=True,
        help=(
            f"Instead of --label, for a text-conditional model: a prompt, once for each {part} (default:"
            " none)."
        ),
    )
    number = number_option(1, 1000, 8, "Number of images.")
    weights = option(
        "--class-weights",
        was="--weights",
        cls=Several,
        default=None,
        help=f"Weight of each {part} in the mean of the estimates, as 0.6,0.4 (default: equal).",
    )
    return lambda function: label(prompt(number(weights(options_of(IllusionOptions)(function)))))


def check_parts(values: driver.Values) -> tuple[int, list[float] | None]:
    """The number of classes of --label or of texts of --prompt, and their --class-weights.

    UsageError for both or neither, and another number of weights.
    """
    build(IllusionOptions, values)
    labels, prompts, weights = values["label"], values["prompts"], values["class_weights"]
    if bool(labels) == bool(prompts):
        found = "both" if labels else "none"
        raise click.UsageError(f"expected --label or, for text-conditional models, --prompt, got {found}")
    n = len(labels or prompts)
    if weights is not None:
        weights = numbers_of(
            "--class-weights",
            weights,
            f"{n} numbers of 0 or more such as 0.6,0.4",
            lambda found: len(found) == n and all(0 <= w < 1e6 for w in found) and sum(found) > 0,
        )
    return n, weights


def conditions_of(pipeline: Pipeline, values: driver.Values) -> list[int | str]:
    """The class index or prompt of each part; InputError for a class that the model does not have."""
    from latentdiff.data.classes import class_index

    return list(values["prompts"] or (class_index(pipeline.classes, label) for label in values["label"]))


def draw_parts(
    draw: Callable[..., SampleResult],
    model: driver.EditModel,
    parts: Sequence[tuple[int | str, Any]],
    values: driver.Values,
    weights: list[float] | None,
) -> SampleResult:
    """The images that ``draw`` (anagram or hybrid) makes of parts (class or prompt, view or band)."""
    again = values["resample_steps"]
    return model.run(
        draw.__name__, draw, parts, values["n"], weights=weights, refine=again, frames=driver.FRAMES
    )


def illusion_result(
    model: driver.EditModel,
    values: driver.Values,
    made: SampleResult,
    *,
    stages: list[driver.Stage],
    seen: Sequence[Tensor] | None,
    labels: list[int | str],
    facts: dict[str, Any],
    noun: str,
    hint: str,
) -> driver.EditResult:
    """The result of an illusion; ``seen``: the images in which a classifier looks for each class, if any;
    ``hint``: printed where few images have all parts recognised.
    """
    from latentdiff.errors import counted

    read = None if seen is None else _read_back(model.pipeline, seen, labels)
    lines = []
    if read is not None:
        each = ", ".join(f"{share:.0%}" for share in read["each"])
        lines.append(
            f"recognised by the network {read['network']}: {each}; all in one image: {read['all']:.0%}"
        )
        lines += [hint] if read["all"] < FEW else []
    return driver.EditResult(
        model=model,
        stages=[*stages, *driver.estimates(made.frames[:-1])],
        images=made.images,
        labels=labels,
        facts={"refine": values["resample_steps"], **facts, "read": read},
        title=counted(values["n"], noun),
        lines=lines,
    )


def _read_back(
    pipeline: Pipeline, seen: Sequence[Tensor], labels: Sequence[int | str]
) -> dict[str, Any] | None:
    """Shares of the images that a classifier recognises as each part, and as all parts at once.

    ``seen[i]``: images [n, C, H, W] that should show class ``labels[i]``. None without a classifier of the
    model's classes.
    """
    import torch

    from latentdiff.data import to_uint8
    from latentdiff.metrics.features import default_features, extract, feature_network

    try:
        network = feature_network(default_features(pipeline.codec.image_shape, pipeline.classes))
    except InputError:
        return None
    if not pipeline.classes or network.class_names != pipeline.classes:
        return None
    hits = []
    for images, label in zip(seen, labels, strict=True):
        found = extract(network, to_uint8(images)).predictions
        assert found is not None
        hits.append(found == int(label))
    shares = [float(hit.double().mean()) for hit in hits]
    return {"network": network.name, "each": shares, "all": float(torch.stack(hits).all(0).double().mean())}
