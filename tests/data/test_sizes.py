"""Sizes in the heads of image files, against those of the decoded images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentdiff.data.decode import Decoded, decode_file, size_in_head
from latentdiff.data.resize import Fit
from latentdiff.data.sizes import MOST_READ, sizes_in_heads
from latentdiff.errors import InputError


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_the_head_says_the_size_that_is_decoded(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{suffix}"
    Image.new("RGB", (20, 12), "red").save(path, exif=exif)
    found = decode_file(path)
    assert isinstance(found, Decoded)
    assert size_in_head(path) == found.pixels.shape[:2]


def test_files_that_are_no_images_have_no_size(tmp_path: Path) -> None:
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"no picture" * 20)
    assert size_in_head(tmp_path / "empty.png") is size_in_head(tmp_path / "text.png") is None
    assert size_in_head(tmp_path / "missing.png") is None


def test_sizes_of_a_folder_are_those_of_images_all_over_it(tmp_path: Path) -> None:
    for k in range(2 * MOST_READ + 7):
        side = 9 if k < MOST_READ else 8
        Image.fromarray(np.zeros((8, side), np.uint8)).save(tmp_path / f"{k:04}.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"x" * 60)
    found = sizes_in_heads(str(tmp_path), Fit())
    assert set(found) == {(8, 8), (8, 9)} and len(found) <= MOST_READ
    assert abs(found.count((8, 8)) - len(found) / 2) < 0.05 * len(found)


def test_other_data_has_no_files_to_look_into(tmp_path: Path) -> None:
    np.savez(tmp_path / "images.npz", x=np.zeros((4, 8, 8), np.uint8))
    assert sizes_in_heads("mnist5k", Fit()) == sizes_in_heads(str(tmp_path / "images.npz"), Fit()) == []
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError):
        sizes_in_heads(str(tmp_path / "none"), Fit())
