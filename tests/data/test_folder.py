"""Image folders: labels, splits, captions, odd and hostile files counted."""

import json
import os
import unicodedata
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.data import Dataset, describe_data, load_dataset, stream_dataset
from latentdiff.data.resize import Fit
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
    (tmp_path / "leaflet.pdf").write_text("x")
    Image.fromarray(RGB).save(tmp_path / "0.gif")
    message = (
        rf"^{tmp_path}: expected at least 3 images to split into train, validation and test, found 2; "
        r"refused 1 of 3: 1 unsupported format \.gif \(0\.gif\); left out 1: .*\(leaflet\.pdf\)$"
    )
    for read in (load_dataset, lambda data: stream_dataset(data, size=4, channels=1)):
        with pytest.raises(InputError, match=message):
            read(str(tmp_path))
    with pytest.raises(InputError, match=message):
        describe_data(str(tmp_path), Fit())


def test_split_folders_are_respected(tmp_path: Path) -> None:
    for start, name in ((0, "train/b"), (10, "train/a"), (20, "validation/a"), (25, "test/b"), (30, "extra")):
        numbered(tmp_path / name, 5, start=start)
    data = load_dataset(str(tmp_path))
    assert numbers(data) == [[10, 11, 12, 13, 14, 0, 1, 2, 3, 4], [20, 21, 22, 23, 24], [25, 26, 27, 28, 29]]
    assert data.classes == ("a", "b")
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [1] * 5
    assert data.notes == (
        "left out 5: 5 outside train, val and test (first: extra/030.png)",
        (
            "train is taken for a split, so the folders beside it (extra) are left out and give no labels; to"
            " use their images, move them into folders called train, val and test"
        ),
    )


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
    assert data.notes == ("left out 1: 1 named by a caption or label but not there (../outside.png)",)


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
    (tmp_path / "captions.txt").write_text(
        "image,caption\n000.png,one, two\n000.png,later\n001.png\ttab, kept\n"
    )
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
        ("metadata.jsonl", b"[1]", "a JSON object, found list"),
        ("metadata.jsonl", b'{"file_name": 3}', 'a JSON object with a string "file_name"'),
        (
            "metadata.jsonl",
            b'{"file_name": "000.png", "text": 3}',
            "expected a string as text or caption, found int",
        ),
        (
            "metadata.jsonl",
            b'{"file_name": "000.png", "label": 0.5}',
            "an integer or a string as label, found float",
        ),
        ("metadata.jsonl", b'{"file_name": "000.png", "label": true}', "as label, found bool"),
        (
            "metadata.jsonl",
            b'{"file_name": "000.png", "label": 1}',
            (
                r"found none in metadata\.jsonl for 3 of 4, the first 001.png; correct .*, or rename or"
                r" remove metadata\.jsonl"
            ),
        ),
        (
            "metadata.jsonl",
            b'{"file_name": "no.png"}',
            r"found none in 1 lines, the first no\.png is not there; rename or",
        ),
        ("metadata.jsonl", b'{"file_name": "\xff"}', "expected UTF-8 text"),
        (
            "captions.txt",
            b"just words",
            "expected FILE<tab>CAPTION.*; rename or remove this file to read the images",
        ),
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
    for other in (
        "readme.md",
        ".hidden.png",
        "Thumbs.db",
        "notes.txt",
        "table.csv",
        "more.zip",
        "unknown",
        "x.xyz",
    ):
        (tmp_path / other).write_text("x")
    data = load_dataset(str(tmp_path))
    assert (len(data.train) + len(data.val) + len(data.test), data.channels) == (13, 3)
    converted, refused, left_out = data.notes
    assert converted == "converted 1 alpha (alpha.png)"
    assert left_out.startswith("left out 8: 2 hidden or system (first: .hidden.png), ")
    for part in (
        "1 not an image (.md) (readme.md)",
        "1 not a caption (.txt) (notes.txt)",
        "1 without captions or labels of images (.csv) (table.csv)",
        "1 not unpacked (archive) (more.zip)",
        "1 not an image (without a suffix) (unknown)",
        "1 not an image (.xyz) (x.xyz)",
    ):
        assert part in left_out
    assert data.report.used == 13 and data.report.as_dict()["refused"]["empty"] == {
        "count": 2,
        "first": "empty.png",
    }
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
    message = r"none in 1 file; left out 1: 1 not a caption \(\.txt\) \(notes\.txt\)$"
    with pytest.raises(InputError, match=rf"expected PNG, JPEG or WEBP images, found {message}"):
        load_dataset(str(tmp_path))
    (tmp_path / "a.tar.gz").write_text("x")
    with pytest.raises(
        InputError, match=r"found none in 2 files; a\.tar\.gz: unpack it, tar shards are read without"
    ):
        load_dataset(str(tmp_path))


