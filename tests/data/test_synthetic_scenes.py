"""Scenes: captions and pictures agree, held-out kinds stay out, and what is drawn can be read back."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import is_held_out

from latentdiff.data import Dataset, load_dataset, read_images, synthetic_scene_images
from latentdiff.data.draws import Draws
from latentdiff.data.mnist import load_digits
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.synthetic_scenes import (
    COLOURS,
    CORNERS,
    DIGITS,
    RELATIONS,
    SEEN,
    SIZES,
    UNSEEN,
    Scene,
    Thing,
    caption,
    contrasting,
    held_out,
    paired_scenes,
    parse,
    single_scenes,
)
from latentdiff.evaluate.alignment import attributes, read


@pytest.fixture(scope="module")
def data() -> Dataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(synthetic_scene_images, "COUNTS", (600, 200, 600))
        return load_dataset("scenes")


# sentences


@pytest.mark.parametrize("numerals", [False, True])
def test_a_caption_is_read_back_as_its_scene(numerals: bool) -> None:
    scenes = [*single_scenes(held=False), *single_scenes(held=True), *paired_scenes()]
    scenes += [
        Scene((Thing(n, c, "small", corner),), None, None)
        for n in range(10)
        for c in COLOURS
        for corner in CORNERS
    ]
    scenes += [Scene((Thing(n, "red"),)) for n in range(10)]
    assert [parse(caption(scene, numerals=numerals)) for scene in scenes] == scenes
    assert len({caption(scene, numerals=numerals) for scene in scenes}) == len(scenes)


def test_captions_are_english() -> None:
    small = Scene((Thing(3, "orange", "small", "top left"),), None, "yellow")
    pair = Scene((Thing(3, "orange"), Thing(8, "black")), "above", "blue")
    assert caption(small) == "a small orange three in the top left corner on a yellow background"
    assert caption(pair, numerals=True) == "an orange 3 above a black 8 on a blue background"
    assert parse("  A Large Red 7 on a  blue background. ") == Scene(
        (Thing(7, "red", "large"),), None, "blue"
    )


@pytest.mark.parametrize(
    "text", ["", "a seven", "a red dog", "a red seven on a pink background", "red seven", "a red 77"]
)
def test_other_sentences_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a sentence like"):
        parse(text)


def test_one_colour_of_each_digit_is_held_out() -> None:
    assert [len(UNSEEN[digit]) for digit in range(10)] == [1] * 10
    assert all(set(SEEN[digit]) | set(UNSEEN[digit]) == set(COLOURS) for digit in range(10))
    assert (
        max(Counter(colours[0] for colours in UNSEEN.values()).values()) == 2
    )  # no colour loses more than two digits
    assert all(held_out(d, UNSEEN[d][0]) and not any(held_out(d, c) for c in SEEN[d]) for d in range(10))
    assert all(is_held_out(scene) for scene in single_scenes(held=True))
    assert not any(is_held_out(scene) for scene in (*single_scenes(held=False), *paired_scenes()))


def test_the_lists_to_be_scored_hold_every_kind() -> None:
    kinds = {
        (s.things[0].digit, s.things[0].colour) for held in (False, True) for s in single_scenes(held=held)
    }
    assert len(kinds) == 80
    pairs = paired_scenes()
    assert {tuple(thing.digit for thing in scene.things) for scene in pairs} == {
        (a, b) for a in range(10) for b in range(10)
    }
    assert {scene.relation for scene in pairs} == set(RELATIONS)
    for scene in pairs:
        first, second = scene.things
        assert scene.background in contrasting(first.colour) and scene.background in contrasting(
            second.colour
        )
        assert second.colour in contrasting(first.colour)


# pictures


def test_splits_hold_what_they_promise(data: Dataset) -> None:
    for split, n in ((data.train, 600), (data.val, 200), (data.test, 600)):
        assert split.images.shape == (n, 3, 32, 32) and split.labels is None and split.captions is not None
    scenes = {name: [parse(c) for c in getattr(data, name).captions] for name in ("train", "val", "test")}
    assert not any(map(is_held_out, (*scenes["train"], *scenes["val"])))
    assert [is_held_out(scene) for scene in scenes["test"]] == [k % 2 == 1 for k in range(600)]
    train = scenes["train"]
    assert sum(len(scene.things) == 2 for scene in train) / 600 == pytest.approx(0.4, abs=0.07)
    assert sum(scene.background is None for scene in train) / 600 == pytest.approx(0.2, abs=0.06)
    assert {scene.things[0].size for scene in train} == {*SIZES, None}
    assert {scene.things[0].corner for scene in train} == {*CORNERS, None}
    words = [caption for caption in data.train.captions or () if any(word in caption for word in DIGITS)]
    assert len(words) / 600 == pytest.approx(0.7, abs=0.07)


def test_scenes_are_a_function_of_the_seed(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_scene_images, "COUNTS", (600, 200, 600))
    again, other = load_dataset("scenes"), load_dataset("scenes", seed=1)
    assert torch.equal(again.train.images, data.train.images) and again.test.captions == data.test.captions
    assert not torch.equal(other.train.images, data.train.images)
    for split in ("train", "val", "test"):  # the same without drawing the others
        alone, whole = read_images("scenes", split=split), getattr(data, split)
        assert torch.equal(alone.images, whole.images) and alone.captions == whole.captions
    # a scene does not depend on how many there are
    monkeypatch.setattr(synthetic_scene_images, "COUNTS", (50, 10, 10))
    few = load_dataset("scenes")
    assert torch.equal(few.train.images, data.train.images[:50])


def test_the_full_mnist_draws_other_digits(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def load(root: Path) -> RawSplits:
        asked.append(root)
        parts = load_digits(None)
        return RawSplits(
            *(
                RawSplit(part.images[::-1], part.labels[::-1])
                for part in (parts.train, parts.val, parts.test)
                if part
            )
        )

    monkeypatch.setattr(synthetic_scene_images, "COUNTS", (40, 10, 10))
    monkeypatch.setattr(synthetic_scene_images, "load_digits", load)
    found = load_dataset("scenes-mnist", root=tmp_path)
    assert asked == [tmp_path] and found.train.images.shape == (40, 3, 32, 32)
    assert not torch.equal(found.train.images, data.train.images[:40])


def test_what_is_drawn_is_read_back(data: Dataset) -> None:
    scenes = [parse(text) for text in data.test.captions or ()]
    right, asked = Counter[str](), Counter[str]()
    for scene, reading in zip(scenes, read(data.test.images, scenes), strict=True):
        for name, is_right in attributes(scene, reading).items():
            right[name] += is_right
            asked[name] += 1
    names = {
        "background",
        "digit",
        "colour",
        "size",
        "corner",
        "digit 1",
        "colour 1",
        "digit 2",
        "colour 2",
        "relation",
    }
    assert set(asked) == names and min(asked.values()) > 100
    shares = {name: right[name] / asked[name] for name in asked}
    assert min(shares.values()) >= 0.98 and sum(right.values()) / sum(asked.values()) >= 0.995, shares


def test_readings_notice_what_is_wrong(data: Dataset) -> None:
    scenes = [parse(text) for text in data.test.captions or ()]
    for wrong in (data.test.images.flip(3), data.test.images.roll(1, 1), torch.zeros_like(data.test.images)):
        right = [
            value
            for scene, reading in zip(scenes, read(wrong, scenes), strict=True)
            for name, value in attributes(scene, reading).items()
            if name != "size"
        ]
        assert sum(right) / len(right) < 0.75
    single = Scene((Thing(7, "red", "large"),), None, "black")
    blank = read(torch.full((1, 3, 32, 32), 20, dtype=torch.uint8), [single])[0]
    assert attributes(single, blank) == {"background": True, "digit": False, "colour": False, "size": False}


def test_swapped_places_fail_the_relation_alone() -> None:
    pair = Scene((Thing(3, "orange"), Thing(8, "black")), "left of", "blue")
    drawn = load_one(pair)
    swapped = Scene(pair.things[::-1], "left of", "blue")
    reading = read(drawn, [pair])[0]
    assert all(attributes(pair, reading).values())
    found = attributes(swapped, reading)
    assert not found["relation"] and not found["digit 1"] and found["background"]


def load_one(scene: Scene) -> torch.Tensor:
    """The scene, drawn from the first test digits of its kinds."""
    part = load_digits(None).test
    assert part is not None and part.labels is not None
    glyphs = [
        part.images[int(np.flatnonzero(part.labels == thing.digit)[0]), ..., 0] for thing in scene.things
    ]
    draws = Draws(np.full(32, 2**23))
    return torch.from_numpy(synthetic_scene_images.draw(scene, glyphs, draws)).permute(2, 0, 1)[None]


def test_other_shapes_are_refused(data: Dataset) -> None:
    with pytest.raises(ValueError, match=r"expected images \[1, 3, 32, 32\], found \[2, 3, 32, 32\]"):
        read(data.test.images[:2], [Scene((Thing(7, "red"),))])


def test_the_command_line_knows_them(cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_scene_images, "COUNTS", (64, 16, 16))
    result = cli("train-vae --data scenes --latent 4x8x8 --steps 2 --batch 8 --name tiny", cwd=tmp_path)
    assert result.code == 0, result.err
