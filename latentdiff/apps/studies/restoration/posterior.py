"""Solvers against a posterior that is known in closed form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.process.analytic import Gaussian
from latentdiff.apps.studies.report.blocks import Picture, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel, Style
from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.diffusion import operators as op
from latentdiff.diffusion.denoiser import Denoiser
from latentdiff.diffusion.loop import run, start
from latentdiff.diffusion.samplers import SamplerStep, ddim, ddpm, diffpir_step
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.diffusion.solvers import corrected, dps, gaussian_update, half_quadratic, score_ald
from latentdiff.ops.random import Key

SOLVERS = ("exact", "DPS", "ScoreALD", "DiffPIR")
SIZE, SIGMA = 16, 0.1


ABOUT = (
    "A curve of 16 points has a Gaussian prior, and a blurred third of it is measured with noise, so the"
    " posterior and the exact denoiser are known in closed form. The table gives the distance of the samples"
    " of each solver from that posterior: its mean in standard deviations, its covariance relative to its"
    " size. “Exact” uses the full covariance of x_0 given x_t, which no network gives: its error is that of"
    " discretisation and of a finite sample. The other solvers are biased."
)


class PosteriorError(NamedTuple):
    """The distance of a solver's samples from the posterior, and their moments."""

    solver: str
    steps: int
    off_mean: float
    off_covariance: float
    moments: Gaussian


class GaussianProblem(NamedTuple):
    """A Gaussian prior, a linear measurement of a draw, and the posterior."""

    prior: Gaussian
    a: Tensor
    y: Tensor
    posterior: Gaussian

    @classmethod
    def make(cls) -> GaussianProblem:
        prior = Gaussian.smooth(SIZE)
        a = op.blur_matrix(op.gaussian_taps(1.0), SIZE)[::3]
        noise = Key.of(4, 1).at("degrade").normal((len(a),), dtype=torch.float64)[0]
        y = a @ prior.draw(1, seed=3)[0] + SIGMA * noise
        return cls(prior, a, y, prior.posterior(a, y, SIGMA))


def rows(truth: GaussianProblem, steps: Sequence[int], chains: int) -> Iterator[PosteriorError]:
    """Every solver with every number of steps, as many chains each."""
    schedule = make_schedule(ScheduleConfig(kind="cosine"))
    key = Key.of(0, chains)
    x = start(key, (SIZE,), dtype=torch.float64)
    for name in SOLVERS:
        denoise, step = _solver(name, truth, schedule)
        for count in steps:
            samples = run(denoise, x, schedule.levels(count), step, key)
            moments = Gaussian(samples.mean(0), samples.T.cov())
            yield PosteriorError(name, count, *truth.posterior.apart(samples), moments)


def _solver(name: str, truth: GaussianProblem, schedule: Schedule) -> tuple[Denoiser, SamplerStep]:
    prior, a, y, _ = truth
    denoise, operator = prior.denoiser(schedule), op.matrix(a)
    if name == "exact":
        exact = gaussian_update(a, y, lambda t: prior.left(schedule, t), sigma=SIGMA)
        return corrected(denoise, exact), ddim(schedule)
    if name == "DPS":
        return denoise, dps(ddpm(schedule), operator, y, zeta=0.1)
    if name == "ScoreALD":
        return denoise, score_ald(ddpm(schedule), operator, y, schedule, sigma=SIGMA)
    closer = half_quadratic(operator, y, schedule, sigma=SIGMA)
    return corrected(denoise, closer), diffpir_step(schedule, share=0.3)


def section(context: StudyContext, truth: GaussianProblem, found: Sequence[PosteriorError]) -> Section:
    """The figures and the table."""
    table = Table(
        "posterior",
        ("solver", "steps", "error of the mean", "error of the covariance"),
        tuple((row.solver, row.steps, row.off_mean, row.off_covariance) for row in found),
        "Samples of each solver against the posterior in closed form.",
    )
    curves, moments = _curves(context, found), _beside(context, truth, found)
    return Section("Against a known posterior", ABOUT, curves, table, moments)


def _curves(context: StudyContext, found: Sequence[PosteriorError]) -> Picture:
    panels = []
    for title, what in (("mean", "standard deviations"), ("covariance", "share of its size")):
        curves = []
        for k, name in enumerate(SOLVERS):
            mine = [row for row in found if row.solver == name]
            off = [row.off_mean if title == "mean" else row.off_covariance for row in mine]
            curves.append(Curve(name, [row.steps for row in mine], off, "marked", color=k))
        panels.append(Panel(f"error of the {title}", "steps", what, curves, log_x=True, log_y=True))
    caption = "Distance of the samples from the known posterior by number of steps."
    return context.plot("posterior", panels, caption)


def _beside(context: StudyContext, truth: GaussianProblem, found: Sequence[PosteriorError]) -> Picture:
    """Means and deviations with the most steps, point by point, beside those in closed form."""
    most = max(row.steps for row in found)
    shown: list[tuple[str, Gaussian, Style, int | None]] = [
        ("posterior in closed form", truth.posterior, "dashed", None),
        ("prior", truth.prior, "thin", -1),
    ]
    last = {row.solver: row.moments for row in found if row.steps == most}
    shown += [(name, last[name], "marked", k) for k, name in enumerate(SOLVERS) if name in last]
    panels = []
    for title, of in (
        ("mean", lambda one: one.mean),
        ("deviation", lambda one: one.covariance.diagonal().sqrt()),
        ("correlation with the middle point", _correlation),
    ):
        curves = [Curve(name, range(SIZE), of(one).tolist(), style, k) for name, one, style, k in shown]
        panels.append(Panel(title, "point of the curve", title, curves))
    return context.plot("moments", panels, f"The samples' mean, deviation and correlation, {most} steps.")


def _correlation(one: Gaussian) -> Tensor:
    deviation = one.covariance.diagonal().sqrt()
    return one.covariance[SIZE // 2] / (deviation * deviation[SIZE // 2])


def finding(found: Sequence[PosteriorError], chains: int) -> str:
    """The errors with the most steps, beside the standard error of so many exact draws."""
    most = max(row.steps for row in found)
    last = {row.solver: row for row in found if row.steps == most}
    others = ", ".join(f"{name} by {last[name].off_mean:.2g}" for name in SOLVERS[1:])
    return (
        f"On the known posterior, {most} steps: with the exact likelihood the mean is off by"
        f" {last['exact'].off_mean:.2g} standard deviations, with {others}; the mean of {chains:,} exact"
        f" draws would be off by about {chains**-0.5:.2g}."
    )
