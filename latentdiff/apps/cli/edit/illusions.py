"""What `latentdiff anagram` and `latentdiff hybrid` share: the model of pixels, the classes or texts, the
figure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from latentdiff.apps.cli.edit.common import model_options, output_options
from latentdiff.apps.cli.shared.help import Several, option
from latentdiff.apps.cli.shared.options import options_of
from latentdiff.apps.cli.shared.prompts import check_texts, needs_of, note_texts
from latentdiff.config.sampling import Sampling
from latentdiff.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from latentdiff.pipeline.checkpoint.folder import Checkpoint
    from latentdiff.pipeline.pipeline import Pipeline

WAY = 5  # moments of the drawing in the figure
FEW = 0.5  # share of the images that are read as all that they should be
F = TypeVar("F", bound=Callable[..., Any])


def each_label(ctx: click.Context, parameter: click.Parameter, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a repeated --label; of a single one those that commas separate."""
    return tuple(part.strip() for part in labels[0].split(",")) if len(labels) == 1 else labels


def illusion_options(out: str) -> Callable[[F], F]:
    """The model, the number of images, the sampler and where the figure goes."""

    def decorate(function: F) -> F:
        function = options_of(Sampling, skip=("compile",))(output_options(out)(function))
        number = option(
            "-n",
            "--number",
            "n",
            type=click.IntRange(1, 1000),
            default=8,
            show_default=True,
            help="Number of images.",
        )
        weights = option(
            "--weights",
            cls=Several,
            default=None,
            help="How much each class counts, as 0.6,0.4 (default: equally).",
        )
        refine = option(
            "--refine",
            type=click.IntRange(0, 100),
            default=0,
            show_default=True,
            help=(
                "Make every move again so many times, noised back up in between: the classes agree better,"
                " for more work."
            ),
        )
        return model_options(number(weights(refine(function))))

    return decorate


def read_back(
    pipeline: Pipeline, seen: Sequence[Tensor], labels: Sequence[int | str]
) -> dict[str, Any] | None:
    """How many images a classifier reads as what each part should be, and as all of them; None where none
    knows the classes.

    seen[i]: the images as they should look like class labels[i].
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


def as_text(read: dict[str, Any] | None, hint: str) -> str:
    """The line of a result; with a ``hint`` at what may help where few are read as all of them."""
    if read is None:
        return ""
    each = ", ".join(f"{share:.0%}" for share in read["each"])
    text = f"\n  read by the network {read['network']} as asked: {each}; as all at once: {read['all']:.0%}"
    return text if read["all"] >= FEW else f"{text}\n  {hint}"


def weights_of(text: str | None, n: int) -> list[float] | None:
    """The numbers of --weights for ``n`` classes; a usage error for others."""
    if text is None:
        return None
    try:
        weights = [float(part) for part in str(text).split(",")]
    except ValueError:
        weights = []
    if len(weights) != n or not all(0 <= w < 1e6 for w in weights) or sum(weights) <= 0:
        raise click.UsageError(f"--weights: expected {n} numbers of 0 or more such as 0.6,0.4, got {text!r}")
    return weights


def asked_of(pipeline: Pipeline, labels: Sequence[str], prompts: Sequence[str]) -> list[int | str]:
    """The labels or prompts of the options; InputError for a class that the model does not know."""
    from latentdiff.data.classes import class_index

    if prompts:
        return list(prompts)
    return [class_index(pipeline.classes, label) for label in labels]


def model_for(
    values: dict[str, Any], settings: Sampling, labels: Sequence[str], prompts: Sequence[str]
) -> tuple[Checkpoint, Pipeline]:
    """The model of --run, or the newest that is conditioned on the labels or prompts; InputError where it is
    not.
    """
    from latentdiff.apps.cli.shared.find import find_denoiser, load_checked

    check_texts(prompts)
    needs = needs_of({"label": labels[:1] or None}, prompts, settings)
    checkpoint = find_denoiser(values["run"], values["runs"], needs=needs, pixels=True)
    pipeline = load_checked(
        checkpoint, needs=needs, prediction=None, device=values["device"], dtype="float32"
    )
    note_texts(pipeline, [*prompts, settings.negative_prompt])
    return checkpoint, pipeline


def parts_asked(labels: Sequence[str], prompts: Sequence[str]) -> int:
    """How many parts were asked for, by --label or by --prompt; a usage error unless by one of them."""
    if bool(labels) == bool(prompts):
        found = "both" if labels else "none"
        raise click.UsageError(f"expected --label or, for models that listen to texts, --prompt, got {found}")
    return len(labels) or len(prompts)
