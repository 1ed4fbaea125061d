"""scripts/caption_clothes.py: the colour of a photo is that of the thing in its middle."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import ROOT, load_script
from PIL import Image
from skimage.color import rgb2lab

from latentdiff.data import load_dataset

COLOURS = {
    "black": (20, 20, 24),
    "white": (245, 244, 240),
    "grey": (128, 128, 130),
    "red": (190, 25, 35),
    "pink": (250, 160, 190),
    "orange": (240, 130, 20),
    "yellow": (245, 215, 40),
    "green": (30, 140, 60),
    "blue": (30, 70, 190),
    "purple": (120, 40, 160),
    "brown": (110, 70, 40),
    "beige": (225, 205, 170),
}


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script, which is in no package."""
    return load_script(ROOT / "scripts" / "caption_clothes.py")


def photo(thing: str, ground: str) -> Image.Image:
    """A thing that fills the middle of a ground, with some noise."""
    pixels = np.full((96, 120, 3), COLOURS[ground], np.float64)
    pixels[18:78, 30:90] = COLOURS[thing]
    pixels += np.random.default_rng(0).normal(0, 3, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("name", COLOURS)
def test_colours_have_their_names(script: ModuleType, name: str) -> None:
    assert script.colour_name(*rgb2lab(np.array([[COLOURS[name]]], np.uint8))[0, 0]) == name


@pytest.mark.parametrize("ground", ["white", "black", "green", "orange"])
@pytest.mark.parametrize("thing", ["red", "blue", "grey", "brown"])
def test_the_colour_is_that_of_the_middle(script: ModuleType, thing: str, ground: str) -> None:
    assert script.colour_name(*script.garment_colour(photo(thing, ground))) == thing


def test_captions_are_read_by_the_package(script: ModuleType, tmp_path: Path) -> None:
    """Kind and colour, every fifth without its colour."""
    for split in ("train", "test"):
        for kind, thing in (("dress", "red"), ("hat", "orange"), ("shoes", "black")):
            (tmp_path / "photos" / split / kind).mkdir(parents=True)
            for k in range(2):
                photo(thing, "white").save(tmp_path / "photos" / split / kind / f"{k}.jpg", quality=95)
    folder, out = tmp_path / "photos", tmp_path / "out"
    done = CliRunner().invoke(script.main, [str(folder), str(out)])
    assert done.exit_code == 0 and "6 photos" in done.output, done.output
    data = load_dataset(out, size=64, channels=3)
    seen = sorted((*(data.train.captions or ()), *(data.val.captions or ())))
    expected = ["a dress", "a red dress", "an orange hat", "an orange hat", "black shoes", "shoes"]
    assert seen == sorted(expected)
    assert sorted(data.test.captions or ()) == sorted(expected)
