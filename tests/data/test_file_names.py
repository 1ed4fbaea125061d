"""Classes and captions by file names: the rules, what they say in the report, and what they refuse."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.config.data import DataOptions
from latentdiff.data import describe_data, load_dataset, read_images, stream_dataset
from latentdiff.data.file_names import class_in, words_in
from latentdiff.data.resize import Fit
from latentdiff.errors import InputError


@pytest.mark.parametrize(
    ("stem", "name", "words"),
    [
        ("cat_001", "cat", "cat"),
        ("cat001", "cat", "cat"),
        ("cat (12)", "cat", "cat"),
        ("cat.12", "cat", "cat"),
        ("cat - Copy (2)", "cat", "cat"),
        ("007_cat", "cat", "cat"),
        ("cat2_001", "cat2", "cat2"),
        ("american_bulldog_12", "american_bulldog", "american bulldog"),
        ("red-hat 03", "red-hat", "red hat"),
        ("redHat03", "redHat", "red Hat"),
        ("2024-01-31 red hat", "red hat", "red hat"),
        ("n01440764_10026", "n01440764", ""),
        ("IMG_1234", None, ""),
        ("img20240131", None, ""),
        ("DSC00012", None, ""),
        ("DSCN0012", None, ""),
        ("PXL_20240131_120000123", None, ""),
        ("WhatsApp Image 2024-01-31 at 12.00.00", None, ""),
        ("IMG_1234_cat", "cat", "cat"),
        ("imgur_3", "imgur", "imgur"),
        ("000123", None, ""),
        ("20240131_120000", None, ""),
        ("cafe\u0301_1", "café", "café"),
        ("猫_12", "猫", "猫"),
        ("a3f5c9e1", "a3f5c9e1", ""),
        ("_-_", None, ""),
        ("", None, ""),
    ],
)
def test_the_class_and_the_words_of_a_file_name(stem: str, name: str | None, words: str) -> None:
    assert (class_in(stem), words_in(stem)) == (name, words)


def folder(root: Path, names: list[str]) -> str:
    root.mkdir(exist_ok=True, parents=True)
    for k, name in enumerate(names):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), k, dtype=np.uint8)).save(path)
    return str(root)


PETS = [f"cat_{k:03}.png" for k in range(12)] + [f"Dog-{k}.png" for k in range(9)] + ["dog 3.png"]


def test_labels_by_name_are_sorted_classes_and_the_report_gives_examples(tmp_path: Path) -> None:
    place = folder(tmp_path / "pets", PETS)
    data = load_dataset(place, labels_from="name")
    assert data.classes == ("cat", "Dog")
    for part in (data.train, data.val, data.test):
        assert part.labels is not None
        values = part.images[:, 0, 0, 0]
        order = {name: k for k, name in enumerate(PETS)}
        dogs = torch.tensor([int(value) >= order["Dog-0.png"] for value in values])
        assert torch.equal(part.labels == 1, dogs)
    line = "labels: 2 classes from file names, as cat (12, cat_000.png), Dog (10, Dog-0.png)"
    assert line in data.notes
    stream = stream_dataset(place, size=4, channels=3, labels_from="name")
    assert stream.train.labels is not None and torch.equal(stream.train.labels, data.train.labels)  # type: ignore[arg-type]
    assert read_images(place, fit=Fit(labels_from="name")).classes == ("cat", "Dog")
    assert describe_data(place, Fit(labels_from="name")).classes["Dog"].keys() == {"train", "val", "test"}
    assert load_dataset(place).classes is None, "the default takes nothing from names"


def test_names_win_over_class_folders_and_none_drops_every_label(tmp_path: Path) -> None:
    names = [f"{day}/{name}" for day in ("mon", "tue") for name in PETS]
    place = folder(tmp_path / "days", names)
    assert load_dataset(place).classes == ("mon", "tue")
    assert load_dataset(place, labels_from="name").classes == ("cat", "Dog")
    assert load_dataset(place, labels_from="none").classes is None
    with pytest.raises(InputError, match="`class_folders` only needs `labels_from` folder, found name"):
        load_dataset(place, labels_from="name", class_folders="only")
    digits = load_dataset("mnist5k", labels_from="none")
    plain = load_dataset("mnist5k")
    assert digits.classes is None and digits.train.labels is None
    assert torch.equal(digits.train.images, plain.train.images)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([f"IMG_{k}.png" for k in range(9)], "found no class in 9 of 9, the first IMG_0.png"),
        ([*PETS, "IMG_1.png"], "found no class in 1 of 23, IMG_1.png"),
        ([f"cat{k}.png" for k in range(9)], "of two classes or more, found one class, cat"),
        (
            [f"{name}.png" for name in ("anna", "bert", "carl", "dora", "emil")],
            "found 5 of 5 images each the only one of its class ('anna' of anna.png, 'bert' of bert.png",
        ),
    ],
)
def test_names_without_classes_are_refused_in_one_line(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(InputError) as caught:
        load_dataset(folder(tmp_path / "photos", names), labels_from="name")
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert "`labels_from` name: expected file names of a class and a number" in str(caught.value)


def test_captions_by_name_fill_what_texts_leave(tmp_path: Path) -> None:
    names = [f"red-hat {k:02}.png" for k in range(5)] + ["IMG_7.png"]
    place = folder(tmp_path / "hats", names)
    (tmp_path / "hats/red-hat 00.txt").write_text("a hat of felt")
    captions = dict.fromkeys(names, "") | {"red-hat 00.png": "a hat of felt"}
    found = read_images(place)
    assert found.captions == tuple(captions[name] for name in sorted(names))
    captions |= dict.fromkeys(names[1:5], "red hat")
    found = read_images(place, fit=Fit(captions_from="name"))
    assert found.captions == tuple(captions[name] for name in sorted(names))
    assert found.notes == ("captions: 4 of 6 from file names, as 'red hat' of red-hat 01.png",)
    assert read_images(place, fit=Fit(captions_from="none")).captions is None
    assert read_images(folder(tmp_path / "no", ["1.png"]), fit=Fit(captions_from="name")).captions is None


def test_shards_have_file_names_and_arrays_have_none(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name in [f"cat_{k}.png" for k in range(6)] + [f"big.dog_{k}.png" for k in range(4)]:
            buffer = io.BytesIO()
            Image.fromarray(np.zeros((4, 4, 3), dtype=np.uint8)).save(buffer, "PNG")
            info = tarfile.TarInfo(name)
            info.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(info, buffer)
    how = {"labels_from": "name", "captions_from": "name"}
    data = stream_dataset(str(tmp_path / "a.tar"), size=4, channels=3, **how)  # type: ignore[arg-type]
    assert data.classes == ("big.dog", "cat")
    assert data.train.captions is not None and set(data.train.captions) == {"cat", "big dog"}
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 4, 4), dtype=np.uint8), y=np.arange(20) % 2)
    arrays = load_dataset(str(tmp_path / "x.npz"), **how)  # type: ignore[arg-type]
    assert arrays.classes == ("0", "1")
    for option in ("--labels-from", "--captions-from"):
        line = f"{option} name changes nothing: the images of this data have no file names"
        assert line in arrays.notes


def test_the_defaults_are_what_runs_before_meant() -> None:
    options = DataOptions.model_validate({"class_folders": "ignore"})
    assert (options.labels_from, options.captions_from) == ("folder", "text")