def test_different_sizes_need_a_size(tmp_path: Path) -> None:
    numbered(tmp_path, 5)
    save(tmp_path / "big.png")
    with pytest.raises(InputError, match=r"4x4 in 5 of 6, but 6x8 in big\.png; give one `size`"):
        load_dataset(str(tmp_path))
    assert load_dataset(str(tmp_path), size=(3, 5)).train.images.shape[1:] == (3, 3, 5)
    assert load_dataset(str(tmp_path), size=3, channels=1).channels == 1


def test_channels_follow_the_content(tmp_path: Path) -> None:
    numbered(tmp_path, 4)
    assert load_dataset(str(tmp_path)).channels == 1
    assert load_dataset(str(tmp_path), channels=3).channels == 3
    save(tmp_path / "color.png", RGB[:4, :4])
    assert load_dataset(str(tmp_path)).channels == 3


def everything(data: Dataset) -> dict[int, tuple[int | None, str]]:
    """Label and caption of each image of :func:`numbered`, over all splits."""
    found = {}
    for split, shown in zip((data.train, data.val, data.test), numbers(data), strict=True):
        labels = [None] * len(split) if split.labels is None else split.labels.tolist()
        found |= dict(zip(shown, zip(labels, split.captions or ("",) * len(split), strict=True), strict=True))
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_images_are_known_by_their_content_whatever_they_are_called(tmp_path: Path, stream: bool) -> None:
    names = ("a.png", "b.jfif", "c.jpe", "d.apng", "e", "f.HEIC", "g.v1.7", "h.gif", "i.jpg", "j.tiff")
    for name in names:
        kind = "JPEG" if name in ("b.jfif", "c.jpe", "f.HEIC", "i.jpg") else "PNG"
        Image.fromarray(RGB).save(tmp_path / name, kind)
    Image.fromarray(RGB).save(tmp_path / "true.gif", "GIF")
    Image.fromarray(RGB).save(tmp_path / "picture", "GIF")
    (tmp_path / "true.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    read = stream_dataset if stream else load_dataset
    data = read(str(tmp_path), size=(6, 8), channels=3)
    assert sum(data.sizes.values()) == data.report.used == len(names)
    assert all(len(split.images[:]) == len(split) for split in (data.train, data.val, data.test))
    notes = " ".join(data.notes)
    assert "converted 4 wrong suffix (first: " in notes and "1 without a suffix (e)" in notes
    assert "refused 3 of 13: " in notes
    for part in ("1 unsupported format GIF (picture)", ".gif (true.gif)", ".heic (true.heic)"):
        assert part in notes


def test_a_stray_image_drops_the_labels_with_a_note_and_an_option(tmp_path: Path) -> None:
    numbered(tmp_path / "cats", 12)
    numbered(tmp_path / "dogs", 12, start=12)
    numbered(tmp_path, 1, start=99)
    dropped = load_dataset(str(tmp_path))
    assert dropped.classes is None and len(everything(dropped)) == 25
    (note,) = dropped.notes
    assert note.startswith("no labels: of 25 images 1 is in no class folder (099.png); --class-folders only ")
    assert "the 2 folders (cats, dogs)" in note
    only = load_dataset(str(tmp_path), class_folders="only")
    assert only.classes == ("cats", "dogs") and only.notes == (
        "left out 1: 1 outside class folders (099.png)",
    )
    assert {n: label for n, (label, _) in everything(only).items()} == {n: int(n >= 12) for n in range(24)}
    stream = stream_dataset(str(tmp_path), size=4, channels=1, class_folders="only")
    assert stream.classes == only.classes and torch.equal(stream.train.images[:], only.train.images)
    assert stream.notes == only.notes and stream.sizes == only.sizes
    ignored = load_dataset(str(tmp_path), class_folders="ignore")
    assert ignored.classes is None and ignored.notes == () and ignored.fingerprint() == dropped.fingerprint()
    (tmp_path / "099.png").unlink()
    assert load_dataset(str(tmp_path)).fingerprint() == only.fingerprint()
    with pytest.raises(
        InputError, match=r"`class_folders` only: expected images in class folders, found 12 in none"
    ):
        load_dataset(str(tmp_path / "cats"), class_folders="only")
    with pytest.raises(InputError, match="`class_folders`: expected one of auto, only, ignore, found 'some'"):
        load_dataset(str(tmp_path), class_folders="some")


@pytest.mark.parametrize("top", ["all", "deep/down", "train"])
def test_class_folders_below_a_common_folder_are_found(tmp_path: Path, top: str) -> None:
    numbered(tmp_path / top / "a", 8)
    numbered(tmp_path / top / "b", 8, start=8)
    data = load_dataset(str(tmp_path))
    assert data.classes == ("a", "b")
    assert {n: label for n, (label, _) in everything(data).items()} == {n: int(n >= 8) for n in range(16)}
    assert data.notes == (
        () if top == "train" else (f"class folders are those in {top}/, which holds all images",)
    )
    assert load_dataset(str(tmp_path), class_folders="ignore").classes is None
    (tmp_path / top / "b").rename(tmp_path / "b")
    numbered(tmp_path, 1, start=20)
    if top != "train":
        assert load_dataset(str(tmp_path)).classes is None  # a/ has another depth, 020.png lies beside


def test_split_folders_below_a_common_folder_are_found(tmp_path: Path) -> None:
    for start, name in ((0, "train/a"), (10, "train/b"), (20, "val/a"), (30, "test/b")):
        numbered(tmp_path / "photos" / "images" / name, 5, start=start)
    inner, outer = load_dataset(str(tmp_path / "photos" / "images")), load_dataset(str(tmp_path))
    assert numbers(outer) == numbers(inner) and outer.classes == inner.classes == ("a", "b")
    assert outer.notes == ("train, val and test are those in photos/images/, which holds all images",)
    assert inner.notes == ()


def test_a_stray_image_above_a_common_folder_is_told_of(tmp_path: Path) -> None:
    numbered(tmp_path / "set" / "a", 4)
    numbered(tmp_path / "set" / "b", 4, start=4)
    numbered(tmp_path, 1, start=9)
    (note,) = load_dataset(str(tmp_path)).notes
    assert (
        "1 is in no class folder (009.png), the class folders (a, b) are below set/; give that folder" in note
    )


def test_class_folders_in_two_unicode_forms_are_one_class(tmp_path: Path) -> None:
    for start, form, split in ((0, "NFC", "train"), (10, "NFD", "val"), (20, "NFD", "test")):
        numbered(tmp_path / split / unicodedata.normalize(form, "café"), 5, start=start)
        numbered(tmp_path / split / "tea", 5, start=start + 5)
    data = load_dataset(str(tmp_path))
    assert set(data.classes or ()) == {unicodedata.normalize("NFC", "café"), "tea"}
    assert {data.train.labels.bincount().tolist()[0], data.test.labels.bincount().tolist()[0]} == {5}  # type: ignore[union-attr]


NFC, NFD = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    ("image", "name", "content"),
    [
        ("0.png", "metadata.csv", 'file_name,text\n0.png,"a dog, ""Rex"""\n'),
        ("sub/0.png", "metadata.csv", '\ufefffile_name,caption,more\r\nsub\\0.png,"a dog, ""Rex""",1\r\n'),
        ("sub/0.png", "sub/metadata.jsonl", '{"file_name": ".\\\\0.png", "text": "a dog, \\"Rex\\""}'),
        (f"{NFD}.png", "metadata.jsonl", f'{{"file_name": "{NFC}.png", "text": "a dog, \\"Rex\\""}}'),
        (f"{NFC}/0.png", "captions.txt", f'{NFD}/0.png,a dog, "Rex"'),
        (f"{NFD}.png", f"{NFC}.txt", 'a dog, "Rex"'),
        ("0.png", "captions.txt", 'image,caption\n0.png,"a dog, ""Rex"""\n0.png,second\n'),
        ("a,b.png", "captions.txt", '"a,b.png", "a dog, ""Rex"""'),
        ("0.png", "captions.txt", '0.png\ta dog, "Rex"'),
        ("0.png", "0.caption", 'a dog,\n"Rex"\n'),
        ("0.jfif", "0.txt", 'a dog, "Rex"'),
    ],
)
def test_captions_of_other_tools_are_read(tmp_path: Path, image: str, name: str, content: str) -> None:
    numbered(tmp_path, 4, start=1)
    (tmp_path / image).parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(tmp_path / image, "PNG")
    (tmp_path / name).write_text(content, encoding="utf-8")
    data = load_dataset(str(tmp_path))
    assert everything(data)[0] == (None, 'a dog, "Rex"')
    assert not [note for note in data.notes if "left out" in note]
    assert ("the first of several captions in captions.txt is kept for 1 images" in data.notes) == (
        "second" in content
    )


