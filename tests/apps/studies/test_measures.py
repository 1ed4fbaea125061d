"""What the studies measure, against closed forms and foreign code."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from latentdiff.apps.studies.kit.scoring import random_split
from latentdiff.apps.studies.process.forward_process import ForwardProcessSettings, _theory, _walks
from latentdiff.apps.studies.process.noise_measures import (
    at_equal_noise,
    common_span,
    idle_share,
    linear_guess,
    log_snr,
)
from latentdiff.apps.studies.process.noise_schedules import PROCESSES, pooled
from latentdiff.apps.studies.sampling.class_guidance import within_classes
from latentdiff.apps.studies.sampling.interpolation import measure_frames, pairs_of
from latentdiff.config.diffusion import ScheduleConfig
from latentdiff.data import Dataset, Split
from latentdiff.data.classes import indices_by_class
from latentdiff.diffusion.schedule import make_schedule
from latentdiff.errors import InputError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_closed_form_of_the_error_has_the_measured_mean_and_spread() -> None:
    schedule = make_schedule("linear", T=20)
    x0 = torch.randn(1, 1, 6, 6, generator=generator(), dtype=torch.float64)
    expectation, deviation = _theory(x0, schedule)
    for t in (1, 7, 20):
        alpha, sigma = schedule.at(t)
        eps = torch.randn(20_000, 1, 6, 6, generator=generator(t), dtype=torch.float64)
        errors = (alpha * x0 + sigma * eps - x0).square().flatten(1).mean(1)
        assert float(errors.mean()) == pytest.approx(
            float(expectation[0, t]), rel=5 * float(deviation[0, t] / expectation[0, t]) / 141
        )
        assert float(errors.std()) == pytest.approx(float(deviation[0, t]), rel=0.05)
    assert float(expectation[0, 0]) == 0 == float(deviation[0, 0])


def test_walks_of_single_steps_have_the_closed_form_s_error() -> None:
    schedule, settings = (
        make_schedule("linear", T=30),
        ForwardProcessSettings(T=30, images=2, shown=(0, 10), chains=400),
    )
    x0 = torch.rand(2, 1, 8, 8, generator=generator(), dtype=torch.float64) * 2 - 1
    measured, kept = _walks(x0, schedule, settings, seed=0)
    expectation, deviation = _theory(x0, schedule)
    assert bool(((measured - expectation).abs() <= 4.5 * deviation / 20 + 1e-15).all())
    assert [tuple(images.shape) for images in kept] == [(2, 1, 8, 8)] * 2 and bool((kept[0] == x0).all())


def test_the_schedules_of_the_study_are_those_of_the_reports() -> None:
    made = [make_schedule(ScheduleConfig(kind=p.kind, T=p.T, beta_start=p.beta)) for p in PROCESSES]
    last = [float(schedule.alpha[-1] ** 2) for schedule in made]
    assert last[0] == pytest.approx(0.999**2000, rel=1e-9) == pytest.approx(0.135, abs=5e-4)
    assert last[1] == pytest.approx(0.9**200, rel=1e-9)
    assert [schedule.T for schedule in made] == [2000, 200, 1000, 1000]


def test_the_best_multiple_of_the_input_is_found_by_least_squares() -> None:
    schedule, n = make_schedule("cosine", T=5), 400_000
    x0 = 0.3 * torch.randn(n, generator=generator(1), dtype=torch.float64)
    eps = torch.randn(n, generator=generator(2), dtype=torch.float64)
    errors = []
    for t in range(1, 6):
        alpha, sigma = schedule.at(t)
        x_t = alpha * x0 + sigma * eps
        errors.append(float((eps - (x_t @ eps) / (x_t @ x_t) * x_t).square().mean()))
    assert linear_guess(schedule, 0.09) == pytest.approx(np.mean(errors), rel=0.01)


def test_levels_that_show_nothing_are_counted() -> None:
    fast, slow = (
        make_schedule(ScheduleConfig(kind="constant", T=100, beta_start=beta)) for beta in (0.2, 1e-4)
    )
    assert idle_share(slow, 0.25) == 0 and 0.7 < idle_share(fast, 0.25) < 1
    assert float(log_snr(fast, 0.25)[0]) == pytest.approx(math.log(0.8 * 0.25 / 0.2))


def test_equal_errors_at_equal_noise_compare_as_equal() -> None:
    """Whatever levels a process has: errors that depend on the noise alone average to the same."""
    schedules = [make_schedule(ScheduleConfig(kind=p.kind, T=p.T, beta_start=p.beta)) for p in PROCESSES]
    at = [log_snr(schedule, 0.2).tolist() for schedule in schedules]
    span = common_span(at)
    assert -4 < span[0] < -3 and 0 < span[1] < 1, "constant 0.001 ends early, constant 0.1 starts late"
    found = [at_equal_noise(mine, [1 / (1 + math.exp(-value)) for value in mine], span) for mine in at]
    assert found == pytest.approx([found[0]] * 4, rel=0.01)
    assert at_equal_noise([-4.0, 1.0, 0.0], [2.0, 2.0, 2.0], span) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="within the measured"):
        at_equal_noise([-1.0, 1.0], [2.0, 2.0], span)


def test_a_straight_path_has_no_detour_and_a_bent_one_its_length() -> None:
    straight = torch.linspace(-1, 1, 9)[:, None, None].expand(9, 1, 4)
    corner = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])[:, None]
    even, bent = measure_frames(straight), measure_frames(corner)
    assert (float(even.length[0]), float(even.detour[0]), float(even.jump[0])) == pytest.approx(
        (2.0, 1.0, 1.0)
    )
    assert (float(bent.length[0]), float(bent.detour[0])) == pytest.approx((2.0, 2**0.5))
    jump = torch.tensor([-1.0, -1.0, -1.0, 1.0])[:, None, None]
    assert float(measure_frames(jump).jump[0]) == pytest.approx(3.0)
    still = measure_frames(torch.zeros(3, 1, 2))
    assert (float(still.length[0]), float(still.detour[0]), float(still.jump[0])) == (0, 1, 1)


def test_pairs_are_of_different_images() -> None:
    a, b = pairs_of(21, 10, seed=3)
    assert len({*a.tolist(), *b.tolist()}) == 20
    with pytest.raises(InputError, match="expected at least 22 test images for 11 pairs, found 21"):
        pairs_of(21, 11, seed=3)


def test_diversity_is_scipy_s_mean_distance_within_a_class() -> None:
    values = torch.randn(12, 5, generator=generator(), dtype=torch.float64)
    labels = torch.tensor([0, 1, 2] * 3 + [0, 1, 7])  # a class of one has no distance
    expected = np.mean([pdist(values[labels == k].numpy()).mean() for k in range(3)])
    assert within_classes(values, labels) == pytest.approx(float(expected))
    assert math.isnan(within_classes(values[:1], labels[:1]))


def split(n: int, first: int, *, labels: bool = True) -> Split:
    images = (
        torch.arange(first, first + n, dtype=torch.uint8)[:, None, None, None].expand(n, 1, 8, 8).contiguous()
    )
    return Split(images, torch.arange(n) % 3 if labels else None)


@pytest.mark.parametrize("labels", [True, False])
def test_a_pool_is_cut_without_losing_or_doubling_an_image(labels: bool) -> None:
    data = Dataset("d", *(split(n, first, labels=labels) for n, first in ((20, 0), (6, 20), (4, 26))))
    cut, other = pooled(data, share=0.8, seed=0), pooled(data, share=0.8, seed=1)
    assert (len(cut.train), len(cut.val), len(cut.test)) == (24, 6, 6) and cut.val is cut.test
    seen = torch.cat([cut.train.images, cut.test.images])[:, 0, 0, 0]
    assert sorted(seen.tolist()) == list(range(30))
    assert cut.fingerprint() == pooled(data, share=0.8, seed=0).fingerprint() != other.fingerprint()
    if labels:
        of = dict(
            zip(
                torch.cat([s.images for s in (data.train, data.val, data.test)])[:, 0, 0, 0].tolist(),
                torch.cat([s.labels for s in (data.train, data.val, data.test)]).tolist(),
                strict=True,
            )
        )  # type: ignore[misc]
        assert [of[value] for value in cut.train.images[:, 0, 0, 0].tolist()] == cut.train.labels.tolist()  # type: ignore[union-attr]
    else:
        assert cut.train.labels is None


def test_one_of_each_class_comes_first() -> None:
    labels = torch.tensor([2, 2, 0, 1, 0, 2])
    images = Split(torch.zeros(6, 1, 8, 8, dtype=torch.uint8), labels)
    assert indices_by_class(images, 5).tolist() == [2, 3, 0, 4, 1]
    assert indices_by_class(Split(images.images), 3).tolist() == [0, 1, 2]


def test_a_few_images_of_sorted_data_are_of_all_classes() -> None:
    data = Split(torch.zeros(100, 1, 8, 8, dtype=torch.uint8), torch.arange(100) // 10)
    chosen = random_split(data, 50, seed=0)
    assert len(chosen) == 50 and chosen.labels is not None and len(chosen.labels.unique()) == 10
    assert len(random_split(data, 500, seed=0)) == 100
