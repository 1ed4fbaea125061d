"""Cached features: the same bits back, and nothing damaged is ever trusted or fatal."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import make_endless
from torch import Tensor

from latentdiff.evaluate import FeatureCache, Reference, cache_folder
from latentdiff.files.lock import locked
from latentdiff.metrics.classifier import fit_classifier
from latentdiff.metrics.features import FeatureNetwork


class Counting:
    """A network that counts its calls."""

    def __init__(self, sha256: str = "0" * 64) -> None:
        self.calls = 0
        self.network = FeatureNetwork("counting", sha256, 3, 2, torch.device("cpu"), self.run)

    def run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.calls += 1
        means = images.float().mean((2, 3))
        return means.repeat(1, 3), means.repeat(1, 2)


def images(seed: int = 0) -> Tensor:
    return torch.randint(
        0, 256, (7, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def filled(folder: Path) -> tuple[Path, Path]:
    """A cache with the features of images(): (tensors, facts)."""
    Reference.from_images(images(), Counting().network, cache=FeatureCache(folder))
    (tensors,), (facts,) = list(folder.glob("*.safetensors")), list(folder.glob("*.json"))
    return tensors, facts


def test_features_come_back_to_the_bit_without_the_network(tmp_path: Path) -> None:
    first = Counting()
    made = Reference.from_images(images(), first.network, cache=FeatureCache(tmp_path / "new" / "folder"))
    again = Counting()
    read = Reference.from_images(images(), again.network, cache=FeatureCache(tmp_path / "new" / "folder"))
    assert first.calls == 1 and again.calls == 0
    assert (
        torch.equal(made.features.values, read.features.values)
        and read.features.values.dtype == torch.float64
    )
    assert torch.equal(made.features.predictions, read.features.predictions)
    assert torch.equal(made.features.confidence, read.features.confidence)
    assert (read.features.network, read.features.sha256) == ("counting", "0" * 64)


@pytest.mark.parametrize("other", ["images", "network"])
def test_other_images_and_other_weights_are_computed_anew(tmp_path: Path, other: str) -> None:
    filled(tmp_path)
    counting = Counting("1" * 64 if other == "network" else "0" * 64)
    Reference.from_images(
        images(1 if other == "images" else 0), counting.network, cache=FeatureCache(tmp_path)
    )
    assert counting.calls == 1 and len(list(tmp_path.glob("*.safetensors"))) == 2


def edited(change: Callable[[dict], object]) -> Callable[[Path, Path], object]:
    def edit(tensors: Path, facts: Path) -> None:
        about = json.loads(facts.read_text())
        change(about)
        facts.write_text(json.dumps(about))

    return edit


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(bytes(data))


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "a flipped bit of a value": lambda tensors, facts: flip(tensors, -5),
    "a flipped bit of the header": lambda tensors, facts: flip(tensors, 0),
    "cut off": lambda tensors, facts: tensors.write_bytes(tensors.read_bytes()[:-9]),
    "empty": lambda tensors, facts: tensors.write_bytes(b""),
    "endless": lambda tensors, facts: (tensors.unlink(), make_endless(tensors)),
    "a FIFO": lambda tensors, facts: (tensors.unlink(), os.mkfifo(tensors)),
    "of two sparse gigabytes": lambda tensors, facts: os.truncate(tensors, 2**31),
    "facts of two sparse gigabytes": lambda tensors, facts: os.truncate(facts, 2**31),
    "gone": lambda tensors, facts: tensors.unlink(),
    "a folder": lambda tensors, facts: (tensors.unlink(), tensors.mkdir()),
    "facts empty": lambda tensors, facts: facts.write_bytes(b""),
    "facts no object": lambda tensors, facts: facts.write_text("[1]"),
    "facts nested": lambda tensors, facts: facts.write_text("[" * 100_000),
    "facts no text": lambda tensors, facts: facts.write_bytes(b"\xff\xfe\x00"),
    "hash missing": edited(lambda about: about.pop("sha256")),
    "of other images": edited(lambda about: about.update(images_sha256="f" * 64)),
    "of another network": edited(lambda about: about.update(network_sha256="f" * 64)),
    "of another number": edited(lambda about: about.update(images=8)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_is_damaged_is_computed_again_with_a_note(tmp_path: Path, name: str) -> None:
    tensors, facts = filled(tmp_path)
    DAMAGES[name](tensors, facts)
    notes: list[str] = []
    counting = Counting()
    found = Reference.from_images(images(), counting.network, cache=FeatureCache(tmp_path, notes.append))
    assert counting.calls == 1 and len(notes) >= 1 and "\n" not in "".join(notes)
    assert torch.equal(
        found.features.values, Reference.from_images(images(), Counting().network).features.values
    )
    assert "damaged" in notes[0]
    if name != "a folder":  # repaired by the way
        again = Counting()
        Reference.from_images(images(), again.network, cache=FeatureCache(tmp_path, pytest.fail))
        assert again.calls == 0


def test_a_hash_that_fits_does_not_make_wrong_tensors_right(tmp_path: Path) -> None:
    """Somebody rewrote both files: shapes and types are still those of these images."""
    import hashlib

    import safetensors.torch

    tensors, facts = filled(tmp_path)
    for values in (
        {"values": torch.zeros(7, 2, dtype=torch.float64)},
        {"values": torch.zeros(7, 3)},
        {"odd": torch.ones(1)},
    ):
        content = safetensors.torch.save(values)
        tensors.write_bytes(content)
        facts.write_text(
            json.dumps(json.loads(facts.read_text()) | {"sha256": hashlib.sha256(content).hexdigest()})
        )
        notes: list[str] = []
        assert FeatureCache(tmp_path, notes.append).load(Counting().network, images()) is None
        assert len(notes) == 1


def test_a_classifier_is_kept_for_its_images_network_and_labels(tmp_path: Path) -> None:
    cache, network, labels = FeatureCache(tmp_path, pytest.fail), Counting().network, torch.arange(7) % 2
    features = Reference.from_images(images(), network, cache=cache).features
    fit = fit_classifier(features.values, labels, 3)
    assert cache.load_classifier(network, images(), labels, 3) is None
    cache.save_classifier(network, images(), labels, 3, fit)
    found = cache.load_classifier(network, images(), labels, 3)
    assert found is not None and found.penalty == fit.penalty and torch.equal(found.held_out, fit.held_out)
    assert torch.equal(found.weight, fit.weight) and torch.equal(found.bias, fit.bias)
    for other in (
        (network, images(), 1 - labels, 3),
        (network, images(), labels, 2),
        (network, images(1), labels, 3),
        (Counting("1" * 64).network, images(), labels, 3),
    ):
        assert cache.load_classifier(*other) is None
    assert cache.load(network, images()) is not None  # the features beside it


def test_a_place_that_cannot_be_written_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    notes: list[str] = []
    found = Reference.from_images(
        images(), Counting().network, cache=FeatureCache(tmp_path / "file", notes.append)
    )
    assert len(found) == 7 and len(notes) == 1 and "not cached" in notes[0]


def test_the_place_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LATENTDIFF_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("LATENTDIFF_CACHE")
    assert cache_folder() == Path("~/.cache/latentdiff/features").expanduser()


def test_two_processes_write_one_after_the_other(tmp_path: Path) -> None:
    tensors, _ = filled(tmp_path)
    assert not list(tmp_path.glob(".*"))
    notes, made = list[str](), Reference.from_images(images(), Counting().network).features
    with locked(tmp_path / f".{tensors.stem}.lock", str):
        cache = FeatureCache(tmp_path, notes.append, patience=0.05)
        cache.save(Counting().network, images(), made)
    assert len(notes) == 1 and "is writing them" in notes[0]
    assert FeatureCache(tmp_path, pytest.fail).load(Counting().network, images()) is not None


def test_a_link_in_the_cache_is_replaced_and_what_it_leads_to_is_left_alone(tmp_path: Path) -> None:
    tensors, _ = filled(tmp_path / "cache")
    other = tmp_path / "other"
    other.write_text("mine")
    tensors.unlink()
    tensors.symlink_to(other)
    filled(tmp_path / "cache")
    assert other.read_text() == "mine" and tensors.is_file() and not tensors.is_symlink()
