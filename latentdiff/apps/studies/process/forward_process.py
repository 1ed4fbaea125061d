"""Study `forward-process`: images corrupted step by step, measured against the closed form."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

INSIDE = 1.96  # standard deviations: 95% of a normal distribution


@dataclass(frozen=True)
class ForwardProcessSettings:
    """Linear betas; ``images`` are corrupted at the levels ``shown`` of ``T``, by ``chains`` walks each."""

    T: int = 1000
    images: int = 5
    shown: tuple[int, ...] = (0, 10, 50, 100, 500)
    chains: int = 16


@dataclass(frozen=True, eq=False)
class ForwardErrors:
    """Mean squared distance from x_0 over a pixel at levels 0..T, float64 [images, T + 1]."""

    closed: Tensor  # its expectation
    deviation: Tensor  # its standard deviation over the noise, of one draw
    one_step: Tensor  # of one draw of x_t = alpha x_0 + sigma eps at each level
    chain: Tensor  # averaged over walks of single steps


def study(context: StudyContext, settings: ForwardProcessSettings) -> Report:
    schedule = make_schedule(ScheduleConfig(kind="linear", T=settings.T))
    images, labels = context.test_images(settings.images)
    x0 = images.double()
    with context.part("one-step formula"):
        one_step = torch.stack(
            [_distance(_jump(x0, schedule, t, context.seed), x0) for t in range(schedule.T + 1)], 1
        )
    with context.part("sequential chain"):
        chain, kept = _walks(x0, schedule, settings, context.seed)
    errors = ForwardErrors(*_theory(x0, schedule), one_step, chain)
    names = _names(context.data.classes, labels, len(x0))
    with context.part("figures"):
        columns = [f"t = {t}" for t in settings.shown]
        noised = torch.stack([_jump(x0, schedule, t, context.seed) for t in settings.shown])
        noised, walk = noised.clamp(-1, 1).float(), torch.stack(kept)[:, 0].clamp(-1, 1).float()
        rows = [(name, noised[:, k]) for k, name in enumerate(names)]
        pictures = context.rows("corrupted", rows, CORRUPTED, columns=columns)
        rows = [("one step", noised[:, 0]), ("t single steps", walk)]
        strips = context.rows("chain", rows, STRIPS, columns=columns)
        curves, both = _curves(context, errors, names)
    agreement = _agreement(errors, settings)
    return Report(
        _findings(errors, settings, agreement),
        Section("Five images on their way to noise", FORMULA, pictures, _table(errors, settings, names)),
        Section("The error at every level", CLOSED, curves),
        Section("One formula, or many small steps", CHAIN, strips, both),
        agreement=agreement,
    )


FORMULA = (
    "x_t = α_t x_0 + σ_t ε with standard normal ε, pixels in [−1, 1], and the linear schedule of Ho et al."
    " (2020). The error is the mean of (x_t − x_0)² over the pixels of an image, in these units; 1 would be"
    " the error of a constant shift by half of the range."
)
CLOSED = (
    "Its expectation is known: E|x_t − x_0|²/d = (1 − α_t)² |x_0|²/d + σ_t², with d pixels. It is drawn in as"
    " dashes. Images differ only in the first term, through their brightness |x_0|²/d, which matters once α_t"
    " is small."
)
CORRUPTED = "Test images at rising levels t. Pixels beyond the range are cut for display."
STRIPS = (
    "The first image by the one-step formula and by single steps. The noise differs; the distribution is"
    " the same."
)
CHAIN = (
    "The process is defined by single steps, x_t = √(1 − β_t) x_(t−1) + √β_t z. Their composition has the"
    " distribution that the one-step formula draws from at once; training relies on it."
)


def _names(classes: Sequence[str] | None, labels: Tensor | None, n: int) -> list[str]:
    if classes is None or labels is None:
        return [f"image {k + 1}" for k in range(n)]
    return [f"image {k + 1} ({classes[int(label)]})" for k, label in enumerate(labels)]


def _distance(x: Tensor, x0: Tensor) -> Tensor:
    """Mean squared difference of each image, [N]."""
    return (x - x0).square().flatten(1).mean(1)


def _jump(x0: Tensor, schedule: Schedule, t: int, seed: int) -> Tensor:
    """x_t at once, with noise of its own at every level."""
    alpha, sigma = schedule.at(t)
    return alpha * x0 + sigma * Key.of(seed, len(x0)).at("train", t).normal(x0.shape[1:], dtype=torch.float64)


def _walks(
    x0: Tensor, schedule: Schedule, settings: ForwardProcessSettings, seed: int
) -> tuple[Tensor, list[Tensor]]:
    """The error by level over ``chains`` walks [images, T + 1], and the first walk at the shown levels."""
    walkers = x0.repeat(settings.chains, *[1] * (x0.ndim - 1))
    key, x, kept = Key.of(seed, len(walkers)), walkers, [x0]
    errors = [torch.zeros(len(x0), dtype=torch.float64)]
    for t in range(1, schedule.T + 1):
        keep = float(schedule.alpha[t] / schedule.alpha[t - 1])  # sqrt(1 - beta_t)
        noise = key.at("degrade", t).normal(x.shape[1:], dtype=torch.float64)
        x = keep * x + math.sqrt(1 - keep**2) * noise
        errors.append(_distance(x, walkers).view(settings.chains, -1).mean(0))
        if t in settings.shown:
            kept.append(x[: len(x0)])
    return torch.stack(errors, 1), kept


def _theory(x0: Tensor, schedule: Schedule) -> tuple[Tensor, Tensor]:
    """Expectation and standard deviation of the error over the noise, [images, T + 1] each.

    x_t - x_0 is normal with mean -(1 - alpha) x_0 and variance sigma^2, so d times its mean square is a
    non-central chi-square.
    """
    d, power = x0[0].numel(), x0.square().flatten(1).mean(1)[:, None]
    shift, variance = (1 - schedule.alpha).square() * power, schedule.sigma.square()
    return shift + variance, ((4 * shift * variance + 2 * variance.square()) / d).sqrt()


def _table(errors: ForwardErrors, settings: ForwardProcessSettings, names: Sequence[str]) -> Table:
    at = list(settings.shown)
    rows = [(name, *row[at].tolist()) for name, row in zip(names, errors.one_step, strict=True)]
    rows.append(("mean", *errors.one_step.mean(0)[at].tolist()))
    rows.append(("mean, closed form", *errors.closed.mean(0)[at].tolist()))
    caption = "Mean squared error of one draw of x_t against x_0, and what theory expects."
    return Table("mse", ("", *(f"t = {t}" for t in at)), tuple(rows), caption)


def _curves(context: StudyContext, errors: ForwardErrors, names: Sequence[str]) -> tuple[Picture, Picture]:
    """Errors by level: measured against the closed form, and single steps against one."""
    t = range(errors.closed.shape[1])
    own = [Curve(name, t, row, "thin") for name, row in zip(names, errors.one_step, strict=True)]
    own += [Curve("" if k else "closed form", t, row, "dashed") for k, row in enumerate(errors.closed)]
    closed, one, chain = (each.mean(0) for each in (errors.closed, errors.one_step, errors.chain))
    expected = Curve("closed form", t, closed, "dashed")
    mean = [Curve("measured, one draw each", t, one, "thin"), expected]
    both = [Curve("single steps", t, chain), Curve("one step", t, one, "thin"), expected]
    ratio = [
        Curve("single steps", t[1:], (chain / closed)[1:]),
        Curve("one step", t[1:], (one / closed)[1:], "thin"),
    ]
    x, y = "level t", "mean squared error"
    by_image = [
        Panel("each image", x, y, own),
        Panel("each image, on log axes", x, y, own, log_x=True, log_y=True, legend=False),
        Panel("average of the images", x, y, mean),
    ]
    by_way = [
        Panel("mean over the images", x, y, both),
        Panel("against the closed form", x, "measured / closed form", ratio, legend=False),
    ]
    caption = (
        "Errors of both ways, averaged over the images (single steps: also over the walks), and their ratio"
        " to the closed form."
    )
    return (
        context.plot(
            "mse",
            by_image,
            "Error against the clean image by level: measured with fresh noise, and in closed form.",
        ),
        context.plot("chain-mse", by_way, caption),
    )


def _agreement(errors: ForwardErrors, settings: ForwardProcessSettings) -> dict[str, float]:
    """How far measurement and closed form are apart: relative, and in standard deviations of the noise."""
    closed, deviation = errors.closed[:, 1:], errors.deviation[:, 1:]
    one, chain = errors.one_step[:, 1:] - closed, errors.chain[:, 1:] - closed
    spread = deviation / math.sqrt(settings.chains)
    return {
        "one_step_within_95": float((one.abs() < INSIDE * deviation).double().mean()),
        "one_step_mean_ratio": float((errors.one_step[:, 1:] / closed).mean()),
        "chain_within_95": float((chain.abs() < INSIDE * spread).double().mean()),
        "chain_largest_ratio_error": float(
            (errors.chain.mean(0)[1:] / errors.closed.mean(0)[1:] - 1).abs().max()
        ),
    }


def _findings(
    errors: ForwardErrors, settings: ForwardProcessSettings, found: Mapping[str, float]
) -> Iterator[str]:
    one_step, closed = errors.one_step.mean(0).tolist(), errors.closed.mean(0).tolist()
    measured = ", ".join(f"{one_step[t]:.3g} at t = {t}" for t in settings.shown if t > 0)
    draws = errors.closed[:, 1:].numel()
    yield (
        f"The error grows from 0 to {measured}; at the last level, {settings.T}, it is"
        f" {one_step[-1]:.3g} where the closed form expects {closed[-1]:.3g}."
    )
    yield (
        f"Of {draws:,} single draws {found['one_step_within_95']:.1%} lie within the closed form's 95%"
        f" interval, and measurement over expectation is {found['one_step_mean_ratio']:.4f} on average."
    )
    yield (
        f"In single steps, averaged over {settings.chains} walks of each image, the error differs from the"
        f" closed form by at most {found['chain_largest_ratio_error']:.1%} at any level;"
        f" {found['chain_within_95']:.1%} of the means lie within the closed form's 95% interval."
    )


STUDY = Study(quick=ForwardProcessSettings(), full=ForwardProcessSettings(chains=256), run=study)
