"""How well pictures follow a text: right on real pictures, low for a model that was hardly trained, and only
where it can be read.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import latentdiff as ld
from latentdiff.data import synthetic_scene_images
from latentdiff.data.synthetic_scenes import Scene, Thing, parse
from latentdiff.evaluate.alignment import caption_lists, is_scene_model, score_list
from latentdiff.evaluate.interval_score import Resampling
from latentdiff.metrics.interval import proportion_interval

NO_RESAMPLING = Resampling(count=0)


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr(synthetic_scene_images, "COUNTS", (96, 24, 120))
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cli: Callable) -> Path:
    """A text model of pixels, trained on scenes for two steps."""
    folder = tmp_path_factory.mktemp("scenes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_scene_images, "COUNTS", (96, 24, 120))
        options = "--width 16 --patch 4 --T 20 --steps 2 --batch 8 --bf16 off --name scenes"
        result = cli(f"train-denoiser --pixel --text --data scenes {options}", cwd=folder)
    assert result.code == 0, result.err
    return folder / "runs" / "scenes"


def test_real_pictures_show_what_their_captions_say_and_others_do_not() -> None:
    data = ld.load_dataset("scenes")
    for number in (1, 2):
        rows = [k for k, text in enumerate(data.test.captions or ()) if len(parse(text).things) == number]
        scenes = [parse((data.test.captions or ())[k]) for k in rows]
        own = score_list("real", data.test.images[rows], scenes, NO_RESAMPLING)
        assert own.n == len(rows) and own.mean.value >= 0.98 and own.whole.value >= 0.95
        others = score_list("others", data.test.images[rows].roll(1, 0), scenes, NO_RESAMPLING)
        assert others.mean.value < 0.5 and others.whole.value < 0.1
        assert min(score.value for score in own.attributes.values()) >= 0.95


def test_each_attribute_is_counted_by_itself() -> None:
    data = ld.load_dataset("scenes")
    captions = data.test.captions or ()
    rows = [k for k, text in enumerate(captions) if len(parse(text).things) == 1 and parse(text).background]
    scenes = [parse(captions[k]) for k in rows]
    wrong = [
        Scene((Thing((s.things[0].digit + 1) % 10, s.things[0].colour),), None, s.background) for s in scenes
    ]
    found = score_list("wrong digits", data.test.images[rows], wrong, Resampling())
    assert found.attributes["digit"].value < 0.1
    assert found.attributes["colour"].value > 0.95 and found.attributes["background"].value > 0.95
    assert set(found.attributes) == {"digit", "colour", "background"}
    assert found.mean.value == pytest.approx(
        np.mean([score.value for score in found.attributes.values()]), abs=1e-9
    )
    for score in (*found.attributes.values(), found.mean, found.whole):
        assert score.low is not None and score.high is not None and score.low <= score.value <= score.high


def test_the_command_scores_every_list(run: Path, cli: Callable, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "runs" / "scenes")
    shared = "--what scenes -n 20 --steps 2 --guidance 2 --features mnist"
    result = cli(f"evaluate {shared} --json --out out", cwd=tmp_path)
    assert result.code == 0, result.err
    answer = json.loads(result.out)
    assert answer["parts"] == ["scenes"]
    names = [each["list"] for each in answer["scenes"]]
    assert names == ["real pictures, one digit", "real pictures, two digits", *caption_lists()]
    real, drawn = answer["scenes"][:2], answer["scenes"][2:]
    assert all(each["mean"]["value"] > 0.97 for each in real) and all(
        each["mean"]["value"] < 0.7 for each in drawn
    )
    assert [each["n"] for each in drawn] == [20, 20, 20]
    assert set(drawn[2]["attributes"]) == {
        "background",
        "digit 1",
        "colour 1",
        "digit 2",
        "colour 2",
        "relation",
    }
    assert (tmp_path / "out" / "scenes.png").is_file()
    text = cli(f"evaluate {shared} --out out", cwd=tmp_path).out
    assert "whole pictures" in text and "held out" in text and "100% (" in text


def test_only_texts_that_can_be_read_are_scored(run: Path, text_folder: Path, cli: Callable) -> None:
    assert is_scene_model(ld.load(run)) and not is_scene_model(ld.load(text_folder / "runs" / "text"))
    result = cli("evaluate --run runs/text --what scenes --features mnist", cwd=text_folder)
    assert (
        result.code == 1 and "has no scenes to evaluate, only samples, denoiser, reconstruction" in result.err
    )


def test_the_lists_are_fixed_whole_sentences() -> None:
    found = caption_lists()
    assert [len(scenes) for scenes in found.values()] == [438, 62, 100]
    assert all(scene.background for scenes in found.values() for scene in scenes)
    assert torch.tensor([len(scene.things) for scene in found["two digits"]]).eq(2).all()


@pytest.mark.parametrize("n", range(1, 200, 7))
def test_the_interval_of_a_share_holds_the_share(n: int) -> None:
    for hits in {0, 1, n // 2, n - 1, n}:
        found = proportion_interval(torch.arange(n) < hits)
        assert 0 <= found.low <= found.estimate <= found.high <= 1
