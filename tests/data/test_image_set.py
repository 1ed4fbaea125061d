"""Images to be scored: names, npz files and folders, whole and in order."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.data import load_dataset, read_images
from latentdiff.data.resize import Fit
from latentdiff.errors import InputError
from latentdiff.viz.images import save_npz

GREY = np.random.default_rng(0).integers(0, 256, (10, 6, 6), dtype=np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (10, 6, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_what_sample_writes_is_read_back(tmp_path: Path, channels: int) -> None:
    images = torch.from_numpy(COLOR).permute(0, 3, 1, 2)[:, :channels].contiguous()
    save_npz(images, tmp_path / "x.npz", labels=[k % 3 for k in range(10)])
    found = read_images(str(tmp_path / "x.npz"))
    assert torch.equal(found.images, images) and found.classes == ("0", "1", "2")
    assert found.labels is not None and found.labels.tolist() == [k % 3 for k in range(10)]


def test_channels_may_come_first(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=GREY[:, None])
    assert torch.equal(read_images(str(tmp_path / "x.npz")).images[:, 0], torch.from_numpy(GREY))


def test_splits_of_an_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x_train=GREY[:6], x_test=GREY[6:], y_train=np.arange(6), y_test=np.arange(4))
    for split, wanted in (("train", GREY[:6]), ("test", GREY[6:])):
        found = read_images(str(tmp_path / "x.npz"), split=split)
        assert torch.equal(found.images[:, 0], torch.from_numpy(wanted)) and found.name.endswith(
            f"x.npz {split}"
        )
    with pytest.raises(InputError, match=r"expected a split val, found only train, test; `split` chooses"):
        read_images(str(tmp_path / "x.npz"), split="val")


def test_what_was_converted_of_a_file_is_said(tmp_path: Path) -> None:
    save(tmp_path / "drawn.png", np.zeros((6, 6, 4), np.uint8))
    found = read_images(str(tmp_path / "drawn.png"))
    assert found.notes == ("converted 1 alpha (drawn.png)",) and (found.images == 255).all()


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_a_folder_is_read_whole_in_the_order_of_its_paths(tmp_path: Path) -> None:
    for k in reversed(range(10)):
        (
            save(tmp_path / f"{k:02d}.{'png' if k % 2 else 'webp'}", GREY[k])
            if k % 2
            else save(tmp_path / f"{k:02d}.png", GREY[k])
        )
    found = read_images(str(tmp_path))
    assert torch.equal(found.images[:, 0], torch.from_numpy(GREY)) and found.labels is None


def test_class_folders_are_labels_and_sizes_fit(tmp_path: Path) -> None:
    for k in range(10):
        save(tmp_path / ("cat" if k < 4 else "dog") / f"{k}.png", COLOR[k])
    found = read_images(str(tmp_path), fit=Fit((3, 3), 1))
    assert found.images.shape == (10, 1, 3, 3) and found.classes == ("cat", "dog")
    assert found.labels is not None and found.labels.tolist() == [0] * 4 + [1] * 6


def test_split_folders_are_chosen_from(tmp_path: Path) -> None:
    for k in range(10):
        save(tmp_path / ("train" if k < 7 else "test") / f"{k}.png", GREY[k])
    assert torch.equal(read_images(str(tmp_path)).images[:, 0], torch.from_numpy(GREY[7:]))
    assert len(read_images(str(tmp_path), split="train").images) == 7
    with pytest.raises(InputError, match="expected a split val, found only train, test"):
        read_images(str(tmp_path), split="val")


def test_a_data_set_by_name() -> None:
    found = read_images("mnist5k")
    assert (
        found.images.shape == (500, 1, 28, 28)
        and found.classes == tuple("0123456789")
        and found.name == "mnist5k test"
    )


@pytest.mark.parametrize("source", ["nowhere", "empty", "text.npz", "odd.npz"])
def test_what_holds_no_images_is_refused_in_one_line(tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npz").write_text("no archive")
    np.savez(tmp_path / "odd.npz", pictures=GREY)
    with pytest.raises(InputError) as caught:
        read_images(str(tmp_path / source))
    assert "\n" not in str(caught.value) and source in str(caught.value)


@pytest.mark.parametrize("name", ["drawn.jfif", "drawn", "drawn.HEIC", "drawn.v2"])
def test_a_file_is_read_by_its_content(tmp_path: Path, name: str) -> None:
    Image.fromarray(COLOR[0]).save(tmp_path / name, "PNG")
    found = read_images(str(tmp_path / name))
    assert torch.equal(found.images[0], torch.from_numpy(COLOR[0]).permute(2, 0, 1))
    (tmp_path / name).write_text("text")
    wanted = "expected (a PNG, JPEG or WEBP image, .*|an image that can be read), found: not a PNG"
    with pytest.raises(InputError, match=wanted):
        read_images(str(tmp_path / name))


def test_a_folder_has_the_same_report_as_for_a_training(tmp_path: Path) -> None:
    for k in range(10):
        Image.fromarray(COLOR[k]).save(tmp_path / f"{k}", "PNG")
    (tmp_path / "notes.md").write_text("x")
    for k in range(10):
        save(tmp_path / ("cat" if k < 4 else "dog") / f"{k}.png", COLOR[k])
    found = read_images(str(tmp_path))
    assert len(found.images) == 20 and found.labels is None and found.paths is not None and "0" in found.paths
    assert found.notes == load_dataset(str(tmp_path)).notes and len(found.notes) == 3
    only = read_images(str(tmp_path), fit=Fit(class_folders="only"))
    assert only.classes == ("cat", "dog") and len(only.images) == 10


def test_a_name_wins_over_a_file_or_folder_called_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "mnist5k" / "a.png", GREY[0])
    assert len(read_images("mnist5k").images) == 500 and len(read_images("./mnist5k").images) == 1
