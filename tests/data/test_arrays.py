""".npz and idx files: what they give and what is refused."""

import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from latentdiff.data import Dataset, load_dataset
from latentdiff.errors import InputError

RNG = np.random.default_rng
IMAGES = RNG(0).integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(60) % 3


def load_npz(folder: Path, **arrays: np.ndarray) -> Dataset:
    np.savez_compressed(folder / "data.npz", **arrays)
    return load_dataset(str(folder / "data.npz"))


def test_given_splits_are_kept(tmp_path: Path) -> None:
    parts = {"x_train": IMAGES[:40], "x_val": IMAGES[40:50], "x_test": IMAGES[50:]}
    labels = {"y_train": LABELS[:40], "y_val": LABELS[40:50, None], "y_test": LABELS[50:].astype(np.uint8)}
    data = load_npz(tmp_path, **parts, **labels)
    for split, rows in ((data.train, slice(40)), (data.val, slice(40, 50)), (data.test, slice(50, 60))):
        assert np.array_equal(split.images.numpy(), IMAGES[rows].transpose(0, 3, 1, 2))
        assert split.labels is not None
        assert np.array_equal(split.labels.numpy(), LABELS[rows])
    assert (data.num_classes, data.notes) == (3, ())


@pytest.mark.parametrize(
    ("array", "channels"),
    [
        (IMAGES, 3),
        (IMAGES.transpose(0, 3, 1, 2), 3),
        (np.asfortranarray(IMAGES), 3),
        (IMAGES[..., 0], 1),
        (IMAGES[..., :1], 1),
        (IMAGES[:, None, :, :, 0], 1),
    ],
)
def test_layouts_give_the_same_pixels(tmp_path: Path, array: np.ndarray, channels: int) -> None:
    data = load_npz(tmp_path, x_train=array, x_val=array, x_test=array)
    assert np.array_equal(data.train.images.numpy(), IMAGES[..., :channels].transpose(0, 3, 1, 2))
    assert data.train.labels is None and data.num_classes == 0


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4", "int64", ">i2", "uint16"])
def test_other_number_types_are_converted_and_noted(tmp_path: Path, dtype: str) -> None:
    array = (IMAGES / 255).astype(dtype) if "f" in dtype else IMAGES.astype(dtype)
    data = load_npz(tmp_path, x_train=array, x_val=IMAGES, x_test=IMAGES)
    assert torch.equal(data.train.images, data.val.images)
    assert len(data.notes) == 1 and data.notes[0].startswith("converted")


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    alpha = np.zeros((4, 2, 2, 4), dtype=np.uint8)
    alpha[0, ..., 3], alpha[1, ..., 3] = 255, 51
    data = load_npz(tmp_path, x_train=alpha, x_val=alpha, x_test=alpha)
    assert [int(image.unique()) for image in data.train.images] == [0, 204, 255, 255]
    assert data.notes == ("composited images with alpha on white",)


def test_pool_is_split_90_5_5_stratified_and_deterministic(tmp_path: Path) -> None:
    x = np.arange(200, dtype=np.uint8).repeat(4).reshape(200, 2, 2)
    captions = np.array([f"number {i}" for i in range(200)])
    np.savez(tmp_path / "pool.npz", x=x, y=np.arange(200) % 2, caption=captions)
    path = str(tmp_path / "pool.npz")
    data = load_dataset(path)
    splits = (data.train, data.val, data.test)
    assert [len(split) for split in splits] == [180, 10, 10]
    seen = []
    for split in splits:
        assert split.labels is not None and split.captions is not None
        assert split.labels.bincount().tolist() == [len(split) // 2] * 2
        numbers = split.images[:, 0, 0, 0].tolist()
        assert split.labels.tolist() == [n % 2 for n in numbers]
        assert split.captions == tuple(f"number {n}" for n in numbers)
        seen += numbers
    assert sorted(seen) == list(range(200))
    assert load_dataset(path).fingerprint() == data.fingerprint() != load_dataset(path, seed=1).fingerprint()


def test_missing_validation_set_takes_a_tenth_of_train(tmp_path: Path) -> None:
    data = load_npz(tmp_path, x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:5], y_test=LABELS[:5])
    assert [len(split) for split in (data.train, data.val, data.test)] == [54, 6, 5]
    assert data.val.labels is not None
    assert data.val.labels.bincount().tolist() == [2, 2, 2]