def test_labels_of_metadata_csv_and_what_it_does_not_say(tmp_path: Path) -> None:
    numbered(tmp_path, 6)
    rows = "".join(f"{n:03}.png,,{n % 2}\n" for n in range(6))
    (tmp_path / "metadata.csv").write_text(f"file_name,text,label\n{rows}gone.png,x,1\n")
    data = load_dataset(str(tmp_path))
    assert data.classes == ("0", "1") and data.train.captions is None
    assert {n: label for n, (label, _) in everything(data).items()} == {n: n % 2 for n in range(6)}
    assert data.notes == ("left out 1: 1 named by a caption or label but not there (gone.png)",)
    (tmp_path / "metadata.csv").write_text(f"file_name,text,label\n{rows}005.png,x,one\n")
    assert load_dataset(str(tmp_path)).classes == (
        "0",
        "1",
    )  # the first label of an image; texts, as one is none
    (tmp_path / "metadata.csv").write_text("a,b\n1,2\n")
    other = load_dataset(str(tmp_path))
    assert other.notes == ("left out 1: 1 without captions or labels of images (.csv) (metadata.csv)",)
    (tmp_path / "metadata.csv").write_text('file_name,text\n000.png,"open\n')
    with pytest.raises(InputError, match=r"metadata\.csv line [12]: expected comma-separated values"):
        load_dataset(str(tmp_path))
    (tmp_path / "metadata.csv").write_text("file_name,text\nno.png,x\n")
    with pytest.raises(
        InputError, match=r"metadata\.csv: expected file names of images, found none in 1 lines"
    ):
        load_dataset(str(tmp_path))


