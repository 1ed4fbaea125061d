"""Quick evaluations of a training: what they measure, what they may cost, and that nothing else changes."""

from pathlib import Path
from typing import Any

import pytest
import torch
from resumed_training import Hook, Stop, content, trainer
from torch import Tensor

from latentdiff.config.training import TrainDenoiser
from latentdiff.data import Dataset, Split
from latentdiff.errors import InputError
from latentdiff.metrics.features import FeatureNetwork
from latentdiff.pipeline.checkpoint.runs import Run
from latentdiff.train import loop, quick_evaluation
from latentdiff.train.quick_evaluation import GridSamples, QuickEvaluation, QuickScores

CPU = torch.device("cpu")
OFTEN: dict[str, Any] = {"quick_samples": 70, "sample_every": 5}


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Networks loaded: one whose features are the means of quarters of an image, in the place of all."""
    loaded: list[str] = []

    def run(images: Tensor) -> tuple[Tensor, Tensor]:
        means = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        return means, means[:, :2]

    def load(name: str, **options: object) -> FeatureNetwork:
        loaded.append(name)
        return FeatureNetwork(name, "0" * 64, 4, 2, CPU, run, class_names=("x", "y"))

    monkeypatch.setattr(quick_evaluation, "feature_network", load)
    monkeypatch.setattr(loop, "save_loss_curve", lambda entries, path: None)
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path / "cache"))
    return loaded


@pytest.fixture
def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings that are planned to take long enough for every quick evaluation."""
    plain = QuickEvaluation.measure

    def measure(self: QuickEvaluation, grid: GridSamples, **clock: Any) -> QuickScores:
        return plain(self, grid, **clock | {"planned": 1e9})

    monkeypatch.setattr(QuickEvaluation, "measure", measure)


