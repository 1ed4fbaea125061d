"""Image folders: labels, splits, captions, odd and hostile files counted."""

import json
import os
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latentdiff.data import Dataset, load_dataset
from latentdiff.errors import InputError

RGB = np.random.default_rng(1).integers(0, 256, (6, 8, 3), dtype=np.uint8)
RGBA = np.dstack([RGB, np.random.default_rng(2).integers(0, 256, (6, 8), dtype=np.uint8)])


def save(path: Path, array: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RGB if array is None else array).save(path)
    return path


def numbered(folder: Path, count: int, *, start: int = 0) -> None:
    """Grey images; image n shows the value n."""
    for n in range(start, start + count):
        save(folder / f"{n:03}.png", np.full((4, 4), n, dtype=np.uint8))


def numbers(data: Dataset) -> list[list[int]]:
    return [split.images[:, 0, 0, 0].tolist() for split in (data.train, data.val, data.test)]


def test_class_folders_become_sorted_labels(tmp_path: Path) -> None:
    for start, name in ((0, "cat"), (20, "ant"), (40, "bee/deep/down")):
        numbered(tmp_path / name, 20, start=start)
    data = load_dataset(str(tmp_path))
    assert (data.classes, data.channels, data.num_classes) == (("ant", "bee", "cat"), 1, 3)
    for split, shown in zip((data.train, data.val, data.test), numbers(data), strict=True):
        assert split.labels is not None and len(split) > 0
        assert split.labels.tolist() == [(2, 0, 1)[n // 20] for n in shown]


def test_images_without_class_folders_have_no_labels(tmp_path: Path) -> None:
    numbered(tmp_path / "only", 5)
    assert load_dataset(str(tmp_path)).classes is None
    numbered(tmp_path / "other", 5)
    assert load_dataset(str(tmp_path)).classes == ("only", "other")
    numbered(tmp_path, 1)
    assert load_dataset(str(tmp_path)).classes is None


def test_split_depends_on_path_and_seed_and_stays_when_files_come(tmp_path: Path) -> None:
    numbered(tmp_path, 200)
    before = numbers(load_dataset(str(tmp_path)))
    assert sorted(chain(*before)) == list(range(200))
    assert all(2 <= len(part) <= 22 for part in before[1:])  # binomial(200, 0.05)
    assert numbers(load_dataset(str(tmp_path), seed=1)) != before
    numbered(tmp_path, 50, start=200)
    after = numbers(load_dataset(str(tmp_path)))
    assert [[n for n in part if n < 200] for part in after] == before


def test_small_folders_still_have_three_parts(tmp_path: Path) -> None:
    numbered(tmp_path, 3)
    assert [len(part) for part in numbers(load_dataset(str(tmp_path)))] == [1, 1, 1]
    (tmp_path / "000.png").unlink()
    with pytest.raises(InputError, match=r"at least 3 images .* found 2"):
        load_dataset(str(tmp_path))


def test_split_folders_are_respected(tmp_path: Path) -> None:
    for start, name in ((0, "train/b"), (10, "train/a"), (20, "validation/a"), (25, "test/b"), (30, "extra")):
        numbered(tmp_path / name, 5, start=start)
    data = load_dataset(str(tmp_path))
    assert numbers(data) == [[10, 11, 12, 13, 14, 0, 1, 2, 3, 4], [20, 21, 22, 23, 24], [25, 26, 27, 28, 29]]
    assert data.classes == ("a", "b")
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [1] * 5
    assert data.notes == ("ignored 5 images outside train, val and test",)


def test_train_folder_alone_gives_the_other_parts(tmp_path: Path) -> None:
    numbered(tmp_path / "train", 40)
    parts = numbers(load_dataset(str(tmp_path)))
    assert [len(part) for part in parts] == [32, 4, 4]
    assert sorted(chain(*parts)) == list(range(40))


def test_metadata_gives_captions_and_labels(tmp_path: Path) -> None:
    numbered(tmp_path / "pictures", 10)
    rows = [{"file_name": f"pictures/{n:03}.png", "text": f"number\n {n}", "label": n % 2} for n in range(10)]
    rows[3]["text"] = None
    rows.append({"file_name": "../outside.png", "text": "gone", "label": 1})
    (tmp_path / "metadata.jsonl").write_text("\ufeff" + "\n".join(map(json.dumps, rows)), encoding="utf-8")
    data = load_dataset(str(tmp_path))
    for split, shown in zip((data.train, data.val, data.test), numbers(data), strict=True):
        assert split.captions == tuple("" if n == 3 else f"number {n}" for n in shown)
        assert split.labels is not None and split.labels.tolist() == [n % 2 for n in shown]
    assert data.classes == ("0", "1")
    assert data.notes == ("ignored 1 captions or labels of files that are not there",)


def test_string_labels_of_metadata_become_sorted_classes(tmp_path: Path) -> None:
    numbered(tmp_path / "train", 6)
    rows = [{"file_name": f"{n:03}.png", "caption": "x", "label": "zy"[n % 2]} for n in range(6)]
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_dataset(str(tmp_path))
    assert data.classes == ("y", "z")
    assert data.train.labels is not None
    assert data.train.labels.tolist() == [1 - n % 2 for n in numbers(data)[0]]


def test_captions_txt_and_sidecars(tmp_path: Path) -> None:
    numbered(tmp_path, 6)
    (tmp_path / "captions.txt").write_text("image,caption\n000.png,one, two\n000.png,later\n001.png\ttab, kept\n")
    (tmp_path / "001.txt").write_text("not this")
    (tmp_path / "002.txt").write_text("from\nthe side\n")
    data = load_dataset(str(tmp_path))
    captions = {
        n: text
        for split, shown in zip((data.train, data.val, data.test), numbers(data), strict=True)
        for n, text in zip(shown, split.captions or (), strict=True)
    }
    assert captions == {0: "one, two", 1: "tab, kept", 2: "from the side", 3: "", 4: "", 5: ""}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metadata.jsonl", b"{", "line 1: expected a JSON object, found"),
        ("metadata.jsonl", b"[" * 100_000, "expected a JSON object"),
        ("metadata.jsonl", b"[1]", 'a JSON object with a string "file_name"'),
        ("metadata.jsonl", b'{"file_name": 3}', 'a JSON object with a string "file_name"'),
        ("metadata.jsonl", b'{"file_name": "000.png", "text": 3}', "expected a string as text or caption, found int"),
        ("metadata.jsonl", b'{"file_name": "000.png", "label": 0.5}', "an integer or a string as label, found float"),
        ("metadata.jsonl", b'{"file_name": "000.png", "label": true}', "as label, found bool"),
        ("metadata.jsonl", b'{"file_name": "000.png", "label": 1}', "a label for every image or for none"),
        ("metadata.jsonl", b'{"file_name": "no.png"}', "file names of images, found none in 1 lines"),
        ("metadata.jsonl", b'{"file_name": "\xff"}', "expected UTF-8 text"),
        ("captions.txt", b"just words", "expected FILE<tab>CAPTION"),
        ("captions.txt", b"a,b", "found none in 1 lines"),
        ("000.txt", b"\xff\xfe\x00", "expected UTF-8 text"),
    ],
)
def test_malformed_annotations_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    numbered(tmp_path, 4)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(str(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("labels", [["a", 1, 2, 3], [0, 1, 2, 10**30], [-1, 0, 1, 2], [0, 1, 2, 10**6]])
def test_labels_that_are_no_class_numbers_are_refused(tmp_path: Path, labels: list[object]) -> None:
    numbered(tmp_path, 4)
    rows = [{"file_name": f"{n:03}.png", "label": label} for n, label in enumerate(labels)]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match=r"integers? .*label|labels? that are"):
        load_dataset(str(tmp_path))


def test_refused_and_converted_files_are_counted_in_the_notes(tmp_path: Path) -> None:
    numbered(tmp_path, 12)
    save(tmp_path / "alpha.png", RGBA[:4, :4])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "empty2.png").write_bytes(b"")
    (tmp_path / "new\nline.png").write_bytes(b"text")
    save(tmp_path / "old.bmp")
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "folder-loop").symlink_to(".")
    os.mkfifo(tmp_path / "pipe.jpg")
    for ignored in ("readme.md", ".hidden.png", "Thumbs.db"):
        (tmp_path / ignored).write_text("x")
    data = load_dataset(str(tmp_path))
    assert (len(data.train) + len(data.val) + len(data.test), data.channels) == (13, 3)
    converted, refused = data.notes
    assert converted == "converted 1 alpha"
    assert refused.startswith("refused 7 of 20: ")
    for part in (
        "2 empty (first: empty.png)",
        r"1 not a PNG, JPEG or WEBP image (new\nline.png)",
        "1 unsupported format .bmp (old.bmp)",
        "1 folder linked in a loop or twice (folder-loop)",
        "1 not a regular file (pipe.jpg)",
        "1 broken link or unreadable",
    ):
        assert part in refused
    assert "\n" not in refused


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    numbered(tmp_path / "store", 6)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "store")
    numbered(tmp_path / "data" / "b", 6, start=6)
    data = load_dataset(str(tmp_path / "data"))
    assert sorted(chain(*numbers(data))) == list(range(12))
    assert data.classes == ("a", "b")