@pytest.mark.parametrize("stream", [False, True])
def test_resizing_that_costs_much_is_counted(tmp_path: Path, stream: bool) -> None:
    numbered(tmp_path, 6)
    save(tmp_path / "wide.png", np.zeros((20, 60), dtype=np.uint8))
    read = stream_dataset if stream else load_dataset
    data = read(str(tmp_path), size=8, channels=1)
    assert sum(len(split.images[:]) for split in (data.train, data.val, data.test)) == 7
    (note,) = data.notes
    assert note.startswith("resized with side effects: 6 enlarged (first: 0")
    assert note.endswith(", 1 cropped to less than half (wide.png)")
    _ = [split.images[:] for split in (data.train, data.val, data.test)]
    assert data.notes == (note,)  # an image that is read again is not counted again


@pytest.mark.parametrize(
    ("header", "row", "caption", "note"),
    [
        ("file_name,text", "000.png,a red cat, sitting,on a mat", "a red cat, sitting, on a mat", "is read as part of the caption"),
        ("file_name,text", "000.png,a red cat,,", "a red cat", None),
        ("text,file_name", "a cat,000.png,more", "a cat", "is not used"),
    ],
)  # fmt: skip
def test_fields_beyond_the_titles_of_metadata_csv_are_not_lost_in_silence(
    tmp_path: Path, header: str, row: str, caption: str, note: str | None
) -> None:
    numbered(tmp_path, 4)
    (tmp_path / "metadata.csv").write_text(f"{header}\n{row}\n")
    data = load_dataset(str(tmp_path))
    assert everything(data)[0] == (None, caption)
    assert [n for n in data.notes if "metadata.csv" in n] == list(data.notes) and bool(data.notes) == bool(
        note
    )
    assert note is None or (
        data.notes[0].startswith("1 rows of metadata.csv have more fields") and note in data.notes[0]
    )