def shades(n: int, seed: int) -> Split:
    """Dark and bright images in turn."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 2
    noise = torch.randint(0, 100, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(noise + 150 * labels.to(torch.uint8)[:, None, None, None], labels)


SHADES = Dataset("shades", shades(60, 0), shades(40, 1), shades(8, 2), classes=("dark", "bright"))


def quick(n: int = 30, *, share: float = 1.0) -> QuickEvaluation:
    return QuickEvaluation(SHADES, n, CPU, share=share, by_class=True)


def grid_of(images: Tensor, first: int, *, seconds: float = 0.0) -> GridSamples:
    """A grid of the ``first`` images; the others can be drawn."""
    return GridSamples(images[:first], seconds, lambda k, n: images[k : k + n])


def scores_of(images: Tensor, first: int = 16) -> dict[str, float]:
    found = dict(quick().measure(grid_of(images, first), planned=1e9, spent=0, last=True).values)
    found.pop("quick_seconds")
    return found


def test_classes_and_distances_are_those_of_the_samples() -> None:
    good = scores_of(shades(30, 3).images)
    assert good["quick_accuracy"] == good["quick_real_accuracy"] == 1 and abs(good["quick_kd"]) < 0.06
    swapped = scores_of(shades(31, 3).images[1:])
    assert swapped["quick_accuracy"] == 0 and abs(swapped["quick_kd"]) < 0.06
    dark = scores_of(shades(60, 3).images[::2])
    assert dark["quick_accuracy"] == 0.5 and dark["quick_kd"] > 4 * abs(good["quick_kd"])


def test_the_validation_images_themselves_are_not_further_than_zero() -> None:
    grid = grid_of(SHADES.val.images, len(SHADES.val))
    values = quick(len(SHADES.val)).measure(grid, planned=1e9, spent=0, last=True).values
    assert -0.1 < values["quick_kd"] <= 0


def test_shuffled_labels_give_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    splits = [shades(400, 5), shades(400, 6), shades(8, 2)]
    mixed = [
        Split(each.images, each.labels[torch.randperm(len(each), generator=generator)]) for each in splits
    ]  # type: ignore[index]
    data = Dataset("mixed", *mixed, classes=("dark", "bright"))
    found = QuickEvaluation(data, 40, CPU, share=1, by_class=True)
    values = found.measure(grid_of(shades(40, 3).images, 40), planned=1e9, spent=0, last=True).values
    assert abs(values["quick_real_accuracy"] - 0.5) < 0.1


def test_neither_the_size_of_the_grid_nor_the_order_of_one_class_matters() -> None:
    images = shades(30, 3).images
    assert scores_of(images, 16) == scores_of(images, 30) == scores_of(torch.cat([images, images]), 40)
    order = torch.arange(30).view(3, 5, 2).transpose(0, 1).reshape(-1)  # classes stay in turn
    other = scores_of(images[order])
    assert other["quick_accuracy"] == scores_of(images)["quick_accuracy"]
    assert other["quick_kd"] == pytest.approx(scores_of(images)["quick_kd"], abs=1e-12)


def test_it_takes_its_share_of_the_time_and_keeps_some_for_the_last_one(calls: list[str]) -> None:
    measuring, images = quick(32, share=0.5), shades(32, 3).images
    grid = grid_of(images, 16, seconds=20)  # the other 16 take 20 seconds, too; with LOADING 21
    skipped = measuring.measure(grid, planned=80, spent=0, last=False)  # 20 s now, 20 s at the end
    assert not skipped.values and not calls
    assert skipped.text.startswith("quick evaluation left out: it takes 21.0 s or more, and 20.0 s")
    assert measuring.measure(grid, planned=80, spent=0, last=False) == QuickScores({}, "")  # said once
    assert not measuring.measure(grid, planned=80, spent=25, last=True).values
    assert measuring.measure(grid, planned=80, spent=0, last=True).values["quick_samples"] == 32
    assert measuring.measure(grid, planned=100, spent=0, last=False).values and len(calls) == 1


def test_what_cannot_be_measured_is_said_once_and_the_training_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str, **options: object) -> FeatureNetwork:
        raise InputError(f"{name}: needs packages that are not installed")

    monkeypatch.setattr(quick_evaluation, "feature_network", missing)
    measuring, grid = quick(), grid_of(shades(30, 3).images, 30)
    found = measuring.measure(grid, planned=1e9, spent=0, last=False)
    assert found == ({}, "no quick evaluation: efficientnet-lite0: needs packages that are not installed")
    assert measuring.measure(grid, planned=1e9, spent=0, last=True) == QuickScores({}, "")


def test_real_images_are_measured_once_and_kept_for_a_resumed_training(tmp_path: Path) -> None:
    scores_of(shades(30, 3).images)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert (
        len([path for path in kept if path.suffix == ".safetensors"]) == 2
    )  # training and validation images
    scores_of(shades(30, 4).images)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == kept


@pytest.mark.usefixtures("plenty")
def test_a_training_ends_with_the_same_bits_with_and_without(tmp_path: Path) -> None:
    found = {}
    for name, samples in (("with", 70), ("without", 0)):
        hook = Hook()
        result = trainer("pixel", tmp_path / name, OFTEN | {"quick_samples": samples}, hook=hook).train()
        found[name] = content(tmp_path / name)
        assert ("quick_kd" in result.metrics) == bool(samples)
        assert [note.partition(":")[0] for note in hook.notes] == (["step 5", "step 10"] if samples else [])
    lines = found["with"].pop("log"), found["without"].pop("log")
    options = [found[name]["state"].pop("options") for name in found]
    assert options[0] | {"quick_samples": 0} == options[1]
    assert found["with"] == found["without"]
    plain = [line for line in lines[0] if "quick_kd" not in line]
    assert plain == lines[1] and len(plain) == len(lines[0]) - 2


@pytest.mark.usefixtures("plenty")
def test_a_resumed_training_goes_on_with_it(tmp_path: Path) -> None:
    trainer("pixel", tmp_path / "whole", OFTEN).train()
    with pytest.raises(Stop):
        trainer("pixel", tmp_path / "broken", OFTEN | {"save_every": 6}, hook=Hook(7)).train()
    resume = Run(tmp_path / "broken").newest()
    trainer("pixel", tmp_path / "broken", OFTEN | {"save_every": 6}, resume=resume).train()
    logs = [content(tmp_path / name)["log"] for name in ("whole", "broken")]
    for log in logs:
        for line in log:
            line.pop("quick_seconds", None)
    assert logs[0] == logs[1] and sum("quick_kd" in line for line in logs[0]) == 2


@pytest.mark.parametrize(
    ("field", "value"), [("quick_samples", 1), ("quick_samples", -1), ("quick_share", 2)]
)
def test_settings_that_mean_nothing_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        TrainDenoiser.model_validate({field: value})


def test_a_training_of_a_second_loads_nothing_and_says_nothing(tmp_path: Path, calls: list[str]) -> None:
    hook = Hook()
    trainer("pixel", tmp_path, {"sample_every": 5}, hook=hook).train()
    assert not calls and not hook.notes
