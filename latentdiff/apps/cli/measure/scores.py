"""The tables that `latentdiff evaluate` prints: every value with its interval and its feature network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from latentdiff.apps.cli.shared.progress import show_tables
from latentdiff.evaluate import metric_table
from latentdiff.evaluate.images import FEW
from latentdiff.evaluate.metric_table import Metric, MetricScores
from latentdiff.evaluate.reconstruct import steps_text
from latentdiff.metrics.names import frechet_name

if TYPE_CHECKING:
    from latentdiff.evaluate import (
        AlignmentScores,
        ClassAgreement,
        DenoiserScores,
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
            f"in brackets: {100 * intervals['level']:.4g}% intervals, {intervals['resamples']}"
            " resamples or fewer (evaluation.json)"
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


def sets_tables(
    scores: SampleScores,
    pairs: PairScores | None,
    classes: Sequence[str],
    agreement: ClassAgreement | None = None,
) -> list[Table]:
    """The tables of two sets of images."""
    table = _table(f"{scores.n} images against {scores.reference.n} of {scores.reference.name}", "value")
    _add_metrics(table, metric_table.SET_METRICS, scores, network=scores.features.name)
    tables = [table, *_per_class(scores, classes)]
    if agreement is not None:
        tables.append(_agreement(agreement))
    if pairs is not None:
        tables.append(_table(f"{pairs.n} pairs{_left_out(pairs)}", "mean"))
        _add_metrics(tables[-1], metric_table.PAIR_METRICS, pairs)
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
    """A figure that few images enlarge: below it, without that bias, the figure that the interval is of."""
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


def _add_metrics(
    table: Table, metrics: Sequence[Metric[Any]], *sides: MetricScores, network: str | None = None
) -> None:
    """A row for each of the ``metrics`` that the first of the ``sides`` has, a column for each side."""
    for metric in metrics:
        found = [side.scores.get(metric.name) for side in sides]
        if found[0] is not None:
            shown = [None if score is None else score.times(metric.factor) for score in found]
            cells = map(biased if metric.biased else text, shown)
            table.add_row(_label(metric, network or found[0].network), *cells)


def _label(metric: Metric[Any], network: str | None) -> str:
    named = f" ({network})" if network and metric.by_network is None and not metric.of_pixels else ""
    factor = "" if metric.factor == 1 else f" x {metric.factor:g}"
    return metric.title(network) + named + factor + (metric.note and f", {metric.note}")


def _left_out(pairs: PairScores) -> str:
    same = pairs.identical
    return f" ({same} identical pairs left out of the PSNR)" if 0 < same < pairs.n else ""


def _vae(scores: VAEScores) -> Table:
    table = _table(f"VAE: {scores.n} images, each against its own reconstruction{_left_out(scores)}", "mean")
    _add_metrics(table, metric_table.PAIR_METRICS, scores)
    if scores.fd is not None and scores.fd.features is not None:
        table.add_row(f"{frechet_name(scores.fd.features)} of the reconstructions", biased(scores.fd))
    table.add_row("KL of the latent in nats", text(scores.kl_nats))
    active = f"{scores.active_units} of {scores.latent_units}"
    table.add_row("active latent units", f"{active}: COLLAPSED" if scores.collapsed else active)
    return table


def _samples(scores: SamplingScores, classes: Sequence[str]) -> list[Table]:
    floor, settings = scores.floor, scores.settings
    guided = f", guidance {settings.guidance:g}" if classes else ""
    balance = {"equal": ", classes in turn", "data": ", classes as in the training data"}
    guided += balance[scores.class_balance] if scores.class_balance else ""
    how = (
        f"{settings.sampler}, {settings.steps} steps{guided}, {1000 * scores.seconds / scores.n:.3g} ms each"
    )
    title = f"{scores.n} samples ({how}) against {scores.reference.n} of {scores.reference.name}"
    table = _table(title, "samples", *([] if floor is None else [f"{floor.n} real images"]))
    sides = [scores] if floor is None else [scores, floor]
    _add_metrics(table, metric_table.SET_METRICS, *sides, network=scores.features.name)
    tables = [table, *_per_class(scores, classes)]
    if not scores.per_class and scores.histogram is not None:
        tables.append(_histogram(scores, floor))
    if scores.agreement is not None:
        tables.append(_agreement(scores.agreement))
    if scores.neighbors is not None:
        tables.append(_neighbors(scores.neighbors))
    return tables


def _per_class(scores: SampleScores, classes: Sequence[str]) -> list[Table]:
    if not scores.per_class:
        return []
    small = any(each.fd is not None and min(each.n, each.real) < FEW for each in scores.per_class)
    title = f"by class; distances of fewer than {FEW} images are mostly bias" if small else "by class"
    network = scores.features.name
    table = _table(title, "images", "real images", f"accuracy ({network})", frechet_name(network))
    for each in scores.per_class:
        name = classes[each.label] if each.label < len(classes) else str(each.label)
        fd = biased(each.fd) if each.fd is not None else "too few images"
        table.add_row(name, str(each.n), str(each.real), text(each.accuracy), fd)
    return [table]


def _histogram(scores: SampleScores, floor: SampleScores | None) -> Table:
    counts = scores.histogram or ()
    table = _table(f"classes predicted by {scores.features.name}", "samples", "real images")
    real = floor.histogram if floor is not None and floor.histogram is not None else None
    for k, count in enumerate(counts):
        share = "" if real is None or floor is None else f"{real[k] / floor.n:.1%}"
        table.add_row(str(k), f"{count / scores.n:.1%}", share)
    return table


def _agreement(scores: ClassAgreement) -> Table:
    """A row for each class and one for all, of samples beside real images."""
    fitted = f"{scores.train_n} training images and measured on {scores.real_n} others"
    if scores.held_out:
        fitted = f"{scores.train_n} real images, each of which is measured by the fit to the others"
    title = f"classes by a linear classifier of {scores.network}, fitted to {fitted}"
    heads = ("accuracy of samples", "of real images", "relative to real", "predicted of samples", "of real")
    table = _table(title, *heads)
    for each in scores.by_class:
        shares = (f"{each.predicted / scores.n:.1%}", f"{each.real_predicted / scores.real_n:.1%}")
        accuracy = map(_percent, (each.accuracy, each.real_accuracy))
        table.add_row(each.name, *accuracy, text(each.relative), *shares)
    total = map(_percent, (scores.accuracy, scores.real_accuracy))
    table.add_row("all", *total, text(scores.relative), "", "")
    return table


def _neighbors(scores: NeighborScores) -> Table:
    title = (
        f"copies? {scores.n} samples and {scores.test_n} test images against {scores.train_n} training"
        f" images{' and their mirror images' if scores.mirrored else ''}; {scores.identical} identical"
    )
    columns = ("median distance", "of test images", "their 1% quantile", "samples below that")
    table = _table(title, *columns)
    for label, space in (
        (f"features ({scores.features.network})", scores.features),
        ("pixels (RMS)", scores.pixels),
    ):
        numbers = (space.median, space.test_median, space.test_quantile)
        table.add_row(
            label, *(bare(number) for number in numbers), text(space.share_closer_than_test_quantile)
        )
    table.caption, table.caption_justify, table.caption_style = scores.verdict, "left", ""
    return table


def _denoiser(scores: DenoiserScores) -> list[Table]:
    curve = scores.by_level
    table = _table(f"denoiser: test loss over {curve.n} images", "mean")
    table.add_row(
        f"loss ({scores.weighting} weights, levels evenly in {scores.strata} strata)", text(scores.loss)
    )
    if (bits := scores.bits_per_dimension) is not None:
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
    first = scores[0].one_step
    metrics = [metric for metric in metric_table.PAIR_METRICS if first.scores.get(metric.name) is not None]
    title = f"{first.n} images noised to t and brought back, each against itself"
    table = _table(title, "alpha-bar", *(metric.label for metric in metrics))
    for each in scores:
        sides = {"estimate": each.one_step, steps_text(each.iterative.steps): each.iterative}
        for label, pairs in sides.items():
            cells = (text(pairs.scores[metric.name]) for metric in metrics)
            table.add_row(f"t = {each.t}, {label}", f"{each.alpha_bar:.3g}", *cells)
    return table


def _scenes(scores: Sequence[AlignmentScores]) -> Table:
    """Attributes as rows, lists of captions as columns."""
    heads = [each.list.replace(", ", "\n") + f"\n{each.n}" for each in scores]
    table = _table("share of a caption's attributes that its image shows", *heads)
    for name in dict.fromkeys(name for each in scores for name in each.attributes):
        table.add_row(name, *(_percent(each.attributes.get(name)) for each in scores))
    table.add_row("all attributes", *(_percent(each.mean) for each in scores))
    table.add_row("whole pictures", *(_percent(each.whole) for each in scores))
    return table


def _percent(score: Score | None) -> str:
    """A share with its interval: 97.3% (95 to 99)."""
    if score is None:
        return ""
    value = f"{100 * score.value:.3g}%"
    if score.low is None or score.high is None:
        return value
    return f"{value} ({100 * score.low:.0f} to {100 * score.high:.0f})"
