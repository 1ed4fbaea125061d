"""The cache of decoded images: equal to reading anew, noticing every change, never in the way."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from latentdiff.data import Dataset, describe_data, image_cache, load_dataset, stream_dataset
from latentdiff.data.image_cache import ImageCache, open_cache
from latentdiff.data.progress import observing
from latentdiff.data.resize import Fit
from latentdiff.errors import InputError

LONG_AGO = time.time() - 1000


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 24 images: colour, grey, transparent, of a wrong suffix, and one damaged."""
    monkeypatch.setattr(image_cache, "LEAST_IMAGES", 20)
    monkeypatch.setenv(image_cache.FOLDER, str(tmp_path / "cache"))
    root, rng = tmp_path / "photos", np.random.default_rng(0)
    root.mkdir()
    for k in range(21):
        shape = (9 + k % 3, 14) + ((3,), (4,), ())[k % 3]
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(root / f"cat_{k:02}.png")
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / "dog_1.jpg")
    (root / "dog_1.jpg").rename(root / "dog_1.png")
    Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(root / "dog_2.png")
    (root / "dog_3.png").write_bytes(b"no image")
    age(root)
    return root


def age(root: Path) -> None:
    for path in root.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))


def reads(read: Callable[[], object]) -> int:
    """How many files were decoded meanwhile."""
    counts = list[int]()
    with observing(lambda what, done, total: counts.append(done)):
        read()
    return max(counts, default=0)


def same(one: Dataset, other: Dataset) -> bool:
    parts = ((one.train, other.train), (one.val, other.val), (one.test, other.test))
    equal = all(torch.equal(mine.images, theirs.images) for mine, theirs in parts)
    return (
        equal and one.report.as_dict() == other.report.as_dict() and one.fingerprint() == other.fingerprint()
    )


@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_what_is_cached_equals_what_is_read_anew(photos: Path, channels: int | None, fit: str) -> None:
    def load(place: str | None = None) -> Dataset:
        how = {"size": 8, "fit": fit, "labels_from": "name", "image_cache": place}
        return load_dataset(str(photos), channels=channels, **how)  # type: ignore[arg-type]

    assert reads(lambda: load("off")) == 24 and not (photos.parent / "cache").exists()
    plain = load("off")
    assert reads(load) == 24 and reads(load) == 0
    cached = load()
    assert same(cached, plain) and cached.report.lines() == plain.report.lines()
    assert cached.report.refused["not a PNG, JPEG or WEBP image"].number == 1
    cached.train.images[0] = 0  # what is in memory is no part of the file
    assert same(load(), plain)


def test_every_option_that_changes_pixels_has_an_entry_of_its_own(photos: Path) -> None:
    seen = set[str]()
    options: list[dict[str, object]] = [
        {"size": 8},
        {"size": 7},
        {"size": 8, "fit": "stretch"},
        {"size": 8, "resize": "nearest"},
        {"size": 8, "background": "red"},
    ]
    for how in options:
        assert reads(lambda how=how: load_dataset(str(photos), **how)) == 24, how  # type: ignore[misc]
        plain = load_dataset(str(photos), image_cache="off", **how)  # type: ignore[arg-type]
        assert same(load_dataset(str(photos), **how), plain)  # type: ignore[arg-type]
        seen.add(plain.fingerprint())
    assert len(seen) == len(options)
    for how in ({"labels_from": "name"}, {"captions_from": "name"}, {"channels": 1}, {"seed": 3}):
        assert reads(lambda how=how: load_dataset(str(photos), size=8, **how)) == 0, how  # type: ignore[misc]


def changed(root: Path) -> None:
    path = root / "cat_03.png"
    Image.fromarray(np.zeros((9, 14, 3), dtype=np.uint8)).save(path)
    os.utime(path, (LONG_AGO + 1, LONG_AGO + 1))


def of_another_time(root: Path) -> None:
    os.utime(root / "cat_03.png", ns=(0, int(LONG_AGO * 1e9) + 1000))


def added(root: Path) -> None:
    Image.fromarray(np.zeros((9, 14, 3), dtype=np.uint8)).save(root / "cat_99.png")
    os.utime(root / "cat_99.png", (LONG_AGO, LONG_AGO))


def deleted(root: Path) -> None:
    (root / "cat_03.png").unlink()


def renamed(root: Path) -> None:
    (root / "cat_03.png").rename(root / "cat_98.png")


@pytest.mark.parametrize("change", [changed, of_another_time, added, deleted, renamed])
def test_a_change_of_a_file_is_noticed(photos: Path, change: Callable[[Path], None]) -> None:
    load_dataset(str(photos), size=8)
    assert reads(lambda: load_dataset(str(photos), size=8)) == 0
    change(photos)
    assert reads(lambda: load_dataset(str(photos), size=8)) >= 23
    assert same(load_dataset(str(photos), size=8), load_dataset(str(photos), size=8, image_cache="off"))


def test_files_of_this_moment_and_small_folders_are_not_cached(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(photos / "cat_03.png")
    load_dataset(str(photos), size=8)
    assert not open_cache().entries()  # type: ignore[union-attr]
    age(photos)
    monkeypatch.setattr(image_cache, "LEAST_IMAGES", 25)
    load_dataset(str(photos), size=8)
    assert not open_cache().entries()  # type: ignore[union-attr]
    monkeypatch.setattr(image_cache, "LEAST_BYTES", 1000)
    load_dataset(str(photos), size=8)
    assert len(open_cache().entries()) == 1  # type: ignore[union-attr]


def cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def flipped(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)


def told_otherwise(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"not a PNG", b"not a GIF"))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def something_else(file: Path) -> None:
    file.write_bytes(b"\x80\x04]." * 100)


