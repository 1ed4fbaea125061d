"""`latentdiff sample`: what it draws, where it goes, and that a seed is an image."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import latentdiff as ld
from latentdiff.nn import MLPDenoiser
from latentdiff.viz.images import image_grid, latent_pictures

DRAW = "sample --run runs/denoiser --steps 4"
PAD = 2


@pytest.fixture
def work(tmp_path: Path, tiny_denoiser_run: Path, tiny_pixel_run: Path) -> Path:
    """A folder with copies of the tiny denoiser (three classes) and pixel (no classes) runs."""
    for run in (tiny_denoiser_run, tiny_pixel_run):
        shutil.copytree(run, tmp_path / "runs" / run.name)
    return tmp_path


@pytest.fixture
def draw(work: Path, cli: Callable) -> Callable[[str], np.ndarray]:
    """`draw("sample ...")`: the images as int16 [N, H, W]."""

    def images(command: str) -> np.ndarray:
        result = cli(f"{command} --out drawn.npz --overwrite", cwd=work)
        assert result.code == 0, result.err
        with np.load(work / "drawn.npz", allow_pickle=False) as arrays:
            return arrays["images"].astype(np.int16)

    return images


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal to within a grey level: matrix products depend on the batch."""
    return a.shape == b.shape and int(np.abs(a - b).max()) <= 1


def age(run: Path, seconds: int) -> None:
    """Date a run's checkpoints back."""
    for path in run.glob("checkpoint-*/manifest.json"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - seconds))


