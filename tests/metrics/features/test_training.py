"""The script that trains the feature network of digits, on a few images."""

import hashlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from helpers import ROOT, load_script
from safetensors.torch import load_file

from latentdiff.data import load_dataset
from latentdiff.metrics.features.mnist import DigitNetwork

SCRIPT = ROOT / "scripts" / "train_mnist_features.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """260 digits for training, 20 for validation, 20 for testing: two steps an epoch."""
    train, test = load_dataset("mnist5k").train, load_dataset("mnist5k").test
    path = tmp_path_factory.mktemp("digits") / "digits.npz"
    arrays = {}
    for name, split, part in (
        ("train", train, slice(260)),
        ("val", test, slice(20)),
        ("test", test, slice(20, 40)),
    ):
        assert split.labels is not None
        arrays |= {f"x_{name}": split.images[part, 0].numpy(), f"y_{name}": split.labels[part].numpy()}
    np.savez(path, **arrays)
    return path


def run(script: ModuleType, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
    with torch.random.fork_rng():
        torch.seed()  # what the script draws must not depend on what came before
        script.main()


def test_the_script_writes_what_it_says(
    script: ModuleType, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        (tmp_path / folder).mkdir()
        words = ["--data", str(digits), "--seed", seed, "--epochs", "2", "--out", str(tmp_path / folder)]
        run(script, monkeypatch, words)
    a, b, c = ((tmp_path / folder / "mnist.safetensors").read_bytes() for folder in "abc")
    assert a == b != c
    about = json.loads((tmp_path / "a" / "mnist.json").read_text())
    assert about["sha256"] == hashlib.sha256(a).hexdigest() and about["bytes"] == len(a)
    assert about["command"].endswith(f"--data {digits} --seed 3 --epochs 2")
    assert about["images"] == {"train": 260, "validation": 20, "test": 20}
    network = DigitNetwork()
    network.load_state_dict(load_file(tmp_path / "a" / "mnist.safetensors"))
    assert script.accuracy(network, load_dataset(str(digits)).test) == pytest.approx(about["test_accuracy"])


def test_data_of_another_kind_is_refused(
    script: ModuleType, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        run(script, monkeypatch, ["--data", str(tiny_folder / "tiny.npz"), "--out", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_images_are_moved_within_their_limits(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    images = load_dataset("mnist5k").test.images[:50].float() / 255
    moved = script.moved(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape and float(moved.min()) >= 0 and float(moved.max()) <= 1
    assert float((moved - images).abs().mean()) > 0.03
    for name in ("DEGREES", "SCALE", "SHEAR", "SHIFT"):
        monkeypatch.setattr(script, name, 0.0)
    assert torch.allclose(script.moved(images, torch.Generator().manual_seed(0)), images, atol=1e-4)