@pytest.mark.parametrize("damage", [cut_off, flipped, told_otherwise, empty, something_else])
def test_a_damaged_file_is_read_anew_with_one_line(photos: Path, damage: Callable[[Path], None]) -> None:
    plain = load_dataset(str(photos), size=8)
    (entry,) = open_cache().entries()  # type: ignore[union-attr]
    damage(entry.file)
    again = load_dataset(str(photos), size=8)
    lines = [line for line in again.notes if line not in plain.notes]
    assert len(lines) == 1 and "are damaged" in lines[0] and "read anew" in lines[0] and "\n" not in lines[0]
    assert torch.equal(again.train.images, plain.train.images)
    assert load_dataset(str(photos), size=8).notes == plain.notes, "the damaged file was replaced"


def test_an_entry_of_other_facts_is_read_anew(photos: Path) -> None:
    plain = load_dataset(str(photos), size=8)
    (entry,) = open_cache().entries()  # type: ignore[union-attr]
    cache = ImageCache(entry.file.parent, 2**30)
    array, facts = cache.load(entry.file.stem) or (np.empty(0, np.uint8), {})
    for wrong in (
        {"refused": []},
        {"refused": [["x", 1]]},
        {"refused": [[99, "x"]]},
        {"converted": {"a": 3}},
        {"source": 3},
    ):
        cache.save(entry.file.stem, array.copy(), facts | wrong)
        again = load_dataset(str(photos), size=8)
        assert torch.equal(again.train.images, plain.train.images)
        assert len(again.notes) == len(plain.notes) + 1, wrong


def test_no_place_to_write_is_no_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, no folder")
    plain = load_dataset(str(photos), size=8, image_cache="off")
    for place in (tmp_path / "file", tmp_path / "file/below", Path("/proc/nothing")):
        for _ in range(2):
            found = load_dataset(str(photos), size=8, image_cache=str(place))
            assert same(found, plain), place


def test_the_least_recently_used_go_first_and_the_limit_holds(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for size in (8, 9, 10):
        load_dataset(str(photos), size=size)
    entries = open_cache().entries()  # type: ignore[union-attr]
    assert [entry.shape for entry in entries] == [(23, side, side, 3) for side in (10, 9, 8)]
    for k, entry in enumerate(entries):
        os.utime(entry.file, (LONG_AGO - k, LONG_AGO - k))
    load_dataset(str(photos), size=8)  # used now
    room = sum(entry.bytes for entry in entries) + 100
    monkeypatch.setenv(image_cache.LIMIT, repr(room / 2**30))
    load_dataset(str(photos), size=7)
    left = open_cache().entries()  # type: ignore[union-attr]
    assert {entry.shape[1] for entry in left} == {7, 8, 10} and sum(entry.bytes for entry in left) <= room
    monkeypatch.setenv(image_cache.LIMIT, "0")
    assert reads(lambda: load_dataset(str(photos), size=6)) == 24
    assert {entry.shape[1] for entry in open_cache().entries()} == {7, 8, 10}  # type: ignore[union-attr]


def test_clearing_removes_what_is_the_caches_own(photos: Path, tmp_path: Path) -> None:
    load_dataset(str(photos), size=8)
    cache = open_cache()
    assert cache is not None
    (cache.folder / "notes.txt").write_text("mine")
    (cache.folder / "model.safetensors").write_text("mine")
    assert [entry.source for entry in cache.clear()] == [str(photos)]
    assert {path.name for path in cache.folder.iterdir()} == {"notes.txt", "model.safetensors"}
    assert not cache.entries() and ImageCache(tmp_path / "none", 1).clear() == []


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(image_cache.LIMIT, text)
    with pytest.raises(InputError, match="LATENTDIFF_IMAGE_CACHE_GIB: expected the size of the cache in GiB"):
        open_cache()
    assert open_cache("off") is None


def write_often(folder: Path, value: int) -> None:
    array = np.full((40, 8, 8, 3), value, dtype=np.uint8)
    for _ in range(30):
        ImageCache(folder, 2**30).save("f" * 64, array, {"value": value})


def test_processes_share_a_folder(tmp_path: Path) -> None:
    """Whenever it is looked at, the file is one of those that were written, whole."""
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_often, args=(tmp_path, value)) for value in (1, 2, 3)]
    for writer in writers:
        writer.start()
    seen = 0
    while any(writer.is_alive() for writer in writers) or not seen:
        if (found := ImageCache(tmp_path, 2**30).load("f" * 64)) is not None:
            array, facts = found
            assert (array == facts["value"]).all()
            seen += 1
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    assert not list(tmp_path.glob(".tmp-*"))


def test_descriptions_and_streams_use_the_cache(photos: Path) -> None:
    def describe() -> dict[str, object]:
        return describe_data(str(photos), Fit((8, 8))).as_dict()

    plain = describe_data(str(photos), Fit((8, 8), image_cache="off")).as_dict()
    assert reads(describe) == 24 and reads(describe) == 0 and describe() == plain
    (photos / "dog_3.png").unlink()
    how = {"size": 8, "channels": 3}
    stream = stream_dataset(str(photos), **how)  # type: ignore[arg-type]
    assert not stream.report.decoded
    whole = load_dataset(str(photos), **how)  # type: ignore[arg-type]
    cached = stream_dataset(str(photos), **how)  # type: ignore[arg-type]
    assert cached.report.decoded and cached.fingerprint() == stream.fingerprint()
    for path in photos.glob("*.png"):  # nothing of the files is needed any more
        facts = path.stat()
        path.write_bytes(bytes(facts.st_size))
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert torch.equal(cached.train.images[:], whole.train.images)
    assert cached.report.lines() == whole.report.lines()
