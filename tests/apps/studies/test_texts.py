"""The studies about texts: what they ask for can be drawn and read, and what is read is right."""

from collections.abc import Iterator

import pytest
import torch
from helpers import is_held_out
from torch import Tensor

from latentdiff.apps.studies.illusions import anagrams, hybrids
from latentdiff.apps.studies.illusions.subjects import Shares, scene_hits
from latentdiff.apps.studies.text import prompt_to_prompt, text_sdedit, text_to_image
from latentdiff.data import Dataset, to_float
from latentdiff.data.synthetic_scene_images import scenes_of
from latentdiff.data.synthetic_scenes import COLOURS, DIGITS, contrasting, parse
from latentdiff.diffusion.illusions.views import view
from latentdiff.pipeline.checkpoint.pretrained import shipped_models

HELD = text_to_image.PROMPTS[2]  # of a held-out kind, on purpose
TEXTS = [
    *(text for pair in anagrams.PROMPT_PAIRS for text in pair[:2]),
    *(text for pair in (*hybrids.BY_DISTANCE, *hybrids.BY_COLOUR) for text in pair),
    *hybrids.THREE_PROMPTS,
    prompt_to_prompt.TWO,
    prompt_to_prompt.ONE,
    *prompt_to_prompt.SIZES,
    *prompt_to_prompt.EDITS.values(),
    *(text for *_, text in text_sdedit.PAINTED),
    *(text for text in text_to_image.PROMPTS if text != HELD),
    *(
        text
        for model in shipped_models()
        if model.about["images"] == "scenes"
        for text in model.about["prompts"]
    ),
]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return scenes_of((8, 8, 600), seed=0)


def pictures(data: Dataset) -> Iterator[tuple[str, Tensor]]:
    """Captions and pictures of large digits."""
    for k, text in enumerate(data.test.captions or ()):
        if text.startswith(("a large", "an large")):
            yield text, to_float(data.test.images[k : k + 1])


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_of_a_kind_that_training_shows(text: str) -> None:
    scene = parse(text)
    assert not is_held_out(scene) and scene.background is not None
    assert all(scene.background in contrasting(thing.colour) for thing in scene.things)
    assert all((thing.size == "small") == (thing.corner is not None) for thing in scene.things)


def test_a_negative_is_read_as_the_other_text(data: Dataset) -> None:
    """A white digit on black is a black one on white in the negative: an anagram without any model."""
    found = 0
    for text, image in pictures(data):
        scene = parse(text)
        if scene.things[0].colour == "white" and scene.background == "black":
            digit = DIGITS[scene.things[0].digit]
            upright = f"a large white {digit} on a black background"
            pair = anagrams.AnagramPair(upright, f"a large black {digit} on a white background", "negative")
            seen = anagrams.Anagrams.read(scene_hits(), image, pair).shares
            assert seen == (1, 1, 1)
            wrong = anagrams.AnagramPair(upright, f"a large red {digit} on a white background", "negative")
            seen = anagrams.Anagrams.read(scene_hits(), image, wrong).shares
            assert seen.both == 0 and seen.first == 1 and 0.6 < seen.second < 0.8
            found += 1
    assert found


def test_views_of_the_pairs_move_what_the_texts_say(data: Dataset) -> None:
    """A small digit in a corner is in the opposite one when the picture is turned."""
    upright, seen = (text.split("corner")[0].split("in the ")[1] for text in anagrams.PROMPT_PAIRS[-1][:2])
    assert (upright.strip(), seen.strip()) == ("top left", "bottom right")
    for k, text in enumerate(data.test.captions or ()):
        scene = parse(text)
        if scene.things[0].corner == "top left" and scene.background and not is_held_out(scene):
            image = to_float(data.test.images[k : k + 1])
            pair = anagrams.AnagramPair(text, text.replace("top left", "bottom right"), "rotate180")
            unmoved = pair._replace(seen=text)
            assert anagrams.Anagrams.read(scene_hits(), image, pair).shares.second > 0.7
            assert anagrams.Anagrams.read(scene_hits(), image, unmoved).shares.second < 1
            return
    pytest.fail("no digit in that corner")


def test_a_hybrid_is_read_in_both_of_its_bands(data: Dataset) -> None:
    def read(first: Tensor, second: Tensor, pair: tuple[str, str]) -> Shares:
        return hybrids.read_stretched(scene_hits("digit"), first, second, pair)

    (a, one), (b, other) = [
        (text, image) for text, image in pictures(data) if parse(text).background is not None
    ][:2]
    assert read(one, other, (a, b)) == (1, 1, 1)
    third = next(
        text for text, _ in pictures(data) if parse(text).things[0].digit != parse(b).things[0].digit
    )
    assert read(one, other, (a, third)) == (1, 0, 0)


def test_edits_of_real_pictures_change_one_thing(data: Dataset) -> None:
    tasks, images = text_sdedit.edit_tasks(data, 5)
    assert len(tasks) == len(images) == 15 and torch.equal(images[:5], images[5:10])
    for task in tasks:
        a, b = task.source, task.edited
        changed = {
            "colour": a.things[0].colour != b.things[0].colour,
            "background": a.background != b.background,
            "digit": a.things[0].digit != b.things[0].digit,
        }
        assert [what for what, differs in changed.items() if differs] == [task.what]


def test_a_drawing_is_painted_in_two_colours() -> None:
    strokes = torch.full((1, 1, 4, 4), -1.0)
    strokes[..., 1:3] = 1.0
    painted = text_sdedit.painted(strokes, "red", "blue")
    for column, name in ((0, "blue"), (1, "red")):
        wanted = torch.tensor(COLOURS[name]) / 127.5 - 1
        torch.testing.assert_close(painted[0, :, 0, column], wanted)
    assert view("negative")(painted).shape == (1, 3, 4, 4)


def test_what_was_exchanged_is_told_from_the_rest(data: Dataset) -> None:
    """A real picture of two things is all its text says; of a text with one word exchanged it is all but
    that.
    """
    k, scene = next(
        (k, parse(text)) for k, text in enumerate(data.test.captions or ()) if len(parse(text).things) == 2
    )
    image, text = to_float(data.test.images[k : k + 1]), (data.test.captions or ())[k]
    assert prompt_to_prompt.shares(image, text) == (1, 1)
    other = DIGITS[(scene.things[0].digit + 1) % 10]
    wrong = text.replace(DIGITS[scene.things[0].digit], other, 1)
    assert prompt_to_prompt.shares(image, wrong, "digit 1") == (0, 0)
    assert prompt_to_prompt.shares(image, wrong, "colour 1") == (1, 0)