def tiles(path: Path, columns: int, n: int) -> np.ndarray:
    """The images [n, 8, 8] of a grid of grey 8x8 images."""
    with Image.open(path) as image:
        picture = np.asarray(image).astype(np.int16)
    factor = picture.shape[1] // (PAD + columns * (8 + PAD))
    assert (picture[..., 0] == picture[..., 2]).all()
    small = picture[::factor, ::factor, 0]
    assert small.shape == (PAD + -(-n // columns) * (8 + PAD), PAD + columns * (8 + PAD))
    places = [(PAD + k // columns * (8 + PAD), PAD + k % columns * (8 + PAD)) for k in range(n)]
    return np.stack([small[y : y + 8, x : x + 8] for y, x in places])


@pytest.mark.parametrize("sampler", ["ddim", "ddim --eta 1", "ddpm", "ddpm --variance large", "dpm++"])
def test_an_image_does_not_depend_on_its_batch(sampler: str, draw: Callable) -> None:
    command = f"{DRAW} -n 7 --seed 3 --guidance 2 --sampler {sampler}"
    alone, together = draw(f"{command} --batch 1"), draw(f"{command} --batch 7")
    assert same(alone, together) and same(draw(f"{command} --batch 4"), together)
    assert not same(together[0], together[3])  # one class, two seeds


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_image_k_is_the_image_of_seed_plus_k(sampler: str, draw: Callable) -> None:
    command = f"{DRAW} --sampler {sampler} --label bee"
    images = draw(f"{command} -n 3 --seed 5")
    for k in range(3):
        assert same(images[k : k + 1], draw(f"{command} -n 1 --seed {5 + k}"))


def test_grid_and_files_show_the_images_of_the_npz(work: Path, draw: Callable, cli: Callable) -> None:
    images = draw(f"{DRAW} -n 5")
    assert cli(f"{DRAW} -n 5 --out new/grid.png --files new/each", cwd=work).code == 0
    assert same(tiles(work / "new/grid.png", 3, 5), images)  # one column a class
    names = sorted(path.name for path in (work / "new/each").iterdir())
    assert names == [f"{k:06d}.png" for k in range(5)]
    singles = [np.asarray(Image.open(work / "new/each" / name)).astype(np.int16) for name in names]
    assert same(np.stack(singles), images)
    assert cli(f"{DRAW} -n 5 --columns 2", cwd=work).code == 0
    assert same(tiles(work / "samples.png", 2, 5), images)


def test_labels_by_name_by_index_and_in_turn(work: Path, draw: Callable, cli: Callable) -> None:
    everything = draw(f"{DRAW} -n 4 --seed 1")
    assert same(draw(f"{DRAW} -n 4 --seed 1 --label ant,bee,cat"), everything)
    assert same(draw(f"{DRAW} -n 4 --seed 1 --label 0,1,2"), everything)
    cats = draw(f"{DRAW} -n 4 --seed 1 --label cat")
    assert same(cats[2], everything[2]) and not same(cats[0], everything[0])
    result = cli(f"{DRAW} -n 4 --label cat,0 --out a.npz --json", cwd=work)
    assert json.loads(result.out)["labels"] == ["cat", "ant", "cat", "ant"]
    labels = np.load(work / "a.npz", allow_pickle=False)["labels"]
    assert labels.dtype == np.int64 and labels.tolist() == [2, 0, 2, 0]


def test_names_that_are_numbers_are_names(work: Path, draw: Callable, cli: Callable) -> None:
    before = draw(f"{DRAW} -n 3")
    replace(ld.load(work / "runs/denoiser"), classes=("2", "0", "1")).save(work / "renamed")
    command = "sample --steps 4 --run renamed -n 3"
    assert same(draw(command), before) and same(draw(f"{command} --label 2,0,1"), before)
    assert json.loads(cli(f"{command} --json", cwd=work).out)["labels"] == ["2", "0", "1"]


def test_guidance_zero_ignores_and_more_exaggerates_the_label(draw: Callable) -> None:
    plain, none, strong = (draw(f"{DRAW} -n 3 --guidance {w}") for w in ("1", "0", "9"))
    assert not same(plain, none) and not same(plain, strong)
    assert same(none, draw(f"{DRAW} -n 3 --guidance 0 --label cat"))


def test_a_model_has_a_guidance_of_its_own(work: Path, draw: Callable, cli: Callable) -> None:
    """`sample` uses it where none is given and there is a class to exaggerate."""
    plain, strong = draw(f"{DRAW} -n 3"), draw(f"{DRAW} -n 3 --guidance 9")
    unconditional = draw("sample --run runs/pixel --steps 4 -n 3")
    for name in ("denoiser", "pixel"):
        pipeline = replace(ld.load(work / "runs" / name), guidance=9.0)
        pipeline.save(work / "runs" / f"strong-{name}")
    own = DRAW.replace("runs/denoiser", "runs/strong-denoiser")
    assert same(draw(f"{own} -n 3"), strong) and not same(plain, strong)
    assert same(draw(f"{own} -n 3 --guidance 1"), plain)
    assert same(draw(f"{own} -n 3 --guidance 0"), draw(f"{DRAW} -n 3 --guidance 0"))
    assert same(draw("sample --run runs/strong-pixel --steps 4 -n 3"), unconditional)
    result = cli(f"{own} -n 3 --out shown.png --json", cwd=work)
    assert json.loads(result.out)["settings"][0]["guidance"] == 9
    again = cli("sample --like shown.png --run runs/strong-denoiser --out again.png --json", cwd=work)
    assert again.code == 0, again.err
    assert json.loads(again.out)["settings"][0]["guidance"] == 9


def test_a_model_has_an_eta_of_its_own(work: Path, draw: Callable, cli: Callable) -> None:
    """`sample` uses it with ddim where none is given; interpolations and edits do not."""
    plain, noisy = draw(f"{DRAW} -n 3"), draw(f"{DRAW} -n 3 --eta 0.7")
    other, way = draw(f"{DRAW} -n 3 --sampler dpm++"), draw(f"{DRAW} -n 3 --interpolate 9 --label ant")
    replace(ld.load(work / "runs" / "denoiser"), eta=0.7).save(work / "runs" / "noisy")
    own = DRAW.replace("runs/denoiser", "runs/noisy")
    assert same(draw(f"{own} -n 3"), noisy) and not same(plain, noisy)
    assert same(draw(f"{own} -n 3 --eta 0"), plain)
    assert same(draw(f"{own} -n 3 --sampler dpm++"), other)
    assert same(draw(f"{own} -n 3 --interpolate 9 --label ant"), way)
    edits = []
    for command, found in (
        (f"{own} -n 3 --out shown.png", 0.7),
        ("sample --like shown.png --run runs/noisy --out again.png", 0.7),
        (f"{own} -n 3 --interpolate 9 --label ant --out way.png", 0.0),
        ("edit --run runs/noisy --steps 4 --input shown.png --out edited.png", 0.0),
        ("edit --run runs/denoiser --steps 4 --input shown.png --out plain.png", 0.0),
    ):
        result = cli(f"{command} --json", cwd=work)
        assert result.code == 0, result.err
        settings = json.loads(result.out)["settings"]
        edits.append(settings if isinstance(settings, dict) else settings[0])
        assert edits[-1]["eta"] == found, command
    edited, unedited = (np.asarray(Image.open(work / f"{name}.png")) for name in ("edited", "plain"))
    assert np.array_equal(edited, unedited)


def test_guidance_is_rescaled_if_asked_and_only_where_there_is_any(
    work: Path, draw: Callable, cli: Callable
) -> None:
    strong = draw(f"{DRAW} -n 3 --guidance 9")
    assert not same(strong, draw(f"{DRAW} -n 3 --guidance 9 --guidance-rescale 0.7"))
    assert same(strong, draw(f"{DRAW} -n 3 --guidance 9 --guidance-rescale 0"))
    result = cli(f"{DRAW} -n 3 --guidance-rescale 0.7", cwd=work)
    assert result.code == 2 and "--guidance other than 0 and 1, got none" in result.err


def test_interpolation_ends_in_the_samples_of_both_seeds(draw: Callable) -> None:
    way = draw(f"{DRAW} -n 5 --seed 2 --interpolate 9 --label ant")
    for k, seed in ((0, 2), (4, 9)):
        assert same(way[k : k + 1], draw(f"{DRAW} -n 1 --seed {seed} --label ant"))
    assert not same(way[1], way[0]) and not same(way[3], way[4])
    assert same(way, draw(f"{DRAW} -n 5 --seed 2 --interpolate 9 --label ant --batch 2"))


def test_interpolation_is_of_one_class(work: Path, cli: Callable) -> None:
    result = cli(f"{DRAW} -n 3 --interpolate 9 --out a.npz", cwd=work)
    assert result.code == 0 and "drawing class ant" in result.err
    assert np.load(work / "a.npz", allow_pickle=False)["labels"].tolist() == [0, 0, 0]
    result = cli(f"{DRAW} -n 3 --interpolate 9 --label 1,2", cwd=work)
    assert result.code == 2 and "one class along the way, got --label 1,2" in result.err


@pytest.mark.parametrize("frames", [2, 5])
def test_trajectory_as_animation(frames: int, work: Path, cli: Callable) -> None:
    result = cli(f"{DRAW} -n 3 --trajectory t.gif --frames {frames} --json", cwd=work)
    assert json.loads(result.out)["wrote"] == ["samples.png", "t.gif"]
    side = (PAD + 2 * (8 + PAD)) * 29  # three images in two columns, enlarged to about 640 pixels
    with Image.open(work / "t.gif") as image:
        latents = image_grid(latent_pictures(torch.zeros(3, 4))).shape
        assert image.n_frames == frames
        assert image.size == (latents[1] + 2 * (8 + side), max(side, latents[0]))


@pytest.mark.parametrize("frames", [3, 5])
def test_trajectory_as_strip(frames: int, work: Path, cli: Callable) -> None:
    assert cli(f"{DRAW} -n 2 --trajectory t.png --frames {frames}", cwd=work).code == 0
    with Image.open(work / "t.png") as image:
        image.load()
        assert image.size == (int((1.35 * frames + 0.4) * 120), int(4.5 * 120))  # latents, x_t, estimates


@pytest.mark.parametrize("name", ["t.png", "t.gif"])
def test_a_trajectory_is_recorded_while_the_images_are_drawn(
    name: str, work: Path, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    forward = MLPDenoiser.forward

    def counted(self: MLPDenoiser, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        calls.append(len(x))
        return forward(self, x, t, labels)

    monkeypatch.setattr(MLPDenoiser, "forward", counted)
    found = {}
    for extra in ("", f"--trajectory {name} "):
        assert cli(f"{DRAW} -n 20 --batch 9 --overwrite {extra}--out a.npz", cwd=work).code == 0
        found[extra] = np.load(work / "a.npz", allow_pickle=False)["images"], sum(calls)
        calls.clear()
    (plain, few), (recorded, many) = found.values()
    assert np.array_equal(plain, recorded) and many == few > 0 and (work / name).exists()


def test_several_step_counts_make_one_figure(work: Path, cli: Callable) -> None:
    result = cli("sample --run runs/denoiser -n 3 --steps 2,4 --json", cwd=work)
    answer = json.loads(result.out)
    assert [settings["steps"] for settings in answer["settings"]] == [2, 4] and answer["wrote"] == [
        "samples.png"
    ]
    widths = []
    for steps in ("2,4", "2,4,8"):
        assert cli(f"sample --run runs/denoiser -n 3 --steps {steps} --overwrite", cwd=work).code == 0
        with Image.open(work / "samples.png") as image:
            widths.append(image.width)
    assert widths == [1008, 1080]


def test_the_newest_run_is_taken_and_named(work: Path, cli: Callable) -> None:
    age(work / "runs/denoiser", 100)
    result = cli("sample -n 1 --steps 1 --json", cwd=work)
    assert result.err == "using runs/pixel/checkpoint-00000004\n"
    assert json.loads(result.out)["run"] == "runs/pixel/checkpoint-00000004"
    age(work / "runs/pixel", 1000)
    assert "using runs/denoiser/checkpoint-00000040\n" in cli("sample -n 1 --steps 1", cwd=work).err
    assert "using" not in cli("sample -n 1 --steps 1 --run runs/pixel", cwd=work).err


def test_a_newest_run_of_another_prediction_is_an_error_and_no_other_is_searched(
    work: Path, cli: Callable
) -> None:
    age(work / "runs/denoiser", 100)  # which was trained with v
    result = cli("sample -n 1 --v-pred", cwd=work)
    assert result.code == 1 and not (work / "samples.png").exists()
    assert "trained with eps-prediction, expected v-prediction" in result.err
    assert cli("sample -n 1 --steps 1 --prediction eps", cwd=work).code == 0
    assert cli("sample -n 1 --steps 1 --v-pred --run runs/denoiser", cwd=work).code == 0


def test_bfloat16_draws_nearly_the_same(draw: Callable) -> None:
    exact, rough = (draw(f"{DRAW} -n 4 --dtype {dtype}") for dtype in ("float32", "bfloat16"))
    assert np.abs(exact - rough).max() <= 16


@pytest.mark.parametrize("native", [False, True])
def test_without_a_type_the_network_computes_in_that_of_the_processor(
    native: bool, work: Path, draw: Callable, cli: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the picture keeps which one it was, so that another machine repeats it."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: native)
    types = {kind: draw(f"{DRAW} -n 4 --dtype {kind}") for kind in ("auto", "float32", "bfloat16")}
    assert (types["float32"] != types["bfloat16"]).any()
    assert (types["auto"] == types["bfloat16" if native else "float32"]).all()
    assert cli(f"{DRAW} -n 4 --out here.png", cwd=work).code == 0
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: not native)
    assert cli("sample --like here.png --out there.png", cwd=work).code == 0
    assert (work / "here.png").read_bytes() == (work / "there.png").read_bytes()


def test_an_unconditional_model_draws_without_labels(work: Path, cli: Callable) -> None:
    result = cli("sample --run runs/pixel -n 2 --steps 2 --out a.npz --json", cwd=work)
    assert result.code == 0 and json.loads(result.out)["labels"] is None and result.err == ""
    with np.load(work / "a.npz", allow_pickle=False) as arrays:
        assert arrays.files == ["images"] and arrays["images"].shape == (2, 8, 8)
