"""Study `schedules`: the tables of four noise schedules, and images noised by each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from latentdiff.apps.studies.kit.context import StudyContext
from latentdiff.apps.studies.process.noise_measures import idle_share
from latentdiff.apps.studies.report.blocks import Picture, Report, Section, Table
from latentdiff.apps.studies.report.curves import Curve, Panel
from latentdiff.apps.studies.runner import Study
from latentdiff.config.diffusion import ScheduleConfig, ScheduleKind
from latentdiff.data import to_float
from latentdiff.data.classes import one_of_each_class
from latentdiff.diffusion.schedule import Schedule, make_schedule
from latentdiff.ops.random import Key

KINDS: tuple[ScheduleKind, ...] = ("linear", "scaled_linear", "cosine", "constant")
SHARES = (0.1, 0.25, 0.5, 0.75, 1.0)  # of T, in the images and the table
POINTS = 500  # at most, on a curve


@dataclass(frozen=True)
class SchedulesSettings:
    """``T`` levels; ``images`` are shown noised by each schedule."""

    T: int = 1000
    images: int = 2


def study(context: StudyContext, settings: SchedulesSettings) -> Report:
    made = {kind: make_schedule(ScheduleConfig(kind=kind, T=settings.T)) for kind in KINDS}
    with context.part("figures"):
        curves = _curves(context, made)
        noised = [_noised(context, made, k) for k in range(min(settings.images, len(context.data.test)))]
    table = Table(
        "signal",
        ("schedule", *(f"ᾱ at {share:g} T" for share in SHARES), "first β", "last β", "log-SNR at T"),
        tuple((kind, *_row(schedule)) for kind, schedule in made.items()),
        f"The share ᾱ_t of the signal's variance that is left at level t of T = {settings.T}, the smallest"
        " and largest step, and the logarithm of the signal-to-noise ratio at the last level.",
    )
    half = {kind: _half(schedule) for kind, schedule in made.items()}
    return Report(
        _findings(made, half),
        Section("The tables", READING, curves, table),
        Section("Images noised by each", SAME_NOISE, *noised),
        half=half,
    )


READING = (
    "A schedule fixes x_t = α_t x_0 + σ_t ε with α_t² + σ_t² = 1. Here α_t = √ᾱ_t is the factor of the"
    " signal, β_t = 1 − ᾱ_t/ᾱ_(t−1) the variance that step t adds, and log-SNR = log(ᾱ_t/(1 − ᾱ_t)). (Ho et"
    " al. write α_t for 1 − β_t.) All four curves use the project's default betas."
)
SAME_NOISE = "Every row uses the same noise, so that only the schedule differs."


def _curves(context: StudyContext, made: Mapping[ScheduleKind, Schedule]) -> Picture:
    alpha, beta, bar, snr = [], [], [], []
    for kind, schedule in made.items():
        t = np.unique(np.linspace(1, schedule.T, POINTS).round().astype(int))
        alpha_bar, x = schedule.alpha.square().numpy(), t / schedule.T
        alpha.append(Curve(kind, x, np.sqrt(alpha_bar[t])))
        beta.append(Curve(kind, x, (1 - alpha_bar[t] / alpha_bar[t - 1])))
        bar.append(Curve(kind, x, alpha_bar[t]))
        snr.append(Curve(kind, x, schedule.snr().log()[t]))
    panels = [
        Panel("factor of the signal", "t / T", "α", alpha),
        Panel("variance that a step adds", "t / T", "β", beta, log_y=True, legend=False),
        Panel("signal that is left", "t / T", "ᾱ = α²", bar, legend=False),
        Panel("signal-to-noise ratio", "t / T", "log-SNR (nats)", snr, legend=False),
    ]
    caption = "α, β, ᾱ and log-SNR of the four schedules over the levels, from clean (left) to noise (right)."
    return context.plot("schedules", panels, caption)


def _noised(context: StudyContext, made: Mapping[ScheduleKind, Schedule], k: int) -> Picture:
    x0 = to_float(one_of_each_class(context.data.test, k + 1)[k : k + 1])
    noise = Key.of(context.seed + k, 1).at("train").normal(x0.shape[1:])
    rows = []
    for kind, schedule in made.items():
        levels = [schedule.at(round(share * schedule.T)) for share in (0.0, *SHARES)]
        rows.append((kind, torch.cat([a * x0 + s * noise for a, s in levels]).clamp(-1, 1)))
    columns = [f"t = {round(share * schedule.T)}" for share in (0.0, *SHARES)]
    caption = f"Test image {k + 1} at the levels t written above, from clean to noise."
    return context.rows(
        f"noised-{k + 1}", rows, caption, columns=columns, about={"noise_seed": context.seed + k}
    )


def _row(schedule: Schedule) -> tuple[float, ...]:
    alpha_bar = schedule.alpha.square()
    betas = 1 - alpha_bar[1:] / alpha_bar[:-1]
    shares = [float(alpha_bar[round(share * schedule.T)]) for share in SHARES]
    return (*shares, float(betas[0]), float(betas[-1]), float(schedule.snr()[-1].log()))


def _half(schedule: Schedule) -> float:
    """The share of the levels that are passed when half of the signal's variance is gone."""
    return float((schedule.alpha.square() >= 0.5).sum()) / schedule.T


def _findings(made: Mapping[ScheduleKind, Schedule], half: Mapping[ScheduleKind, float]) -> Iterator[str]:
    last = {kind: float(schedule.alpha[-1] ** 2) for kind, schedule in made.items()}
    noise = {kind: idle_share(schedule, 1.0) for kind, schedule in made.items()}
    fast, slow = min(half, key=lambda kind: half[kind]), max(half, key=lambda kind: half[kind])
    idle, busy = max(noise, key=lambda kind: noise[kind]), min(noise, key=lambda kind: noise[kind])
    most = max(last, key=lambda kind: last[kind])
    yield (
        f"Half of the signal's variance is gone after {half[fast]:.0%} of the levels with the {fast}"
        f" schedule, and only after {half[slow]:.0%} with the {slow} one."
    )
    yield (
        f"The {idle} schedule spends {noise[idle]:.0%} of its levels below a log-SNR of −4, where an image"
        f" is indistinguishable from noise; the {busy} one {noise[busy]:.0%}."
    )
    yield (
        f"The signal left at the last level is largest with the {most} schedule, ᾱ_T = {last[most]:.2g}; the"
        f" smallest is {min(last.values()):.2g}. Sampling starts from pure noise, so what is left at T is"
        " what sampling never sees."
    )


STUDY = Study(quick=SchedulesSettings(), full=SchedulesSettings(images=5), run=study)
