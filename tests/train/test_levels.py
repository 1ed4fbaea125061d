"""Noise levels of a batch: their distribution, and that they are a pure function of the data position."""

import math
from typing import get_args

import pytest
import torch

from latentdiff.config.training import TrainDenoiser
from latentdiff.train.batch import TimeSampling, draw_levels

T, BATCH = 50, 25
KINDS = get_args(TimeSampling)


def levels(kind: TimeSampling, n: int, *, batch: int = BATCH, T: int = T, seed: int = 3) -> torch.Tensor:
    return draw_levels(kind, torch.arange(n), batch=batch, seed=seed, T=T)


@pytest.mark.parametrize("kind", KINDS)
def test_a_level_depends_on_its_position_alone(kind: TimeSampling) -> None:
    whole = levels(kind, 100)
    assert whole.dtype == torch.int64
    parts = [
        draw_levels(kind, torch.arange(100)[part], batch=BATCH, seed=3, T=T)
        for part in torch.arange(100).split(7)
    ]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(levels(kind, 100, seed=4), whole)


@pytest.mark.parametrize("kind", ["uniform", "stratified"])
def test_all_levels_are_as_likely(kind: TimeSampling) -> None:
    counts = torch.bincount(levels(kind, 40_000), minlength=T + 1)
    assert counts[0] == 0 and len(counts) == T + 1
    assert float(((counts[1:] - 800) ** 2 / 800).sum()) < 49 + 5 * math.sqrt(2 * 49)


def test_a_stratified_batch_has_one_level_in_each_slice() -> None:
    for batch in levels("stratified", 40 * BATCH).split(BATCH):
        assert torch.equal(((batch - 1) // (T // BATCH)).sort().values, torch.arange(BATCH))
    assert (
        torch.bincount(levels("stratified", 3 * 1000, batch=1000)).max() <= 3 * 1000 / T
    )  # more images than levels


def test_logit_normal_levels_have_the_median_and_quartiles_of_the_law() -> None:
    t = levels("logit-normal", 50_000, T=100_000).double() / 100_000
    for share, normal in ((0.25, -0.67449), (0.5, 0.0), (0.75, 0.67449)):
        assert float(t.quantile(share)) == pytest.approx(1 / (1 + math.exp(-normal)), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_the_ends_stay_inside_the_schedule(kind: TimeSampling) -> None:
    for most in (1, 2, 1000):
        found = levels(kind, 5000, batch=512, T=most)
        assert int(found.min()) >= 1 and int(found.max()) <= most


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "logit-normal"),
        ({"pixel": True}, "stratified"),
        ({"variance": "learned"}, "stratified"),
        ({"time_sampling": "uniform"}, "uniform"),
        ({"pixel": True, "time_sampling": "logit-normal"}, "logit-normal"),
    ],
)
def test_auto_is_what_was_measured_to_be_good(options: dict[str, object], found: str) -> None:
    assert TrainDenoiser.model_validate(options).resolved_time_sampling == found


def test_a_learned_variance_refuses_levels_that_are_not_alike() -> None:
    with pytest.raises(ValueError, match="`variance` learned needs all levels alike"):
        TrainDenoiser(variance="learned", time_sampling="logit-normal")