def test_a_second_label_of_an_image_is_counted_where_it_differs(tmp_path: Path) -> None:
    numbered(tmp_path, 4)
    rows = [{"file_name": f"{n:03}.png", "label": n % 2} for n in (0, 1, 2, 3, 0, 1, 1)]
    rows[5]["label"] = 0
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = load_dataset(str(tmp_path))
    assert {n: label for n, (label, _) in everything(data).items()} == {n: n % 2 for n in range(4)}
    assert "the first of several labels in metadata.jsonl is kept for 1 images" in data.notes


def test_a_class_called_train_is_told_of_and_can_be_read(tmp_path: Path) -> None:
    for start, name in ((0, "bus"), (10, "car"), (20, "train")):
        numbered(tmp_path / "all" / name, 10, start=start)
    split = load_dataset(str(tmp_path))
    assert sorted(everything(split)) == list(range(20, 30)) and split.classes is None
    (note,) = (note for note in split.notes if note.startswith("train is taken for a split"))
    assert (
        "(bus, car) are left out and give no labels; --class-folders only reads all 3 folders as classes"
        in note
    )
    only = load_dataset(str(tmp_path), class_folders="only")
    assert only.classes == ("bus", "car", "train") and not any("split" in note for note in only.notes)
    assert {n: label for n, (label, _) in everything(only).items()} == {n: n // 10 for n in range(30)}
    for start, name in ((30, "a"), (40, "b")):  # train/ has class folders of its own: it is a split
        numbered(tmp_path / "all" / "train" / name, 4, start=start)
    only = load_dataset(str(tmp_path), class_folders="only")
    assert only.classes == ("a", "b") and sorted(everything(only)) == [*range(30, 34), *range(40, 44)]
    assert any("to use their images, move them" in note for note in only.notes)


@pytest.mark.parametrize(
    ("folders", "alike"),
    [
        (("val", "test"), "test, val"),
        (("Training", "testing"), "Training, testing"),
        (("a/train", "a/test", "b/train", "b/test"), "a/test, a/train, b/test, b/train"),
        (("cats", "dogs"), None),
        (("train/eval", "train/dev", "val/eval"), None),
    ],
)
def test_folders_named_like_splits_that_are_none_are_told_of(
    tmp_path: Path, folders: tuple[str, ...], alike: str | None
) -> None:
    for k, folder in enumerate(folders):
        numbered(tmp_path / folder, 6, start=6 * k)
    for mode in ("auto", "ignore"):
        notes = load_dataset(str(tmp_path), class_folders=mode).notes
        if alike is None:
            assert notes == ()
        else:
            assert notes[0].startswith(
                f"folders named like splits ({alike}) are read as any other folder, not as splits"
            )


@pytest.mark.parametrize("top", ["", "photos", "train"])
@pytest.mark.parametrize("broken", [b"", b"GIF89a"])
def test_classes_that_have_no_usable_image_are_told_of(tmp_path: Path, top: str, broken: bytes) -> None:
    numbered(tmp_path / top / "cats", 12)
    (tmp_path / top / "dogs").mkdir()
    prefix = "" if top == "train" or not top else f"{top}/"
    line = "no labels: all images are in {0}cats/, folders without a usable image are no classes: {0}{1}"
    assert line.format(prefix, "dogs") in load_dataset(str(tmp_path)).notes
    for k in range(3):
        (tmp_path / top / "dogs" / f"{k}.{'gif' if broken else 'png'}").write_bytes(broken)
    (tmp_path / top / "texts").mkdir()
    (tmp_path / top / "texts" / "readme.md").write_text("x")  # a folder of other files is no class
    assert line.format(prefix, "dogs") in (data := load_dataset(str(tmp_path))).notes and data.classes is None
    numbered(tmp_path / top / "birds", 4, start=20)
    data = load_dataset(str(tmp_path))
    assert data.classes == ("birds", "cats")
    assert any(note.startswith("folders without a usable image are no classes: ") for note in data.notes)


def test_classes_without_training_images_are_told_of(tmp_path: Path) -> None:
    numbered(tmp_path, 20)
    rows = "".join(f"{n:03}.png,{1 + n % 2 * 2}\n" for n in range(20))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}")
    line = "classes 0, 2 of 4 have no training images; integer labels are class numbers from 0"
    assert load_dataset(str(tmp_path)).notes == (line,)
    assert stream_dataset(str(tmp_path), size=4, channels=1).notes == (line,)
    assert describe_data(str(tmp_path), Fit()).report.lines() == (line,)
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 4, 4), dtype=np.uint8), y=np.arange(20) % 2 + 1)
    data = load_dataset(str(tmp_path / "x.npz"), class_folders="only")
    assert any(note.startswith("class 0 of 3 has no training images") for note in data.notes)
    assert any(note.startswith("--class-folders only changes nothing") for note in data.notes)


