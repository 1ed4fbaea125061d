"""Images of --input that are far from those of the training: the warning, where it must not come, and
--negate.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from latentdiff.apps.cli.shared.inputs import DEGRADED
from latentdiff.data import load_dataset
from latentdiff.data.brightness import LOOKED_AT, MARGIN, Brightness
from latentdiff.errors import InputError
from latentdiff.pipeline.checkpoint.pretrained import shipped_models


def digits() -> Tensor:
    return load_dataset("mnist5k").test.images


def noised(images: Tensor, sigma: float) -> Tensor:
    """With noise of sigma on [-1, 1], as `restore --noise` adds it."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * 127.5 * noise).clamp(0, 255).byte()


@pytest.mark.parametrize("name", ["digits", "digits-pixels", "scenes"])
def test_the_ranges_of_the_models_of_the_package_are_those_of_their_images(name: str) -> None:
    (model,) = (model for model in shipped_models() if model.name == name)
    images = load_dataset(model.about["images"]).train.images
    chosen = torch.linspace(0, len(images) - 1, LOOKED_AT).long()
    assert Brightness.parse(model.about["brightness"], name) == Brightness.of(images[chosen])


@pytest.mark.slow
def test_images_like_those_of_the_training_are_not_far_and_others_are() -> None:
    known = Brightness.of(load_dataset("mnist5k").train.images[:LOOKED_AT])
    images = digits()

    def share(found: Tensor, margin: float = MARGIN) -> float:
        return float(known.far(found, margin=margin).double().mean())

    photos = (torch.rand(50, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 120 + 60).byte()
    assert share(images) < 0.005
    assert share(255 - images) > 0.99 and share(photos) > 0.99
    blurred = torch.nn.functional.avg_pool2d(images.float(), 5, 1, 2).byte()
    for degraded in (noised(images, 0.25), noised(images, 1.0), blurred, images[:, :, ::2, ::2], images // 2):
        assert share(degraded, DEGRADED) < 0.01
    assert share(255 - images, DEGRADED) > 0.99
    for split in ("train", "test"):  # colour images on all kinds of background
        drawn = getattr(load_dataset("scenes"), split).images[:400]
        assert float(Brightness.of(drawn).far(255 - drawn).double().mean()) < 0.05
    bright = Brightness.of(255 - images)
    assert (
        float(bright.far(images).double().mean()) > 0.99
        and float(bright.far(255 - images).double().mean()) < 0.005
    )


def test_a_dark_drawing_is_warned_of_and_negated(cli: Callable, tmp_path: Path) -> None:
    image = digits()[3, 0].numpy()
    for name, pixels in (("light", image), ("dark", 255 - image), ("photo", np.full_like(image, 120))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    edit = "edit --run digits --strength 0.5 --steps 4 -n 1 --json --drawing off --input"
    fine, dark, photo = (
        cli(f"{edit} {name}.png --out {name}.fig.png", cwd=tmp_path) for name in ("light", "dark", "photo")
    )
    assert fine.code == 0 and "warning" not in fine.err
    assert "warning" in dark.err and "--negate takes those" in dark.err
    assert "warning" in photo.err and "--negate" not in photo.err
    negated = cli(f"{edit} dark.png --negate --out dark.fig.png", cwd=tmp_path)
    assert negated.code == 0 and "warning" not in negated.err
    assert json.loads(negated.out)["edits"] == json.loads(fine.out)["edits"]
    restore = "restore --steps 3 -n 1 --operator blur --already-degraded --input"
    assert "warning" not in cli(f"{restore} light.png", cwd=tmp_path).err
    assert "--negate" in cli(f"{restore} dark.png", cwd=tmp_path).err
    assert "--negate is for images of --input" in cli("p2p --prompt a --edit b --negate", cwd=tmp_path).err


def test_a_drawing_on_paper_is_made_strokes(cli: Callable, tmp_path: Path) -> None:
    image = Image.fromarray(digits()[3, 0].numpy()).resize((120, 120), Image.Resampling.BICUBIC)
    sheet = Image.new("L", (300, 200), 0)
    sheet.paste(image, (20, 40))
    Image.fromarray(230 - (np.asarray(sheet) * 0.8).astype(np.uint8)).save(tmp_path / "paper.jpg")
    Image.fromarray(digits()[3, 0].numpy()).save(tmp_path / "light.png")
    edit = "edit --run digits --strength 0.5 --steps 4 -n 1 --out a.png --overwrite --input"
    paper, light = (cli(f"{edit} {name}", cwd=tmp_path) for name in ("paper.jpg", "light.png"))
    assert paper.code == 0 and "drawings on paper: made light strokes on black" in paper.err
    assert "warning" not in paper.err and "drawings" not in light.err
    off = cli(f"{edit} paper.jpg --drawing off", cwd=tmp_path)
    assert "warning: these images are far" in off.err and "made light strokes" not in off.err
    colour = cli("edit --run clothes --strength 0.5 --steps 4 --drawing on --input paper.jpg", cwd=tmp_path)
    assert colour.code == 1 and "--drawing on: is for models of grey images" in colour.err


@pytest.mark.slow
def test_a_training_keeps_the_ranges_of_its_images(
    cli: Callable,
    tiny_folder: Path,
    tiny_denoiser_run: Path,
    tiny_vae_run: Path,
    tiny_cold_run: Path,
    tmp_path: Path,
) -> None:
    with np.load(tiny_folder / "tiny.npz") as arrays:
        images, test = torch.from_numpy(arrays["x_train"])[:, None], arrays["x_test"]
    for run in (tiny_denoiser_run, tiny_vae_run, tiny_cold_run):
        (path,) = list(run.glob("checkpoint-*/training/brightness.json"))[-1:]
        found = Brightness.parse(json.loads(path.read_text()), "here")
        assert not bool(found.far(images).any())
    np.savez(tmp_path / "white.npz", images=255 - test)
    for command in (
        f"denoise --run {tiny_denoiser_run} --steps 2 --level 5",
        f"sample-cold --run {tiny_cold_run} --restore",
    ):
        assert "--negate takes those" in cli(f"{command} --input white.npz -n 3", cwd=tmp_path).err
        assert "warning" not in cli(f"{command} --input white.npz -n 3 --negate", cwd=tmp_path).err
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize(
    "values",
    [None, {}, {"mean": [0, 1]}, {"mean": [0, 1], "border": [0, 7]}, {"mean": "01", "border": [0, 1]}],
)
def test_ranges_that_are_none_are_refused(values: object) -> None:
    with pytest.raises(InputError, match="here: expected mean and border as two numbers"):
        Brightness.parse(values, "here")
