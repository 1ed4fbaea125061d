"""The data of a run, from wherever a command is started, and where it is gone, mixed up or encoded."""

import contextlib
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Cli
from PIL import Image

from latentdiff.apps.cli.shared.inputs import read_input
from latentdiff.config.data import FITTING, LABELLING
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.runs import locate

SMALL = "--size 8 --resize pad --batch 8 --steps 1 --warmup 0"
READING = {
    "split": "test",
    "negate": False,
    "drawing": "auto",
    **dict.fromkeys((*FITTING, *LABELLING, "image_cache")),
}


def photos(folder: Path, seed: int) -> None:
    """24 images of two classes, twice as wide as high."""
    draw = np.random.default_rng(seed)
    for k in range(24):
        place = folder / "ab"[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (8, 16), dtype=np.uint8)).save(place / f"{k}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, cli: Cli) -> Path:
    """A folder with photos/, latents/ and the runs v (VAE), px (pixels) and onlat (on latents/)."""
    folder = tmp_path_factory.mktemp("trained")
    photos(folder / "photos", 0)
    for words in (
        f"train-vae --data photos --latent 4 --width 8 --depth 0 {SMALL} --name v",
        f"train-denoiser --data photos --pixel --width 16 --depth 1 --T 10 {SMALL} --name px",
        "encode --run v",
        "train-denoiser --data latents --width 16 --depth 1 --T 10 --batch 8 --steps 1 --name onlat",
    ):
        assert (done := cli(words, cwd=folder)).code == 0, done.err
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path) -> Path:
    """A copy, with the empty folder sub/, and other/ with other images in a folder of the same name."""
    folder = shutil.copytree(trained, tmp_path / "work")
    (folder / "sub").mkdir()
    photos(folder / "other" / "photos", 1)
    return folder


def reconstructed(run: Path, cli: Cli) -> tuple[int, str]:
    done = cli(f"reconstruct --run {run} -n 2 --overwrite", cwd=Path.cwd())
    return done.code, done.err


def opened(run: Path, cli: Cli) -> tuple[int, str]:
    """As edit and all other commands with --input read the images."""
    with contextlib.redirect_stderr(io.StringIO()) as err:
        try:
            read_input(locate(run), (1, 8, 8), {"source": None, **READING})
        except InputError as error:
            return 1, f"{error}\n"
    return 0, err.getvalue()


@pytest.mark.parametrize(("read", "option"), [(reconstructed, "--data"), (opened, "--input")])
def test_the_data_of_a_run_is_found_from_any_folder(
    work: Path, cli: Cli, read: Callable[[Path, Cli], tuple[int, str]], option: str
) -> None:
    """Beside images of another folder of that name, and where the run's own are now the ones from here."""
    run = Path("../runs/v")
    for cwd in ("sub", "other"):
        with contextlib.chdir(work / cwd):
            code, err = read(run, cli)
        assert code == 0 and f"data: photos is {work}/photos" in err and "warning" not in err, err
    (work / "photos").rename(work / "kept")
    with contextlib.chdir(work / "other"):  # which has nothing but other images
        code, err = read(run, cli)
    assert code == 0 and f"other images than those of photos; using photos, {option} names others" in err, err
    with contextlib.chdir(work / "sub"):
        code, err = read(run, cli)
    assert code == 1 and err.count("\n") == 1 and f"trained on it; {option} names where it is now" in err, err
    shutil.rmtree(work / "other" / "photos")
    (work / "kept").rename(work / "other" / "photos")
    photos(work / "photos", 2)
    with contextlib.chdir(work / "other"):
        code, err = read(run, cli)
    assert code == 0 and "data: photos is" not in err and "warning" not in err, err


def test_a_training_goes_on_with_its_own_images(work: Path, cli: Cli) -> None:
    done = cli("train-vae --resume ../runs/v --steps 2", cwd=work / "other")
    assert done.code == 0 and f"data: photos is {work}/photos" in done.err, done.err
    shutil.copytree(work / "photos", work / "sub" / "photos")
    photos(work / "photos", 2)
    done = cli("train-vae --resume ../runs/v --steps 3", cwd=work / "sub")
    assert done.code == 0 and "data: photos is" not in done.err, done.err
    done = cli("train-vae --resume ../runs/v --steps 4", cwd=work / "other")
    assert done.code == 1 and "was trained on other images" in done.err


@pytest.mark.parametrize(
    ("words", "way"),
    [("edit --run onlat -n 2", "--input photos"), ("evaluate --run onlat -n 4", "--data photos")],
)
def test_a_run_on_latents_names_the_option_for_images(work: Path, cli: Cli, words: str, way: str) -> None:
    done = cli(words, cwd=work)
    wanted = (
        "latents: expected images, found the encoded latents that runs/onlat/checkpoint-00000001 was trained"
        f" on; {way}"
    )
    assert done.code == 1 and way in done.err and wanted.partition(";")[0] in done.err, done.err


def test_images_are_resized_as_those_of_the_run(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    run = locate(Path("px"))
    for source in (None, "other/photos"):
        pad, own, crop = (
            read_input(run, (1, 8, 8), READING | {"source": source, "fit": fit}).images
            for fit in ("edge", None, "crop")
        )
        assert torch.equal(own, pad) and not torch.equal(own, crop)


def test_help_has_the_defaults_of_the_data_options(tmp_path: Path, cli: Cli) -> None:
    for name in ("reconstruct", "encode", "evaluate"):
        shown = " ".join(cli(f"{name} --help-all", cwd=tmp_path).out.split())
        for default in ("mnist5k", "crop", "auto", "as the images are"):
            assert f"(default: that of the run, else {default})" in shown, (name, default)
