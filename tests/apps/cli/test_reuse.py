"""A picture carries its settings: `sample` writes them, `inspect` reads them, `sample --like` repeats them;
files are not trusted.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from latentdiff.config.recipe import MAX_CHARACTERS, Recipe, recipe_from
from latentdiff.config.sampling import Sampling
from latentdiff.data.classes import class_index, label_text
from latentdiff.data.written import KEYWORD
from latentdiff.errors import InputError
from latentdiff.viz.images import read_recipe, save_image

WEIGHTS = "0" * 64


@pytest.fixture
def work(tmp_path: Path, tiny_denoiser_run: Path, tiny_pixel_run: Path, text_folder: Path) -> Path:
    """A folder with copies of a run with classes, one without, and a text-conditional one."""
    for run in (tiny_denoiser_run, tiny_pixel_run, text_folder / "runs" / "text"):
        shutil.copytree(run, tmp_path / "runs" / run.name)
    return tmp_path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image).astype(np.int16)


def stamped(path: Path, text: str) -> Path:
    """A picture whose settings are ``text``."""
    about = PngInfo()
    about.add_text(KEYWORD, text)
    Image.new("L", (4, 4)).save(path, pnginfo=about)
    return path


@pytest.mark.parametrize(
    "options",
    [
        "--run runs/denoiser -n 7 --seed 3 --guidance 2 --steps 4",
        "--run runs/denoiser -n 5 --label bee,cat --sampler ddpm --batch 2 --columns 4",
        "--run runs/denoiser -n 9 --class-balance data --sampler dpm++ --steps 5",
        "--run runs/denoiser -n 4 --seed 2 --interpolate 8 --eta 0.5 --steps 4",
        "--run runs/denoiser -n 4 --steps 2,3,4",
        "--run runs/pixel -n 3 --steps 3 --spacing leading --dtype bfloat16",
        (
            "--run runs/text -n 3 --prompt 'a disc, left' --prompt 'ein Kreis: ö' --guidance 3"
            " --negative-prompt grey --guidance-low 0.2 --guidance-rescale 0.5 --steps 3"
        ),
    ],
)
def test_a_picture_is_repeated_from_its_file_to_the_last_byte(
    work: Path, cli: Callable, options: str
) -> None:
    assert cli(f"sample {options} --out a.png", cwd=work).code == 0
    result = cli("sample --like a.png --out b.png --json", cwd=work)
    assert result.code == 0, result.err
    assert (work / "a.png").read_bytes() == (work / "b.png").read_bytes()


def test_each_file_of_a_batch_is_repeated_alone(work: Path, cli: Callable) -> None:
    draw = "sample --run runs/denoiser -n 4 --seed 5 --steps 4 --guidance 2 --files many"
    assert cli(draw, cwd=work).code == 0
    for k in range(4):
        result = cli(f"sample --like many/{k:06d}.png --files one --overwrite", cwd=work)
        assert result.code == 0, result.err
        assert np.abs(pixels(work / f"many/{k:06d}.png") - pixels(work / "one/000000.png")).max() <= 1
    assert read_recipe(work / "many/000002.png").label == "cat"
    assert np.abs(pixels(work / "many/000000.png") - pixels(work / "many/000003.png")).max() > 1


def test_the_command_line_wins_over_the_picture_and_the_picture_over_a_file(
    work: Path, cli: Callable
) -> None:
    draw = "--run runs/denoiser -n 3 --label bee --sampler ddpm --variance large --steps 6 --seed 4"
    assert cli(f"sample {draw} --out a.png", cwd=work).code == 0
    (work / "c.yaml").write_text("{steps: 2, seed: 9, files: out, overwrite: true}")

    def answer(options: str) -> dict:
        result = cli(f"sample --like a.png --json --overwrite --out b.png {options}", cwd=work)
        assert result.code == 0, result.err
        return json.loads(result.out)

    kept = answer("")
    assert (kept["n"], kept["labels"], kept["seed"]) == (3, ["bee"] * 3, 4)
    assert answer("-n 2 --label ant")["labels"] == ["ant"] * 2
    assert answer("--class-balance data")["labels"] != kept["labels"]
    other = answer("--sampler ddim")["settings"][0]
    assert (other["sampler"], other["steps"], other["variance"]) == ("ddim", 20, None)
    for place in ("--config c.yaml --like a.png", "--like a.png --config c.yaml"):
        result = cli(f"sample {place} --json", cwd=work)
        found = json.loads(result.out)
        assert (found["settings"][0]["steps"], found["seed"]) == (6, 4) and "out" in found["wrote"]


def test_a_run_is_known_by_its_weights(work: Path, cli: Callable) -> None:
    assert cli("sample --run runs/denoiser -n 2 --steps 2 --out a.png", cwd=work).code == 0
    (work / "runs/denoiser").rename(work / "runs/renamed")
    result = cli("sample --like a.png --out b.png", cwd=work)
    assert result.code == 0 and "using runs/renamed" in result.err
    assert (pixels(work / "a.png") == pixels(work / "b.png")).all()
    result = cli("sample --like a.png --run runs/pixel --label '' --out c.png", cwd=work)
    assert "another picture" in result.err
    result = cli("sample --like a.png --run runs/renamed --out c.png", cwd=work)
    assert result.code == 0 and "another picture" not in result.err
    shutil.rmtree(work / "runs/renamed")
    result = cli("sample --like a.png --out d.png", cwd=work)
    assert result.code == 1 and "no such checkpoint in runs/" in result.err and not (work / "d.png").exists()


def test_inspect_reads_the_settings_back(work: Path, cli: Callable) -> None:
    assert (
        cli("sample --run runs/denoiser -n 2 --label bee --steps 3 --seed 8 --out a.png", cwd=work).code == 0
    )
    found = json.loads(cli("inspect a.png --json", cwd=work).out)
    assert (found["n"], found["seed"], found["label"], found["settings"][0]["steps"]) == (2, 8, "bee", 3)
    assert found["checkpoint"].startswith("runs/denoiser/") and found["run"].startswith(
        "denoiser/checkpoint-"
    )
    assert str(work) not in found["run"]
    text = cli("inspect a.png --runs elsewhere", cwd=work).out
    assert "label: bee" in text and "checkpoint: null" in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Invalid JSON"),
        ("[]", "object"),
        ('{"weights": "x", "settings": [{}]}', "weights"),
        (json.dumps({"weights": WEIGHTS, "settings": []}), "settings"),
        (json.dumps({"weights": WEIGHTS, "settings": [{}], "n": 10**9}), "n: "),
        (json.dumps({"weights": WEIGHTS, "settings": [{}], "run_this": "x"}), "unknown key 'run_this'"),
        (json.dumps({"weights": WEIGHTS, "settings": [{"guidance": 1e9}]}), "guidance"),
        (json.dumps({"weights": WEIGHTS, "settings": [{"eta": 1}, {"eta": 0}]}), "more than their steps"),
        ("[" * 5000, "cannot be read"),
        (json.dumps({"weights": WEIGHTS, "settings": [{}], "label": "x" * MAX_CHARACTERS}), "too long"),
    ],
    ids=["empty", "list", "weights", "none", "n", "key", "range", "mixed", "deep", "long"],
)
def test_settings_that_a_file_brings_are_checked(work: Path, cli: Callable, text: str, found: str) -> None:
    path = stamped(work / "bad.png", text)
    with pytest.raises(InputError, match=found):
        read_recipe(path)
    for command in ("sample --like bad.png", "inspect bad.png"):
        result = cli(command, cwd=work)
        assert result.code == 1 and result.err.count("\n") == 1 and "bad.png" in result.err, result.err


def test_what_is_no_picture_with_settings_is_told_in_a_line(work: Path, cli: Callable) -> None:
    Image.new("L", (4, 4)).save(work / "plain.png")
    (work / "text.png").write_text("no picture")
    (work / "cut.png").write_bytes((work / "plain.png").read_bytes()[:20])
    for name, said in (
        ("plain", "no settings"),
        ("text", "not a PNG"),
        ("cut", "cannot be read"),
        ("none", "No such file"),
    ):
        result = cli(f"sample --like {name}.png", cwd=work)
        assert result.code == 1 and said in result.err and result.err.count("\n") == 1, result.err
    bomb = PngInfo()
    bomb.add_text(KEYWORD, "x" * 2**24, zip=True)
    Image.new("L", (4, 4)).save(work / "bomb.png", pnginfo=bomb)
    assert "damaged" in cli("inspect bomb.png", cwd=work).err


def test_an_edit_is_read_back_but_not_repeated(work: Path, cli: Callable) -> None:
    recipe = Recipe(weights=WEIGHTS, made_by="edit", settings=(Sampling(),), strength=0.5)
    save_image(np.zeros((4, 4), np.uint8), work / "edit.png", recipe=recipe)
    assert "strength: 0.5" in cli("inspect edit.png", cwd=work).out
    assert "does not hold" in cli("sample --like edit.png", cwd=work).err


def test_settings_that_are_too_long_stay_out_of_the_picture(tmp_path: Path) -> None:
    recipe = Recipe(weights=WEIGHTS, settings=(Sampling(),), prompts=("x" * MAX_CHARACTERS,))
    save_image(np.zeros((4, 4), np.uint8), tmp_path / "a.png", recipe=recipe)
    with pytest.raises(InputError, match="no settings"):
        read_recipe(tmp_path / "a.png")
    short = Recipe(weights=WEIGHTS, settings=(Sampling(steps=3),), prompts=("é",))
    assert recipe_from(short.text(), "") == short


def test_a_class_has_a_word_that_commas_do_not_cut() -> None:
    classes = ("a, b", "3", " x", "c", "c", "", "7")
    for index in range(len(classes)):
        word = label_text(classes, index)
        assert "," not in word and class_index(classes, word.strip()) == index
    assert label_text(("a, b", "0"), 0) == "a, b"  # its index is the name of another: nothing else is left