def test_validation_set_is_at_most_5000(tmp_path: Path) -> None:
    many = np.zeros((60_000, 1, 1), dtype=np.uint8)
    data = load_npz(tmp_path, x_train=many, x_test=many[:1])
    assert (len(data.train), len(data.val)) == (55_000, 5_000)


def test_string_labels_become_sorted_classes(tmp_path: Path) -> None:
    names = np.array(["dog", "cat", "eel"])[LABELS]
    data = load_npz(tmp_path, x_train=IMAGES, y_train=names, x_test=IMAGES[:3], y_test=names[:3])
    assert data.classes == ("cat", "dog", "eel")
    assert data.test.labels is not None
    assert data.test.labels.tolist() == [1, 0, 2]


def test_captions_of_some_splits_are_empty_in_the_others(tmp_path: Path) -> None:
    captions = np.array([f"picture {n}" for n in range(60)])
    data = load_npz(tmp_path, x_train=IMAGES, x_val=IMAGES[:2], x_test=IMAGES[:1], caption_train=captions)
    assert data.train.captions == tuple(captions.tolist())
    assert (data.val.captions, data.test.captions) == (("", ""), ("",))


def test_channels_and_size_are_applied(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x_train=IMAGES, x_val=IMAGES[:, :4], x_test=IMAGES[:2, :, :3])
    with pytest.raises(InputError, match=r"expected images of one size .* give `size`"):
        load_dataset(str(tmp_path / "d.npz"))
    data = load_dataset(str(tmp_path / "d.npz"), size=8, channels=1)
    assert data.train.images.shape == (60, 1, 8, 8)


def test_object_arrays_are_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "touched",))  # type: ignore[return-value]

    np.savez(tmp_path / "trap.npz", x_train=np.array([Trap()], dtype=object))
    with pytest.raises(InputError, match="expected numbers or strings in x_train, found object"):
        load_dataset(str(tmp_path / "trap.npz"))
    assert not (tmp_path / "touched").exists()


FLOATS = IMAGES.astype(np.float32) / 255


