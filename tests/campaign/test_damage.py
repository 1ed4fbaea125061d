"""Changed or cut files of a checkpoint are refused by name; what loads is what was saved, to the bit."""

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from campaign_tools import times

from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.folder import open_checkpoint
from latentdiff.pipeline.pipeline import load

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def checkpoint(tiny_denoiser_run: Path, tmp_path: Path) -> Path:
    """A copy of a whole checkpoint: model, VAE and the state of its training."""
    return Path(shutil.copytree(next(tiny_denoiser_run.glob("checkpoint-*")), tmp_path / "checkpoint"))


def content(checkpoint: Path) -> tuple[dict[str, torch.Tensor], object]:
    """The weights and the configuration that a checkpoint gives; InputError where a file is not what was
    saved.
    """
    open_checkpoint(checkpoint).verify()
    pipeline = load(checkpoint)
    return pipeline.network.state_dict(), (pipeline.diffusion, pipeline.classes, pipeline.codec.latent_shape)


def damaged(
    checkpoint: Path, change: Callable[[bytes, random.Random], bytes], trials: int
) -> Iterator[tuple[Path, bool]]:
    """Change one file after the other; gives which, and whether the checkpoint was refused.

    The file is put back.
    """
    dice, files = random.Random(0), sorted(path for path in checkpoint.rglob("*") if path.is_file())
    weights, settings = content(checkpoint)
    for trial in range(trials):
        path = files[trial % len(files)]
        before = path.read_bytes()
        path.write_bytes(change(before, dice))
        try:
            found = content(checkpoint)
        except InputError as error:
            assert len(str(error).splitlines()) == 1 and str(checkpoint) in str(error)
            yield path, True
        else:
            assert found[1] == settings and all(
                torch.equal(found[0][name], weights[name]) for name in weights
            )
            yield path, False
        finally:
            path.write_bytes(before)


def flip(data: bytes, dice: random.Random) -> bytes:
    place = dice.randrange(len(data))
    return data[:place] + bytes([data[place] ^ 1 << dice.randrange(8)]) + data[place + 1 :]


def cut(data: bytes, dice: random.Random) -> bytes:
    return data[: dice.choice([0, 1, 8, len(data) - 1, dice.randrange(len(data))])]


def longer(data: bytes, dice: random.Random) -> bytes:
    return data + bytes(dice.choice([1, 4096]))


@pytest.mark.parametrize(
    ("name", "change", "whole"),
    [("bit flips", flip, 3000), ("truncations", cut, 300), ("appended bytes", longer, 100)],
)
def test_damage(
    name: str,
    change: Callable[[bytes, random.Random], bytes],
    whole: int,
    checkpoint: Path,
    record_property: Callable,
) -> None:
    """Only the manifest's own white space can change without a word; every other file is under its
    SHA-256.
    """
    trials = max(times(whole), 20)
    unnoticed = [path for path, refused in damaged(checkpoint, change, trials) if not refused]
    assert {path.name for path in unnoticed} <= {"manifest.json"}
    record_property(f"count:{name}", trials)
    record_property(f"count:{name} of white space in the manifest, without effect", len(unnoticed))


def test_a_missing_file_is_named(checkpoint: Path, record_property: Callable) -> None:
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    for path in files:
        before = path.read_bytes()
        path.unlink()
        with pytest.raises(InputError, match=path.name):
            content(checkpoint)
        path.write_bytes(before)
    record_property("count:missing files", len(files))
