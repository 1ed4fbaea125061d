"""The figures of `latentdiff evaluate` as tables for people; every one with its interval and its feature
network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click
from rich.table import Table

from latentdiff.apps.cli.shared.progress import show_tables
from latentdiff.evaluate.images import FEW
from latentdiff.metrics.features.names import frechet_name, kernel_name, perceptual_name

if TYPE_CHECKING:
    from latentdiff.evaluate import (
        DenoiserScores,
        ListScore,
        ModelScores,
        NeighborScores,
        PairScores,
        ReconstructionScores,
        SampleScores,
        SamplingScores,
        Score,
        VAEScores,
    )

WIDTH = 120  # of the tables where there is no terminal
SHOWN_LEVELS = 8  # of the loss curve


def show(title: str, tables: Sequence[Table], out: str, *, intervals: Mapping[str, float]) -> None:
    """Print the tables, how their intervals were made and where the figures are."""
    click.echo(title)
    show_tables(tables, width=WIDTH)
    if intervals["resamples"]:
        click.echo(
            f"in brackets: {intervals['level']:.4g} intervals, {intervals['resamples']} resamples or fewer"
            " (evaluation.json)"
        )
    click.echo(f"figures and evaluation.json: {out}")


def model_tables(scores: ModelScores, classes: Sequence[str]) -> list[Table]:
    """The tables of a model's parts."""
    tables: list[Table] = []
    if scores.vae is not None:
        tables.append(_vae(scores.vae))
    if scores.samples is not None:
        tables += _samples(scores.samples, classes)
    if scores.denoiser is not None:
        tables += _denoiser(scores.denoiser)
    if scores.reconstruction is not None:
        tables.append(_reconstruction(scores.reconstruction))
    if scores.scenes is not None:
        tables.append(_scenes(scores.scenes))
    return tables


def sets_tables(scores: SampleScores, pairs: PairScores | None, classes: Sequence[str]) -> list[Table]:
    """The tables of two sets of images."""
    table = _table(f"{scores.n} images against {scores.reference_n} of {scores.reference}", "value")
    for label, value in _set_rows(scores):
        table.add_row(label, value)
    tables = [table, *_per_class(scores, classes)]
    if pairs is not None:
        paired = _table(f"{pairs.n} pairs", "mean")
        for label, score in _pair_rows(pairs):
            paired.add_row(label, text(score))
        tables.append(paired)
    return tables


def text(score: Score | None) -> str:
    """A figure with its interval: 0.2134 (0.2 to 0.231)."""
    if score is None:
        return ""
    value = bare(score.value)
    if score.low is None or score.high is None:
        return value
    return f"{value} ({score.low:.3g} to {score.high:.3g})"


def biased(score: Score | None) -> str:
    """A figure that few images make too large: below it, without that bias, the figure that the interval is
    of.
    """
    if score is None or score.corrected is None or score.low is None or score.high is None:
        return text(score)
    return f"{bare(score.value)}\ncorrected {score.corrected:.3g} ({score.low:.3g} to {score.high:.3g})"


def bare(value: float | None) -> str:
    """Four digits of a number."""
    return "" if value is None else f"{value:.4g}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="")
    table.add_column("")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _pair_rows(pairs: PairScores) -> list[tuple[str, Score]]:
    same = f" ({pairs.identical} identical pairs left out)" if 0 < pairs.identical < pairs.n else ""
    rows = [
        (f"PSNR in dB, higher is better{same}", pairs.psnr),
        ("SSIM, at most 1", pairs.ssim),
        ("RMSE of pixels in 0..1", pairs.rmse),
    ]
    if pairs.perceptual is not None and pairs.perceptual_network is not None:
        rows.append((perceptual_name(pairs.perceptual_network), pairs.perceptual))
    return rows


def _vae(scores: VAEScores) -> Table:
    table = _table(f"VAE: {scores.pairs.n} images, each against its own reconstruction", "mean")
    for label, score in _pair_rows(scores.pairs):
        table.add_row(label, text(score))
    if scores.features is not None:
        table.add_row(f"{frechet_name(scores.features)} of the reconstructions", biased(scores.fd))
    table.add_row("KL of the latent in nats", text(scores.kl))
    active = f"{scores.active_units} of {scores.latent_units}"
    table.add_row("active latent units", f"{active}: COLLAPSED" if scores.collapsed else active)
    return table


def _set_rows(scores: SampleScores) -> list[tuple[str, str]]:
    """(label, value); KD is shown times 1000."""
    named = ("precision", "recall", "density", "coverage")
    rows = [
        (f"{frechet_name(scores.features)}, lower is better", biased(scores.fd)),
        (f"{kernel_name(scores.features)} x 1000, lower is better", text(scores.kd.times(1000))),
        *((f"{name} ({scores.features})", text(getattr(scores, name))) for name in named),
    ]
    if scores.accuracy is not None:
        rows.append((f"class accuracy ({scores.features})", text(scores.accuracy)))
    if scores.confident is not None:
        rows.append((f"share of confident images ({scores.features})", text(scores.confident)))
    return rows