def test_mostly_unusable_folder_is_refused_with_the_first_name(tmp_path: Path) -> None:
    numbered(tmp_path, 4)
    for n in range(4):
        (tmp_path / f"bad{n}.png").write_bytes(b"")
    assert len(load_dataset(str(tmp_path)).train) == 2
    (tmp_path / "bad4.jpeg").write_bytes(b"")
    with pytest.raises(InputError, match=r"found 5 of 9 refused, the first bad0.png: empty"):
        load_dataset(str(tmp_path))


def test_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"expected PNG, JPEG or WEBP images, found none in 1 files$"):
        load_dataset(str(tmp_path))
    (tmp_path / "a.tar.gz").write_text("x")
    with pytest.raises(InputError, match=r"found none in 2 files; a\.tar\.gz: unpack it, tar shards are read without"):
        load_dataset(str(tmp_path))


def test_different_sizes_need_a_size(tmp_path: Path) -> None:
    numbered(tmp_path, 5)
    save(tmp_path / "big.png")
    with pytest.raises(InputError, match=r"4x4 in 5 of 6, but 8x6 in big\.png; give --size"):
        load_dataset(str(tmp_path))
    assert load_dataset(str(tmp_path), size=(3, 5)).train.images.shape[1:] == (3, 3, 5)
    assert load_dataset(str(tmp_path), size=3, channels=1).channels == 1


def test_channels_follow_the_content(tmp_path: Path) -> None:
    numbered(tmp_path, 4)
    assert load_dataset(str(tmp_path)).channels == 1
    assert load_dataset(str(tmp_path), channels=3).channels == 3
    save(tmp_path / "color.png", RGB[:4, :4])
    assert load_dataset(str(tmp_path)).channels == 3
