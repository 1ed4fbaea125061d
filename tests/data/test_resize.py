"""Aspect ratios, filters and backgrounds: laws, a naive twin of each, and the options that choose them."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.config.data import FITTING, LABELLING, DataOptions
from latentdiff.data import load_dataset, read_images, stream_dataset
from latentdiff.data.background import border_color, flatten_alpha, parse_color
from latentdiff.data.decode import Decoded, decode_file
from latentdiff.data.resize import FILTERS, FITS, Fit, resized
from latentdiff.errors import InputError

WIDE = np.random.default_rng(0).integers(0, 256, (30, 90, 3), dtype=np.uint8)
RING = np.zeros((4, 4, 4), dtype=np.uint8)  # an opaque red square; invisible pixels around it are black
RING[1:3, 1:3] = (255, 0, 0, 255)


def test_the_options_are_those_of_the_reader() -> None:
    fields = DataOptions.model_fields
    assert get_args(fields["fit"].annotation) == FITS and get_args(fields["resize"].annotation) == FILTERS
    read = {"size", "channels", *FITTING, *LABELLING, "image_cache"}
    assert set(DataOptions().reading()) == set(Fit.__dataclass_fields__) == read
    assert Fit(**DataOptions().reading()) == Fit()


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 7])
def test_nearest_repeats_each_pixel_of_a_sprite(factor: int) -> None:
    sprite = np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    expected = sprite.repeat(factor, 0).repeat(factor, 1)
    for fit in FITS:
        assert np.array_equal(resized(sprite, (16 * factor, 16 * factor), fit, "nearest"), expected)
    blurred = resized(sprite, (16 * factor, 16 * factor), "crop", "bicubic")
    assert factor == 1 or not np.array_equal(blurred, expected)


@pytest.mark.parametrize("fit", ["crop", "smart", "pad", "edge"])
def test_nearest_makes_no_new_colours_and_no_uneven_pixels(fit: str) -> None:
    sprite = WIDE[:16, :19]  # the spare columns are odd in number
    result = resized(sprite, (64, 64) if fit in ("crop", "smart") else (76, 76), fit, "nearest", (1, 2, 3))
    inside = result if fit in ("crop", "smart") else result[6:70]
    assert np.array_equal(inside[::4, ::4].repeat(4, 0).repeat(4, 1), inside)
    columns = range(19 - inside.shape[1] // 4 + 1)
    assert any(np.array_equal(inside[::4, ::4], sprite[:, k : k + inside.shape[1] // 4]) for k in columns)


def test_every_filter_is_pillows() -> None:
    for name in FILTERS:
        expected = Image.fromarray(WIDE).resize((9, 12), Image.Resampling[name.upper()])
        assert np.array_equal(resized(WIDE, (12, 9), "stretch", name), np.asarray(expected)), name


@pytest.mark.parametrize("place", [0, 17, 45, 60])
@pytest.mark.parametrize("upright", [False, True])
def test_smart_takes_the_part_with_the_most_edges(place: int, upright: bool) -> None:
    image = np.full((30, 90, 3), 90, dtype=np.uint8)
    image[:, place : place + 30] = WIDE[:, :30]
    expected = WIDE[:, :30]
    if upright:
        image, expected = image.transpose(1, 0, 2), expected.transpose(1, 0, 2)
    assert np.array_equal(resized(image, (30, 30), "smart"), expected)


def test_smart_of_a_plain_image_is_its_middle_and_of_a_large_one_the_same_part() -> None:
    ramp = np.repeat(np.arange(90, dtype=np.uint8)[None, :, None], 30, axis=0)
    assert np.array_equal(resized(ramp, (30, 30), "smart"), resized(ramp, (30, 30), "crop"))
    large = np.full((600, 1500, 3), 90, dtype=np.uint8)
    large[:, 800:1300] = np.random.default_rng(2).integers(0, 256, (600, 500, 3), dtype=np.uint8)
    columns = resized(large, (60, 60), "smart").astype(int).std(axis=(0, 2))
    assert (columns > 1).sum() >= 49, "the whole busy part is 50 of the 60 columns"


def test_pad_is_the_whole_image_on_the_colour_of_its_border() -> None:
    image = np.full((10, 20, 3), (7, 8, 9), dtype=np.uint8)
    image[2:8, 2:18] = 200
    image[0, :5] = 255  # some of the border is not of its colour
    result = resized(image, (40, 40), "pad")
    assert np.array_equal(result[10:30], resized(image, (20, 40), "stretch"))
    assert (result[:10] == (7, 8, 9)).all() and (result[30:] == (7, 8, 9)).all()
    assert border_color(image) == (7, 8, 9)
    given = resized(image, (40, 40), "pad", "bicubic", (1, 2, 3))
    assert (given[:10] == (1, 2, 3)).all() and np.array_equal(given[10:30], result[10:30])
    grey = resized(image[..., :1], (40, 40), "pad", "bicubic", (5, 5, 5))
    assert grey.shape == (40, 40, 1) and (grey[:10] == 5).all()
    assert resized(image[..., :1], (40, 40), "pad", "bicubic", (1, 2, 3)).shape == (40, 40, 3)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 3), (5, 1, 3), (2, 2, 3)])
def test_the_border_of_a_thin_image_is_all_of_it(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert border_color(image) == tuple(np.median(image.reshape(-1, shape[2]), axis=0).astype(int))


@pytest.mark.parametrize(
    ("text", "color"),
    [("white", (255, 255, 255)), ("#ff8000", (255, 128, 0)), ("#F80", (255, 136, 0)), (" Red ", (255, 0, 0))],
)
def test_colours_are_names_or_hexadecimal(text: str, color: tuple[int, int, int]) -> None:
    assert parse_color(text) == color
    assert DataOptions(background=text).background == "#{:02x}{:02x}{:02x}".format(*color)


@pytest.mark.parametrize("text", ["", "blanc", "#12", "#ff000080", "12,13,14", "rgba(1,2,3,4)"])
def test_other_colours_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="`background`: expected the name of a colour"):
        parse_color(text)
    with pytest.raises(ValueError, match="expected the name of a colour"):
        DataOptions(background=text)


def saved(path: Path, mode: str) -> Path:
    """RING as a file of a mode: RGBA, LA (of its red channel), or a palette with a transparent entry."""
    image = Image.fromarray(RING)
    if mode == "P":
        flat = Image.fromarray((RING[..., 3] // 255).astype(np.uint8), "P")
        flat.putpalette([0, 0, 0, 255, 0, 0])
        flat.save(path, transparency=0)
    else:
        image.convert(mode).save(path)
    return path


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pixels_get_the_background(tmp_path: Path, mode: str) -> None:
    found = decode_file(saved(tmp_path / "a.png", mode), (0, 0, 255))
    assert isinstance(found, Decoded) and "alpha" in found.conversions
    outside = np.ones((4, 4), dtype=bool)
    outside[1:3, 1:3] = False
    assert (found.pixels[outside] == (0, 0, 255)).all()
    assert (found.pixels[1:3, 1:3] == ((76, 76, 76) if mode == "LA" else (255, 0, 0))).all()


def test_resized_pixels_are_those_of_premultiplied_ones() -> None:
    """The naive twin: resize colour times alpha and alpha as numbers, then composite; no dark fringe."""
    pixels = np.random.default_rng(3).integers(0, 256, (40, 40, 4), dtype=np.uint8)
    pixels[..., 3] = np.where(pixels[..., 3] < 128, 0, 255)
    pixels[pixels[..., 3] == 0] = 0  # black under what is invisible
    background = np.array((250, 240, 10), dtype=float)
    found = resized(flatten_alpha(pixels, (250, 240, 10)), (8, 8), "stretch", "box").astype(float)
    blocks = pixels.astype(float).reshape(8, 5, 8, 5, 4)
    alpha = (blocks[..., 3:] / 255).mean((1, 3))
    expected = (blocks[..., :3] * blocks[..., 3:] / 255).mean((1, 3)) + (1 - alpha) * background
    assert np.abs(found - expected).max() <= 1
    fringed = resized(pixels[..., :3].copy(), (8, 8), "stretch", "box") * alpha + (1 - alpha) * background
    assert np.abs(fringed - expected).max() > 20, "colours mixed before they are weighted differ"


def test_folders_arrays_and_streams_take_the_options_alike(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(4)
    for k in range(12):
        pixels = rng.integers(0, 256, (9, 14, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"photos/{k:02}.png")
    how = {"size": 6, "channels": 3, "background": "teal", "resize": "lanczos"}
    for fit in FITS:
        whole = load_dataset(str(tmp_path / "photos"), fit=fit, **how)  # type: ignore[arg-type]
        stream = stream_dataset(str(tmp_path / "photos"), fit=fit, **how)  # type: ignore[arg-type]
        assert torch.equal(whole.train.images, stream.train.images[:])
    other = stream_dataset(str(tmp_path / "photos"), fit="edge", **(how | {"background": None}))  # type: ignore[arg-type]
    assert other.fingerprint() != stream.fingerprint()
    np.savez(tmp_path / "a.npz", x=np.repeat(RING[None], 20, axis=0))
    data = read_images(str(tmp_path / "a.npz"), fit=Fit(background="#0000ff"))
    assert data.images[0, :, 0, 0].tolist() == [0, 0, 255] and data.images[0, :, 1, 1].tolist() == [255, 0, 0]
    assert data.notes == ("composited images with alpha on #0000ff",)


def test_a_run_of_version_0_1_is_fitted_as_before() -> None:
    for old, new in (("crop", "crop"), ("stretch", "stretch"), ("pad", "edge")):
        assert DataOptions.model_validate({"resize": old}) == DataOptions(fit=new)
        assert DataOptions.model_validate({"resize": old, "fit": "smart"}) == DataOptions(fit="smart")
    assert DataOptions.model_validate({"resize": "nearest"}).fit == "crop"