def _samples(scores: SamplingScores, classes: Sequence[str]) -> list[Table]:
    mine, floor, settings = scores.samples, scores.floor, scores.settings
    guided = f", guidance {settings.guidance:g}" if classes else ""
    balance = {"equal": ", classes in turn", "data": ", classes as in the training data"}
    guided += balance[scores.class_balance] if scores.class_balance else ""
    how = f"{settings.sampler}, {settings.steps} steps{guided}, {1000 * scores.seconds / mine.n:.3g} ms each"
    title = f"{mine.n} samples ({how}) against {mine.reference_n} of {mine.reference}"
    table = _table(title, "samples", *([] if floor is None else [f"{floor.n} real images"]))
    beside = {} if floor is None else dict(_set_rows(floor))
    for label, value in _set_rows(mine):
        table.add_row(label, value, *([] if floor is None else [beside.get(label, "")]))
    tables = [table, *_per_class(mine, classes)]
    if not mine.per_class and mine.histogram is not None:
        tables.append(_histogram(mine, floor))
    if scores.neighbors is not None:
        tables.append(_neighbors(scores.neighbors))
    return tables


def _per_class(scores: SampleScores, classes: Sequence[str]) -> list[Table]:
    if not scores.per_class:
        return []
    small = any(each.fd is not None and min(each.n, each.real) < FEW for each in scores.per_class)
    title = f"by class; distances of fewer than {FEW} images are mostly bias" if small else "by class"
    table = _table(
        title, "images", "real images", f"accuracy ({scores.features})", frechet_name(scores.features)
    )
    for each in scores.per_class:
        name = classes[each.label] if each.label < len(classes) else str(each.label)
        fd = biased(each.fd) if each.fd is not None else "too few images"
        table.add_row(name, str(each.n), str(each.real), text(each.accuracy), fd)
    return [table]


def _histogram(scores: SampleScores, floor: SampleScores | None) -> Table:
    counts = scores.histogram or ()
    table = _table(f"classes that {scores.features} sees", "samples", "real images")
    real = floor.histogram if floor is not None and floor.histogram is not None else None
    for k, count in enumerate(counts):
        share = "" if real is None or floor is None else f"{real[k] / floor.n:.1%}"
        table.add_row(str(k), f"{count / scores.n:.1%}", share)
    return table


def _neighbors(scores: NeighborScores) -> Table:
    title = (
        f"copies? {scores.n} samples and {scores.test_n} test images against {scores.train_n} training"
        f" images; {scores.identical} identical"
    )
    columns = ("median distance", "of test images", "their 1% quantile", "samples below that")
    table = _table(title, *columns)
    for label, space in ((f"features ({scores.network})", scores.features), ("pixels (RMS)", scores.pixels)):
        numbers = (space.median, space.test_median, space.test_quantile)
        table.add_row(label, *(bare(number) for number in numbers), text(space.closer))
    return table


def _denoiser(scores: DenoiserScores) -> list[Table]:
    curve = scores.by_level
    table = _table(f"denoiser: test loss over {curve.n} images", "mean")
    table.add_row(
        f"loss ({scores.weighting} weights, levels evenly in {scores.strata} strata)", text(scores.loss)
    )
    if scores.bits is not None:
        bits = scores.bits
        how = "every level" if bits.strata == bits.T else f"{bits.strata} of {bits.T} levels an image"
        table.add_row(f"bound in bits per dimension ({bits.variance} variance, {how})", text(bits.total))
        table.add_row("  its standard error", bare(bits.standard_error))
        table.add_row(
            "  prior + terms + decoder", f"{bits.prior:.4g} + {bits.terms:.4g} + {bits.decoder:.4g}"
        )
    levels = _table("mean squared error by noise level", "prediction", "of x_0", "of eps")
    count = len(curve.levels)
    for i in sorted({round(k * (count - 1) / (SHOWN_LEVELS - 1)) for k in range(SHOWN_LEVELS)}):
        numbers = (curve.prediction[i], curve.x0[i], curve.eps[i])
        levels.add_row(f"t = {curve.levels[i]}", *(bare(number) for number in numbers))
    return [table, levels]


def _reconstruction(scores: Sequence[ReconstructionScores]) -> Table:
    n = scores[0].one_step.n if scores else 0
    table = _table(
        f"{n} images noised to t and brought back, each against itself",
        "alpha-bar",
        "PSNR in dB",
        "SSIM",
        "RMSE",
    )
    for each in scores:
        for label, pairs in (
            ("estimate", each.one_step),
            (f"{each.steps} step{'s' * (each.steps > 1)}", each.iterative),
        ):
            numbers = (text(pairs.psnr), text(pairs.ssim), text(pairs.rmse))
            table.add_row(f"t = {each.t}, {label}", f"{each.signal:.3g}", *numbers)
    return table


def _scenes(scores: Sequence[ListScore]) -> Table:
    """Attributes as rows, lists of captions as columns."""
    heads = [each.name.replace(", ", "\n") + f"\n{each.n}" for each in scores]
    table = _table("what of a text its picture shows", *heads)
    for name in dict.fromkeys(name for each in scores for name in each.attributes):
        table.add_row(name, *(_percent(each.attributes.get(name)) for each in scores))
    table.add_row("all attributes", *(_percent(each.mean) for each in scores))
    table.add_row("whole pictures", *(_percent(each.whole) for each in scores))
    return table


def _percent(score: Score | None) -> str:
    """A share with its interval: 97.3% (95 to 99)."""
    if score is None:
        return ""
    inside = (
        ""
        if score.low is None or score.high is None
        else f" ({100 * score.low:.0f} to {100 * score.high:.0f})"
    )
    return f"{100 * score.value:.3g}%{inside}"
