"""A type of data is a file and a row: everything that reads images takes it by that."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from latentdiff.data import describe_data, is_streamed, load_dataset, read_images, stream_dataset
from latentdiff.data.catalog import NAMED, NamedDataset
from latentdiff.data.raw import RawSplit, RawSplits
from latentdiff.data.readers import READERS, Reader, expected, types_of_data
from latentdiff.data.resize import Fit, ReadOptions
from latentdiff.errors import InputError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), dtype=np.uint8)


def recognises(path: Path) -> bool:
    return path.suffix == ".npy"


def read(path: Path, fit: Fit) -> RawSplits:
    return RawSplits(RawSplit(np.load(path)), unsplit=True)


@pytest.fixture
def npy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A .npy file, and its type in the table: what a module of such functions and a row make."""
    module = ModuleType("npy_reader")
    module.recognises, module.read = recognises, read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "npy_reader", module)
    monkeypatch.setitem(READERS, "npy_reader", Reader("a .npy file", "npy_reader"))
    np.save(tmp_path / "x.npy", IMAGES)
    return tmp_path / "x.npy"


def test_a_row_is_a_type_of_data(npy: Path) -> None:
    assert (load_dataset(str(npy)).sizes, len(read_images(str(npy)).images)) == (
        {"train": 18, "val": 1, "test": 1},
        20,
    )
    assert describe_data(str(npy), Fit()).images == {"train": 18, "val": 1, "test": 1}
    assert not is_streamed(str(npy)) and types_of_data().endswith("a folder of images or a .npy file")
    assert load_dataset(str(npy), size=2, channels=3).shape == (3, 2, 2)
    with pytest.raises(InputError, match=r"or a \.npy file, found a \.txt file"):
        (npy.parent / "x.txt").touch()
        load_dataset(str(npy.parent / "x.txt"))
    with pytest.raises(InputError, match="expected a folder of images or tar shards, found none"):
        stream_dataset(str(npy), size=4, channels=1)


def test_a_row_is_a_named_data_set(npy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("noise_set")
    module.read = lambda options: read(npy, options.fit)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "noise_set", module)
    row = NamedDataset("noise", "random pixels", "4x4", "CC0", "noise_set", lambda root: (True, "drawn"))
    monkeypatch.setitem(NAMED, "noise", row)
    assert row.read(ReadOptions("noise", Fit())).unsplit
    assert load_dataset("noise").name == "noise" and read_images("noise").name == "noise test"
    assert "scenes-mnist, noise, tar shards" in expected()


@pytest.mark.parametrize("module", [row.module for row in READERS.values()])
def test_the_file_of_a_row_has_what_the_row_says(module: str) -> None:
    row, file = READERS[module], __import__(module, fromlist=["read"])
    assert (hasattr(file, "read"), hasattr(file, "index")) == (row.reads, row.streams)
