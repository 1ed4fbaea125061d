"""Options and results that `latentdiff anagram` and `latentdiff hybrid` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.edit.common import model_options, output_options
from latentdiff.apps.cli.edit.driver import FRAMES, EditModel, EditResult, with_bar
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import number_option, options_of
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.edit import SampleResult
    from latentdiff.pipeline.pipeline import Pipeline

FEW = 0.5  # share of images with all parts recognised, below which the result has a hint
F = TypeVar("F", bound=Callable[..., Any])


def _each_label(
    ctx: click.Context, parameter: click.Parameter, labels: tuple[str, ...]
) -> tuple[str, ...] | None:
    """The classes of a repeated --label; of a single one those that commas separate; None without."""
    if len(labels) == 1:
        return tuple(part.strip() for part in labels[0].split(","))
    return labels or None


def illusion_options(out: str, part: str) -> Callable[[F], F]:
    """The model, what each ``part`` (view or band) shows, the sampler, and where the figure goes."""

    def decorate(function: F) -> F:
        options = [
            option(
                "--label",
                multiple=True,
                callback=_each_label,
                help=f"A class, once for each {part}: --label 3 --label 5, or 3,5 (no default).",
            ),
            option(
                "--prompt",
                "prompts",
                multiple=True,
                help=(
                    f"Instead of --label, for a text-conditional model: a prompt, once for each {part}"
                    " (default: none)."
                ),
            ),
            number_option(1, 1000, 8, "Number of images."),
            option(
                "--class-weights",
                was="--weights",
                cls=Several,
                default=None,
                help=f"Weight of each {part} in the mean of the estimates, as 0.6,0.4 (default: equal).",
            ),
            option(
                "--resample-steps",
                "refine",
                was="--refine",
                type=click.IntRange(0, 100),
                default=0,
                show_default=True,
                help=(
                    "Renoise after every step and make it again, so many times: the parts agree better, for"
                    " more work."
                ),
            ),
        ]
        function = options_of(Sampling, skip=("compile",))(output_options(out)(function))
        for each in reversed(options):
            function = each(function)
        return model_options(function)

    return decorate


def count_parts(values: dict[str, Any]) -> int:
    """The number of classes of --label or of texts of --prompt; UsageError unless there is one of them."""
    labels, prompts = values["label"], values["prompts"]
    if bool(labels) == bool(prompts):
        found = "both" if labels else "none"
        raise click.UsageError(f"expected --label or, for text-conditional models, --prompt, got {found}")
    return len(labels or prompts)


def weights_of(text: str | None, n: int) -> list[float] | None:
    """The numbers of --class-weights for ``n`` classes; a usage error for others."""
    if text is None:
        return None
    try:
        weights = [float(part) for part in str(text).split(",")]
    except ValueError:
        weights = []
    if len(weights) != n or not all(0 <= w < 1e6 for w in weights) or sum(weights) <= 0:
        raise click.UsageError(
            f"--class-weights: expected {n} numbers of 0 or more such as 0.6,0.4, got {text!r}"
        )
    return weights


def conditions_of(pipeline: Pipeline, values: dict[str, Any]) -> list[int | str]:
    """The class index or prompt of each part; InputError for a class that the model does not have."""
    from latentdiff.data.classes import class_index

    return list(values["prompts"] or (class_index(pipeline.classes, label) for label in values["label"]))


def draw_parts(
    draw: Callable[..., SampleResult],
    model: EditModel,
    parts: Sequence[tuple[int | str, Any]],
    values: dict[str, Any],
    weights: list[float] | None,
) -> SampleResult:
    """The images that ``draw`` (anagram or hybrid) makes of parts (class or prompt, view or band)."""
    return with_bar(
        draw.__name__,
        draw,
        model.pipeline,
        parts,
        values["n"],
        weights=weights,
        refine=values["refine"],
        settings=model.settings,
        seed=values["seed"],
        frames=FRAMES,
    )


def illusion_result(
    model: EditModel,
    values: dict[str, Any],
    images: Tensor,
    *,
    rows: list[tuple[str, Tensor]],
    labels: list[int | str],
    facts: dict[str, Any],
    noun: str,
    hint: str,
) -> EditResult:
    """The result of an illusion; ``hint``: printed where few images have all parts recognised."""
    read = facts["read"]
    lines = []
    if read is not None:
        each = ", ".join(f"{share:.0%}" for share in read["each"])
        lines.append(
            f"recognised by the network {read['network']}: {each}; all in one image: {read['all']:.0%}"
        )
        lines += [hint] if read["all"] < FEW else []
    return EditResult(
        model=model,
        rows=rows,
        images=images,
        labels=labels,
        facts={"refine": values["refine"], **facts},
        title=f"{values['n']} {noun}",
        lines=lines,
    )


def read_back(
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