def test_classes_of_few_images_are_named(tmp_path: Path) -> None:
    for name, count in (("cats", 30), ("dogs", 30), ("once", 1)):
        for k in range(count):
            save(tmp_path / name / f"{k}.png")
    notes = load_dataset(str(tmp_path)).notes
    assert "fewer than 5 training images of class once: samples of it will be copies" in notes


def test_a_split_without_a_usable_training_image_is_one_line(tmp_path: Path) -> None:
    numbered(tmp_path / "val", 6)
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "0.png").write_bytes(b"")
    for read in (load_dataset, lambda data: describe_data(data, Fit())):
        with pytest.raises(
            InputError, match=r": expected usable images in train, found none; refused 1 of 7: 1 empty"
        ):
            read(str(tmp_path))


def test_a_tar_that_is_not_read_as_a_shard_is_named_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "a.tar").write_bytes(bytes(1024))
    message = (
        r"a\.tar: tar shards are read from a folder without images and folders of its own, or one by itself"
    )
    with pytest.raises(InputError, match=message):
        load_dataset(str(tmp_path))
    numbered(tmp_path, 4)
    (note,) = load_dataset(str(tmp_path)).notes
    assert (
        "1 in a tar file (shards are read by themselves or from a folder without images" in note
        and "(a.tar)" in note
    )