def changed(value: float) -> np.ndarray:
    array = FLOATS.copy()
    array[7, 1, 1, 1] = value
    return array


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x_train": changed(np.nan)}, "NaN or infinity"),
        ({"x_train": changed(np.inf)}, "NaN or infinity"),
        ({"x_train": changed(1.5)}, r"float32 pixels of x_train in 0\.\.1, found 0\.\.1\.5"),
        ({"x_train": changed(-0.1)}, r"in 0\.\.1, found -0\.1"),
        ({"x_train": IMAGES.astype(np.int64) + 1}, r"int64 pixels of x_train in 0\.\.255, found 1\.\.256"),
        ({"x_train": IMAGES.astype(np.complex64)}, "expected numbers or strings in x_train, found complex64"),
        ({"x_train": np.array(["a", "b"])}, "expected numbers in x_train"),
        ({"x_train": IMAGES[0, 0]}, r"expected x_train as \[N, H, W\]"),
        ({"x_train": IMAGES[..., :2]}, r"expected x_train as \[N, H, W\]"),
        ({"x_train": IMAGES[:0]}, "expected at least one image"),
        ({"x_train": np.uint8(3)}, "expected x_train as|expected at least one"),
        (
            {"pictures": IMAGES},
            "expected the arrays x_train, y_train, x_test, y_test, or x, images or arr_0, found pictures",
        ),
        ({}, "expected the arrays .* found nothing"),
        ({"x_train": IMAGES, "y_train": LABELS[:-1]}, r"expected y_train \[60\], .* found \[59\]"),
        ({"x_train": IMAGES, "y_train": np.eye(60)}, r"expected y_train \[60\]"),
        (
            {"x_train": IMAGES, "y_train": LABELS / 2},
            "labels that are all integers or all strings, found float64",
        ),
        ({"x_train": IMAGES, "y_train": LABELS - 1}, r"integer labels in 0\.\.99999, found -1"),
        ({"x_train": IMAGES, "y_train": LABELS * 10**6}, r"integer labels in 0\.\.99999, found 0\.\.2000000"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES}, "labels for every split or for none"),
        ({"x": IMAGES, "caption": LABELS}, "expected strings in caption, found int64"),
        ({"x": IMAGES, "caption": np.array(["a"])}, r"expected caption \[60\]"),
        ({"x": IMAGES[:2]}, "expected at least 3 images"),
        ({"x_train": IMAGES[:2]}, "expected at least 3 images"),
    ],
)
def test_wrong_content_is_refused_in_one_line(
    tmp_path: Path, arrays: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_npz(tmp_path, **arrays)
    assert "\n" not in str(caught.value)


def npy(header: str, data: bytes = b"", version: bytes = b"\1\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + data


def archive(path: Path, member: bytes, *, compression: int = zipfile.ZIP_STORED) -> str:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("x_train.npy", member)
    return str(path)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (99, 9999999, 999999)}", b"x"),
            "expected 98999",
        ),
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -2, 1)}", b"1234"),
            "sizes of 0 and more",
        ),
        (
            npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2)}", b"123456789"),
            "expected 8 bytes",
        ),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2, 2)}", b"1234567"), "expected 8 bytes"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1, 1)}", b"12345678"), "found object"),
        (npy("{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (1, 1, 1)}", b"1"), "found .*a"),
        (npy("__import__('os').getpid()"), "expected"),
        (npy("(" * 9000), "expected"),
        (npy("{[]: 1}"), "expected an npy header"),
        (npy("{'descr': '|u1'}"), "expected a readable"),
        (npy("{}", version=b"\7\0"), "npy format 1.0 or 2.0, found 7.0"),
        (b"\x93NUM", "expected a readable"),
        (b"", "expected a readable"),
    ],
)
def test_hostile_npy_headers_are_refused(tmp_path: Path, member: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(archive(tmp_path / "a.npz", member))
    assert "\n" not in str(caught.value)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (70, 1024, 1024)}"
    path = archive(tmp_path / "b.npz", npy(header, bytes(70 * 2**20)), compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(InputError, match="expected at most 200 times its compressed size, found 734"):
        load_dataset(path)


def test_other_zip_compressions_are_refused(tmp_path: Path) -> None:
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 1)}"
    path = archive(tmp_path / "c.npz", npy(header, b"123"), compression=zipfile.ZIP_BZIP2)
    with pytest.raises(InputError, match="stored or deflated"):
        load_dataset(path)


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x_train=IMAGES)
    whole = buffer.getvalue()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 255
    for content in (b"", b"text", whole[:-30], whole[: len(whole) // 2], bytes(flipped)):
        (tmp_path / "d.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"expected a readable \.npz file") as caught:
            load_dataset(str(tmp_path / "d.npz"))
        assert "\n" not in str(caught.value)


def test_other_files_are_not_data_sets(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(InputError, match=r"found a \.csv file"):
        load_dataset(str(tmp_path / "a.csv"))


GREY = IMAGES[..., 0]


def idx(array: np.ndarray) -> bytes:
    array = np.ascontiguousarray(array, dtype=np.uint8)
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize("compressed", [False, True])
def test_idx_folder_is_read(tmp_path: Path, compressed: bool, separator: str) -> None:
    for name, rows in (("train", slice(50)), ("t10k", slice(50, 60))):
        for kind, array in ((f"images{separator}idx3", GREY), (f"labels{separator}idx1", LABELS)):
            content = idx(array[rows])
            path = tmp_path / f"{name}-{kind}-ubyte{'.gz' if compressed else ''}"
            path.write_bytes(gzip.compress(content) if compressed else content)
    data = load_dataset(str(tmp_path))
    assert np.array_equal(data.test.images.numpy()[:, 0], GREY[50:])
    assert data.test.labels is not None
    assert data.test.labels.tolist() == LABELS[50:].tolist()
    assert [len(split) for split in (data.train, data.val, data.test)] == [45, 5, 10]


IMAGES_NAME, LABELS_NAME = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({IMAGES_NAME: idx(GREY)[:-1]}, "expected 1800 bytes"),
        ({IMAGES_NAME: idx(GREY) + b"x"}, "expected 1800 bytes"),
        ({IMAGES_NAME: b""}, "expected an idx file"),
        ({IMAGES_NAME: b"\0\0\x08\x03" + b"\xff" * 12}, "expected 79228162458924105385300197375 bytes"),
        ({IMAGES_NAME: b"\0\0\x08\x03\0\0"}, "expected an idx file"),
        ({IMAGES_NAME: idx(LABELS)}, "expected an idx file"),
        ({IMAGES_NAME: b"\0\0\x0d\x03" + idx(GREY)[4:]}, r"\(magic 00000803\), found 00000d03"),
        ({IMAGES_NAME: idx(GREY[:0])}, "expected at least one image"),
        ({IMAGES_NAME: idx(GREY), LABELS_NAME: idx(LABELS[:-1])}, "a label for each of 60 images, found 59"),
        ({LABELS_NAME: idx(LABELS)}, "expected train-images-idx3-ubyte"),
        ({f"{IMAGES_NAME}.gz": b"plain"}, "expected a readable idx file"),
        ({f"{IMAGES_NAME}.gz": gzip.compress(idx(GREY))[:-20]}, "expected a readable idx file"),
        ({f"{IMAGES_NAME}.gz": gzip.compress(idx(GREY) + b"x")}, "expected 1800 bytes .* found more"),
        ({f"{IMAGES_NAME}.gz": gzip.compress(idx(GREY)[:-1])}, "expected 1800 bytes .* found 1799"),
        ({f"{IMAGES_NAME}.gz": gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)}, "expected at most"),
        (
            {f"{IMAGES_NAME}.gz": gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 99, 999, 999))},
            "at most 200 times",
        ),
    ],
)
def test_wrong_idx_files_are_refused(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_arrays_without_names_are_images_and_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", IMAGES, LABELS)
    data = load_dataset(str(tmp_path / "d.npz"))
    named = load_npz(tmp_path, images=IMAGES, labels=LABELS)
    assert data.fingerprint() == named.fingerprint() and data.num_classes == 3 and data.notes == ()
    np.savez(tmp_path / "d.npz", IMAGES, LABELS / 7, mu=np.zeros(3))  # arr_1 is something else
    odd = load_dataset(str(tmp_path / "d.npz"))
    assert odd.classes is None
    assert odd.notes == ("left out 2: 2 neither images nor their labels or captions (first: arr_1)",)


def test_arrays_and_files_that_are_not_used_are_counted(tmp_path: Path) -> None:
    data = load_npz(tmp_path, x_train=IMAGES, y_train=LABELS, y_val=LABELS, x=IMAGES)
    assert data.notes == ("left out 2: 2 neither images nor their labels or captions (first: x)",)
    folder = tmp_path / "idx"
    folder.mkdir()
    images = struct.pack(">4B3I", 0, 0, 8, 3, 60, 6, 5) + IMAGES[..., 0].tobytes()
    (folder / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"x")
    (folder / ".DS_Store").touch()
    (note,) = load_dataset(str(folder)).notes
    assert (
        note == "left out 3: 2 not an idx file of a split (first: t10k-labels-idx1-ubyte), 1 hidden or system"
        " (.DS_Store)"
    )


def test_enlarged_arrays_are_counted(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=IMAGES)
    assert load_dataset(str(tmp_path / "d.npz"), size=8).notes == ("resized with side effects: 60 enlarged",)
